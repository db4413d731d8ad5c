"""What the tables cannot see of the residual networks: values, which frames see each other, gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import video as torchvision_video

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.convolution import Conv3d
from avlearn.models.video.nonlocal_block import NonLocal, add_nonlocal
from avlearn.models.video.resnet import VideoResNet, channelwise, flat, full, simple_stem


def randomize_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def tiny(factorisation=full, in_chans: int = 3, **options) -> VideoResNet:
    stem = simple_stem(in_chans, 8, 3)
    return VideoResNet(stem, (1, 2), (1, 2, 1, 1), [factorisation] * 4, width=8, **options)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_torchvisions_weights_give_torchvisions_results(name):
    torch.manual_seed(0)
    reference = randomize_norms(getattr(torchvision_video, name)(num_classes=7))
    model = create_model(name, num_classes=7).eval()
    model.load_state_dict({key.replace("fc.", "classifier."): value for key, value in reference.state_dict().items()})
    x = torch.rand(2, 3, 8, 48, 40)
    with torch.inference_mode():
        wanted = reference(model.normalized(x))
        torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_r2plus1d_keeps_the_late_frames_first(stride):
    with torch.device("meta"):
        model, x = create_model("r2plus1d_18", temporal_stride=stride).eval(), torch.empty(1, 3, 16, 64, 64)
    frames = [features.shape[2] for features in model.forward_stages(x).values()]
    assert frames == [16, 16, *(max(16 // 2**i, 16 // stride) for i in (1, 2, 3))]
    assert model.feature_info.stride == (stride, 16, 16)


def test_wrong_options_are_named():
    with pytest.raises(ModelError, match="temporal_stride is 1, 2, 4 or 8, not 3"):
        create_model("r2plus1d_18", temporal_stride=3)
    with pytest.raises(ModelError, match=r"'mid_width': .* 'per-block' or 'per-conv'"):
        create_model("r2plus1d_18", mid_width="both")
    with pytest.raises(ValueError, match="gaussian, embedded, dot or concat, not softmax"):
        NonLocal(8, "softmax")


def seen_frames(model: nn.Module, frames: int = 8) -> torch.Tensor:
    """``[T', T]``: whether a step of the features depends on a frame."""
    x = torch.rand(1, 3, frames, 32, 32, requires_grad=True)
    features = model.eval().forward_features(x)
    grads = [torch.autograd.grad(step.sum(), x, retain_graph=True)[0] for step in features.unbind(2)]
    return torch.stack([grad.abs().amax((0, 1, 3, 4)) > 0 for grad in grads])


def test_which_frames_see_each_other():
    assert seen_frames(create_model("f_r2d_18")).equal(torch.eye(8).bool())
    assert seen_frames(create_model("r2d_18", frames=8)).equal(torch.ones(1, 8).bool())
    near = (torch.arange(8) - torch.arange(8)[:, None]).abs() <= 1
    assert seen_frames(create_model("mc2_18")).equal(near)
    pairs = torch.eye(4).bool().repeat_interleave(2, 1)
    assert seen_frames(create_model("c2d_r50")).equal(pairs)
    assert seen_frames(create_model("c2d_r50", temporal_pool=1)).equal(torch.eye(8).bool())


def test_rmc_strides_time_where_it_sees_it():
    with torch.device("meta"):
        x = torch.empty(1, 3, 8, 32, 32)
        frames = {
            name: [stage.shape[2] for stage in create_model(name).eval().forward_stages(x).values()]
            for name in ("mc4_18", "rmc4_18")
        }
    assert frames == {"mc4_18": [8, 8, 4, 4, 4], "rmc4_18": [8, 8, 8, 4, 2]}


def brute_force(block: NonLocal, x: torch.Tensor) -> torch.Tensor:
    """The definition, place by place."""
    seen = F.max_pool3d(x, block.pool.kernel_size) if isinstance(block.pool, nn.MaxPool3d) else x
    theta, phi = (x, seen) if block.kind == "gaussian" else (block.conv_theta(x), block.conv_phi(seen))
    theta, phi, g = (part[0].flatten(1).T for part in (theta, phi, block.conv_g(seen)))
    rows = []
    for query in theta:
        if block.kind == "concat":
            vector = block.conv_concat.weight.flatten()
            weights = torch.stack([torch.cat([query, key]) @ vector for key in phi]).relu() / len(phi)
        else:
            products = phi @ query
            weights = {
                "gaussian": lambda p=products: p.softmax(0),
                "embedded": lambda p=products: (p / phi.shape[1] ** 0.5).softmax(0),
                "dot": lambda p=products: p / len(phi),
            }[block.kind]()
        rows.append(weights @ g)
    return x + block.bn(block.conv_out(torch.stack(rows, 1).unflatten(1, x.shape[2:])[None]))


@pytest.mark.parametrize("pool", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("kind", ["gaussian", "embedded", "dot", "concat"])
def test_a_nonlocal_block_is_its_definition(kind, pool):
    torch.manual_seed(0)
    block = randomize_norms(NonLocal(8, kind, pool))
    x = torch.randn(1, 8, 2, 4, 6)
    with torch.inference_mode():
        torch.testing.assert_close(block(x), brute_force(block, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "embedded", "dot", "concat"])
def test_nonlocal_networks_begin_as_the_same_without(kind):
    torch.manual_seed(0)
    plain = tiny().eval()
    model = add_nonlocal(tiny(), ((), (1,), (0,), ()), kind).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[2] for key in missing} == {"nonlocal_block"}
    assert {tuple(key.split(".")[:2]) for key in missing} == {("layer2", "1"), ("layer3", "0")}
    x = torch.rand(1, 3, 4, 32, 32)
    torch.testing.assert_close(model(x), plain(x))


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18", "slow_r50_8x8", "ir_csn_50", "p3d_63"])
def test_every_residual_network_takes_nonlocal_blocks(name):
    with torch.device("meta"):
        model = add_nonlocal(create_model(name), ((), (1,), (0,), ()))
        assert model(torch.empty(1, 3, 16, 64, 64)).shape == (1, model.num_features)
    assert {key.split(".")[0] for key in model.state_dict() if "nonlocal_block" in key} == {"layer2", "layer3"}


def test_published_blocks_begin_as_identities():
    torch.manual_seed(0)
    x = torch.rand(1, 8, 2, 4, 4)
    for zero, same in ((True, True), (False, False)):
        block = tiny(zero_init=zero).eval().layer2[1]
        wide = x.repeat(1, 2, 1, 1, 1)
        assert torch.equal(block(wide), wide) is same


def test_the_classifier_and_other_channels():
    model = create_model("mc2_18", num_classes=5, in_chans=2).eval()
    x = torch.rand(2, 2, 4, 32, 32)
    with torch.inference_mode():
        assert model(x).shape == (2, 5)
        model.reset_classifier(None)
        assert model(x).shape == (2, 512)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)
    assert model.mean.shape == (2,)
    assert not model.classifier.bias.any()
    for name in ("p3d_63", "c2d_r50", "i3d_nl_r50", "r2plus1d_r50", "ip_csn_50"):
        with torch.device("meta"):
            model = create_model(name, in_chans=1, num_classes=2).eval()
            assert model(torch.empty(2, 1, 16, 64, 64)).shape == (2, 2)


