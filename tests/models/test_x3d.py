"""X3D: what the table of costs does not see."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from avlearn.models import create_model
from avlearn.models.video.x3d import X3D, Block, DepthwiseConv, FrameConv, Pointwise, SqueezeExcitation, TemporalConv

LAST = torch.channels_last_3d


def tiny(**options):
    torch.manual_seed(0)
    return X3D((1, 2, 1, 1), widths=(8, 8, 16, 16), hidden=32, **options)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize(
    "layer",
    [FrameConv(3, 8), TemporalConv(8), Pointwise(8, 6), Pointwise(8, 6, 2), Pointwise(8, 6, bias=True)],
    ids=["frames", "time", "point", "strided point", "biased point"],
)
def test_fast_layers_are_the_librarys_convolutions(layer, layout):
    x = torch.rand(2, layer.in_channels, 5, 9, 8).contiguous(memory_format=layout)
    found, expected = layer(x), nn.Conv3d.forward(layer, x)
    assert torch.allclose(found, expected, atol=1e-6)
    if layout is LAST:
        assert found.is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_learn_alike_in_bfloat16(stride):
    torch.manual_seed(0)
    layer, x = DepthwiseConv(8, stride), torch.rand(2, 8, 5, 9, 8).contiguous(memory_format=LAST)
    found = {}
    for coarse in (False, True):
        layer.zero_grad()
        seen = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
            y = layer(seen)
        assert y.is_contiguous(memory_format=LAST)
        y.float().square().sum().backward()
        found[coarse] = y.float(), seen.grad, layer.weight.grad
    for exact, rounded in zip(found[False], found[True], strict=True):
        assert torch.allclose(rounded, exact, atol=0.02 * float(exact.abs().max()))


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_stay_last_through_all_stages(batch):
    with torch.inference_mode():
        stages = tiny().eval().forward_stages(torch.rand(batch, 3, 4, 64, 64))
    assert all(found.is_contiguous(memory_format=LAST) for found in stages.values())


def test_a_shortcut_is_normed_where_channels_change_or_as_asked():
    def normed(model):
        return {name for name, module in model.named_modules() if name.endswith("branch1_bn")}

    with torch.device("meta"):
        psf, ptv = create_model("x3d_m"), create_model("x3d_m", shortcut_norm=False)
    first = {"s2.pathway0_res0.branch1_bn"}
    assert normed(psf) - normed(ptv) == first
    assert normed(psf) == first | {f"s{i}.pathway0_res0.branch1_bn" for i in (3, 4, 5)}


def test_every_second_block_is_squeezed():
    with torch.device("meta"):
        model = create_model("x3d_m")
    assert [hasattr(block.branch2, "se") for block in model.s4] == [i % 2 == 0 for i in range(11)]
    widths = {stage: model.get_submodule(stage)[0].branch2.se.fc1.out_channels for stage in ("s2", "s3", "s4", "s5")}
    assert widths == {"s2": 8, "s3": 8, "s4": 16, "s5": 32}


def test_squeeze_and_excitation_weighs_channels_by_the_means_of_all():
    layer = SqueezeExcitation(16)
    x = torch.rand(2, 16, 3, 4, 4)
    with torch.no_grad():
        mean = x.mean((2, 3, 4))
        hidden = F.linear(mean, layer.fc1.weight.flatten(1), layer.fc1.bias).relu()
        weights = F.linear(hidden, layer.fc2.weight.flatten(1), layer.fc2.bias).sigmoid()
        assert torch.allclose(layer(x), x * weights[:, :, None, None, None], atol=1e-6)


def test_blocks_start_as_their_shortcut():
    block = tiny().s3[1]
    assert isinstance(block, Block)
    x = torch.rand(1, 8, 2, 6, 6)
    with torch.no_grad():
        assert torch.allclose(block.eval()(x), x)


def test_the_head_has_a_hidden_layer_after_the_mean():
    model = tiny(in_chans=2).eval()
    x = torch.rand(2, 2, 4, 64, 64)
    with torch.inference_mode():
        assert model(x).shape == (2, model.num_features) == (2, 36)
        model.reset_classifier(5)
        head = model.classifier
        mean = model.forward_features(x).mean((2, 3, 4))
        assert torch.allclose(model(x), head.projection(head.lin_5(mean).relu()), atol=1e-6)
        hidden = head.lin_5.weight
        model.reset_classifier(9)
        assert model(x).shape == (2, 9)
        assert model.classifier.lin_5.weight is hidden
        model.reset_classifier(None)
        assert model(x).shape == (2, model.num_features)


def test_checkpointing_gives_the_same_gradients_and_a_step_learns():
    model = tiny()
    model.reset_classifier(3)
    model.dropout.p = 0.0
    x, y = torch.rand(2, 3, 4, 64, 64), torch.tensor([0, 2])
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-6)
    before = model.s1.pathway0_stem.conv_xy.weight.clone()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not torch.equal(before, model.s1.pathway0_stem.conv_xy.weight)
