"""Sources are found within shots, and joined where the film comes back to their camera."""

import numpy as np
import pytest
from test_sources import bump, centres

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.shot_sources import TrackSources, find_in_shots, share_tracks
from avlearn.apply.localize.source_weights import source_weights
from avlearn.apply.separate.chosen_sources import Looks, chosen_sources
from avlearn.apply.separate.shot_tracks import shot_tracks
from avlearn.apply.shots import Shot
from avlearn.apply.source_choice import Face, When
from avlearn.errors import AvlearnError

TIMES = np.arange(24) * 0.5 + 0.25
LEFT, RIGHT = bump(0.2, 0.5), bump(0.8, 0.5, 0.9)
NONE = Looks(lambda when: None, dict)


def film(*shots: tuple[int, np.ndarray]) -> FileMaps:
    """Shots of four seconds: camera, and what each map of it is."""
    maps = np.concatenate([np.repeat(heat[None], 8, 0) for _, heat in shots]).astype(np.float32)
    cut = tuple(Shot(4.0 * k, 4.0 * k + 4, camera) for k, (camera, _) in enumerate(shots))
    return FileMaps(TIMES[: len(maps)], maps, np.full(len(maps), 0.1), (), cut)


def test_nearness_across_a_cut_is_no_reason_to_be_one():
    found = film((1, LEFT), (2, LEFT), (1, LEFT))
    first, second = (TrackSources((source,)).along(found) for source in find_in_shots(found, 8))
    assert (first.id, second.id) == (1, 2)
    assert np.isfinite(first.boxes[:, 0]).tolist() == [True] * 8 + [False] * 8 + [True] * 8
    assert np.isfinite(second.boxes[:, 0]).tolist() == [False] * 8 + [True] * 8 + [False] * 8


def test_another_place_of_the_same_camera_is_another_source():
    found = film((1, LEFT), (2, bump(0.5, 0.5)), (1, RIGHT))
    assert len(find_in_shots(found, 8)) == 3
    both = film((1, LEFT + RIGHT), (2, bump(0.5, 0.5)), (1, LEFT + RIGHT))
    assert [list(source.parts) for source in find_in_shots(both, 8)] == [[0, 2], [0, 2], [1]]


def test_sources_of_different_shots_share_a_track_where_there_are_too_few():
    found = film((1, LEFT + RIGHT), (2, bump(0.5, 0.5)), (1, LEFT + RIGHT))
    sources = find_in_shots(found, 8)
    assert [[part.id for part in track.sources] for track in share_tracks(sources, 8)] == [[1], [2], [3]]
    tracks = share_tracks(sources, 2)
    assert [[part.id for part in track.sources] for track in tracks] == [[1, 3], [2]]
    assert np.isfinite(tracks[0].along(found).boxes).all() and tracks[0].id == 0
    shots = shot_tracks(found, tracks, ["source1", "source2", "residual"])
    assert [[(each.track, each.id) for each in shot.sources] for shot in shots] == [
        [("source1", 1), ("source2", 2)], [("source1", 3)], [("source1", 1), ("source2", 2)],
    ]  # fmt: skip
    assert shots[1].sources[0].place == pytest.approx((0.5, 0.5), abs=0.05)
    assert len(share_tracks(sources, 1)) == 1


def test_a_half_holds_the_strongest_of_each_shot_and_a_point_is_there_in_all():
    found = film((1, LEFT + RIGHT), (2, bump(0.3, 0.8) + RIGHT))
    (left, point), _ = chosen_sources(found, 2, [(0.0, 0.0, 0.5, 1.0), (0.9, 0.1)], NONE)
    assert centres(left.along(found))[[0, -1]] == pytest.approx(np.array([[0.2, 0.5], [0.3, 0.8]]), abs=0.07)
    assert np.isfinite(point.along(found).boxes).all()


def test_spans_name_the_source_at_the_place_that_fits_best_then():
    found = film((1, LEFT + RIGHT), (2, bump(0.5, 0.5)), (1, LEFT + RIGHT))
    right = Looks(lambda when: bump(0.8, 0.5)[::2, ::2], dict)
    (track,), _ = chosen_sources(found, 2, [When(((8.5, 9.0),))], right)
    assert track.id == 2 and np.isfinite(track.along(found).boxes[:8]).all()
    (track,), _ = chosen_sources(found, 2, [When(((5.0, 5.5),))], right)
    assert track.id == 0, "nothing is there in that shot: it is the place itself, in that shot"
    assert np.isfinite(track.along(found).boxes[:, 0]).tolist() == [False] * 8 + [True] * 8 + [False] * 8
    with pytest.raises(AvlearnError, match=r"^--when 5-5.5: nothing sounds then$"):
        chosen_sources(found, 2, [When(((5.0, 5.5),))], NONE)


def test_others_fill_up_so_that_their_sound_stays_out():
    found = film((1, LEFT + RIGHT), (2, bump(0.5, 0.5)), (1, LEFT + RIGHT))
    for choices, most, numbers in (
        ([2], 2, [[1, 3]]),
        ([2], 3, [[1], [3]]),
        ([1, 2], 2, []),
        ([(0.25, 0.5)], 2, [[2, 3]]),
    ):
        chosen, others = chosen_sources(found, most, choices, NONE)
        assert len(chosen) == len(choices)
        assert [[part.id for part in track.sources] for track in others] == numbers
    assert chosen_sources(found, 2, [], NONE)[1] == []


def test_faces_are_where_they_were_found():
    found = film((1, LEFT), (2, RIGHT))
    boxes = np.full((16, 4), np.nan, np.float32)
    boxes[4:8] = 0.1, 0.1, 0.3, 0.4
    looks = Looks(NONE.spans, lambda: {1: boxes, 2: boxes * np.nan})
    (track,), _ = chosen_sources(found, 2, [Face(1)], looks)
    np.testing.assert_array_equal(track.along(found).boxes, boxes)
    for number, said in ((2, "face 2 is there too briefly"), (3, "face 3: only 2 faces were found")):
        with pytest.raises(AvlearnError, match=said):
            chosen_sources(found, 2, [Face(number)], looks)
    with pytest.raises(AvlearnError, match="face 1: no face was found"):
        chosen_sources(found, 2, [Face(1)], NONE)


def test_only_the_sources_of_a_shot_are_separated_in_it():
    found = film((1, LEFT + RIGHT), (2, bump(0.5, 0.5)), (1, LEFT + RIGHT))
    sources = [track.along(found) for track in share_tracks(find_in_shots(found, 8), 8)]
    weights = source_weights(sources, found, (8, 8), 20.0, 12.0)
    casts = weights.casts_at(np.array([2.0, 3.98, 4.0, 6.0, 10.0]))
    assert [sources for sources, _ in casts] == [[0, 1], [2]]
    assert [counts.tolist() for _, counts in casts] == [
        pytest.approx([1, 0.75, 0.5, 0, 1], abs=1e-5), pytest.approx([0, 0.25, 0.5, 1, 0], abs=1e-5)
    ]  # fmt: skip
    assert weights.presence_at(np.array([3.9, 4.1, 7.9, 8.1])).tolist() == [[1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
    place = weights.weights_at(np.array([3.9, 8.1]))[0].flatten(1).argmax(1)
    assert (place % 8 < 3).all(), "its place does not wander to where nothing of it is"
