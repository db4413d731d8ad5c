"""C3D, original and with batch norm."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from avlearn.models import create_model
from avlearn.models.video.c3d import C3D


def tiny(pad_last=True, norm=None):
    torch.manual_seed(0)
    return C3D(norm, pad_last, (0.5,) * 3, (0.25,) * 3, hidden=16)


def test_forward_is_the_published_chain_of_layers():
    model = tiny()
    model.reset_classifier(7)
    model.eval()
    x = torch.rand(2, 3, 16, 112, 112)
    with torch.no_grad():
        y = (x - 0.5) / 0.25
        for names, pool, padding in (
            (("conv1a",), (1, 2, 2), 0),
            (("conv2a",), 2, 0),
            (("conv3a", "conv3b"), 2, 0),
            (("conv4a", "conv4b"), 2, 0),
            (("conv5a", "conv5b"), 2, (0, 1, 1)),
        ):
            for name in names:
                conv = model.get_submodule(name).conv
                y = F.conv3d(y, conv.weight, conv.bias, padding=1).relu()
            y = F.max_pool3d(y, pool, pool, padding)
        assert torch.equal(model.forward_features(x), y)
        assert y.shape == (2, 512, 1, 4, 4)
        y = y.flatten(1)
        for name in ("fc6", "fc7"):
            y = getattr(model.classifier, name)(y).relu()
        assert torch.allclose(model(x), model.classifier.fc8(y), atol=1e-6)


@pytest.mark.parametrize(("pad_last", "grid"), [(True, 4), (False, 3)])
def test_other_sizes_are_classified_too(pad_last, grid):
    model = tiny(pad_last)
    model.reset_classifier(5)
    model.eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 32, 64, 80)).shape == (1, 5)
    assert model.grid == (1, grid, grid)


def test_a_new_number_of_classes_keeps_the_hidden_layers():
    model = tiny()
    model.reset_classifier(5)
    hidden = model.classifier.fc6.weight
    model.reset_classifier(9)
    assert model.classifier.fc6.weight is hidden
    assert model.classifier[-1].out_features == 9
    model.reset_classifier(None)
    assert isinstance(model.classifier, nn.Identity)
    assert model.num_features == 512


def test_epsilon_of_batch_norm_and_its_absence():
    with torch.device("meta"):
        plain, normed = create_model("c3d", in_chans=2), create_model("c3d_bn", in_chans=4)
    assert not any(isinstance(m, nn.BatchNorm3d) for m in plain.modules())
    assert {m.eps for m in normed.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}
    assert plain.conv1a.conv.in_channels == len(plain.mean) == len(plain.std) == 2
    assert normed.conv1a.conv.in_channels == len(normed.mean) == 4


def test_checkpointing_gives_the_same_gradients_and_a_step_learns():
    model = tiny(norm=1e-3)
    model.reset_classifier(3)
    x, y = torch.rand(2, 3, 16, 32, 32), torch.tensor([0, 2])
    model.dropout.p = 0.0
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-6)
    before = model.conv1a.conv.weight.clone()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not torch.equal(before, model.conv1a.conv.weight)
