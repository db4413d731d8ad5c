"""Weights of Hugging Face's models make our networks compute what transformers' do."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from avlearn.models.audio.ast import AST
from avlearn.models.video.timesformer import TimeSformer
from avlearn.models.video.videomae import VideoMAE
from avlearn.models.video.vivit import ViViT
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import find_layout, load_weights

transformers = pytest.importorskip("transformers")

CLASSES = 5
SMALL = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 192}
CLIP = {**SMALL, "image_size": 32, "num_frames": 4, "num_labels": CLASSES}
OURS = {"dim": 48, "depth": 2, "heads": 4, "size": 32, "frames": 4}


@dataclass
class Case:
    """A model of transformers, ours of the same size, the layout of its names, and an input of ours."""

    theirs: nn.Module
    ours: nn.Module
    layout: str
    x: Tensor


def shaken(model: nn.Module) -> nn.Module:
    """With random values in every parameter, in eval mode."""
    torch.manual_seed(0)
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def clip() -> Tensor:
    return torch.rand(2, 3, 4, 32, 32)


def timesformer(attention: str, theirs: str) -> Case:
    config = transformers.TimesformerConfig(**CLIP, attention_type=theirs)
    model = transformers.TimesformerForVideoClassification(config)
    return Case(model, TimeSformer(attention, **OURS), "hugging face timesformer", clip())


def vivit() -> Case:
    model = transformers.VivitForVideoClassification(transformers.VivitConfig(**CLIP))
    return Case(model, ViViT(**OURS), "hugging face vivit", clip())


def videomae(eps: float) -> Case:
    model = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**CLIP, layer_norm_eps=eps))
    return Case(model, VideoMAE(**OURS), "hugging face videomae", clip())


def ast(eps: float, head_eps: float) -> Case:
    config = transformers.ASTConfig(**SMALL, num_mel_bins=32, max_length=64, num_labels=CLASSES, layer_norm_eps=eps)
    ours = AST(width=48, depth=2, heads=4, bins=32, frames=64, eps=eps)
    model = transformers.ASTForAudioClassification(config)
    model.classifier.layernorm.eps = head_eps
    return Case(model, ours, "hugging face ast", torch.randn(2, 1, 32, 64) * 5 - 4)


CASES = {
    "timesformer": lambda: timesformer("divided", "divided_space_time"),
    "timesformer joint": lambda: timesformer("joint", "joint_space_time"),
    "vivit": vivit,
    # To variances, our VideoMAE adds what its authors' code adds, in which the weights were trained; theirs adds less.
    "videomae": lambda: videomae(1e-6),
    "videomae as configured": lambda: videomae(1e-12),
    "ast": lambda: ast(1e-6, 1e-5),
    "ast as configured": lambda: ast(1e-12, 1e-12),
}


def theirs_of(model: nn.Module, ours: nn.Module, x: Tensor) -> Tensor:
    """What transformers makes of our input, once it is as its preprocessing leaves it."""
    if isinstance(ours, AST):
        features = transformers.ASTFeatureExtractor().normalize(x.squeeze(1).transpose(1, 2))
        return model(input_values=features).logits
    return model(pixel_values=ours.normalized(x).transpose(1, 2)).logits


def distance(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("names", ["of the model", "of its file"])
@pytest.mark.parametrize("name", CASES)
def test_same_scores(name, names, tmp_path):
    """Under the names that the installed transformers gives, and under those that it writes."""
    case = CASES[name]()
    shaken(case.theirs)
    tensors = case.theirs.state_dict()
    if names == "of its file":
        case.theirs.save_pretrained(tmp_path)
        tensors = read_tensors(tmp_path / "model.safetensors")
    layout = find_layout(tensors)
    assert layout.name == case.layout
    case.ours.reset_classifier(CLASSES)
    assert load_weights(case.ours.eval(), tensors).left == []
    with torch.no_grad():
        expected = theirs_of(case.theirs, case.ours, case.x)
        assert distance(case.ours(case.x), expected) <= 1e-5


@pytest.mark.parametrize("names", ["of the model", "of its file"])
def test_a_pretrained_videomae_without_its_decoder(names, tmp_path):
    decoder = {f"decoder_{name}": value for name, value in {**SMALL, "hidden_size": 24}.items()}
    config = transformers.VideoMAEConfig(**CLIP, **decoder, use_mean_pooling=False, layer_norm_eps=1e-6)
    theirs = shaken(transformers.VideoMAEForPreTraining(config))
    tensors = theirs.state_dict()
    if names == "of its file":
        theirs.save_pretrained(tmp_path)
        tensors = read_tensors(tmp_path / "model.safetensors")
    layout = find_layout(tensors)
    assert layout.name == "hugging face videomae pre-training"
    ours = VideoMAE(**OURS, **layout.options).eval()
    assert {name.split(".")[0] for name in load_weights(ours, tensors).left} == {
        "decoder",
        "encoder_to_decoder",
        "mask_token",
    }
    x = clip()
    with torch.no_grad():
        expected = theirs.videomae(ours.normalized(x).transpose(1, 2)).last_hidden_state
        assert distance(ours.forward_features(x).flatten(2).transpose(1, 2), expected) <= 1e-5
