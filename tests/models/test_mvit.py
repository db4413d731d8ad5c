"""MViT against torchvision's networks, and what the acceptance table cannot see."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.video import mvit_v1_b, mvit_v2_s
from torchvision.models.video.mvit import PositionalEncoding

from avlearn.models.video.mvit import MViT


def tiny(improved: bool = False, in_chans: int = 3) -> MViT:
    return MViT(4, 32, (1, 2, 1, 1), width=8, improved=improved, in_chans=in_chans)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With parameters far from where they start (there, half of them are 0 or 1)."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("improved", [False, True])
def test_equals_torchvision(improved):
    """Frames and rows are few, and so positions absolute (replaced) or relative (interpolated by both)."""
    theirs = (mvit_v2_s if improved else mvit_v1_b)().eval()
    theirs.pos_encoding = PositionalEncoding(96, (16, 16), 4, improved)
    shaken(theirs)
    size = (16, 224) if improved else (8, 64)
    ours = MViT(*size, (1, 2, 11, 2), improved=improved).eval()
    ours.reset_classifier(400)
    names = {"head.1.weight": "classifier.weight", "head.1.bias": "classifier.bias"}
    ours.load_state_dict({names.get(k, k): v for k, v in theirs.state_dict().items()})
    clip = torch.rand(1, 3, 8, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip), theirs((clip - 0.45) / 0.225), atol=1e-5, rtol=1e-5)


def test_positions_of_another_clip_are_interpolated_as_a_volume():
    """PySlowFast interpolates the sum of the two in three dimensions; apart they give the same for less."""
    model = shaken(tiny())
    positions = model.pos_encoding
    volume = positions.temporal_pos[:, None] + positions.spatial_pos  # [T, Y X, D]
    volume = volume.reshape(1, 2, 8, 8, 8).permute(0, 4, 1, 2, 3)
    wanted = F.interpolate(volume, (3, 5, 7), mode="trilinear").flatten(2).transpose(1, 2)
    found = model._with_positions(torch.zeros(1, 105, 8), (3, 5, 7))
    torch.testing.assert_close(found[:, 1:], wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[0, 0], positions.class_token + positions.class_pos)


@pytest.mark.parametrize("improved", [False, True])
def test_takes_clips_of_any_size(improved):
    model = tiny(improved).eval()
    assert model.forward_features(torch.rand(1, 3, 6, 40, 72)).shape == (1, 64, 3, 2, 3)


def test_scores_are_read_from_the_class_token_and_features_from_the_others():
    model = tiny().eval()
    model.reset_classifier(5)
    clip = torch.rand(2, 3, 4, 32, 32)
    tokens, grid = model._encode_last(clip)
    assert grid == (2, 1, 1)
    torch.testing.assert_close(model(clip), model.classifier(tokens[:, 0]))
    torch.testing.assert_close(model.forward_features(clip)[1, :, 1, 0, 0], tokens[1, 2])


def test_the_classifier_comes_off():
    model = tiny().eval()
    model.reset_classifier(7)
    clip = torch.rand(1, 3, 4, 32, 32)
    assert model(clip).shape == (1, 7)
    model.reset_classifier(None)
    assert model(clip).shape == (1, model.num_features) == (1, 64)


@pytest.mark.parametrize("improved", [False, True])
def test_checkpointing_gives_the_same_gradients(improved):
    model = tiny(improved, in_chans=2).eval()
    clip = torch.rand(1, 2, 4, 32, 32)
    model(clip).square().sum().backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(plain) == len(list(model.parameters()))
    model.zero_grad()
    model.set_grad_checkpointing()
    model(clip).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name])
