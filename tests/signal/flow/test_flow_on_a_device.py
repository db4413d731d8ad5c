"""Flow is computed where its frames are."""

import pytest
import torch
from pretend_device import CUDA, pretend_device

from avlearn.apply.flow.estimate import FlowMethod, estimate_flow
from avlearn.models.flow import create_flow_network
from avlearn.signal.flow import affine_flow, affine_motion, lucas_kanade, stack_trajectories, tv_l1


def test_methods_compute_on_the_device_of_the_frames():
    frames = torch.randint(0, 255, (2, 3, 24, 32))
    here = lucas_kanade(frames, frames.roll(1, 3))
    with pretend_device() as device:
        first, second = frames.to(device), frames.roll(1, 3).to(device)
        there = lucas_kanade(first, second)
        assert all(value.device == CUDA for value in there)
        assert tv_l1(first, second, warps=1, iterations=2).device == CUDA
        assert affine_flow(affine_motion(first, second), (24, 32)).device == CUDA
        assert stack_trajectories(there[0], 2).device == CUDA
        flow = there[0].cpu()
    assert torch.allclose(flow, here[0], atol=1e-4)


@pytest.mark.parametrize("name", ["lucas_kanade", "dis"])
def test_one_call_moves_frames_to_the_device(name):
    video = torch.randint(0, 255, (3, 24, 32, 3), dtype=torch.uint8).numpy()
    with pretend_device() as device:
        assert estimate_flow(video, FlowMethod(name, device)).device == CUDA


def test_a_network_computes_on_a_device():
    with pretend_device() as device, torch.inference_mode():
        network = create_flow_network("flownet_c").to(device)
        assert network(*torch.rand(2, 1, 3, 32, 32, device=device)).device == CUDA
