import cv2
import numpy as np
import pytest
import torch

from avlearn.apply.flow import estimate
from avlearn.apply.flow.estimate import FLOW_METHODS, estimate_flow, load_flow
from avlearn.errors import AvlearnError
from avlearn.models.flow import create_flow_network


def rolling(count: int, height: int = 64, width: int = 80) -> np.ndarray:
    """Frames of a texture that moves 2 pixels right and 1 down each time."""
    noise = np.random.default_rng(1).normal(0, 1, (height, width, 3))
    texture = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 2)[height:-height, width:-width]
    texture = np.clip(128 + 50 * texture / texture.std(), 0, 255).astype(np.uint8)
    return np.stack([np.roll(texture, (k, 2 * k), (0, 1)) for k in range(count)])


@pytest.mark.parametrize("method", ["lucas_kanade", "tv_l1", "farneback", "dis"])
def test_methods_behind_one_call(method):
    flow = estimate_flow(rolling(3), method, device="cpu")
    assert flow.shape == (2, 2, 64, 80) and flow.dtype == torch.float32
    inner = flow[:, :, 12:-12, 12:-12]
    assert inner.mean((0, 2, 3)).tolist() == pytest.approx([2, 1], abs=0.1)


def test_parts_are_the_whole(monkeypatch):
    frames = rolling(6, 32, 40)
    whole = estimate_flow(frames, device="cpu")
    monkeypatch.setattr(estimate, "_PIXELS", 2 * 32 * 40)
    assert torch.allclose(estimate_flow(frames, device="cpu"), whole, atol=1e-4)
    assert torch.allclose(estimate_flow(torch.from_numpy(frames), load_flow(device="cpu")), whole, atol=1e-4)


def test_a_network_with_its_weights(tmp_path):
    network = create_flow_network("raft_small")
    torch.save(network.network.state_dict(), tmp_path / "raft.pth")
    frames = rolling(2, 24, 32)
    flow = estimate_flow(frames, f"raft_small:{tmp_path / 'raft.pth'}", device="cpu")
    with torch.inference_mode():
        expected = network(*torch.from_numpy(frames).permute(0, 3, 1, 2).float().unsqueeze(1))
    assert torch.allclose(flow, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("lucas-kanade", "the nearest is 'lucas_kanade'"),
        ("raft", "the nearest are 'raft_small', 'raft_large'"),
        ("raft_large", "give their file, raft_large:FILE"),
        ("raft_large:none.pth", "there is no weight file none.pth"),
        ("dis:none.pth", "dis has no weights"),
    ],
)
def test_methods_that_cannot_be_are_told(method, said):
    with pytest.raises(AvlearnError, match=said):
        load_flow(method, "cpu")


def test_frames_that_cannot_be_are_told():
    with pytest.raises(AvlearnError, match="fewer than two frames"):
        estimate_flow(rolling(1), device="cpu")
    with pytest.raises(AvlearnError, match=r"frames are \[T, H, W, 3\]"):
        estimate_flow(rolling(2)[..., 0], device="cpu")
    with pytest.raises(AvlearnError, match="there is no device"):
        load_flow("lucas_kanade", "tpu")
    assert len(FLOW_METHODS) == 8
