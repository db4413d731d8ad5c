"""Flow of prepared clips: what a training would compute, to within its 8 bits, wherever the clips lie."""

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.data.prepared_flow import LONGEST, flow_path, read_flow, stored_settings
from avlearn.data.transcode import FlowSettings
from avlearn.errors import DataError, OutputError
from avlearn.media import ClipReader, Window, write_video
from avlearn.models.inputs import LIMIT
from avlearn.signal.flow import METHODS

FLOW = FlowSettings("lucas_kanade", 12.5, 32)
CLIPS = 3


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A manifest of moving textures."""
    folder, rows = tmp_path_factory.mktemp("source"), []
    for k in range(CLIPS):
        noise = np.random.default_rng(k).normal(0, 1, (48, 64, 3))
        texture = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 2)[48:-48, 64:-64]
        texture = np.clip(128 + 60 * texture / texture.std(), 0, 255).astype(np.uint8)
        frames = [np.roll(texture, (t, (k - 1) * t), (0, 1)) for t in range(30)]
        write_video(folder / f"{k}.mp4", frames, 25)
        rows.append(Row(folder / f"{k}.mp4", duration=1.2, labels=("ab"[k % 2],)))
    write_manifest(rows, folder / "manifest.parquet")
    return folder / "manifest.parquet"


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    result = prepare(source, out, short_side=32, flow=FLOW, workers=1)
    assert result.bytes_flow == sum(path.stat().st_size for path in out.rglob("*.flow"))
    assert "optical flow of them" in result.text()
    return out


def computed(row: Row, settings: FlowSettings) -> np.ndarray:
    """``[2, pairs, size, size]`` of a whole clip."""
    reader = ClipReader(fps=settings.fps, size=settings.size, audio=False)
    (clip,) = reader.read(row.source, [Window(0.0, row.duration, crop="square")])
    images = torch.from_numpy(clip.video).permute(0, 3, 1, 2).float()
    return METHODS[settings.method](images[:-1], images[1:]).transpose(0, 1).numpy()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_what_a_training_computes_to_within_8_bits(prepared):
    for row in read_manifest(prepared):
        flow = np.clip(computed(row, FLOW), -LONGEST, LONGEST)
        stored = read_flow(row, FLOW, 0, 99)
        assert stored.shape == flow.shape and flow.shape[1] == 14
        bound = np.abs(flow).max((0, 2, 3)) / 254
        assert (np.abs(stored - flow).max((0, 2, 3)) <= bound + 1e-5).all() and bound.max() <= 0.08
        assert np.array_equal(read_flow(row, FLOW, 5, 4), stored[:, 5:9])
        assert np.array_equal(read_flow(row, FLOW, 12, 9), stored[:, 12:]) and not read_flow(row, FLOW, 14, 3).size


def test_the_longest_motion_is_that_of_the_inputs():
    assert LONGEST == LIMIT


def test_in_shards_it_lies_behind_its_clip(source, prepared, tmp_path):
    prepare(source, tmp_path / "out", short_side=32, flow=FLOW, workers=1, shards=2)
    loose, packed = read_manifest(prepared), read_manifest(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.flow"))
    for one, other in zip(loose, packed, strict=True):
        assert stored_settings(other) == FLOW
        assert np.array_equal(read_flow(one, FLOW, 0, 99), read_flow(other, FLOW, 0, 99))
    prepare(source, tmp_path / "out", short_side=32, flow=FLOW, workers=1)  # out of the shards again
    assert contents(tmp_path / "out") == contents(prepared)


def test_flow_that_is_gone_is_computed_again_and_that_of_other_clips_goes(source, prepared, tmp_path):
    out = tmp_path / "out"
    prepare(source, out, short_side=32, flow=FLOW, workers=1)
    flow_path(read_manifest(out)[1].path).unlink()
    again = prepare(source, out, short_side=32, flow=FLOW, workers=1)
    assert again.transcoded == 0 and contents(out) == contents(prepared)
    few = tmp_path / "few.csv"
    write_manifest(read_manifest(source)[:2], few)
    prepare(few, out, short_side=32, flow=FLOW, workers=1)
    assert sorted(path.name for path in out.rglob("*.flow")) == ["0.flow", "1.flow"]


class StoppedError(Exception):
    """As a kill between two clips."""


@pytest.mark.parametrize("shards", [0, 2])
@pytest.mark.parametrize("before", [None, FlowSettings("dis", 25.0, 48)], ids=["none", "other"])
def test_clips_that_are_there_get_flow_without_being_encoded_again(source, tmp_path, shards, before):
    """Without flow, or with other: as if they had been prepared so at first, wherever a run stopped on its way."""
    shutil.copytree(source.parent, tmp_path / "source")
    rows = [replace(row, path=tmp_path / "source" / row.path.name, hash=row.path.stem) for row in read_manifest(source)]
    write_manifest(rows, tmp_path / "source" / "manifest.parquet")
    how = {"manifest": tmp_path / "source", "short_side": 32, "workers": 1, "shards": shards}
    prepare(out=tmp_path / "at_first", flow=FLOW, **how)
    prepare(out=tmp_path / "before", flow=before, **how)
    for row in rows:
        row.path.unlink()
    for stop in range(CLIPS + 1):
        out, counts = tmp_path / f"out{stop}", []
        shutil.copytree(tmp_path / "before", out)

        def stopping(done: int, _: int, stop: int = stop) -> None:
            if done == stop:
                raise StoppedError

        with pytest.raises(StoppedError):
            prepare(out=out, flow=FLOW, progress=stopping, **how)
        held = read_manifest(out)
        assert all(ClipReader(size=32, audio=False).read(row.source, [Window(0.0, 0.4)]) for row in held)
        assert [stored_settings(row) for row in held] == [*[FLOW] * (0 if shards else stop), *[before] * CLIPS][:CLIPS]
        result = prepare(out=out, flow=FLOW, progress=lambda *done, counts=counts: counts.append(done), **how)
        assert result.transcoded == 0 and counts == [(k, CLIPS) for k in range(stop, CLIPS + 1)]
        assert contents(out) == contents(tmp_path / "at_first")


def test_a_folder_with_flow_is_not_prepared_without(source, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    with pytest.raises(OutputError, match=r"prepared with optical flow \(see .*prepare.json\): give --flow too"):
        prepare(source, tmp_path / "out", short_side=32, workers=1)
    with pytest.raises(OutputError, match="prepared with other settings"):
        prepare(source, tmp_path / "out", short_side=48, flow=FLOW, workers=1)
    assert contents(tmp_path / "out") == contents(prepared)


def test_an_impossible_note_is_of_other_settings(source, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "out")
    for note in ("", "[]", "{"):
        (tmp_path / "out" / "prepare.json").write_text(note)
        with pytest.raises(OutputError, match="prepared with other settings"):
            prepare(source, tmp_path / "out", short_side=32, flow=FLOW, workers=1)


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (FlowSettings("raft", 12.5, 32), "there is no flow by 'raft': choose one of lucas_kanade"),
        (FlowSettings("dis", 0.0, 32), "not of 32 and 0"),
        (FlowSettings("dis", float("nan"), 32), "not of 32 and nan"),
        (FlowSettings("dis", 25.0, 5000), "not of 5000 and 25"),
    ],
)
def test_impossible_flow(source, tmp_path, flow, said):
    with pytest.raises(DataError, match=said):
        prepare(source, tmp_path / "out", flow=flow)


def test_what_is_of_another_clip_or_damaged_is_not_read(prepared, tmp_path):
    row = read_manifest(prepared)[0]
    good = flow_path(row.path).read_bytes()
    clip = replace(row, path=tmp_path / "0.mp4")
    assert stored_settings(clip) is None
    header, _, rest = good.partition(b"\n")
    told = json.loads(header)
    body = zlib.decompress(zlib.compress(rest))
    damaged = [
        good[:-40], good[: len(header) + 30], b"", b"\n", header, b"[]\n" + rest, b"x" * 9000,
        *(json.dumps(told | change).encode() + b"\n" + body
          for change in ({"pairs": 10**12}, {"pairs": -1}, {"pairs": None}, {"clip": "0"}, {"size": 16})),
        header + b"\n" + b"\xff" * len(rest),
    ]  # fmt: skip
    for data in damaged:
        flow_path(clip.path).write_bytes(data)
        with pytest.raises(DataError, match="its prepared flow cannot be used"):
            read_flow(clip, FLOW, 0, 99)
    flow_path(clip.path).write_bytes(good)
    assert stored_settings(clip) == FLOW and stored_settings(replace(clip, hash="0")) is None
