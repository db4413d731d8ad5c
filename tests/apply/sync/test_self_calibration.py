import numpy as np
import pytest

from avlearn.apply.sync import self_calibration
from avlearn.apply.sync.self_calibration import Stretch, canonical_map, self_calibrate

FPS, RATE = 25.0, 100.0


def scene(seconds, seed=0, cell=5, noise=1.0):
    """Video ``[T, 16]`` one cell of which moves as the audio ``[U, 3]`` sounds, amid motion of its own everywhere."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(round(seconds * 12.5)), 8)  # 100 a second
    audio = np.stack([loud, loud**2, rng.random(len(loud))], 1).astype(np.float32)
    video = noise * rng.random((round(seconds * FPS), 16)).astype(np.float32)
    video[:, cell] += loud.reshape(-1, 4).mean(1)
    return video, audio


def delayed(audio, seconds):
    """The audio moved later, what it has not got being left out."""
    shift = round(seconds * RATE)
    return (audio[:-shift], -seconds) if shift > 0 else (audio[-shift:], 0.0)


@pytest.mark.parametrize("delay", [-0.72, 0.0, 0.4, 1.0])
def test_delay_is_found_and_is_positive_where_the_audio_leads(delay):
    video, audio = scene(12)
    moved, before = delayed(audio, delay)
    found = self_calibrate([Stretch([video], [moved], before)], FPS, RATE, 1.5)
    assert found.offset == pytest.approx(-delay, abs=0.02)
    assert found.evidence.peak > 3
    assert found.evidence.margin > 3
    assert found.offsets[found.scores.argmax()] == pytest.approx(-delay, abs=0.02)
    assert np.all(np.diff(found.offsets) > 0)


def test_several_stretches_of_one_scene_tell_together_what_each_is_too_short_for():
    video, audio = scene(16, noise=2.0)
    parts = [
        Stretch([video[: 8 * 25]], [audio[: 9 * 100]]),
        Stretch([video[8 * 25 :]], [audio[7 * 100 :]], before=1.0),
    ]
    found = self_calibrate(parts, FPS, RATE, 1.0)
    assert found.offset == pytest.approx(0, abs=0.04)
    assert found.evidence.margin > 2


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_the_map_is_highest_at_the_cell_that_moves_with_the_audio(delay):
    video, audio = scene(20, cell=9)
    moved, before = delayed(audio, delay)
    found = canonical_map(Stretch([video, video[:, :4] * 0], [moved], before), FPS, RATE, -delay)
    first, second = found.heights
    assert first.shape == (16,) and first.argmax() == 9
    assert second.shape == (4,) and not second.any()
    assert found.evidence > 3
    elsewhere = canonical_map(Stretch([video], [moved], before), FPS, RATE, 0.8 - delay)
    assert elsewhere.evidence < 3


def test_a_map_needs_as_many_blocks_as_an_offset():
    video, audio = scene(4)
    assert canonical_map(Stretch([video], [audio]), FPS, RATE) is None


def test_audio_of_another_scene_stands_out_nowhere():
    """Of 20 pairs that do not belong together, the best offset seldom beats exchanged blocks and all others by much."""
    sure = 0
    for seed in range(20):
        video, _ = scene(10, seed)
        _, audio = scene(10, 100 + seed)
        evidence = self_calibrate([Stretch([video], [audio])], FPS, RATE, 1.0, seed).evidence
        sure += evidence.peak > 3 and evidence.margin > 1.5
    assert sure <= 1


def test_periodic_events_have_no_margin():
    """What comes again every 0.4 s fits as well 0.4 s later."""
    beat = np.tile(np.repeat([1.0, 0.2, 0.1, 0.2, 0.1], 8), 30)[:1200].astype(np.float32)
    rng = np.random.default_rng(0)
    video = 0.3 * rng.random((300, 16)).astype(np.float32)
    video[:, 3] += beat.reshape(-1, 4).mean(1)
    evidence = self_calibrate([Stretch([video], [beat[:, None]])], FPS, RATE, 1.0).evidence
    assert evidence.margin < 1


@pytest.mark.parametrize("case", ["short", "still", "silent", "no audio"])
def test_nothing_is_said_of_too_little(case):
    video, audio = scene(4 if case == "short" else 12)
    if case == "still":
        video[:] = 7
    if case == "silent":
        audio[:] = -3
    if case == "no audio":
        audio = audio[:0]
    found = self_calibrate([Stretch([video], [audio])], FPS, RATE, 1.0)
    assert found is None or found.evidence.peak < 1e-3


def test_same_input_gives_the_same_answer():
    video, audio = scene(8)
    first, second = (self_calibrate([Stretch([video], [audio])], FPS, RATE, 1.0) for _ in range(2))
    assert first.evidence == second.evidence


def test_exchanged_blocks_are_all_away_from_their_places():
    for count, apart in ((6, 2), (10, 2), (24, 3), (7, 3)):
        order = self_calibration._exchange(count, apart, np.random.default_rng(count))
        assert sorted(order) == list(range(count))
        assert (np.abs(order - np.arange(count)) >= min(apart, 1)).all()


def test_lags_at_which_little_audio_is_left_are_not_searched():
    video, audio = scene(10)
    found = self_calibrate([Stretch([video], [audio])], FPS, RATE, 8.0)
    assert np.abs(found.offsets).max() == pytest.approx(5, abs=0.1)
    assert found.offset == pytest.approx(0, abs=0.02)
