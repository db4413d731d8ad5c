"""Files that are deleted or replaced while they are read: a line or a row says so, and no result is of two files."""

import shutil
import time
from pathlib import Path

import pytest
from commands import Command
from small_runs import command

from avlearn.apply import embed
from avlearn.apply.run_many import InferenceOptions, run_many
from avlearn.apply.sync import by_model as sync
from avlearn.apply.tools import SYNC
from avlearn.data import content, transcode
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError, MediaError
from avlearn.media.source import Selected
from avlearn.media.unchanged import unchanged
from avlearn.models.folder import load


def rewrite(path: Path) -> None:
    path.write_bytes(b"another file")


def renamed(path: Path) -> None:
    """Replaced by one of the same length and date."""
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [rewrite, renamed, Path.unlink])
@pytest.mark.parametrize("wrapped", [Path, str, Selected])
def test_what_was_read_of_a_changed_file_is_no_result(tmp_path, change, wrapped):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a file")
    assert unchanged(lambda source, value: value)(wrapped(path), 5) == 5
    for end in (lambda source: change(path), lambda source: (change(path), _fail())):
        path.write_bytes(b"a file")
        with pytest.raises(MediaError, match=r"a\.mp4 was changed while it was read: try again"):
            unchanged(end)(wrapped(path))
    with pytest.raises(MediaError, match="as it is"):
        unchanged(lambda source: _fail())(tmp_path / "none.mp4")


def _fail() -> None:
    raise MediaError("as it is")


def changing(function, change):
    """The function, before which the file changes that it is called with."""

    def changed(path, *args, **kwargs):
        result = function(path, *args, **kwargs)
        change(Path(path))
        return result

    return changed


@pytest.fixture
def clip(small_world, tmp_path) -> Path:
    path = tmp_path / "clip.mp4"
    shutil.copy(read_manifest(small_world / "manifest.parquet")[0].path, path)
    return path


@pytest.mark.parametrize("change", [rewrite, Path.unlink])
def test_a_file_that_changes_under_a_tool_is_a_row_or_a_line(clip, change, untrained, tmp_path, monkeypatch):
    whole, other = clip.read_bytes(), tmp_path / "other.mp4"
    other.write_bytes(whole)
    monkeypatch.setattr(sync, "offset_curves", changing(sync.offset_curves, change))
    _, row = next(run_many(SYNC, [clip], InferenceOptions(str(untrained))))
    assert row.reason == "was changed while it was read: try again"
    clip.write_bytes(whole)
    monkeypatch.setattr(content, "_facts", changing(content._facts, change))
    found = content.inspect_file(str(clip))
    assert found["flags"] == ["undecodable"] and "was changed while it was read" in found["reason"]
    clip.write_bytes(whole)
    encode = transcode.__dict__["_encode"].__wrapped__
    monkeypatch.setattr(transcode, "_encode", unchanged(changing(encode, change)))
    with pytest.raises(MediaError, match="was changed"):
        transcode.transcode(clip, tmp_path / "made.mp4", transcode.Settings(short_side=32))
    assert not (tmp_path / "made.mp4").exists()
    clip.write_bytes(whole)
    change(clip)
    done = embed.embed_files([other, clip], load(untrained), tmp_path / "e.npz")
    assert done.files == 1 and [Path(path) for path, _ in done.failed] == [clip]


def test_a_row_whose_file_goes_between_two_looks_is_refused(tmp_path, monkeypatch):
    row = Row(tmp_path / "gone.mp4", duration=1.0, bytes=7)
    monkeypatch.setattr(Path, "is_file", lambda path: True)  # it was there a moment ago
    assert row.fingerprint == ""
    with pytest.raises(DataError, match="it is gone, or has changed since the scan"):
        row.require_unchanged()


@pytest.mark.slow
@pytest.mark.parametrize("change", [rewrite, Path.unlink])
def test_a_clip_that_changes_under_a_training_ends_it_in_a_line(small_world, tmp_path, change):
    """Where readers are processes: their errors come as tracebacks, and they outlive an order to end."""
    world, run = tmp_path / "world", tmp_path / "run"
    shutil.copytree(small_world, world)
    words = [f"data.train={world}", f"data.val={small_world}", "data.cache=false", "data.workers=1"]
    words += ["data.bad_files=error", "trainer.max_steps=3000", "trainer.val_every=3000"]
    process = Command(*command(run, tmp_path, *words))
    while process.poll() is None and not (run / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.05)
    change(sorted(world.glob("clips/*.mp4"))[0])
    _, said = process.communicate(timeout=120)
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert process.returncode == 2 and "Traceback" not in said
    assert line.startswith("avlearn: error: ") and "it is gone, or has changed since the scan" in line
