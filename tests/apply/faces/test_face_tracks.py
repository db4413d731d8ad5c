"""Faces are followed through shots, and cropped in every frame."""

import numpy as np
import pytest
from drawn_face import drawn_face

from avlearn.apply.faces import FACE, MOUTH, face_tracks
from avlearn.apply.faces import tracks as module
from avlearn.errors import NoVideoError
from avlearn.media import write_video, write_wav


def write(path, frames, fps=25):
    write_video(path, frames, fps)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two shots: a face that walks to the right, then two faces, of which one opens its mouth in the middle."""
    first = [drawn_face((60 + k, 90)) for k in range(40)]
    other = {"ground": (160, 140, 120)}
    second = [drawn_face((170, 100), frame=drawn_face((70, 85), mouth=float(k > 20), **other)) for k in range(40)]
    return write(tmp_path_factory.mktemp("film") / "film.mp4", np.stack(first + second))


def test_a_track_lasts_from_cut_to_cut(film):
    tracks = list(face_tracks(film, MOUTH))
    assert [(t.person, t.shot, t.start, len(t.crops)) for t in tracks] == [
        (1, 1, 0.0, 40), (2, 2, 1.6, 40), (3, 2, 1.6, 40),
    ]  # fmt: skip
    assert all(t.crops.shape == (40, 64, 64) and t.duration == 1.6 for t in tracks)
    centres = tracks[0].boxes[:, [0, 2]].mean(1)
    assert np.abs(centres - (60 + np.arange(40))).max() < 6  # at either end it stands as it was found last
    assert np.abs(tracks[1].landmarks[:, 3:].mean(1) - [70, 85 + 0.28 * 66]).max() < 5


def test_who_is_at_the_same_place_when_a_film_cuts_back_keeps_the_number(tmp_path):
    other = {"ground": (160, 140, 120)}
    left, right = drawn_face((60, 90)), drawn_face((170, 100), **other)
    both = drawn_face((180, 90), frame=drawn_face((60, 90)))
    elsewhere = drawn_face((170, 90))
    shots = [left, right, both, right, elsewhere, right]
    path = write(tmp_path / "talk.mp4", np.stack([frame for frame in shots for _ in range(30)]))
    found = [(t.shot, t.person) for t in face_tracks(path, MOUTH)]
    assert found == [(1, 1), (2, 2), (3, 1), (3, 3), (4, 2), (5, 3), (6, 2)]


def test_a_crop_shows_the_mouth(film):
    speaker = list(face_tracks(film, MOUTH))[1]
    middle = speaker.crops[:, 24:40, 24:40].mean((1, 2))
    assert middle[:20].min() - middle[23:].max() > 20  # an open mouth is dark


def test_a_face_crop_is_in_colour(film):
    track = next(face_tracks(film, FACE))
    assert track.crops.shape == (40, 224, 224, 3)
    red, _, blue = track.crops[:, 112, 112].mean(0)
    assert red > blue + 30  # skin


def test_boxes_are_in_pixels_of_the_file(film, monkeypatch):
    whole = next(face_tracks(film, MOUTH))
    monkeypatch.setattr(module, "_SIDE", 120)
    small = next(face_tracks(film, MOUTH))
    assert np.abs(whole.boxes - small.boxes).max() < 6


def test_a_long_track_goes_on_in_another(film, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 20)
    tracks = [(t.person, t.start, len(t.crops)) for t in face_tracks(film, MOUTH)]
    assert tracks == [(1, 0.0, 25), (1, 1.0, 15), (2, 1.6, 35), (3, 1.6, 35), (2, 3.0, 5), (3, 3.0, 5)]


def test_parts_of_a_file_are_looked_at_alone(film):
    tracks = list(face_tracks(film, MOUTH, spans=[(0.2, 1.4), (2.0, 3.2)]))
    assert [(t.person, t.start, len(t.crops)) for t in tracks] == [(1, 0.2, 30), (2, 2.0, 30), (3, 2.0, 30)]
    assert [t.shot for t in tracks] == [1, 2, 2]
    whole = list(face_tracks(film, MOUTH))
    assert np.abs(tracks[1].boxes - whole[1].boxes[10:]).max() < 4


def test_a_tilted_head_is_turned_upright(tmp_path):
    tilted = write(tmp_path / "tilted.mp4", np.stack([drawn_face((120, 90), tilt=15.0)] * 30))
    (track,) = face_tracks(tilted, MOUTH)
    upright = write(tmp_path / "upright.mp4", np.stack([drawn_face((120, 90))] * 30))
    (straight,) = face_tracks(upright, MOUTH)
    inner = (slice(None), slice(8, 56), slice(8, 56))
    turned = np.abs(track.crops[inner].astype(float).mean(0) - straight.crops[inner].astype(float).mean(0)).mean()
    assert turned < 8


def test_a_face_of_a_moment_and_none_at_all_are_no_track(tmp_path):
    empty = np.full((180, 240, 3), (70, 90, 80), np.uint8)
    path = write(tmp_path / "moment.mp4", np.stack([empty] * 20 + [drawn_face((120, 90))] * 12 + [empty] * 20))
    assert list(face_tracks(path, MOUTH)) == []


def test_a_file_without_video_is_refused(tmp_path):
    write_wav(tmp_path / "voice.wav", np.zeros((1, 8000), np.float32), 8000)
    with pytest.raises(NoVideoError, match="has no video"):
        next(face_tracks(tmp_path / "voice.wav", MOUTH))
