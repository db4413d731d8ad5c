"""The tools open their input once, wherever it lies, and say of bytes what they say of a path."""

import av
import fsspec
import numpy as np
import pytest
from typer.testing import CliRunner

from avlearn.apply.classify import classify_file
from avlearn.apply.embed import embed_file, embed_files
from avlearn.apply.flow.estimate import load_flow
from avlearn.apply.flow.video import flow_file
from avlearn.apply.localize.file import localize_file
from avlearn.apply.localize.file_maps import file_maps
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync import by_model as sync
from avlearn.apply.sync.best_track import best_track
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.cli import app
from avlearn.errors import MediaError
from avlearn.media import MediaFile, Selected, open_file, stream

pytestmark = pytest.mark.usefixtures("copies")


@pytest.fixture(scope="module")
def clip(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[0]


@pytest.fixture
def opens(monkeypatch, clip):
    """How often the clip is opened by the system, and by FFmpeg."""
    seen = {"system": 0, "ffmpeg": 0}
    by_system, by_ffmpeg = open_file._opened_path, av.open

    def counted(path):
        seen["system"] += str(path) == str(clip)
        return by_system(path)

    def counted_av(file, mode="r", **options):
        name = file if isinstance(file, str) else getattr(file, "name", "")
        seen["system"] += isinstance(file, str) and file.endswith(str(clip))
        seen["ffmpeg"] += name.endswith(str(clip))
        return by_ffmpeg(file, mode, **options)

    monkeypatch.setattr(open_file, "_opened_path", counted)
    monkeypatch.setattr(av, "open", counted_av)
    return seen


# To probe it, and of what is decoded: each pass of it.
TOOLS = {
    "stream": (lambda file, model, out: list(stream(file, 1.0, 1.0)), 3),
    "sync": (lambda file, model, out: sync_by_model(file, model), 4),
    "best track": (lambda file, model, out: best_track(file, model), 4),
    "maps": (lambda file, model, out: file_maps(file, model), 4),
    "localize": (lambda file, model, out: localize_file(file, model, out / "o.mp4"), 8),
    "flow": (lambda file, model, out: flow_file(file, load_flow("dis"), out / "f.mp4"), 4),
    "embed": (lambda file, model, out: embed_files([file], model, out / "o.npz", track="1", overwrite=True), 4),
    "classify": (lambda file, model, out: classify_file(file, model), 4),
    "separate": (lambda file, model, out: separate_file(file, model, out, sources=1), 11),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_opens_its_input_once(clip, model, tmp_path, opens, tool):
    run, passes = TOOLS[tool]
    run(clip, model, tmp_path)
    assert opens["system"] == 1 and opens["ffmpeg"] <= passes
    with MediaFile(clip) as file:
        run(file, model, tmp_path)
    assert opens["system"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ["probe"], ["sync"], ["sync", "-o", "c.png"], ["sync", "--fix", "f.mp4"], ["localize", "-o", "l.mp4"],
        ["flow", "-o", "f.mp4", "--method", "dis"],
        ["separate", "-o", "tracks"], ["classify"], ["embed", "-o", "e.npz"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_opens_its_input_once(clip, tmp_path, monkeypatch, opens, words):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [words[0], str(clip), *words[1:]])
    assert done.exit_code == 0, done.output
    assert opens["system"] == 1


@pytest.mark.parametrize("kind", ["bytes", "address"])
def test_tools_say_of_bytes_what_they_say_of_a_path(clip, model, kind, tmp_path):
    fsspec.filesystem("memory").pipe("/a.mp4", clip.read_bytes())
    with MediaFile(clip.read_bytes() if kind == "bytes" else "memory://a.mp4") as file:
        ours, theirs = sync_by_model(file, model), sync_by_model(clip, model)
        assert (ours.offset, ours.confidence, ours.verdict) == (theirs.offset, theirs.confidence, theirs.verdict)
        assert ours.path == ("(bytes)" if kind == "bytes" else "memory://a.mp4")
        for a, b in zip(embed_file(file, model), embed_file(clip, model), strict=True):
            assert np.array_equal(a, b)
        if kind == "address":
            return
        ours, theirs = (separate_file(each, model, tmp_path, sources=1) for each in (file, clip))
        assert [track.share for track in ours.tracks] == [track.share for track in theirs.tracks]
        ours, theirs = (localize_file(each, model, tmp_path / "o.mp4") for each in (file, clip))
        assert (ours.peak, ours.audible, ours.verdict) == (theirs.peak, theirs.audible, theirs.verdict)


def test_what_is_not_there_is_said_at_the_door(model, tmp_path):
    for tool in (sync_by_model, classify_file, file_maps):
        with pytest.raises(MediaError, match=r"none\.mp4 does not exist"):
            tool(tmp_path / "none.mp4", model)
    with pytest.raises(MediaError, match="does not exist"):
        embed_files([tmp_path / "none.mp4"], model, tmp_path / "o.npz")


def test_a_file_that_is_written_to_while_it_is_held_open_gives_no_result(clip, model, tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip.read_bytes())
    curves = sync.offset_curves

    def meanwhile(file, *args):
        found = curves(file, *args)
        with path.open("r+b") as other:
            other.truncate(1000)
        return found

    monkeypatch.setattr(sync, "offset_curves", meanwhile)
    with MediaFile(path) as file, pytest.raises(MediaError, match="was changed while it was read"):
        sync.sync_by_model(file, model)


def test_a_file_that_was_held_open_stays_so(clip, model):
    with MediaFile(clip) as file:
        assert sync_by_model(file, model).offset == sync_by_model(Selected(file, 1), model).offset
        assert file[0.0:0.2].audio.size
    with pytest.raises(MediaError, match="is closed"):
        sync_by_model(file, model)
