"""Moving a file's sound, and putting another in its place, without touching the picture."""

import numpy as np
import pytest
from golden import EVENTS, chirp, golden, lag, number

from avlearn.errors import OutputError
from avlearn.media import Clip, probe, read_clip, remux, write_wav


def off(clip: Clip, event: int, delay: float) -> tuple[float, float]:
    """How much later a chirp lies than ``delay`` seconds after its flash, and how much it is like itself."""
    flash = next(t for image, t in zip(clip.video, clip.times, strict=True) if number(image) == EVENTS[event])
    rate = clip.sample_rate
    first = round((flash + delay - 0.2 - clip.start) * rate)
    heard = clip.audio[0, first : first + round(0.46 * rate)]
    instants = clip.start + (first + np.arange(len(heard))) / rate
    return lag(heard, chirp(instants - flash - delay), rate)


@pytest.mark.parametrize("name", ["fps25", "mov_aac", "hevc", "mkv", "open_gop", "late_sound"])
@pytest.mark.parametrize("delay", [0.3, 0.04, -0.12, -0.5])
def test_the_sound_moves_and_nothing_else(name, delay, tmp_path):
    truth = golden(name)
    moved = tmp_path / f"moved{truth.path.suffix}"
    remux(truth.path, moved, audio_delay=delay)
    before, after = read_clip(truth.path), read_clip(moved)
    assert np.array_equal(after.video, before.video)
    assert np.diff(after.times) == pytest.approx(np.diff(before.times), abs=1.1e-3)
    for event in (2, 4):
        late, same = off(after, event, delay)
        assert same > 0.5
        assert abs(late) <= (1e-3 if truth.path.suffix == ".mkv" else 1e-4)  # Matroska's ticks are milliseconds


def test_the_sound_is_replaced(tmp_path):
    tone = 0.5 * np.sin(np.arange(44100 * 5) * 0.1)[None].repeat(2, 0).astype(np.float32)
    write_wav(tmp_path / "tone.wav", tone, 44100)
    remux(golden("fps25").path, tmp_path / "replaced.mp4", replace_audio=tmp_path / "tone.wav")
    info = probe(tmp_path / "replaced.mp4")
    assert (info.audio.sample_rate, info.audio.channels) == (44100, 2)
    clip = read_clip(tmp_path / "replaced.mp4")
    assert np.corrcoef(clip.audio[0, :200000], tone[0, :200000])[0, 1] > 0.99
    assert [number(image) for image in clip.video] == list(range(125))


def test_refusals(tmp_path):
    path = golden("fps25").path
    with pytest.raises(OutputError, match="input itself"):
        remux(path, path)
    with pytest.raises(OutputError, match="no folder"):
        remux(path, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(OutputError, match=r"write a \.mkv"):
        remux(path, tmp_path / "out.webm")
    assert list(tmp_path.iterdir()) == []
