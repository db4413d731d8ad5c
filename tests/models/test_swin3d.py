"""Video Swin against torchvision's networks, and what the acceptance table cannot see."""

import torch
from torchvision.models.video import swin3d_t

from avlearn.models import create_model
from avlearn.models.video.swin3d import Swin3D


def tiny(in_chans: int = 3) -> Swin3D:
    return Swin3D(8, (2, 1, 2), (1, 2, 4), window=(2, 4, 4), in_chans=in_chans)


def test_equals_torchvision():
    theirs = swin3d_t().eval()
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    ours = create_model("swin3d_t", num_classes=400).eval()
    names = {"head.weight": "classifier.weight", "head.bias": "classifier.bias"}
    ours.load_state_dict({names.get(k, k): v for k, v in theirs.state_dict().items()})
    clip = torch.rand(1, 3, 18, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whitened = (clip - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip), theirs(whitened), atol=1e-5, rtol=1e-5)


def test_sides_are_padded():
    model = tiny().eval()
    clip = torch.rand(1, 3, 5, 36, 44)
    stages = model.forward_stages(clip)
    assert [found.shape[1:] for found in stages.values()] == [(8, 3, 9, 11), (16, 3, 5, 6), (32, 3, 3, 3)]
    assert model.forward_features(clip).shape == (1, 32, 3, 3, 3)


def test_the_classifier_comes_off():
    model = tiny().eval()
    model.reset_classifier(7)
    clip = torch.rand(1, 3, 4, 32, 32)
    assert model(clip).shape == (1, 7)
    model.reset_classifier(None)
    torch.testing.assert_close(model(clip), model.forward_features(clip).mean((2, 3, 4)))


def test_checkpointing_gives_the_same_gradients():
    model = tiny(in_chans=2).eval()
    clip = torch.rand(1, 2, 4, 32, 32)
    model(clip).square().sum().backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    model(clip).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name])
