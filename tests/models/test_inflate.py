"""Inflation of timm's networks for images."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.video.inflate import InflatedConv, inflate


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_b0", "convnext_tiny", "tf_efficientnet_b0"])
def test_a_video_without_motion_gives_what_the_image_gives(name):
    torch.manual_seed(0)
    flat = timm.create_model(name, num_classes=0).eval()
    torch.manual_seed(0)
    model = inflate(name).eval()
    for module in flat.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    norms = {k: v for k, v in flat.state_dict().items() if "running" in k and k in model.net.state_dict()}
    model.net.load_state_dict(norms, strict=False)
    image = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        stages = model.forward_stages(image.unsqueeze(2).expand(-1, -1, 3, -1, -1))
        normalized = model.normalized(image)
        expected = timm.models.create_feature_extractor(flat, list(stages))(normalized)
    assert tuple(stages) == tuple(info.name for info in model.stage_info)
    for info in model.stage_info:
        found = stages[info.name]
        assert found.shape == (2, info.channels, 3, 64 // info.stride[1], 96 // info.stride[2])
        scale = expected[info.name].abs().max()
        assert (found - expected[info.name].unsqueeze(2)).abs().max() <= 1e-4 * max(1.0, scale)


def test_motion_is_seen_within_reach_and_only_there():
    conv = InflatedConv(nn.Conv2d(2, 3, 3, padding=1), 3)
    x = torch.rand(1, 2, 7, 5, 5)
    moved = x.clone()
    moved[:, :, 3] += 1.0
    with torch.no_grad():
        change = conv(moved.transpose(1, 2).flatten(0, 1), 7) - conv(x.transpose(1, 2).flatten(0, 1), 7)
    assert [bool(frame.abs().max() > 1e-3) for frame in change] == [False, False, True, True, True, False, False]


def test_only_kernels_over_space_get_one_over_time():
    model = inflate("resnet50", time=5)
    inflated = {name for name, module in model.named_modules() if isinstance(module, InflatedConv)}
    assert "net.conv1" in inflated
    assert "net.layer1.0.conv2" in inflated
    assert len(inflated) == 17
    assert model.net.conv1.weight.shape == (64, 3, 5, 7, 7)


@pytest.mark.parametrize(("name", "time", "words"), [("resnet18", 2, "odd"), ("nfnet_f0", 3, "ScaledStdConv2d")])
def test_what_cannot_be_inflated_is_refused(name, time, words):
    with torch.device("meta"), pytest.raises(ModelError, match=words):
        inflate(name, time)


def test_classifier_channels_and_copies():
    model = inflate("resnet18", in_chans=2).eval()
    model.reset_classifier(4)
    x = torch.rand(1, 2, 4, 32, 32)
    with torch.inference_mode():
        assert model(x).shape == (1, 4)
        assert torch.equal(copy.deepcopy(model)(x), model(x))
        model.reset_classifier(None)
        assert model(x).shape == (1, model.num_features) == (1, 512)


def test_checkpointing_gives_the_same_gradients_and_a_step_learns():
    torch.manual_seed(0)
    model = inflate("resnet18")
    model.reset_classifier(3)
    x, y = torch.rand(2, 3, 4, 64, 64), torch.tensor([0, 2])
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, rtol=1e-3, atol=1e-5)
    before = model.net.conv1.weight.clone()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not torch.equal(before, model.net.conv1.weight)
