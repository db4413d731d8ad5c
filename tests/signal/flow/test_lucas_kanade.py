import cv2
import numpy as np
import pytest
import torch
from scenes import KINDS, edge_scene, error, make_scene, pair

from avlearn.signal.flow import lucas_kanade

SIZE = (96, 128)


@pytest.mark.parametrize("kind", KINDS)
def test_no_worse_than_opencv_at_the_same_pyramid(kind):
    scene = make_scene(kind, 50, SIZE)
    flow, _ = lucas_kanade(*pair(scene), window=15, levels=4)
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (scene.first, scene.second))
    places = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), -1).astype(np.float32).reshape(-1, 1, 2)
    found, _, _ = cv2.calcOpticalFlowPyrLK(first, second, places, None, winSize=(15, 15), maxLevel=3)
    theirs = torch.from_numpy((found - places).reshape(*SIZE, 2)).permute(2, 0, 1)
    assert error(flow[0], scene) <= error(theirs, scene)
    still = error(torch.zeros(2, *SIZE), scene, 16)
    assert error(flow[0], scene, 16) < (0.2 if kind != "layers" else still / 2)  # a window at the rim has two motions


def test_a_batch_is_its_pairs():
    scenes = [make_scene("translation", 3, SIZE), make_scene("zoom", 4, SIZE)]
    together = lucas_kanade(*pair(*scenes))
    for k, scene in enumerate(scenes):
        for whole, one in zip(together, lucas_kanade(*pair(scene)), strict=True):
            assert torch.allclose(whole[k], one[0], atol=1e-3)


def test_confidence_marks_what_cannot_be_seen():
    textured, confidence = lucas_kanade(*pair(make_scene("translation", 5, SIZE)))
    assert textured.shape == (1, 2, *SIZE) and confidence.shape == (1, 1, *SIZE)
    assert confidence.mean() > 0.9 and confidence.max() < 1
    flat = torch.full((1, 3, *SIZE), 90, dtype=torch.uint8)
    flow, confidence = lucas_kanade(flat, flat)
    assert flow.abs().max() == 0 and confidence.max() == 0


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_at_an_edge_the_motion_across_is_found_and_marked_as_uncertain(angle):
    scene = edge_scene(angle, 2.0)
    flow, confidence = lucas_kanade(*pair(scene))
    on_edge = slice(40, 56), slice(40, 56)
    across = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
    normal = torch.einsum("chw,c->hw", flow[0], across)[on_edge]
    assert normal.mean() == pytest.approx(2.0, abs=0.15)
    assert confidence[0, 0][on_edge].max() < 0.25
    corner = torch.zeros(1, 1, 96, 96)
    corner[..., 48:, 48:] = 200  # beside it the same contrast that ends: both directions are seen
    assert lucas_kanade(corner, corner)[1][0, 0, 48, 48] > 0.99


def test_what_does_not_move_stays():
    first, _ = pair(make_scene("rotation", 6, SIZE))
    flow, _ = lucas_kanade(first, first)
    assert flow.abs().max() < 1e-3


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (2, 3), (1, 40)])
def test_small_and_odd_frames(size):
    first = torch.randint(0, 255, (2, 3, *size))
    flow, confidence = lucas_kanade(first, first.roll(1, 3))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()
    assert ((confidence >= 0) & (confidence < 1)).all()


def test_wrong_arguments_are_told():
    frames = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="odd"):
        lucas_kanade(frames, frames, window=8)
    with pytest.raises(ValueError, match="flow is between two"):
        lucas_kanade(frames, frames[..., 1:])
    with pytest.raises(ValueError, match="flow is between two"):
        lucas_kanade(frames[:, :2], frames[:, :2])
