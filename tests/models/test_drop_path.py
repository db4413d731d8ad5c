"""Every transformer takes the probability at which its last block is left out in training."""

import pytest
import torch
from timm.layers import DropPath
from torchvision.ops import StochasticDepth

from avlearn.models import create_model

NAMES = [
    "ast_b", "motionformer_b", "mvit_v1_b_16x4", "mvit_v1_b_32x3", "mvit_v1_b24_32x3", "mvit_v2_s_16x4",
    "mvit_v2_b_32x3", "mvit_v2_l_40x3", "swin3d_t", "swin3d_s", "swin3d_b", "timesformer_b", "videomae_b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_last_block_has_the_rate_and_the_first_has_none(name):
    with torch.device("meta"):
        network = create_model(name, drop_path=0.35)
    rates = [m.drop_prob if isinstance(m, DropPath) else m.p for m in network.modules() if _drops(m)]
    assert rates[-1] == max(rates) == pytest.approx(0.35)
    assert min(rates, default=0.0) < 0.35


def _drops(module: torch.nn.Module) -> bool:
    return isinstance(module, DropPath | StochasticDepth)
