"""Footage: what cannot be learned from is told, delays are made good, and one that all files share is found."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from avlearn.adapt import footage
from avlearn.adapt.folds import assign, write_lists
from avlearn.adapt.footage import Delays, Stretch, copy_stretches, delays, stretches, true_offset, why_not
from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.sync.drift import Course
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError, MissingExtraError
from avlearn.media import read_clip, remux


def answered(*offsets):
    return {str(k): ExpertAnswer("speech", o, 0.9, "" if o is not None else "no face") for k, o in enumerate(offsets)}


def test_a_delay_that_nearly_all_files_share_is_taken_for_those_that_nobody_knows():
    known = delays(answered(0.2, 0.21, 0.19, 0.2, None, None))
    assert known.common == pytest.approx(0.2) and known.asked == 6
    assert known.of("1") == 0.21 and known.of("4") == known.of("never asked") == pytest.approx(0.2)
    assert "the audio leads by 200 ms, taken for the other 2 files too" in known.lines([*"012345"])[1]


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ((0.2, 0.2, None), "nobody can tell; if 1 files share one"),
        ((0.2, -0.3, 0.6, None), "none; 1 files that nobody was sure of are taken to be in sync"),
        ((0.01, 0.02, 0.0, None), "none; 1 files"),
        ((None, None), "nobody can tell; if 2 files share one, it is learned as in sync"),
    ],
)
def test_what_nobody_knows_is_taken_to_be_in_sync_and_said(offsets, said):
    known = delays(answered(*offsets))
    assert known.common is None and known.of("never asked") == 0.0
    assert said in "\n".join(known.lines([str(k) for k in range(len(offsets))]))


def test_files_near_enough_stay_and_lacking_faces_are_said():
    lacking = {"a": ExpertAnswer("self-calibration", None, 0.1, "needs pip install 'avlearn[faces]'")}
    known = delays({**answered(0.03), **lacking})
    assert known.of("0") == 0.0 and "pip install 'avlearn[faces]'" in known.lines(["0", "a"])[0]


def test_the_first_expert_that_is_sure_is_believed(small_world, monkeypatch):
    clip = next((small_world / "clips").glob("*.mp4"))

    def missing(path):
        raise MissingExtraError("it takes pip install 'avlearn[faces]'")

    sure = ExpertAnswer("self-calibration", 0.3, 0.9, "")
    monkeypatch.setattr("avlearn.apply.sync.speech.speech_sync", missing)
    monkeypatch.setattr("avlearn.apply.sync.self_calibrated.self_calibrated_sync", lambda path: sure)
    assert true_offset(clip) == sure
    unsure = ExpertAnswer("self-calibration", 0.3, 0.2, "nothing stands out")
    monkeypatch.setattr("avlearn.apply.sync.self_calibrated.self_calibrated_sync", lambda path: unsure)
    assert true_offset(clip).offset is None and "pip install" in true_offset(clip).reason


def test_an_offset_that_changes_is_no_delay_of_a_file(small_world, monkeypatch):
    clip = next((small_world / "clips").glob("*.mp4"))
    drifting = ExpertAnswer("speech", 0.3, 0.9, "", course=Course(0.2, (0.2, 0.4), 300.0))
    monkeypatch.setattr("avlearn.apply.sync.speech.speech_sync", lambda path: drifting)
    assert true_offset(clip).offset is None and "its offset changes" in true_offset(clip).reason


@pytest.mark.parametrize(("flags", "reason", "duration", "said"), [
    ((), "there is no audio track", 9.0, "there is no audio track"),
    (("silent",), "", 9.0, "the audio track holds silence"),
    (("static",), "", 9.0, "the video never changes"),
    (("variable-fps",), "", 3.0, "shorter than 3.9 s"),
    (("variable-fps", "short"), "", 4.0, ""),
])  # fmt: skip
def test_files_that_teach_nothing_are_passed_over_with_a_reason(flags, reason, duration, said):
    assert why_not(Row(Path("a.mp4"), duration=duration, flags=flags, reason=reason), 3.92) == said


@pytest.mark.parametrize("delay", [0.24, -0.24])
def test_a_copy_of_a_file_that_is_off_is_in_sync(delay, small_world, tmp_path):
    clip = sorted((small_world / "clips").glob("*.mp4"))[0]
    whole = read_clip(clip, fps=25, size=64, sample_rate=16000, mono=True)
    off = tmp_path / "off.mp4"
    remux(clip, off, audio_delay=-delay)  # audio that leads is heard too early
    [part] = stretches([Row(off, duration=3.7)], Delays({str(off): delay}, 1, None), tmp_path, 1.0, 0)
    assert (part.start, part.end) == pytest.approx((0.24, 3.7) if delay > 0 else (0.0, 3.46))
    assert copy_stretches(off, parts=[part], origin=0.0, fps=25.0, size=64, sample_rate=16000) == 1
    copied = read_clip(part.copy, fps=25, sample_rate=16000, mono=True)
    first = round(part.start * 16000)
    length = round(3.2 * 16000)
    wanted, there = whole.audio[0, first : first + length], copied.audio[0, :length]
    spectrum = np.fft.rfft(wanted, 2 * length).conj() * np.fft.rfft(there, 2 * length)
    lag = int(np.fft.irfft(spectrum).argmax())
    assert min(lag, 2 * length - lag) < 0.005 * 16000
    frame = round(part.start * 25)
    assert np.abs(copied.video[0].astype(float) - whole.video[frame]).mean() < 6


def test_long_files_give_parts_and_much_footage_no_more_than_the_most(monkeypatch, tmp_path):
    rows = [Row(Path("film.mp4"), duration=600.0), Row(Path("clip.mp4"), duration=5.0)]
    parts = stretches(rows, Delays({}, 0, None), tmp_path, 3.92, 0)
    film = [part for part in parts if part.file == "film.mp4"]
    assert len(film) >= 40 and film[-1].end == 600 and len(parts) == len(film) + 1
    assert all(b.start >= a.end - 1e-3 for a, b in pairwise(film))
    monkeypatch.setattr(footage, "_MOST", 10)
    few = stretches(rows, Delays({}, 0, None), tmp_path, 3.92, 0)
    assert len(few) == 10 and few[-1].file == "clip.mp4"


def parts_of(counts, copy=Path("copy.mkv")):
    return [Stretch(file, 10.0 * k, 10.0 * k + 8, 0.0, copy) for file, count in counts.items() for k in range(count)]


def test_a_file_is_in_one_fold():
    parts = parts_of({f"{k}.mp4": 1 + k % 3 for k in range(20)})
    folds, by_file = assign(parts, 0)
    assert by_file and {0, 1} == set(folds)
    for file in {part.file for part in parts}:
        assert len({fold for part, fold in zip(parts, folds, strict=True) if part.file == file}) == 1
    assert folds == assign(parts, 0)[0] != assign(parts, 1)[0]


def test_of_a_single_file_the_folds_are_its_halves():
    parts = parts_of({"film.mp4": 21})
    folds, by_file = assign(parts, 0)
    assert not by_file and folds == sorted(folds) and abs(folds.count(0) - folds.count(1)) <= 1


def test_few_files_of_one_stretch_are_in_both_folds():
    folds, by_file = assign(parts_of({"a.mp4": 20, "b.mp4": 1, "c.mp4": 1}), 0)
    assert not by_file and set(folds[20:]) == {0, 1}


def test_too_little_is_said_in_one_line():
    with pytest.raises(DataError, match="19 stretches of 1 files can be used, 152 s in all: adapt takes 20 at least"):
        assign(parts_of({"film.mp4": 19}), 0)


def test_no_file_both_trains_and_chooses_the_checkpoint(small_world, tmp_path):
    clips = sorted((small_world / "clips").glob("*.mp4"))
    parts = [Stretch(str(clip), 0, 4, 0.0, clip) for clip in clips]
    train, val = (read_manifest(path) for path in write_lists(parts, tmp_path / "lists", 3.0, 0))
    paths = [{row.path.name for row in rows} for rows in (train, val)]
    assert not paths[0] & paths[1] and len(paths[0] | paths[1]) == len(clips) and len(paths[1]) == 1
    assert {row.duration for row in train} == {3.0} and len(train) == 2 * len(paths[0])
