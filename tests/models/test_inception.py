"""The Inception trunk: I3D, S3D, S3D-G."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.video import s3d as torchvision_s3d

from avlearn.models import create_model
from avlearn.models.video.inception import Gate, Mixed, SameConv3d, SameMaxPool3d, Variant


def randomised(model):
    """Weights and statistics of batch norm such that nothing cancels and nothing grows without bound."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("shape", [(16, 224, 224), (32, 256, 224)])
def test_s3d_is_torchvisions(shape):
    reference = randomised(torchvision_s3d(num_classes=11))
    model = create_model("s3d", num_classes=11).eval()
    state = {k.replace("classifier.1", "classifier"): v for k, v in reference.state_dict().items()}
    state["classifier.weight"] = state["classifier.weight"].flatten(1)
    model.load_state_dict(state)
    x = torch.rand(1, 3, *shape)
    with torch.inference_mode():
        expected = reference(model.normalized(x))
        assert (model(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("kernel", "stride"), [((7, 7, 7), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((2, 2, 2), (2, 2, 2))])
@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_padding_is_tensorflows(kernel, stride, side):
    """SAME: as many outputs as strides fit, rounded up, and what cannot be halved is padded behind."""
    x = torch.rand(1, 1, side, side, side)
    found = SameMaxPool3d(kernel, stride)(x)
    for axis in range(3):
        assert found.shape[2 + axis] == -(-side // stride[axis])
    for index in ((0, 0, 0), (1, 1, 1), tuple(s - 1 for s in found.shape[2:])):
        window = x[0, 0]
        for axis, (i, k, s) in enumerate(zip(index, kernel, stride, strict=True)):
            before = max((-(-side // s) - 1) * s + k - side, 0) // 2
            start = i * s - before
            window = window.narrow(axis, max(start, 0), min(start + k, side) - max(start, 0))
        assert found[(0, 0, *index)] == window.max()


def test_only_those_after_tensorflow_pad_like_it():
    with torch.device("meta"):
        models = {name: create_model(name) for name in ("i3d_inception", "s3d", "s3d_dense_stem", "s3d_g")}
    same = {name for name, model in models.items() if any(isinstance(m, SameConv3d) for m in model.modules())}
    assert same == {"i3d_inception", "s3d_dense_stem", "s3d_g"}
    for name, model in models.items():
        eps = {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm3d)}
        assert eps == {1e-5 if name == "s3d_g" else 1e-3}
        # One gate after the third convolution, one for each branch of nine blocks.
        assert sum(isinstance(m, Gate) for m in model.modules()) == (37 if name == "s3d_g" else 0)


def test_a_gate_weighs_channels_by_the_means_of_all():
    gate = Gate(4)
    x = torch.rand(2, 4, 3, 5, 5)
    with torch.no_grad():
        weights = torch.sigmoid(x.mean((2, 3, 4)) @ gate.fc.weight.T + gate.fc.bias)
        assert torch.allclose(gate(x), x * weights[:, :, None, None, None])


def test_gates_are_the_last_of_their_branch():
    block = Mixed(8, (2, 2, 3, 2, 4, 5), Variant(gated=True))
    for branch, width in zip(block.children(), (2, 3, 4, 5), strict=True):
        assert isinstance(branch[-1], Gate)
        assert branch[-1].fc.in_features == width


def test_convolutions_over_time_start_as_the_identity_where_they_have_no_norm():
    model = create_model("s3d_dense_stem", temporal_norm=False)
    space, time = model.features[3]
    assert len(time) == 2
    x = torch.rand(1, 64, 4, 6, 6)
    with torch.no_grad():
        y = space.eval()(x)
        assert torch.allclose(time(y), y)


def test_the_classifier_averages_over_windows():
    """With three steps in time the middle one lies in both windows of two: twice the weight."""
    model = create_model("i3d_inception")
    features = torch.zeros(1, 1024, 3, 7, 7)
    features[:, 0, 1] = 1.0
    features[:, 1, 0] = 1.0
    model.eval()
    found = model.forward_head(features)[0]
    assert torch.allclose(found[:2], torch.tensor([0.5, 0.25]))
    model.reset_classifier(6)
    assert model.forward_head(features[:, :, :1, :3]).shape == (1, 6)
    model.reset_classifier(None)
    assert model.forward_head(features).shape == (1, model.num_features)


@pytest.mark.parametrize("name", ["i3d_inception", "s3d", "s3d_g"])
def test_channels_stay_last_through_all_stages(name):
    """Else pooling on a CPU takes longer than all convolutions."""
    with torch.inference_mode():
        stages = create_model(name).eval().forward_stages(torch.rand(2, 3, 16, 64, 64))
    assert all(found.is_contiguous(memory_format=torch.channels_last_3d) for found in stages.values())


def test_gradients_are_torchvisions():
    reference = randomised(torchvision_s3d(num_classes=5))
    model = create_model("s3d", num_classes=5).eval()
    state = {k.replace("classifier.1", "classifier"): v for k, v in reference.state_dict().items()}
    state["classifier.weight"] = state["classifier.weight"].flatten(1)
    model.load_state_dict(state)
    x = torch.rand(1, 3, 16, 224, 224)
    model(x).square().sum().backward()
    reference(model.normalized(x).contiguous()).square().sum().backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        expected = wanted[name.replace("classifier.", "classifier.1.")].grad.reshape(parameter.shape)
        # Rounding moves single maxima from one cell to another.
        assert (parameter.grad - expected).norm() <= 5e-3 * expected.norm(), name


@pytest.mark.parametrize("name", ["i3d_inception", "s3d", "s3d_dense_stem", "s3d_g"])
def test_another_number_of_channels(name):
    model = create_model(name, in_chans=2, num_classes=3).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 2, 8, 32, 32)).shape == (1, 3)


def test_checkpointing_gives_the_same_gradients_and_a_step_learns():
    model = create_model("s3d_g", num_classes=3)
    x, y = torch.rand(2, 3, 16, 32, 64), torch.tensor([0, 2])
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, rtol=1e-3, atol=1e-6)
    before = model.features[0][0].weight.clone()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not torch.equal(before, model.features[0][0].weight)
