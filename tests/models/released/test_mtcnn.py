"""The detector finds a drawn face where it is, and nothing where there is none."""

import numpy as np
import pytest
import torch
from drawn_face import drawn_face

from avlearn.errors import MissingExtraError, ModelError
from avlearn.models.released import mtcnn
from avlearn.models.released.mtcnn import load_face_detector


@pytest.fixture(scope="module")
def detector():
    return load_face_detector()


def test_a_face_is_found_with_its_landmarks(detector):
    frames = np.stack([drawn_face((100, 80)), drawn_face((140, 96))])
    for found, (x, y) in zip(detector(torch.from_numpy(frames)), [(100, 80), (140, 96)], strict=True):
        assert len(found) == 1 and found.scores[0] > 0.9
        left, top, right, bottom = found.boxes[0]
        assert left < x < right and top < y < bottom and 30 < right - left < 70
        drawn = np.array([[-0.16, -0.09], [0.16, -0.09], [0, 0.13], [-0.13, 0.28], [0.13, 0.28]]) * 66 + [x, y]
        assert np.abs(found.landmarks[0] - drawn).max() < 4


def test_two_faces_of_a_picture_are_two(detector):
    frame = drawn_face((170, 90), frame=drawn_face((60, 90)))
    (found,) = detector(torch.from_numpy(frame[None]))
    assert sorted(np.round(found.boxes[:, [0, 2]].mean(1), -1)) == [60, 170]


def test_a_picture_without_a_face_has_none(detector):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8))
    assert [len(found) for found in detector(noise)] == [0, 0]
    assert [found.landmarks.shape for found in detector(torch.zeros(1, 10, 10, 3, dtype=torch.uint8))] == [(0, 5, 2)]


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'avlearn\[faces\]'"):
        load_face_detector()


def test_another_file_than_the_known_one_is_not_read(monkeypatch):
    monkeypatch.setitem(mtcnn._HASHES, "pnet", "0" * 64)
    with pytest.raises(ModelError, match=r"pnet\.lz4 is not the file of mtcnn 1\.0\.0"):
        load_face_detector()
