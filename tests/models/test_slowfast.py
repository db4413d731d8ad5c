"""What the tables cannot see of SlowFast: which frames go where, what the laterals carry."""

import pytest
import torch
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.slowfast import SlowFast, TimeSample, TimeToChannel, slow_frames


@pytest.fixture(scope="module")
def model() -> SlowFast:
    torch.manual_seed(0)
    return create_model("slowfast_r50_4x16", num_classes=3, alpha=4).eval()


@pytest.mark.parametrize(("frames", "alpha"), [(32, 4), (32, 8), (64, 4), (16, 2), (8, 8), (16, 16)])
def test_slow_frames_are_those_of_linspace(frames, alpha):
    x = torch.arange(frames).view(1, 1, -1, 1, 1)
    assert slow_frames(x, alpha).flatten().equal(torch.linspace(0, frames - 1, frames // alpha).long())


def test_slow_frames_of_the_released_weights():
    assert slow_frames(torch.arange(32).view(1, 1, -1, 1, 1), 4).flatten().tolist() == [0, 4, 8, 13, 17, 22, 26, 31]


def test_every_frame_of_a_step_is_the_first_one_if_wanted():
    model = create_model("slowfast_r50_4x16", frame_picking="every", alpha=4)
    slow, fast = model._split(torch.arange(32.0).view(1, 1, -1, 1, 1).expand(1, 3, -1, 1, 1))
    assert slow[0, 0].flatten().tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    assert fast.shape[2] == 32


@pytest.mark.parametrize("name", ["slowfast_r50_4x16", "slowfast_r101_16x8_nl", "slow_r50_8x8"])
def test_detection_has_a_map_of_half_the_stride_and_the_same_parameters(name):
    with torch.device("meta"):
        models = [create_model(name, num_classes=80, output_stride=stride).eval() for stride in (32, 16)]
        x = torch.empty(1, 3, 32, 64, 64)
        coarse, fine = (model.forward_stages(x) for model in models)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    assert models[1].feature_info.stride == models[1].stage_info[-1].stride == (1, 16, 16)
    assert models[1].stage_info[:-1] == models[0].stage_info[:-1]
    assert (coarse["layer4"].shape[3:], fine["layer4"].shape[3:]) == ((2, 2), (4, 4))
    assert coarse["layer3"].shape == fine["layer3"].shape


def test_the_last_group_of_a_detector_looks_two_apart():
    torch.manual_seed(0)
    group = create_model("slow_r50_4x16", output_stride=16).layer4.eval()
    convs = [block.conv2[0] for block in group]
    assert all((c.stride, c.padding, c.dilation) == ((1, 1, 1), (0, 2, 2), (1, 2, 2)) for c in convs)
    x = torch.randn(1, 1024, 1, 15, 15, requires_grad=True)
    torch.nn.init.ones_(group[0].conv3[1].weight)
    seen = torch.autograd.grad(group[0](x)[..., 7, 7].sum(), x)[0].abs().amax((0, 1, 2)) > 0
    assert {tuple(place) for place in seen.nonzero().tolist()} == {(y, x) for y in (5, 7, 9) for x in (5, 7, 9)}


def test_the_mean_of_the_features_is_that_of_both_pathways(model):
    x = torch.rand(2, 3, 16, 32, 32)
    with torch.inference_mode():
        features = model.forward_features(x)
        *_, (_, slow, fast) = model._pathways(x)
        assert features.shape == (2, 2048 + 256, 16, 1, 1)
        assert (slow.shape[2], fast.shape[2]) == (4, 16)
        means = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1)
        torch.testing.assert_close(model(x), model.classifier(means))
        assert features[:, :2048, 3].equal(slow[:, :, 0])


def test_time_becomes_channels():
    x = torch.rand(2, 3, 8, 4, 5)
    y = TimeToChannel(4)(x)
    assert y.shape == (2, 12, 2, 4, 5)
    # The order of a reshape of {alpha T, S, C} to {T, S, alpha C}: the frames of a step, each with its channels.
    wanted = x.movedim(1, -1).unflatten(1, (2, 4)).movedim(2, 4).flatten(4).movedim(-1, 1)
    assert y.equal(wanted)
    assert TimeSample(4)(x).equal(x[:, :, ::4])


@pytest.mark.parametrize(("lateral", "extra"), [("none", 0), ("sum", 0), ("concat", 64), ("sample", 8), ("conv", 16)])
def test_laterals_carry_the_fast_channels(lateral, extra):
    with torch.device("meta"):
        model = create_model("slowfast_r50_4x16", lateral=lateral)
    assert model.slow.layer1[0].conv1[0].in_channels == 64 + extra
    assert model.slow.layer4[0].conv1[0].in_channels == 1024 + 16 * extra
    assert model.fast.layer4[0].conv1[0].in_channels == 128


@pytest.mark.parametrize("lateral", ["none", "sum", "concat", "sample", "conv"])
def test_only_laterals_bring_fast_frames_to_the_slow_pathway(lateral):
    torch.manual_seed(0)
    model = create_model("slowfast_r50_4x16", lateral=lateral).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.ones_(module.weight)  # blocks that begin as identities would see one frame
    x = torch.rand(1, 3, 16, 32, 32, requires_grad=True)
    *_, (_, slow, _) = model._pathways(x)
    grad = torch.autograd.grad(slow.sum(), x)[0]
    frames = (grad.abs().amax((0, 1, 3, 4)) > 0).nonzero().flatten().tolist()
    assert frames == ([0, 15] if lateral == "none" else list(range(16)))


def test_the_fast_pathway_may_see_grey_differences_or_flow():
    torch.manual_seed(0)
    x = torch.rand(1, 5, 8, 32, 32)
    gray = create_model("slowfast_r50_4x16", fast_input="gray").eval()
    flow = create_model("slowfast_r50_4x16", fast_input="flow").eval()
    with torch.inference_mode():
        slow, fast = gray._split(x[:, :3])
        assert (slow.shape[1], fast.shape[1]) == (3, 1)
        torch.testing.assert_close(fast[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])
        slow, fast = flow._split(flow.normalized(x))
        torch.testing.assert_close(fast, (x[:, 3:] - 0.5) / 0.225)
        assert slow.shape[1] == 3
        assert flow(x).shape == (1, 2304)
        moving = create_model("slowfast_r50_4x16", fast_input="difference").eval()
        fast = moving._split(x[:, :3])[1]
        assert fast.shape == (1, 3, 8, 32, 32)
        assert not fast[:, :, 0].any()
        assert torch.equal(fast[:, :, 3], x[:, :3, 3] - x[:, :3, 2])


def test_wrong_options_are_named(model):
    with pytest.raises(ModelError, match="frames are a multiple of 4, not 10"):
        model(torch.rand(1, 3, 10, 32, 32))
    with pytest.raises(ModelError, match="needs beta_inv = alpha = 8"):
        create_model("slowfast_r50_4x16", lateral="sum", beta_inv=4)
    with pytest.raises(ModelError, match=r"'lateral': .* 'none', 'sum', 'concat', 'sample' or 'conv'"):
        create_model("slowfast_r50_4x16", lateral="cat")
    with pytest.raises(ModelError, match=r"'frame_picking': .* 'linspace' or 'every'"):
        create_model("slowfast_r50_4x16", frame_picking="random")
    with pytest.raises(ModelError, match="16 or 32, not 8"):
        create_model("slowfast_r50_4x16", output_stride=8)
    with pytest.raises(ModelError, match=r"'fast_input': .* 'rgb', 'gray', 'difference' or 'flow'"):
        create_model("slowfast_r50_4x16", fast_input="audio")
    with pytest.raises(ModelError, match="made of 3 channels, not 1"):
        create_model("slowfast_r50_4x16", fast_input="gray", in_chans=1)


def test_the_classifier_and_other_channels():
    with torch.device("meta"):
        model = create_model("slowfast_r50_8x8_nl", num_classes=5, in_chans=2, nonlocal_kind="concat").eval()
        x = torch.empty(2, 2, 32, 64, 64)
        assert model(x).shape == (2, 5)
        model.reset_classifier(None)
        assert model(x).shape == (2, 2304)
        model.reset_classifier(3)
        assert model(x).shape == (2, 3)


def test_checkpointing_gives_the_same_gradients_and_a_step_helps(model):
    x, y = torch.rand(2, 3, 8, 32, 32), torch.tensor([0, 2])
    grads = []
    for enable in (True, False):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        grads.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, saved in zip(*grads, strict=True):
        torch.testing.assert_close(plain, saved)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.optim.SGD(model.parameters(), 1e-3).step()
    assert F.cross_entropy(model(x), y) < loss
    model.load_state_dict(before)


def test_slowfast_tiny_keeps_its_parameters():
    """Models were saved with these names and shapes."""
    shapes = {key: tuple(value.shape) for key, value in create_model("slowfast_tiny").state_dict().items()}
    assert len(shapes) == 39
    assert shapes["fast.0.0.weight"] == (8, 3, 3, 3, 3)
    assert shapes["slow.1.0.weight"] == (64, 48, 1, 3, 3)
    assert shapes["slow.2.1.running_var"] == (128,)
    assert shapes["lateral.2.weight"] == (64, 32, 5, 1, 1)
