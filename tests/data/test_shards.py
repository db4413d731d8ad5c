"""Shards: what others read out of them, and what the manifest says of where a clip lies."""

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from avlearn.data.manifest import Event, Row
from avlearn.data.shards import write_shards
from avlearn.errors import OutputError
from avlearn.media import ClipReader, Slice, Window, write_video

RATE = 16000


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Row]:
    folder, rows = tmp_path_factory.mktemp("clips"), []
    for k in range(5):
        rng, path = np.random.default_rng(k), folder / f"{k}.mp4"
        texture = rng.integers(0, 255, (6, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        frames = np.stack([np.roll(texture, n, 1) for n in range(30)])
        audio = rng.uniform(-0.3, 0.3, (1, round(1.2 * RATE))).astype(np.float32)
        write_video(path, frames, 25, audio=audio, sample_rate=RATE)
        data = path.read_bytes()
        row = Row(
            path, duration=1.2, fps=25.0, width=64, height=48, sample_rate=RATE, labels=("dog",) * (k % 2),
            split="train", events=(Event("bark", 0.2, 0.4, (0.0, 0.1, 0.5, 1.0)),) * (k % 2),
            hash=hashlib.sha256(data).hexdigest()[:32], bytes=len(data),
        )  # fmt: skip
        rows.append(row)
    return rows


def names(rows: list[Row]) -> list[str]:
    return [f"dog/{row.path.name}" for row in rows]


def test_others_read_them_in_order(clips, tmp_path):
    """As WebDataset does: members that share a key, up to the first dot of their name, are one sample."""
    write_shards(clips, names(clips), tmp_path, 2)
    read = []
    for path in sorted(tmp_path.iterdir()):
        with tarfile.open(path) as tar:
            samples: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, kind = member.name.partition(".")
                samples.setdefault(key, {})[kind] = tar.extractfile(member).read()
        read.append(samples)
    assert [list(samples) for samples in read] == [["00000000", "00000001"], ["00000002", "00000003", "00000004"]]
    for row, sample in zip(clips, [s for samples in read for s in samples.values()], strict=True):
        assert sample["mp4"] == row.path.read_bytes()
        told = json.loads(sample["json"])
        assert (told["name"], told["labels"], told["split"]) == (f"dog/{row.path.name}", list(row.labels), "train")
        assert [event["box"] for event in told["events"]] == [[0.0, 0.1, 0.5, 1.0]] * len(row.events)
        assert (told["hash"], told["duration"], told["fps"], told["sample_rate"]) == (row.hash, 1.2, 25.0, RATE)


def test_a_clip_of_a_shard_is_read_as_its_file(clips, tmp_path):
    packed = write_shards(clips, names(clips), tmp_path, 3)
    assert [row.path.name for row in packed] == ["00000.tar", "00001.tar", "00001.tar", "00002.tar", "00002.tar"]
    windows = [Window(0.1, 0.5, 0.1, 0.2), Window(0.9, 0.3)]
    for loose, row in zip(clips, packed, strict=True):
        with row.path.open("rb") as file:
            file.seek(row.offset)
            assert file.read(row.bytes) == loose.path.read_bytes()
        there = ClipReader().read(Slice(row.path, row.offset, row.bytes), windows)
        for got, wanted in zip(there, ClipReader().read(loose.path, windows), strict=True):
            assert (got.video == wanted.video).all() and (got.audio == wanted.audio).all()
            assert (got.times == wanted.times).all() and len(got.times)


def test_the_same_clips_give_the_same_bytes(clips, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_shards(clips, names(clips), tmp_path / name, 2)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_no_empty_shards_and_no_old_ones(clips, tmp_path):
    write_shards(clips, names(clips), tmp_path, 9)
    assert len(list(tmp_path.iterdir())) == 5
    write_shards(clips, names(clips), tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.tar", "00001.tar"]


def test_a_clip_that_changed_is_not_packed(clips, tmp_path):
    data = bytearray(clips[1].path.read_bytes())
    data[-9] ^= 1
    rotten = Path(tmp_path / "rotten.mp4")
    rotten.write_bytes(data)
    (tmp_path / "shards").mkdir()
    rows = [clips[0], Row(rotten, hash=clips[1].hash, bytes=clips[1].bytes)]
    with pytest.raises(OutputError, match=r"rotten.mp4 has changed"):
        write_shards(rows, names(rows), tmp_path / "shards", 1)
    assert not list((tmp_path / "shards").iterdir())
