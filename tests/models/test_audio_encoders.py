"""Audio encoders: layouts as released, and what a step of their features stands for."""

import pytest
import torch
from families import AUDIO
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet34

from avlearn.errors import ModelError
from avlearn.models import create_model
from avlearn.models.audio.ast import AST
from avlearn.models.audio.stages import AudioEncoder
from avlearn.models.audio.vgg import VGGM
from avlearn.models.encoder import FeatureInfo


def shaken(model: nn.Module) -> nn.Module:
    """With statistics of normalisations, and biases, far from where they start."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.ndim == 1:
            nn.init.normal_(tensor, name.endswith("weight"), 0.1)
    return model.eval()


def test_resnets_take_torchvisions_weights():
    """At the published strides they are its networks, but for the pooling: frequency alone."""
    for name, build in (("resnet18", resnet18), ("resnet34", resnet34)):
        theirs = build()
        theirs.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        shaken(theirs)
        ours = create_model(name).eval()
        state = {}
        for key, value in theirs.state_dict().items():
            for old, new in (("conv1.", "stem.0."), ("bn1.", "stem.1.")):
                if key.startswith(old):
                    key = new + key.removeprefix(old)
            for layer in range(4):
                key = key.replace(f"layer{layer + 1}.", f"layers.{layer}.")
            if not key.startswith("fc."):
                state[key] = value
        ours.load_state_dict(state)
        for module in ours.layers.modules():
            if isinstance(module, nn.Conv2d) and module.stride == (2, 1):
                module.stride = (2, 2)
        theirs.fc = nn.Identity()
        audio = torch.rand(2, 1, 64, 128)
        with torch.inference_mode():
            torch.testing.assert_close(ours(audio), theirs(audio), atol=1e-5, rtol=1e-5)


def test_conv2d_10_is_layer_by_layer_that_of_avid():
    model = shaken(create_model("conv2d_10"))
    audio = torch.rand(2, 1, 257, 64)
    x = audio.transpose(2, 3)
    with torch.inference_mode():
        x = F.relu(model.conv1[1](F.conv2d(x, model.conv1[0].weight, None, 2, 3)))
        for i, stride in enumerate((2, 2, 2, 1)):
            block = getattr(model, f"block{i + 1}")
            x = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, None, stride, 1)))
            x = F.relu(block.bn2(F.conv2d(x, block.conv2.weight, None, 1, 1)))
        torch.testing.assert_close(model(audio), F.adaptive_max_pool2d(x, 1).flatten(1))


def test_a_step_of_syncnet_is_a_window_of_20_frames_alone():
    model = shaken(create_model("vggm_syncnet"))
    audio = torch.rand(2, 1, 13, 48)
    with torch.inference_mode():
        features = model.forward_features(audio)
        assert features.shape == (2, 1024, 12)
        for step in range(2, 10):
            start = 4 * step - 8
            window = audio[..., start : start + 20]
            alone = model.netfcaud(model.netcnnaud(window).flatten(1))
            torch.testing.assert_close(features[..., step], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bins", [13, 40])
def test_convolving_all_frames_gives_as_many_steps_as_windows_do(bins):
    shared, alone = (VGGM(bins, windowed, None).eval() for windowed in (False, True))
    alone.load_state_dict(shared.state_dict())
    for frames in (20, 41, 99):
        audio = torch.rand(1, 1, bins, frames)
        with torch.inference_mode():
            assert shared.forward_features(audio).shape == alone.forward_features(audio).shape == (1, 512, frames // 4)


def test_vggish_sees_windows_of_96_frames_alone_with_time_first():
    model = create_model("vggish").eval()
    audio = torch.rand(1, 1, 64, 200)
    with torch.inference_mode():
        features = model.forward_features(audio)
        assert features.shape == (1, 128, 2)
        window = model.features(audio[..., 96:192].mT)  # [B, 512, 6, 4]
        flat = window.permute(0, 2, 3, 1).reshape(1, -1)
        torch.testing.assert_close(features[..., 1], model.embeddings(flat))


def small_ast() -> AST:
    model = AST(width=16, depth=2, heads=2, bins=32, frames=64)
    return model.eval()


def test_ast_cuts_positions_from_the_middle_or_interpolates_them():
    model = small_ast()
    learned = model.pos_embed.detach()[:, 2:].unflatten(1, (2, 5))
    torch.testing.assert_close(model._positions((2, 3))[:, 2:].unflatten(1, (2, 3)), learned[:, :, 1:4])
    wider = F.interpolate(learned.permute(0, 3, 1, 2), (2, 9), mode="bilinear").flatten(2).mT
    torch.testing.assert_close(model._positions((2, 9))[:, 2:], wider)
    assert model._positions((2, 5)) is model.pos_embed


def test_ast_scores_are_read_from_its_two_tokens_and_features_from_the_patches():
    model = small_ast()
    model.reset_classifier(3)
    audio = torch.randn(2, 1, 32, 64)
    tokens, grid = model._encode(audio)
    assert grid == (2, 5)
    wanted = model.classifier(model.head_norm((tokens[:, 0] + tokens[:, 1]) / 2))
    torch.testing.assert_close(model(audio), wanted)
    features = model.forward_features(audio)
    assert features.shape == (2, 16, 5)
    torch.testing.assert_close(features[..., 1], (tokens[:, 2 + 1] + tokens[:, 2 + 5 + 1]) / 2)


def test_the_waveform_tower_hears_soft_audio_and_keeps_time():
    model = create_model("waveform_multisensory", in_chans=1).eval()
    quiet = torch.zeros(1, 1, 16 * 1024 + 100)
    click = quiet.clone()
    click[..., 8 * 1024 : 8 * 1024 + 64] = 0.01
    with torch.inference_mode():
        change = (model.forward_features(click) - model.forward_features(quiet)).abs().sum(1)[0]
    assert change.shape == (16,)
    assert 6 <= int(change.argmax()) <= 9
    assert change.max() > 1e-3


@pytest.mark.parametrize("name", AUDIO)
def test_stages_are_as_said(name):
    """Names, channels and strides; at the ends, steps are seen beyond the audio, or left out for lack of padding."""
    model, shape = AUDIO[name].build().eval(), AUDIO[name].shape
    audio = torch.rand(2, *shape)
    with torch.inference_mode():
        stages, features = model.forward_stages(audio), model.forward_features(audio)
    assert tuple(stages) == tuple(info.name for info in model.stage_info)
    for info, found in zip(model.stage_info, stages.values(), strict=True):
        assert found.shape[:2] == (2, info.channels), info
        frames, bins, _ = info.stride
        if not getattr(model, "windowed", False):  # windows overlap
            assert -3 <= found.shape[-1] - shape[-1] / frames <= 16 / frames, info
        if len(shape) == 3:
            assert found.ndim == 4
            assert -3 <= found.shape[2] - (shape[1] / bins if bins else 1) <= 1, info
    assert features.shape == (2, model.feature_info.channels, found.shape[-1])


@pytest.mark.parametrize("name", [name for name in AUDIO if name != "ast"])
def test_features_are_the_last_stage_with_its_bins_together(name):
    model = AUDIO[name].build().eval()
    audio = torch.rand(2, *AUDIO[name].shape)
    with torch.inference_mode():
        *_, last = model.forward_stages(audio).values()
        features = model.forward_features(audio)
    together = last if last.ndim == 3 else last.amax(2) if name == "conv2d_10" else last.mean(2)
    torch.testing.assert_close(features, together)


def test_windows_of_syncnet_lie_behind_each_other_in_its_stages():
    model = shaken(create_model("vggm_syncnet"))
    audio = torch.rand(2, 1, 13, 48)
    with torch.inference_mode():
        first = model.forward_stages(audio)["conv1"]
        assert first.shape == (2, 64, 13, 12 * 20)
        alone = model.netcnnaud[:4](audio[..., 8:28])
    torch.testing.assert_close(first[..., 4 * 20 : 5 * 20], alone)


@pytest.mark.parametrize("name", ["resnet9", "conv2d_10", "vggm_avts", "vggm_syncnet", "waveform_multisensory", "ast"])
def test_learns_with_checkpointing_as_without(name):
    model = small_ast() if name == "ast" else create_model(name).eval()
    shape = {"waveform_multisensory": (2, 4096), "vggm_syncnet": (1, 13, 32), "vggm_avts": (1, 40, 32)}
    audio = torch.rand(2, *shape.get(name, (1, 32, 64)))
    model.reset_classifier(2)
    F.cross_entropy(model(audio), torch.tensor([0, 1])).backward()
    plain = {key: p.grad.clone() for key, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    F.cross_entropy(model(audio), torch.tensor([0, 1])).backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[key])


def test_an_encoder_that_says_no_more_than_its_step_refuses_less():
    class Steps(AudioEncoder):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, (16, 8), (16, 8))
            self.feature_info = FeatureInfo(4, (8, 0, 0))

        def stages(self):
            return [("conv", self.conv)]

    model = Steps()
    assert model(torch.rand(1, 1, 16, 12)).shape == (1, 4) and model.frames_for(3) == 8
    with pytest.raises(ModelError, match="frames are at least 8, not 7"):
        model(torch.rand(1, 1, 16, 7))
