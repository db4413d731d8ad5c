"""Offsets, drifts and edits from windows' curves, and what is written to mend them."""

import json
from types import SimpleNamespace

import av
import numpy as np
import pytest

from avlearn.apply.sync.by_model import sync_by_model
from avlearn.apply.sync.drift import fit_timeline
from avlearn.apply.sync.fix import fix_file
from avlearn.apply.sync.offsets import offset_curves
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import MediaError, SyncError
from avlearn.media import read_clip, remux, write_wav
from avlearn.models.folder import load, save

TIMES = np.arange(40) * 0.96 + 1


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Twenty seconds of the world."""
    out = tmp_path_factory.mktemp("world")
    make_world(out, 1, 8301, WorldConfig(duration=20.0), workers=1)
    return out / "clips" / "000000.mp4"


def noisy(offsets, seed=0, mistaken=0.1):
    """Windows' offsets as a model finds them: off by 7 ms, some of them anywhere."""
    rng = np.random.default_rng(seed)
    offsets = offsets + rng.normal(0, 0.007, len(offsets))
    wrong = rng.random(len(offsets)) < mistaken
    return np.where(wrong, rng.uniform(-2, 2, len(offsets)), offsets)


@pytest.mark.parametrize("seed", range(5))
def test_one_offset_stays_one(seed):
    timeline = fit_timeline(TIMES, noisy(np.full(40, 0.3), seed), np.ones(40), 0.01)
    assert timeline.edges == ()
    assert timeline.slope == 0
    assert not timeline.shifts.any()


@pytest.mark.parametrize("seed", range(5))
def test_windows_that_agree_on_nothing_have_no_edits(seed):
    offsets = np.random.default_rng(seed).uniform(-2, 2, 40)
    timeline = fit_timeline(TIMES, offsets, np.ones(40), 0.01)
    assert timeline.edges == ()
    assert timeline.slope == 0


@pytest.mark.parametrize("slope", [0.002, -0.002, 0.04])
def test_a_line_is_a_drift(slope):
    timeline = fit_timeline(TIMES, noisy(0.1 + slope * TIMES), np.ones(40), 0.01)
    assert timeline.edges == ()
    assert timeline.slope == pytest.approx(slope, abs=0.0003)


def test_jumps_are_edits():
    truth = np.select([TIMES < 12, TIMES < 25], [0.1, -0.2], 0.05)
    timeline = fit_timeline(TIMES, noisy(truth), np.ones(40), 0.01)
    assert timeline.edges == pytest.approx((12, 25), abs=1.5)
    assert timeline.slope == 0
    values = [timeline.shifts[timeline.segment == s][0] for s in range(3)]
    assert np.diff(values) == pytest.approx([-0.3, 0.25], abs=0.02)


def test_few_windows_tell_no_more_than_one_offset():
    timeline = fit_timeline(TIMES[:4], np.array([0.0, 0.0, 0.5, 0.5]), np.ones(4), 0.01)
    assert timeline.edges == ()
    assert timeline.slope == 0


def test_the_curve_has_the_sign_of_the_design(tmp_path, small_world, model):
    clip = sorted((small_world / "clips").glob("*.mp4"))[0]
    remux(clip, tmp_path / "late.mp4", audio_delay=0.4)
    curves = offset_curves(tmp_path / "late.mp4", model)
    assert curves.offsets[0] == -curves.offsets[-1]
    mean = np.nanmean(curves.scores, 0)
    assert curves.offsets[np.nanargmax(mean)] == pytest.approx(-0.4, abs=0.04)  # late audio lags
    assert "audio lags by" in sync_by_model(tmp_path / "late.mp4", model).verdict


def test_the_audio_that_silence_leaves_tells_of_the_offset(tmp_path, small_world, model):
    """Two seconds early, half the audio of a clip of four seconds is gone."""
    errors = []
    for clip in sorted((small_world / "clips").glob("*.mp4"))[:6]:
        remux(clip, tmp_path / "early.mp4", audio_delay=-2.0)
        result = sync_by_model(tmp_path / "early.mp4", model)
        errors.append(np.inf if result.offset is None else abs(result.offset - 2.0))
    assert np.median(errors) < 0.03


