"""What the tools say, and that they say no more than is known."""

import wave
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from avlearn.apply.classify import classify_file
from avlearn.apply.localize.experts import _verdict as localized
from avlearn.apply.localize.file import localize_file
from avlearn.apply.run_many import ResultTable
from avlearn.apply.separate.file import _verdict as separated
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync.best_track import best_track
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.apply.sync.check import SyncCheck
from avlearn.apply.tools import SYNC
from avlearn.apply.verdict import CANNOT_TELL, NOTHING_ON_SCREEN, unlike_training
from avlearn.apply.windows import windows
from avlearn.cli import app
from avlearn.errors import NoAudioError, NoVideoError
from avlearn.media import read_clip, remux, write_video
from avlearn.models.calibration import Calibrations
from avlearn.models.folder import load

KNOWN = {"video": True, "audio": True}
NOT_MEASURED = {"video": None, "audio": None}


@pytest.fixture
def unlike(tmp_path):
    """Noise seen and heard."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (75, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "noise.mp4", frames, 25, audio=rng.normal(0, 0.1, (1, 48000)), sample_rate=16000)
    return tmp_path / "noise.mp4"


def looped(path, out, times):
    """A file again and again, its packets one after the other."""
    with av.open(str(out), "w") as target:
        streams = None
        for k in range(times):
            with av.open(str(path)) as source:
                shown, heard = source.streams.video[0], source.streams.audio[0]
                streams = streams or {s.type: target.add_stream_from_template(s) for s in (shown, heard)}
                for packet in source.demux(shown, heard):
                    if packet.dts is None or (k and packet.pts < 0):
                        continue
                    later = round(4 * k / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    if packet.pts * packet.time_base < 4 * (k + 1):
                        packet.stream = streams[packet.stream.type]
                        target.mux(packet)
    return out


def look(known, fresh=(1.0,)):
    return SyncCheck(known, 0.0, (), np.zeros(len(fresh)), np.array(fresh))


def test_only_a_model_that_knows_such_files_says_that_nothing_is_on_screen(model):
    silent, low, new = np.zeros(10, bool), np.full(10, 0.1), np.ones(10)
    for known, calibrated, verdict in (
        (KNOWN, True, NOTHING_ON_SCREEN), (KNOWN, False, CANNOT_TELL), (NOT_MEASURED, True, CANNOT_TELL),
        ({"video": False, "audio": True}, True, CANNOT_TELL),
    ):  # fmt: skip
        first = look(known)
        assert localized(low, silent, new, first, first.undecided_reason(model, calibrated) or "") == verdict
        other = replace_calibration(model, calibrated)
        assert separated(False, [0.1], first, other)[0] == verdict
        assert separated(False, [], first, other)[0] == verdict
        assert separated(True, [], first, other)[0] == "silent"
    assert separated(False, [0.9], look(NOT_MEASURED), model)[0] == "separated"
    assert separated(False, [0.9], look({"video": True, "audio": False}), model)[0] == CANNOT_TELL
    assert localized(low + 0.8, silent, new, look(NOT_MEASURED), "why") == "on screen"


def replace_calibration(model, calibrated):
    class Other:
        config = model.config
        calibrations = model.calibrations if calibrated else Calibrations()

    return Other()


def test_of_silence_nothing_is_sure(model, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "silent.mp4", frames, 25, audio=np.zeros((1, 32000), np.float32), sample_rate=16000)
    found = sync_by_model(tmp_path / "silent.mp4", model)
    assert (found.status, found.offset, found.confidence) == ("undecidable", None, 0.0)


def test_a_file_of_one_frame_is_one_step(model, tmp_path):
    write_video(
        tmp_path / "one.mkv", np.zeros((1, 64, 64, 3), np.uint8), 25, audio=np.ones((1, 640)) / 9, sample_rate=16000
    )
    (only,) = windows(tmp_path / "one.mkv", model, model.config.seconds)
    step = round(model.step * 16000)
    assert only.audio.shape[1] == step and len(only.frames) == round(model.step * 25)
    assert only.features.shape[2] == only.audio_features.shape[2] == 1


def test_what_is_unlike_the_training_data_is_named():
    assert unlike_training(KNOWN, "the world") is None and unlike_training(NOT_MEASURED, "the world") is None
    said = "is unlike what it was trained on, the world"
    assert unlike_training({"video": False, "audio": True}, "the world") == f"the video {said}"
    assert unlike_training({"video": False, "audio": False}, "") == (
        "the video and the audio are unlike what it was trained on, unknown data"
    )


def test_repetitions_of_a_chance_find_do_not_make_it_one(model):
    audible, silent = np.full(40, 0.1), np.zeros(40, bool)
    audible[::8] = 0.9
    first = look(KNOWN)
    assert localized(audible, silent, np.ones(40), first, "") == "partly on screen"
    assert localized(audible, silent, (np.arange(40) < 8).astype(float), first, "") == NOTHING_ON_SCREEN
    for most in ([0.9, 0.1], [0.9, 0.9, 0.9, 0.1]):  # of a short file, half of the windows and more are no chance
        assert localized(np.array(most), silent[: len(most)], np.ones(len(most)), first, "") == "partly on screen"


def test_of_an_unlike_file_every_tool_says_that_the_model_cannot_tell(unlike, model, tmp_path):
    runner, out = CliRunner(), str(tmp_path / "o")
    for words in (["sync"], ["classify"], ["localize", "-o", out + ".mp4"], ["separate", "-o", out]):
        done = runner.invoke(app, [words[0], str(unlike), *words[1:]])
        assert done.exit_code == 3, done.output
        assert CANNOT_TELL in done.output and "unlike what it was trained on" in done.output
        assert NOTHING_ON_SCREEN not in done.output
    said = classify_file(unlike, model)
    assert said.verdict == CANNOT_TELL and False in said.in_distribution.values()
    assert said.text().splitlines()[0].startswith(f"{unlike}: {CANNOT_TELL}: ") and "note:" not in said.text()


def test_of_silence_every_tool_says_that_it_is_silent(clips, model, tmp_path):
    clip = read_clip(clips[0])
    write_video(tmp_path / "s.mp4", clip.video, clip.fps, audio=clip.audio * 0, sample_rate=clip.sample_rate)
    runner, out = CliRunner(), str(tmp_path / "o")
    for words, code in ((["sync"], 3), (["localize", "-o", out + ".mp4"], 0), (["separate", "-o", out], 0)):
        done = runner.invoke(app, [words[0], str(tmp_path / "s.mp4"), *words[1:]])
        assert done.exit_code == code, done.output
        assert "the audio track is silent" in done.output


def test_the_best_audio_track_is_the_one_that_is_in_sync(clips, model, tmp_path):
    """Another clip's audio, the clip's own half a second late, its own, and silence."""
    own, other = read_clip(clips[0]), read_clip(clips[7], video=False)
    late = np.pad(own.audio, ((0, 0), (8000, 0)))[:, : own.audio.shape[1]]
    recordings = [other.audio, late, own.audio, own.audio * 0]
    with av.open(str(clips[0])) as source, av.open(str(tmp_path / "many.mkv"), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        tracks = [target.add_stream("pcm_s16le", rate=own.sample_rate, layout="mono") for _ in recordings]
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        for track, audio in zip(tracks, recordings, strict=True):
            frame = av.AudioFrame.from_ndarray((audio * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = own.sample_rate, 0
            target.mux(track.encode(frame))
            target.mux(track.encode(None))
    assert best_track(tmp_path / "many.mkv", model) == 3
    done = CliRunner().invoke(app, ["sync", "--audio-track", "best", str(tmp_path / "many.mkv")])
    assert done.exit_code == 0, done.output
    assert "listening to audio track 3" in done.output and "in sync" in done.output


def test_where_no_window_was_looked_at_all_moments_are_fresh():
    empty = SimpleNamespace(starts=np.array([]), fresh=np.array([]))
    assert SyncCheck.fresh_at(empty, np.array([0.0, 2.0])).tolist() == [1.0, 1.0]
    two = SimpleNamespace(starts=np.array([0.0, 2.0]), fresh=np.array([1.0, 0.25]))
    assert SyncCheck.fresh_at(two, np.array([0.4, 1.7, 9.0])).tolist() == [1.0, 0.25, 0.25]


def test_of_tracks_that_cannot_be_synchronized_the_likeliest_is_taken(clips, model, monkeypatch):
    confidences = {1: 0.2, 2: 0.7, 3: 0.4}
    monkeypatch.setattr("avlearn.apply.sync.best_track.audio_tracks", lambda _: [0, 0, 0])
    monkeypatch.setattr(
        "avlearn.apply.sync.best_track.sync_file",
        lambda track, _: SimpleNamespace(offset=None, confidence=confidences[track.track]),
    )
    assert best_track(clips[0], model) == 2


def test_where_no_track_can_be_measured_the_reason_is_said(model, tmp_path):
    frames = np.zeros((10, 32, 32, 3), np.uint8)
    write_video(tmp_path / "mute.mp4", frames, 25)
    with pytest.raises(NoAudioError, match=r"mute\.mp4 has no audio track"):
        best_track(tmp_path / "mute.mp4", model)
    with wave.open(str(tmp_path / "alone.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))
    with pytest.raises(NoVideoError, match=r"alone\.wav has no video"):
        best_track(tmp_path / "alone.wav", model)


def test_what_is_not_calibrated_says_so(clips, model, tmp_path):
    own = load("default")
    own.calibrations = replace(own.calibrations, sync=None)
    for sure, used in ((False, own), (True, model)):
        result = sync_by_model(clips[0], used)
        assert ("not calibrated" not in result.text()) == sure
        assert ("not calibrated" not in ResultTable(SYNC, [result]).text()) == sure


def test_few_frames_are_named_as_a_reason(clips, model, tmp_path):
    clip = read_clip(clips[1])
    write_video(tmp_path / "few.mp4", clip.video[::5], 5, audio=clip.audio, sample_rate=clip.sample_rate)
    result = sync_by_model(tmp_path / "few.mp4", model)
    assert result.status == "undecidable"
    assert "5 frames a second" in result.reason and "jumps of 200 ms" in result.reason


def test_audio_further_off_than_the_search_gets_a_hint(clips, model, tmp_path):
    remux(clips[0], tmp_path / "other.mp4", replace_audio=clips[4])
    known = load("default")
    known.in_distribution["video"].limit.fill_(100.0)
    assert "--max-offset 10 looks further" in sync_by_model(tmp_path / "other.mp4", known).text()
    assert "--max-offset" not in sync_by_model(tmp_path / "other.mp4", known, max_offset=10).text()
    remux(clips[0], tmp_path / "far.mp4", audio_delay=9.0)
    assert "--max-offset" in sync_by_model(tmp_path / "far.mp4", known).text()


@pytest.mark.parametrize("gain", [-30, -60])
def test_a_quiet_copy_has_the_verdict_of_the_loud_one(clips, model, tmp_path, gain):
    clip = read_clip(clips[0])
    for name, factor in (("loud", 1.0), ("low", 10 ** (gain / 20))):
        audio = clip.audio * np.float32(factor)
        write_video(tmp_path / f"{name}.mp4", clip.video, clip.fps, audio=audio, sample_rate=clip.sample_rate)
    loud, quiet = (sync_by_model(tmp_path / f"{name}.mp4", model) for name in ("loud", "low"))
    assert loud.status == quiet.status == "in sync"
    assert quiet.offset == pytest.approx(loud.offset, abs=0.01)
    assert "the audio is quiet" in quiet.text() and "the audio is quiet" not in loud.text()


def test_localize_and_separate_measure_at_the_offset_of_the_file(clips, model, tmp_path):
    remux(clips[0], tmp_path / "late.mp4", audio_delay=0.2)
    own = localize_file(clips[0], model, tmp_path / "own.mp4")
    late = localize_file(tmp_path / "late.mp4", model, tmp_path / "o.mp4")
    assert own.delay == 0 and own.verdict == late.verdict == "on screen"
    assert late.delay == pytest.approx(-0.2, abs=0.02)
    assert late.audible == pytest.approx(own.audible, abs=0.1)
    assert "audio lags by" in late.text() and "measured at the corrected offset, fix with: avlearn sync" in late.text()
    tracks = separate_file(tmp_path / "late.mp4", model, tmp_path / "tracks", sources=1)
    assert tracks.delay == late.delay and tracks.verdict == "separated"
    parts = [read_clip(track.audio, video=False).audio for track in tracks.tracks]
    whole = read_clip(tmp_path / "late.mp4", video=False).audio
    np.testing.assert_allclose(sum(parts)[:, 8000:48000], whole[:, 8000:48000], atol=1e-3)


def test_tracks_of_late_audio_are_as_good_as_those_in_sync(clips, model, tmp_path):
    """Late by two and a half steps of the video: led by half a step too early or late, masks hold next to nothing."""
    clip = read_clip(clips[3])
    remux(clips[3], tmp_path / "stamps.mp4", audio_delay=0.2)
    later = np.pad(clip.audio, ((0, 0), (round(0.2 * clip.sample_rate), 0)))[:, : clip.audio.shape[1]]
    write_video(tmp_path / "samples.mp4", clip.video, clip.fps, audio=later, sample_rate=clip.sample_rate)
    own = separate_file(clips[3], model, tmp_path / "tracks", sources=1)
    for name in ("stamps.mp4", "samples.mp4"):
        late = separate_file(tmp_path / name, model, tmp_path / "tracks", sources=1)
        assert late.delay == pytest.approx(-0.2, abs=0.02)
        assert late.verdict == own.verdict == "separated"
        assert late.sources[0].confidence == pytest.approx(own.sources[0].confidence, abs=0.03)
        assert late.sources[0].share == pytest.approx(own.sources[0].share, abs=0.06)
        whole = read_clip(tmp_path / name, video=False).audio
        summed = sum(read_clip(track.audio, video=False).audio for track in late.tracks)
        assert abs(summed.shape[1] - whole.shape[1]) <= 2048  # the codec fills its last block
        length = min(summed.shape[1], whole.shape[1])
        np.testing.assert_allclose(summed[:, :length], whole[:, :length], atol=1e-4)


@pytest.mark.parametrize("later", [0.03, -0.03])
def test_tracks_meet_the_video_within_the_tolerance_of_sync(clips, model, tmp_path, later):
    clip, count = read_clip(clips[3]), round(abs(later) * 16000)
    audio, gap = clip.audio, np.zeros((1, count), np.float32)
    moved = np.concatenate([gap, audio[:, :-count]] if later > 0 else [audio[:, count:], gap], 1)
    write_video(tmp_path / "moved.mp4", clip.video, clip.fps, audio=moved, sample_rate=clip.sample_rate)
    own = separate_file(clips[3], model, tmp_path / "tracks", sources=1)
    found = separate_file(tmp_path / "moved.mp4", model, tmp_path / "tracks", sources=1)
    assert own.delay == 0
    assert found.delay == pytest.approx(-later, abs=0.01)
    assert found.notes == ()
    assert found.sources[0].share == pytest.approx(own.sources[0].share, abs=0.03)


def test_a_clip_that_is_repeated_is_told_as_the_clip_is_and_with_no_more_confidence(clips, model, tmp_path):
    remux(clips[2], tmp_path / "other.mp4", replace_audio=clips[7])
    remux(clips[3], tmp_path / "late.mp4", audio_delay=0.2)
    for path in (tmp_path / "other.mp4", clips[2], tmp_path / "late.mp4"):
        once = sync_by_model(path, model)
        often = sync_by_model(looped(path, tmp_path / "loop.mp4", 12), model)
        assert sum(window["fresh"] for window in often.windows) < 1.5 * sum(w["fresh"] for w in once.windows) + 1
        assert often.status == once.status
        assert often.confidence <= once.confidence + 0.05
        if once.offset is not None:
            assert often.offset == pytest.approx(once.offset, abs=0.02)
            assert often.confidence >= once.confidence - 0.1
        assert "comes again every 4.0 s" in often.text() and "--max-offset" not in often.text()


def test_however_far_one_looks_an_offset_of_a_loop_is_the_nearest_of_those_that_look_alike(clips, model, tmp_path):
    loop = looped(clips[2], tmp_path / "loop.mp4", 6)
    often = sync_by_model(loop, model, max_offset=10)
    assert often.status == "in sync"
    assert often.offsets[-1] == pytest.approx(2.0, abs=0.1)
