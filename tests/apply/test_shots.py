"""Cuts are found where they are; what moves, fades or flashes is no cut."""

import numpy as np
import pytest

from avlearn.apply.shots import Shot, ShotDetector, ShotList

RNG = np.random.default_rng(3)
ROOMS = [RNG.integers(0, 256, (9, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1) for _ in range(3)]


def cuts(frames):
    detector = ShotDetector()
    return [k - 1 for k, frame in enumerate(frames) if detector.add(frame)]


def test_cuts_are_found_at_the_first_frame_of_a_shot():
    assert cuts([ROOMS[0]] * 10 + [ROOMS[1]] * 7 + [ROOMS[2]] * 5) == [10, 17]


@pytest.mark.parametrize(
    "frames",
    [
        [np.roll(ROOMS[0], 3 * k, 1) for k in range(20)],
        [np.uint8(ROOMS[0] * (1 - k / 20) + ROOMS[1] * (k / 20)) for k in range(21)],
        [ROOMS[0]] * 5 + [np.full_like(ROOMS[0], 255)] + [ROOMS[0]] * 5,
        [ROOMS[0]],
        [ROOMS[0]] * 5 + [np.where(np.arange(160)[:, None] < 48, 255 - ROOMS[0], ROOMS[0])] * 5,
    ],
    ids=["pan", "dissolve", "flash", "one frame", "something near"],
)
def test_what_is_no_cut(frames):
    assert cuts(frames) == []


def test_shots_of_a_camera_that_the_film_comes_back_to_have_its_number():
    later = np.roll(ROOMS[0], 1, 1)  # something has moved meanwhile
    shots = ShotList(10)
    for room, count in ((ROOMS[0], 10), (ROOMS[1], 7), (later, 5), (ROOMS[2], 8), (ROOMS[1], 6)):
        shots.add(np.stack([room] * count))
    assert shots.found() == (
        Shot(0.0, 1.0, 1), Shot(1.0, 1.7, 2), Shot(1.7, 2.2, 1), Shot(2.2, 3.0, 3), Shot(3.0, 3.6, 2)
    )  # fmt: skip
