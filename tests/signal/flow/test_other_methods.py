import math

import cv2
import numpy as np
import pytest
import torch
from scenes import KINDS, error, make_scene, pair

from avlearn.signal.flow import affine_flow, affine_motion, dis, farneback, tv_l1

SIZE = (96, 128)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "most"), [(farneback, 0.6), (dis, 0.3), (tv_l1, 0.3)])
def test_methods_find_the_motion(method, most, kind):
    scene = make_scene(kind, 51, SIZE)
    flow = method(*pair(scene))
    assert flow.shape == (1, 2, *SIZE) and flow.dtype == torch.float32
    still = error(torch.zeros(2, *SIZE), scene)
    assert error(flow[0], scene) < (most if kind != "layers" else still / 2.5)


@pytest.mark.parametrize("method", [farneback, dis, tv_l1])
@pytest.mark.parametrize("size", [(16, 16), (9, 33), (1, 5)])
def test_small_frames(method, size):
    first = torch.randint(0, 255, (2, 1, *size))
    flow = method(first, first.roll(1, 3))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()


def test_tv_l1_is_that_of_opencv():
    if not hasattr(cv2, "optflow"):
        pytest.skip("needs opencv-contrib-python-headless, which replaces opencv-python-headless")
    for kind in KINDS:
        scene = make_scene(kind, 52, SIZE)
        first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (scene.first, scene.second))
        theirs = cv2.optflow.DualTVL1OpticalFlow_create().calc(first, second, None)
        ours = error(tv_l1(*pair(scene))[0], scene)
        assert ours < 1.5 * error(torch.from_numpy(theirs).permute(2, 0, 1), scene) + 0.02


@pytest.mark.parametrize("kind", ["translation", "rotation", "zoom"])
def test_an_affine_motion_is_found_to_hundredths_of_a_pixel(kind):
    scene = make_scene(kind, 53, SIZE)
    assert error(affine_flow(affine_motion(*pair(scene)), SIZE)[0], scene) < 0.02


def test_the_larger_of_two_motions_and_that_of_a_region():
    scene = make_scene("layers", 54, SIZE)
    background, disc = torch.from_numpy(scene.flow[:, 0, 0]), torch.from_numpy(scene.flow[:, 48, 64])
    whole = affine_flow(affine_motion(*pair(scene)), SIZE)[0]
    assert (whole[:, 4, 4] - background).abs().max() < 0.1
    inside = (torch.from_numpy(scene.flow) - disc.view(2, 1, 1)).abs().amax(0) < 1e-3
    region = affine_flow(affine_motion(*pair(scene), inside[None, None]), SIZE)[0]
    assert (region[:, 48, 64] - disc).abs().max() < 0.1


def test_a_map_and_its_flow():
    turned = torch.tensor([[[0.0, -1.0, 7.0], [1.0, 0.0, 0.0]]])  # a quarter turn of 8 x 8 pixels about their middle
    flow = affine_flow(turned, (8, 8))[0]
    assert flow[:, 0, 0].tolist() == [7.0, 0.0] and flow[:, 7, 7].tolist() == [-7.0, 0.0]


def test_frames_without_contrast_do_not_move():
    flat = torch.full((1, 3, 20, 20), 50.0)
    assert torch.allclose(affine_motion(flat, flat)[0, :, :2], torch.eye(2), atol=1e-6)
    with pytest.raises(ValueError, match="region"):
        affine_motion(flat, flat, torch.ones(1, 1, 4, 4))


def test_the_motion_is_undone_by_the_way_back():
    scene = make_scene("rotation", 55, SIZE)
    there, back = affine_motion(*pair(scene)), affine_motion(*reversed(pair(scene)))
    whole = [torch.cat([m[0], torch.tensor([[0.0, 0.0, 1.0]])]) for m in (there, back)]
    assert torch.allclose(whole[0] @ whole[1], torch.eye(3), atol=0.03)
    assert math.hypot(*np.linalg.inv(whole[0].numpy())[0, :2]) == pytest.approx(1, abs=1e-3)
