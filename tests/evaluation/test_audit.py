"""Clean clips pass; whatever gives its place away is found, in the modality that it was planted in."""

import json
from itertools import pairwise

import numpy as np
import pytest

from avlearn.config import ModelConfig
from avlearn.data.cache import ClipCache
from avlearn.errors import DataError
from avlearn.evaluation.audit import Audit, audit, audit_cache
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load

CLIPS = 60
RATE = 16000


@pytest.fixture(scope="module")
def model():
    return AudioVisual(ModelConfig(size=32)).eval()


@pytest.fixture(scope="module")
def clips():
    """Knocks at random times, and a square that jumps with them."""
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(CLIPS, 4 * RATE)).astype(np.float32) * 0.01
    video = np.full((CLIPS, 100, 32, 32, 3), 90, np.uint8)
    video += rng.integers(0, 60, (CLIPS, 1, 1, 1, 3), dtype=np.uint8)
    for clip in range(CLIPS):
        knocks = np.sort(rng.integers(0, 100, 14))
        bounds = [0, *knocks, 100]
        for k, (before, after) in enumerate(pairwise(bounds)):
            y, x = rng.integers(0, 24, 2)
            video[clip, before:after, y : y + 8, x : x + 8] = 230
            if k == 0:
                continue  # it lies there from the start
            at = before * RATE // 25
            length = min(2000, audio.shape[1] - at)
            audio[clip, at : at + length] += rng.normal(size=length) * 0.3 * np.exp(-np.arange(length) / 400)
    return video, audio


def checks_of(model, video, audio):
    return audit_cache(model, None, ClipCache(video, audio, 25.0, RATE), np.arange(CLIPS), 0)


def leaking(checks):
    return {check.given for check in checks if check.leak}


def test_clean_clips_pass(model, clips):
    found = checks_of(model, *clips)
    assert not leaking(found)
    assert [check.given for check in found[::2]] == [
        "the audio alone", "the video alone", "the model with black frames", "the model with another clip's audio",
    ]  # fmt: skip
    assert found[1].metric.chance == pytest.approx(61 / 441) and found[1].metric.prior == pytest.approx(1 / 7)
    result = Audit(found, CLIPS)
    assert "clean" in result.text() and result.to_dict()["clean"]


@pytest.mark.parametrize("leak", ["silence", "fade", "click"])
def test_a_leak_in_the_audio_is_found_there(model, clips, leak):
    video, audio = clips[0], clips[1].copy()
    if leak == "silence":
        audio[:, : int(0.4 * RATE)] = 0
    elif leak == "fade":
        audio *= np.minimum(np.arange(audio.shape[1]) / RATE, 1)
    else:
        audio *= 0.2
        audio[:, int(0.8 * RATE) : int(0.8 * RATE) + 50 : 2] = 1.0
    found = checks_of(model, video, audio)
    assert "the audio alone" in leaking(found) and "the video alone" not in leaking(found)
    result = Audit(found, CLIPS)
    assert "LEAK: the audio alone tells" in result.text() and "most telling" in result.text()
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["schema"] == "avlearn.audit/1" and not values["clean"]


def test_a_leak_in_the_video_is_found_there(model, clips):
    video = (clips[0] * np.minimum(np.arange(1, 101) / 12, 1)[None, :, None, None, None]).astype(np.uint8)
    found = checks_of(model, video, clips[1])
    assert "the video alone" in leaking(found) and "the audio alone" not in leaking(found)


def test_few_clips_are_refused(untrained, small_world):
    with pytest.raises(DataError, match="needs 30 clips, and 12"):
        audit(load(untrained), [small_world / "manifest.parquet"])