def test_audio_of_something_else_is_undecidable(tmp_path, small_world, model):
    clips = sorted((small_world / "clips").glob("*.mp4"))[:6]
    decided = 0
    for video, audio in zip(clips, clips[1:] + clips[:1], strict=True):
        remux(video, tmp_path / "other.mp4", replace_audio=audio)
        result = sync_by_model(tmp_path / "other.mp4", model)
        decided += result.offset is not None
        assert result.offset is not None or "no offset stands out" in result.reason
    assert decided <= 1


def test_a_drift_is_named_and_mended_only_on_request(clip, tmp_path, model):
    remux(clip, tmp_path / "slow.mp4", audio_delay=0.1, audio_drift=0.005)
    result = sync_by_model(tmp_path / "slow.mp4", model)
    assert result.status == "out of sync"
    assert result.offset == pytest.approx(-0.1, abs=0.02)
    assert result.drift == pytest.approx(-300, abs=40)
    assert "at the start and lags by" in result.verdict
    with pytest.raises(SyncError, match="--drift"):
        fix_file(result, tmp_path / "fixed.mp4")
    fix_file(result, tmp_path / "fixed.mp4", resample=True)
    fixed = sync_by_model(tmp_path / "fixed.mp4", model)
    assert fixed.status == "in sync"
    assert fixed.drift is None
    assert abs(fixed.offset) < 0.01


def test_an_edit_is_placed_and_not_mended(clip, tmp_path, model):
    recording = read_clip(clip, video=False)
    late = np.concatenate([np.zeros((1, 4800), np.float32), recording.audio[:, :-4800]], 1)  # 300 ms at 16 kHz
    half = 10 * 16000
    write_wav(tmp_path / "cut.wav", np.concatenate([recording.audio[:, :half], late[:, half:]], 1), 16000)
    remux(clip, tmp_path / "cut.mp4", replace_audio=tmp_path / "cut.wav")
    result = sync_by_model(tmp_path / "cut.mp4", model)
    assert len(result.steps) == 1
    step = result.steps[0]
    assert step["time"] == pytest.approx(10, abs=1.5)
    assert (step["before"], step["after"]) == pytest.approx((0, -0.3), abs=0.02)
    with pytest.raises(SyncError, match=r"jumps from [+-]\d ms to -\d+ ms near \d+\.\d s"):
        fix_file(result, tmp_path / "fixed.mp4")
    assert not (tmp_path / "fixed.mp4").exists()


def test_what_cannot_be_synchronized_is_not_fixed(tmp_path, model):
    result = SimpleNamespace(path="a.mp4", offset=None, reason="the audio track is silent", advice=())
    with pytest.raises(SyncError, match="silent"):
        fix_file(result, tmp_path / "fixed.mp4")


def test_a_video_that_cannot_be_decoded_is_not_called_short(clip, tmp_path, model):
    damaged = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in places[1:]:
        damaged[at : at + size] = bytes(size)
    (tmp_path / "a.mp4").write_bytes(damaged)
    with pytest.raises(MediaError, match=r"is damaged: of 20\.00 s of video less than 0\.\d+ s can be decoded"):
        offset_curves(tmp_path / "a.mp4", model)


def test_the_schema(small_world, model):
    clip = next((small_world / "clips").glob("*.mp4"))
    result = json.loads(json.dumps(sync_by_model(clip, model).to_dict()))
    assert list(result) == [
        "schema", "path", "status", "offset", "best", "drift", "steps", "confidence", "calibrated", "verdict", "reason",
        "tolerance", "offsets", "scores", "windows", "evidence", "in_distribution", "notice", "notes", "expert",
        "experts", "advice",
    ]  # fmt: skip
    assert result["schema"] == "avlearn.sync/2"
    assert result["calibrated"]
    assert result["in_distribution"] == {"video": True, "audio": True}


def test_a_calibration_belongs_to_its_weights(tmp_path, model):
    save(model, tmp_path / "model", "# a copy\n")
    (tmp_path / "model" / "sync.json").write_text(json.dumps(model.calibrations.sync))
    assert load(tmp_path / "model").calibrations.sync == model.calibrations.sync
    save(model, tmp_path / "model", "# retrained\n")
    assert load(tmp_path / "model").calibrations.sync is None
