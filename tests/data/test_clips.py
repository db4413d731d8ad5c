"""Windows of a data set: aligned on the file's own clock, the same however they are read, labelled, skipped by name."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.loader import clip_loader
from avlearn.data.manifest import read_manifest
from avlearn.data.sampling import StepSampler
from avlearn.data.scan import scan_folder
from avlearn.data.shards import write_shards
from avlearn.errors import AvlearnError, MediaError
from avlearn.media import ClipReader, read_clip, remux, write_video

RULE = WindowRule(fps=12.5, size=32, sample_rate=8000, seconds=0.8, context=0.32, step=0.08)


@pytest.fixture(scope="module")
def rows(small_world):
    return read_manifest(small_world)


@pytest.fixture
def opens(monkeypatch) -> list[int]:
    """How many windows each read had, as reads come."""
    counts = []
    read = ClipReader.read

    def counted(self, source, windows):
        counts.append(len(windows))
        return read(self, source, windows)

    monkeypatch.setattr(ClipReader, "read", counted)
    return counts


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key]
        for key in one
    )


def test_video_and_audio_lie_where_the_rule_puts_them(rows):
    data = ClipDataset(rows, RULE)
    for seed in range(5):
        item = data[(1, seed)]
        video, audio, offset = RULE.draw(rows[1].duration, seed)
        shown = read_clip(rows[1].path, rows[1].start + video, 0.8, fps=12.5, size=32, crop="square", audio=False)
        heard = read_clip(rows[1].path, rows[1].start + audio, 1.44, sample_rate=8000, mono=True, video=False)
        assert item["video"].shape == (10, 32, 32, 3) and item["audio"].shape == (11520,)
        assert np.array_equal(item["video"], shown.video)
        assert np.abs(item["audio"].numpy() - heard.audio[0]).max() < 1e-4
        assert item["offset"] == offset


def test_windows_follow_the_clock_of_a_file_that_starts_late(tmp_path):
    """A flash and a click at the same instant, in a container whose clock does not start at zero."""
    frames = np.zeros((100, 48, 64, 3), np.uint8)
    audio = np.zeros((1, 100 * 640), np.float32)
    for k in range(10, 100, 20):
        frames[k] = 255
        audio[0, k * 640 : k * 640 + 200] = 0.9
    write_video(tmp_path / "a.mp4", frames, 25, audio=audio, sample_rate=16000)
    remux(tmp_path / "a.mp4", tmp_path / "late.ts")
    (tmp_path / "a.mp4").unlink()
    (row,) = scan_folder(tmp_path)
    assert row.start > 0.05 and not row.reason
    rule = WindowRule(fps=25, size=32, sample_rate=16000, seconds=1.2, context=0.4, step=0.04)
    data = ClipDataset([row], rule)
    for seed in range(8):
        item = data[(0, seed)]
        flash = int(item["video"].float().mean((1, 2, 3)).argmax())
        clicks = np.flatnonzero(item["audio"].abs().numpy() > 0.4)
        wanted = (flash / 25 + item["offset"] * 0.04) * 16000
        assert np.abs(clicks - wanted).min() < 32  # 2 ms: AAC smears


def test_windows_read_along_are_the_same_and_cost_no_open(rows, opens):
    alone = [ClipDataset(rows, RULE)[(2, seed)] for seed in (5, 6, 7, 8)]
    opens.clear()
    data = ClipDataset(rows, RULE)
    together = [data[pick] for pick in ((2, 5, (6, 7, 8)), (2, 7, (8,)), (2, 8, ()), (2, 6, (7, 8)))]
    assert opens == [4]
    assert all(same(together[k], alone[j]) for k, j in enumerate((0, 2, 3, 1)))
    assert not data._kept


def test_windows_that_nobody_asks_for_are_let_go(rows):
    data = ClipDataset(rows, RULE, keep=3)
    for index in range(4):
        data[(index, 0, (1, 2))]
    assert list(data._kept) == [(2, 2), (3, 1), (3, 2)]


def test_shards_hold_the_same_clips(small_world, tmp_path):
    rows = scan_folder(small_world)
    packed = write_shards(rows, [row.path.name for row in rows], tmp_path, 3)
    assert len({row.path for row in packed}) == 3
    loose, sharded = ClipDataset(rows, RULE), ClipDataset(packed, RULE)
    assert all(same(loose[(k, 1)], sharded[(k, 1)]) for k in range(len(rows)))


def test_labels(rows):
    named = [replace(row, labels=labels) for row, labels in zip(rows, [("b", "a"), ("c",), ()], strict=False)]
    data = ClipDataset(named, RULE)
    assert data.classes == ("a", "b", "c")
    batch = collate([data[(k, 0)] for k in range(3)])
    assert batch["labels"].tolist() == [[True, True, False], [False, False, True], [False, False, False]]
    assert batch["index"].tolist() == [0, 1, 2]


def test_bad_files_are_skipped_by_name_or_raised(rows, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    mixed = [rows[0], replace(rows[1], path=broken, bytes=0)]
    skipping = ClipDataset(mixed, RULE, bad_files="skip")
    batch = collate([skipping[(0, 0)], skipping[(1, 0)]])
    assert len(batch["video"]) == 1
    assert batch["skipped"][0].startswith(f"{broken}: ") and "not a media file" in batch["skipped"][0]
    assert collate([skipping[(1, 0)]]).keys() == {"skipped"}
    with pytest.raises(AvlearnError, match="not a media file"):
        ClipDataset(mixed, RULE)[(1, 0)]


def test_a_file_that_is_gone_or_another_by_now_is_skipped_by_name(rows, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(rows[0].path.read_bytes())
    data = ClipDataset([replace(rows[0], path=copy)], RULE, bad_files="skip")
    assert "video" in data[(0, 0)]
    copy.write_bytes(rows[1].path.read_bytes())
    assert data[(0, 1)] == {"skipped": f"{copy}: it is gone, or has changed since the scan"}
    copy.unlink()
    assert data[(0, 2)] == {"skipped": f"{copy}: it is gone, or has changed since the scan"}


def test_a_window_that_cannot_be_read_takes_no_others_with_it(rows, monkeypatch):
    read = ClipReader.read

    def damaged_late(self, source, windows):
        if any(window.start > late for window in windows):
            raise MediaError("damaged")
        return read(self, source, windows)

    starts = {seed: RULE.draw(rows[0].duration, seed)[0] for seed in range(30)}
    early, last = min(starts, key=starts.get), max(starts, key=starts.get)
    late = rows[0].start + starts[last] - 1e-3
    monkeypatch.setattr(ClipReader, "read", damaged_late)
    data = ClipDataset(rows, RULE, bad_files="skip")
    assert "video" in data[(0, early, (last,))]
    assert "skipped" in data[(0, last, ())]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_in_the_middle_of_an_epoch(rows, workers):
    def loader():
        sampler = StepSampler(len(rows), 2, 12, seed=4, windows=2, pool=2, workers=workers)
        return clip_loader(ClipDataset(rows, RULE), sampler, workers)

    whole = list(loader())
    begun = loader()
    first = list(islice(begun, 5))
    state = begun.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert len(whole) == 12 and len(rest) == 7
    assert all(same(a, b) for a, b in zip([*first, *rest], whole, strict=True))


def test_processes_share_the_clips_out(rows):
    seen = []
    for rank in range(2):
        sampler = StepSampler(len(rows), 3, 2, seed=4, rank=rank, world=2)
        seen += [int(k) for batch in clip_loader(ClipDataset(rows, RULE), sampler) for k in batch["index"]]
    assert sorted(seen) == list(range(12))


def test_a_clip_shorter_than_the_window_is_refused(rows):
    short = replace(rows[0], duration=1.0)
    with pytest.raises(AvlearnError, match="shorter than the window"):
        ClipDataset([short], RULE)[(0, 0)]
