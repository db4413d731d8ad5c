"""TSN and TSM: frames by themselves, and channels that are shifted among them."""

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.tsn import TSM, TSN, shifted
from avlearn.models.weights.importers import find_layout, load_weights

SMALL = {"depths": (1, 1, 1, 1), "width": 8}


def built(model: TSN) -> TSN:
    """With three classes."""
    model.reset_classifier(3)
    return model.eval()


def by_hand(x: Tensor) -> Tensor:
    """`shifted`, frame by frame and channel by channel."""
    out = x.clone()
    channels, frames = x.shape[1:3]
    for c in range(channels // 8):
        for t in range(frames):
            out[:, c, t] = x[:, c, t + 1] if t + 1 < frames else 0
            out[:, channels // 8 + c, t] = x[:, channels // 8 + c, t - 1] if t else 0
    return out


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_an_eighth_of_the_channels_comes_from_each_neighbour(frames):
    x = torch.rand(2, 20, frames, 2, 3)
    assert torch.equal(shifted(x), by_hand(x))


def test_the_consensus_is_the_mean_over_segments():
    model = built(TSN(**SMALL))
    x = torch.rand(2, 3, 12, 32, 32)
    with torch.no_grad():
        scores = torch.stack([model(x[:, :, [t]]) for t in range(12)])
        torch.testing.assert_close(model(x), scores.mean(0), rtol=1e-4, atol=1e-5)
        model.segments = 4
        torch.testing.assert_close(model(x), scores[[1, 4, 7, 10]].mean(0), rtol=1e-4, atol=1e-5)
        model.train()
        numbered = torch.arange(12.0).view(1, 1, 12, 1, 1)
        drawn = torch.stack([model.sampled(numbered).flatten() for _ in range(100)])
    assert [set(column.tolist()) for column in drawn.T] == [{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}]


def test_tsm_has_the_parameters_of_resnet50_and_sees_as_far_as_it_has_blocks():
    with torch.device("meta"):
        model = create_model("tsm_r50", num_classes=1000)
        theirs = torchvision.models.resnet50()
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters()) == 25_557_032
    small = TSM(**SMALL).eval()
    x = torch.rand(1, 3, 16, 32, 32, requires_grad=True)
    small.forward_features(x)[:, :, 8].sum().backward()
    assert x.grad.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist() == list(range(4, 13))


class ShiftFirst(nn.Module):
    """As the released code has it: what sees shifted channels is ``net``; frames ``[N, C, H, W]`` are one clip."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(by_hand(x.transpose(0, 1)[None])[0].transpose(0, 1))


def as_mmaction2(theirs: nn.Module) -> dict[str, Tensor]:
    """Tensors under mmaction2's names: each convolution is beside its norm, and what sees shifted channels is a net."""
    found = {}
    for name, tensor in theirs.state_dict().items():
        name = re.sub(r"(?<=conv1)\.net\.", ".conv.net.", name)
        name = re.sub(r"(conv\d)\.(?!conv)", r"\1.conv.", name)
        name = re.sub(r"bn(\d)\.", r"conv\1.bn.", name)
        name = name.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
        found[f"cls_head.fc_cls.{name[3:]}" if name.startswith("fc.") else f"backbone.{name}"] = tensor
    return found


@pytest.mark.parametrize("model", [TSN(depths=(1, 1, 1, 1)), TSM(depths=(1, 1, 1, 1))], ids=["tsn_r50", "tsm_r50"])
def test_weights_of_the_authors_and_of_mmaction2_give_what_they_gave(model):
    torch.manual_seed(0)
    theirs = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    shifts = isinstance(model, TSM)
    for group in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4) if shifts else ():
        group[0].conv1 = ShiftFirst(group[0].conv1)
    authors = {f"base_model.{k}".replace("base_model.fc.", "new_fc."): v for k, v in theirs.state_dict().items()}
    x = torch.rand(1, 3, 3, 64, 64)
    with torch.no_grad():
        wanted = theirs(model.normalized(x)[0].transpose(0, 1)).mean(0, keepdim=True)
    for tensors, names in ((authors, "temporal-shift-module"), (as_mmaction2(theirs), "mmaction2")):
        layout = find_layout(tensors, "tsm_r50" if shifts else "tsn_r50")
        assert layout.name.startswith(names)
        model.reset_classifier(5)
        load_weights(model, tensors, layout)
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(x), wanted, rtol=1e-4, atol=1e-5)
        if shifts:  # weights of TSM are none of TSN
            with pytest.raises(ModelError, match="parameters are missing"):
                load_weights(model, tensors, find_layout(tensors, "tsn_r50"))