def test_p3d_sees_single_frames_in_its_last_group():
    model = create_model("p3d_63").eval()
    x = torch.rand(1, 1024, 4, 4, 4)
    with torch.inference_mode():
        together = model.layer4(x)
        torch.testing.assert_close(together[:, :, :1], model.layer4(x[:, :, :2]))
    kinds = [block.kind for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for block in layer]
    assert "".join(kinds) == "ABCABCABCABCA" + "2d" * 3


@pytest.mark.parametrize("factorisation", [full, flat, channelwise])
def test_checkpointing_gives_the_same_gradients(factorisation):
    torch.manual_seed(0)
    model = add_nonlocal(tiny(factorisation, bottleneck=True, time_strides=(1, 2, 1, 1)), ((), (1,), (), ()))
    randomize_norms(model)
    model.reset_classifier(3)
    x = torch.rand(2, 3, 4, 32, 32)
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        F.cross_entropy(model(x), torch.tensor([0, 2])).backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, saved in zip(*grads, strict=True):
        torch.testing.assert_close(plain, saved)


def test_a_convolution_pads_as_it_is_told():
    torch.manual_seed(0)
    reference = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0), padding_mode="circular")
    ours = Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0), padding_mode="circular")
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(1, 2, 4, 3, 3)
    torch.testing.assert_close(ours(x), reference(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "padding", "dilation", "groups"),
    [
        (6, 8, (3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1), 1),
        (6, 8, (5, 1, 1), (4, 1, 1), (2, 0, 0), (1, 1, 1), 1),
        (6, 8, (3, 1, 1), (2, 1, 1), (2, 0, 0), (2, 1, 1), 2),
        (6, 8, (3, 1, 1), (1, 2, 2), (1, 0, 0), (1, 1, 1), 1),
        (6, 8, (3, 1, 1), (1, 1, 1), (1, 1, 0), (1, 1, 1), 1),
        (6, 6, (5, 1, 1), (1, 1, 1), (2, 0, 0), (1, 1, 1), 6),
        (6, 6, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 6),
        (6, 6, (3, 3, 3), (1, 2, 2), (1, 1, 1), (1, 1, 1), 6),
        (6, 6, (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1), 6),
        (6, 6, (3, 3, 3), (1, 1, 1), (1, 2, 2), (1, 2, 2), 6),
        (6, 12, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 6),
        (6, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1), 1),
        (6, 8, (1, 1, 1), (2, 2, 2), (0, 0, 0), (1, 1, 1), 1),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_the_librarys(inputs, outputs, kernel, stride, padding, dilation, groups, bias, layout):
    torch.manual_seed(0)
    reference = nn.Conv3d(inputs, outputs, kernel, stride, padding, dilation, groups, bias).double()
    ours = Conv3d(inputs, outputs, kernel, stride, padding, dilation, groups, bias).double()
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, inputs, 7, 6, 5, dtype=torch.double).to(memory_format=layout)
    found = []
    for conv in (reference, ours):
        with torch.inference_mode():
            still = conv(x)
        own = x.clone().requires_grad_()
        y = conv(own)
        torch.testing.assert_close(y.detach(), still)
        found.append((y, *torch.autograd.grad(y.square().sum(), [own, *conv.parameters()])))
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)
