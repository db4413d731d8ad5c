"""Encoders of single frames, and of frames that are fused early, late or slowly."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.video.frame_cnn import FrameCNN
from avlearn.models.video.frame_fusion import FrameFusion, LateFusion, MultiresolutionFrames

SMALL = {"width": 12, "hidden": 32}
SLOW = ((4, 2), (2, 2), (2, 2))


def built(model):
    """With three classes, weights of its own and no dropout."""
    torch.manual_seed(0)
    model.reset_classifier(3)
    return model.eval()


def published(model: nn.Module, x: Tensor) -> Tensor:
    """Features of frames ``[N, C, H, W]`` by the paper's chain of layers, written down once more."""
    y = 255 * x - 117
    for i, stride in enumerate((3, 1, 1, 1, 1), 1):
        layer = model.get_submodule(f"conv{i}")[0]
        y = F.conv2d(y, layer.weight[:, :, 0], layer.bias, stride, layer.padding[1:]).relu()
        if i < 3:
            # Krizhevsky et al. (2012): over the sum, not the mean, of five neighbours.
            squares = F.pad(y.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
            y = y / (2 + 1e-4 * squares).sqrt()
        if i in (1, 2, 5):
            y = F.max_pool2d(y, 2)
    return y


def test_a_single_frame_passes_the_published_chain_of_layers():
    model = built(FrameFusion(**SMALL))
    x = torch.rand(2, 3, 2, 170, 170)
    with torch.no_grad():
        features = model.forward_features(x)
        wanted = published(model, x.transpose(1, 2).flatten(0, 1))
        assert features.shape == (2, 32, 2, 7, 7)
        torch.testing.assert_close(features.transpose(1, 2).flatten(0, 1), wanted, rtol=1e-4, atol=1e-4)
        scores = model.classifier(wanted.flatten(1)).unflatten(0, (2, 2)).mean(1)
        torch.testing.assert_close(model(x), scores, rtol=1e-4, atol=1e-4)


def test_late_fusion_sees_two_frames_fifteen_apart_and_no_other():
    model, pooled = built(LateFusion(**SMALL)), built(LateFusion(True, **SMALL))
    pooled.load_state_dict({k: v for k, v in model.state_dict().items() if "fc6" not in k}, strict=False)
    x = torch.rand(1, 3, 32, 32, 40)
    with torch.no_grad():
        frames = published(model, x[0].transpose(0, 1)[[0, 15, 16, 31]])
        features = model.forward_features(x)
        torch.testing.assert_close(features[0, :, 0], torch.cat([frames[0], frames[1]]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(features[0, :, 1], torch.cat([frames[2], frames[3]]), rtol=1e-4, atol=1e-4)
        means = torch.stack([frames[:2].mean(0), frames[2:].mean(0)], 1)
        torch.testing.assert_close(pooled.forward_features(x)[0], means, rtol=1e-4, atol=1e-4)
        x[:, :, 1:15] = 0
        assert torch.equal(model.forward_features(x), features)


@pytest.mark.parametrize(("times", "step"), [(((10, 10), (1, 1), (1, 1)), 10), (SLOW, 8)])
def test_a_step_of_early_and_slow_fusion_sees_ten_frames(times, step):
    """The first from the beginning, the next one step later; each of the ten changes it."""
    model = FrameFusion(times, **SMALL).eval()
    x = torch.rand(1, 3, 30, 32, 32)
    features = model.forward_features(x.requires_grad_())
    assert features.shape[2] == 30 // step
    for i in range(2):
        (gradient,) = torch.autograd.grad(features[:, :, i].sum(), x, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist()
        assert seen == list(range(step * i, step * i + 10))
    with torch.no_grad():  # ten frames are one whole step, which no repeated frame reaches
        torch.testing.assert_close(model.forward_features(x[:, :, :10])[:, :, 0], features[:, :, 0])


def test_the_fovea_is_the_middle_and_the_context_the_whole_at_half_resolution():
    model = MultiresolutionFrames(**SMALL).eval()
    x = torch.rand(1, 3, 1, 178, 178)
    fovea, context = model.prepared(x).chunk(2, 1)
    assert fovea.shape == context.shape == (1, 3, 1, 89, 89)
    torch.testing.assert_close(fovea, 255 * x[..., 44:133, 44:133] - 117)
    torch.testing.assert_close(context[0, :, 0, 3, 5], 255 * x[0, :, 0, 6:8, 10:12].mean((1, 2)) - 117)
    features = model.forward_features(x.requires_grad_())
    assert features.shape == (1, 64, 1, 7, 7)
    (gradient,) = torch.autograd.grad(features[:, :32].sum(), x, retain_graph=True)
    assert gradient[..., 44:133, 44:133].abs().sum() > 0
    gradient[..., 44:133, 44:133] = 0
    assert gradient.abs().sum() == 0
    (gradient,) = torch.autograd.grad(features[:, 32:].sum(), x)
    assert gradient[..., :44, :44].abs().sum() > 0


def test_a_cnn_of_timm_sees_every_frame_by_itself():
    model = built(FrameCNN("resnet10t"))
    theirs = timm.create_model("resnet10t", num_classes=3).eval()
    own = {name.removeprefix("frames.net."): value for name, value in model.frames.net.state_dict().items()}
    theirs.load_state_dict({**own, "fc.weight": model.classifier.weight, "fc.bias": model.classifier.bias})
    x = torch.rand(2, 3, 3, 64, 64)
    with torch.no_grad():
        frames = model.normalized(x).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(model(x), theirs(frames).unflatten(0, (2, 3)).mean(1), rtol=1e-4, atol=1e-5)
        model.fusion = "max"
        highest = theirs.forward_features(frames).mean((2, 3)).unflatten(0, (2, 3)).amax(1)
        torch.testing.assert_close(model(x), theirs.fc(highest), rtol=1e-4, atol=1e-5)


def test_networks_that_are_none_of_timms_or_no_cnn_are_refused():
    for name in ("resnet1O", "hf-hub:timm/resnet18", "local-dir:/tmp"):
        with pytest.raises(ModelError, match="timm has no network"):
            create_model("frame_cnn", network=name)
    with torch.device("meta"), pytest.raises(ModelError, match="it is no CNN"):
        create_model("frame_cnn", network="swin_tiny_patch4_window7_224")(torch.empty(1, 3, 1, 224, 224))
