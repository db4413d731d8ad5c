"""What encoders make of inputs that are no clip of their training: right, or refused in a line."""

import pytest
import torch
from families import AUDIO
from families import EVERY as FAMILIES
from families import EVERY_VIDEO as VIDEO

from avlearn.errors import ModelError
from avlearn.models import create_model, list_models, model_spec
from avlearn.models.encoder import Encoder
from avlearn.models.video.vit import VideoTransformer

# Deeper and wider twins of others are left out.
TWINS = "*_101* *_152 *_r101* *_34 *_131 *_199 *_hr timesformer_l *_b24_* *_b_32x3 *_l_* x3d_[slm] swin3d_[sb] resnet34"
NAMES = sorted(set(list_models()) - {name for pattern in TWINS.split() for name in list_models(pattern)})


def smallest(model: Encoder, batch: int = 2) -> tuple[int, ...]:
    """The smallest input that the network says it takes."""
    sides = {"T": model.frames_for(1), "N": model.frames_for(1), "F": model.bins or model.least_side}
    sides |= {"C": model.in_chans, "H": model.least_side, "W": model.least_side}
    return (batch, *(sides[axis] for axis in model.axes))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_input_passes_and_every_parameter_of_a_tower_learns_from_it(name):
    """Without computing: what gets no gradient here would stop a training by several processes."""
    with torch.device("meta"):
        model = create_model(name).as_tower()
        features = model.forward_features(torch.empty(smallest(model)))
    features.sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    axes = (2, 3, 4) if model_spec(name).kind == "video" else (2,)
    assert features.shape[1] == model.num_features
    assert all(features.shape[axis] == 1 for axis in axes[1:])
    frames, stride = model.frames_for(1), model.feature_info.stride[0]
    assert frames // stride <= features.shape[2] <= -(-frames // stride)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_network_cannot_take_is_refused_in_a_line(name):
    model = FAMILIES[name].classifier(3).eval()
    shape = smallest(model)
    frames = 1 + next(i for i, axis in enumerate(model.axes) if axis in "TN")
    wrong = {
        "no frame": [0 if i == frames else side for i, side in enumerate(shape)],
        "another channel": [shape[0], shape[1] + 1, *shape[2:]],
        "an axis too few": shape[:-1],
        "an axis too many": (*shape, 4),
    }
    if model.frames_for(1) > 1:
        wrong["a frame too few"] = [side - (i == frames) for i, side in enumerate(shape)]
    if model.bins or model.least_side > 1:
        wrong["too small"] = [side - (i > frames or (i == 2 and "F" in model.axes)) for i, side in enumerate(shape)]
    for what, sides in wrong.items():
        for entry in (model, model.forward_features, model.forward_stages):
            with pytest.raises(ModelError, match=r"takes|frames are") as caught:
                entry(torch.rand(*sides))
            assert "\n" not in str(caught.value), what
    for dtype in (torch.uint8, torch.float64, torch.bfloat16):
        with pytest.raises(ModelError, match=f"the input is {str(dtype)[6:]}, the weights are float32"):
            model(torch.zeros(shape, dtype=dtype))


def test_an_image_is_told_how_to_be_a_clip():
    with pytest.raises(
        ModelError, match=r"takes \[B, C, T, H, W\], not \[2, 3, 64, 64\]; of an image, x\[:, :, None\]"
    ):
        create_model("dsconv_tiny")(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("name", VIDEO)
def test_odd_frames_and_sides_give_finite_features(name):
    model = VIDEO[name].classifier(3).eval()
    frames, rows, columns = model.frames_for(5), 33, 47
    if isinstance(model, VideoTransformer):  # what is no whole patch would not be seen
        with pytest.raises(ModelError, match=r"sides are multiples of 16 pixels, not \[33, 47\]"):
            model(torch.rand(1, model.in_chans, frames, rows, columns))
        rows, columns = 32, 48
    with torch.inference_mode():
        features = model.forward_features(torch.rand(1, model.in_chans, frames, rows, columns))
    assert features.isfinite().all()
    for side, stride, sides in zip((frames, rows, columns), model.feature_info.stride, features.shape[2:], strict=True):
        assert max(side // stride, 1) <= sides <= -(-side // stride)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_bf16_and_under_autocast_it_gives_nearly_the_same(name):
    model, x = FAMILIES[name].classifier(3).eval(), torch.rand(1, *FAMILIES[name].shape)
    with torch.inference_mode():
        expected = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(x)
        found = model.to(torch.bfloat16)(x.bfloat16())
    assert found.dtype == torch.bfloat16
    for scores in (mixed.float(), found.float()):
        assert scores.isfinite().all()
        assert (scores - expected).norm() < 0.1 * expected.norm() + 0.02


@pytest.mark.parametrize("name", VIDEO)
def test_with_channels_last_it_gives_the_same(name):
    model, x = VIDEO[name].classifier(3).eval(), torch.rand(1, *VIDEO[name].shape)
    with torch.inference_mode():
        expected = model(x)
        model.to(memory_format=torch.channels_last_3d)
        found = model(x.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_classes_is_no_classifier(name):
    """As in timm, where 0 says so."""
    model = FAMILIES[name].build().eval()
    model.reset_classifier(0)
    with torch.inference_mode():
        assert model(torch.rand(2, *FAMILIES[name].shape)).shape == (2, model.num_features)


def test_weights_of_a_whole_network_fit_a_tower():
    for name in ("videomae", "motionformer", "vtn", "ast"):
        whole = FAMILIES[name].build()
        tower = FAMILIES[name].build().as_tower()
        assert len(tower.state_dict()) < len(whole.state_dict())
        tower.load_state_dict(whole.state_dict())
        x = torch.rand(1, *FAMILIES[name].shape)
        with torch.inference_mode():
            assert torch.equal(whole.eval().forward_features(x), tower.eval().forward_features(x))
        assert name in VIDEO or name in AUDIO
