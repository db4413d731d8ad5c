"""The small video network: its convolution over time, what it sees of motion, and any layout in memory."""

import pytest
import torch
from torch.nn import functional as F

from avlearn.models import create_model
from avlearn.models.video.dsconv import TemporalConv


def test_the_convolution_over_time_is_three_weighted_steps():
    torch.manual_seed(0)
    layer, x = TemporalConv(6), torch.randn(2, 5, 6, 3, 4)
    torch.nn.init.normal_(layer.bias)
    before, centre, after = layer.weight[:, None, :, None, None]
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
    sums = padded[:, :5] * before + x * centre + padded[:, 2:] * after + layer.bias[:, None, None]
    assert torch.allclose(layer(x), x + sums.relu(), atol=1e-6)


@pytest.mark.parametrize("frames", [2, 3, 9])
def test_motion_is_grey_difference_to_the_frames_around(frames):
    network, x = create_model("dsconv_tiny"), torch.rand(1, 3, frames, 8, 8)
    seen = network._colour_and_motion(x)
    assert seen.shape == (1, frames // 2, 7, 8, 8)
    grey = x.mean(1)[0]
    for step in range(frames // 2):
        assert torch.equal(seen[0, step, :3], x[0, :, 2 * step] - 0.5)
        for k, reach in enumerate((-2, -1, 1, 2)):
            other = min(max(2 * step + reach, 0), frames - 1)
            assert torch.allclose(seen[0, step, 3 + k], 3 * (grey[other] - grey[2 * step]), atol=1e-5)


def test_what_stands_still_does_not_move():
    still = torch.rand(1, 3, 1, 8, 8).expand(-1, -1, 6, -1, -1)
    assert not create_model("dsconv_tiny")._colour_and_motion(still)[:, :, 3:].any()


def test_the_layout_of_frames_in_memory_does_not_matter():
    torch.manual_seed(0)
    network = create_model("dsconv_tiny").eval()
    x = torch.rand(2, 3, 6, 32, 32)
    other = x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    assert other.stride() != x.stride()
    assert torch.equal(network.forward_features(x), network.forward_features(other))
