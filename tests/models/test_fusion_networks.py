"""Networks of video and audio: their specs, what they bind together, the share of each input, and that they learn."""

import math

import pytest
import torch
from families import AUDIO
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from avlearn.errors import ModelError
from avlearn.models import registry
from avlearn.models.encoder import Encoder
from avlearn.models.fusion import create_fusion, fusion_spec, list_fusions
from avlearn.models.fusion.mbt import MBT
from avlearn.models.fusion.network import FusionNetwork
from avlearn.models.fusion.tbn import TBN, _starts
from avlearn.models.inputs import encoder_input
from avlearn.models.registry import Spec
from avlearn.models.video.tsn import stacked_resnet

RATE = 16000


def frames_apart() -> Encoder:
    return stacked_resnet(1, 3, (1, 1, 1, 1), 8)


@pytest.fixture
def tiny(monkeypatch):
    """Encoders by name that are small."""
    entries = {
        "tiny_video": ("video", frames_apart),
        "tiny_flow": ("video", lambda: stacked_resnet(2, 2, (1, 1, 1, 1), 8)),
        "tiny_audio": ("audio", AUDIO["conv2d"].build),
    }
    for name, (kind, build) in entries.items():
        monkeypatch.setitem(registry._builders, name, (Spec(kind, "a tiny one", 0), build))


SMALL_MBT = {"dim": 32, "depth": 3, "heads": 2, "fusion_layer": 1, "frames": 4, "size": 32, "seconds": 0.8, "bins": 32}
NETWORKS = {
    "tbn": lambda: TBN("tiny_video", "tiny_flow", "tiny_audio", 2, seconds=0.32, hidden=16, dropout=0.0),
    "tbn of two": lambda: TBN("tiny_video", None, "tiny_audio", 2, seconds=0.32, hidden=16, dropout=0.0),
    "mbt": lambda: MBT(**SMALL_MBT, drop_path=0.0),
    "mbt of tokens": lambda: MBT(**SMALL_MBT, pool="token", drop_path=0.0),
}
STEPS = {"mbt": 60, "mbt of tokens": 60, "tbn": 16, "tbn of two": 16}
LINEAR = ("mbt", "mbt of tokens")


def built(name: str, classes: int | None = 3) -> FusionNetwork:
    torch.manual_seed(0)
    model = NETWORKS[name]()
    model.reset_classifier(classes)
    for parameter in getattr(model, "classifier", nn.Identity()).parameters():
        nn.init.normal_(parameter)  # MBT's begins with zeros
    return model


def clips(count: int = 2, frames: int = 8, side: int = 32, seconds: float = 0.8) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 3, frames, side, side), torch.randn(count, round(seconds * RATE)) / 10


@pytest.mark.parametrize("name", list_fusions())
def test_a_spec_is_true(name):
    spec = fusion_spec(name)
    with torch.device("meta"):
        model = create_fusion(name, spec.classes).eval()
        video, audio = torch.empty(1, 3, *spec.clip), torch.empty(1, round(spec.seconds * model.sample_rate))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert model(video, audio).shape == (1, spec.classes)
    assert sum(p.numel() for p in model.parameters()) == spec.params
    assert counter.get_total_flops() / 2e9 == pytest.approx(spec.gmacs, rel=5e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_clips_of_odd_sizes_give_scores_and_every_parameter_a_gradient(name, tiny):
    model = built(name)
    scores = model(*clips(3, 7, 33, 0.55))
    assert scores.shape == (3, 3)
    scores.square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_classifier_it_gives_features(name, tiny):
    model = built(name, None).eval()
    assert model(*clips()).shape == (2, model.num_features)
    model.reset_classifier(5)
    assert model(*clips()).shape == (2, 5)
    model.reset_classifier(0)
    assert model(*clips()).shape == (2, model.num_features)


@pytest.mark.parametrize("name", LINEAR)
def test_scores_are_the_sum_of_each_inputs_share(name, tiny):
    model = built(name).eval()
    features = model.features(*clips())
    shares = model.contributions(features)
    assert set(shares) == {"video", "audio"}
    torch.testing.assert_close(shares["video"] + shares["audio"], model.classify(features), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.classify(features), model(*clips()), rtol=1e-4, atol=1e-5)
    model.reset_classifier(None)
    with pytest.raises(ModelError, match="without a classifier there are no scores"):
        model.contributions(features)


def test_what_is_no_sum_says_so_and_wrong_names_are_refused(tiny):
    model = built("tbn").eval()
    with pytest.raises(ModelError, match="scores of TBN are no sum"):
        model.contributions(model.features(*clips()))
    for words, options, said in (
        ("mbt", {}, "no fusion network is called 'mbt'; the nearest is 'mbt_b'"),
        ("tbn", {"video": "resnet18"}, "'resnet18' is an audio encoder"),
        ("tbn", {"vide": "resnet18"}, "option 'vide'"),
        ("tbn", {"flow": "tiny_video"}, "tiny_video sees video, not flow"),
        ("tbn", {"video": "tiny_video", "segments": 0}, "segments are 1 or more, not 0"),
        ("mbt_b", {"fusion_layer": 13}, "fusion_layer is 0 to 12, not 13"),
    ):
        with torch.device("meta"), pytest.raises(ModelError, match=said):
            create_fusion(words, 3, **options)


def test_segments_are_bound_by_a_layer_and_their_scores_averaged(tiny):
    model = built("tbn").eval()
    features = model.features(*clips())
    assert {name: found.shape[::2] for name, found in features.items()} == dict.fromkeys(model.inputs, (2, 2))
    assert model.inputs == ("video", "flow", "audio")
    side_by_side = torch.cat([features[name] for name in model.inputs], 1)
    weight, bias = model.fuse[0].weight, model.fuse[0].bias
    scores = [(side_by_side[..., k] @ weight.T + bias).relu() @ model.classifier.weight.T for k in range(2)]
    torch.testing.assert_close(model(*clips()), sum(scores) / 2 + model.classifier.bias, rtol=1e-4, atol=1e-6)


def test_segments_are_seen_in_their_middle_and_in_training_anywhere(tiny):
    model = built("tbn")
    model.eval()
    numbered = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(1, 3, 12, 1, 1)
    assert model._clips(numbered, 1)[0, :, 0, 0, 0, 0].tolist() == [2.0, 8.0]
    assert model._clips(numbered, 3)[0, :, 0, :, 0, 0].tolist() == [[2.0, 3.0, 4.0], [8.0, 9.0, 10.0]]
    sounds = model._sounds(torch.arange(RATE * 2.0)[None])[0]  # each second's middle
    assert sounds[:, sounds.shape[1] // 2].tolist() == [RATE / 2, 1.5 * RATE]
    model.train()
    drawn = torch.stack([model._clips(numbered, 1)[0, :, 0, 0, 0, 0] for _ in range(200)])
    assert set(drawn[:, 0].tolist()) <= set(range(7)) and set(drawn[:, 1].tolist()) <= set(range(5, 12))
    bound = torch.stack([model.places(torch.device("cpu"), bound=True) for _ in range(50)])
    assert {(row[0] < row[1]).item() for row in bound} == {True, False}
    assert _starts(torch.tensor([0.0, 0.5, 1.0]), 10, 4).tolist() == [0, 3, 6]


def test_flow_of_a_segment_is_of_frames_that_follow_each_other(tiny):
    model = built("tbn").eval()
    video, _ = clips()
    flows = model._flows(model.flow, video)
    assert flows.shape == (2, 2, 2, 2, 32, 32)
    around = model._clips(video, 3)[:, 1]
    torch.testing.assert_close(flows[:, 1], encoder_input(model.flow, around)[:, :, :2])


def attended(block: nn.Module, tokens: Tensor) -> Tensor:
    """A block of a transformer, head by head."""
    x = block.norm1(tokens)
    query, key, value = block.attn.qkv(x).chunk(3, -1)
    heads = block.attn.heads
    parts = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        parts.append((q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1) @ v)
    tokens = tokens + block.attn.proj(torch.cat(parts, -1))
    inner = block.mlp.fc1(block.norm2(tokens))
    inner = inner / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    return tokens + block.mlp.fc2(inner)


@pytest.mark.parametrize("name", ["mbt", "mbt of tokens"])
def test_modalities_meet_in_bottleneck_tokens(name):
    """By hand: each sees its own tokens and the shared ones, which become the mean of what both make of them."""
    model = built(name).eval()
    video, audio = clips(2, 4, 32)
    with torch.no_grad():
        tokens = model.embed(video, audio)
        own, other = tokens["video"], tokens["audio"]
        own, other = attended(model.layers["video"][0], own), attended(model.layers["audio"][0], other)
        shared = model.bottleneck.expand(2, -1, -1)
        for number in (1, 2):
            one = attended(model.layers["video"][number], torch.cat([own, shared], 1))
            two = attended(model.layers["audio"][number], torch.cat([other, shared], 1))
            own, other = one[:, : own.shape[1]], two[:, : other.shape[1]]
            shared = (one[:, own.shape[1] :] + two[:, other.shape[1] :]) / 2
        if name == "mbt":
            wanted = model.classifier(model.norm(torch.cat([own, other], 1)).mean(1))
        else:
            wanted = (model.classifier(model.norm(own[:, 0])) + model.classifier(model.norm(other[:, 0]))) / 2
        torch.testing.assert_close(model(video, audio), wanted, rtol=1e-4, atol=1e-5)
    assert shared.shape[1] == (4 if name == "mbt" else 5)


def test_without_bottlenecks_nothing_passes_between_the_modalities():
    for layer, passes in ((1, True), (3, False)):
        model = MBT(**{**SMALL_MBT, "fusion_layer": layer}).eval()
        video, audio = clips(1, 4)
        audio.requires_grad_()
        found = model.features(video, audio)["video"].square().sum()
        (gradient,) = torch.autograd.grad(found, audio, allow_unused=True)
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == passes
        assert (model.bottleneck is None) == (not passes)


@pytest.fixture(scope="module")
def colours_and_tones() -> tuple[Tensor, Tensor, Tensor]:
    """Clips that are red or blue, with a tone that is high or low: four classes, two of each input."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(40)
    video = torch.rand(160, 3, 4, 32, 32) * 0.5
    video[torch.arange(160), 2 * (labels % 2)] += 0.3
    time = torch.arange(round(0.5 * RATE)) / RATE
    pitch = torch.where(labels // 2 > 0, 2500.0, 400.0)[:, None]
    return video, 0.3 * torch.sin(2 * math.pi * pitch * time) + 0.03 * torch.randn(160, len(time)), labels


@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns_what_only_both_inputs_tell(name, tiny, colours_and_tones):
    video, audio, labels = colours_and_tones
    model = built(name, 4)
    for layers in model.layers.values() if isinstance(model, MBT) else ():
        for module in layers.modules():
            if isinstance(module, nn.Linear):  # deviations are made for layers many times as wide
                module.weight.data.mul_(2)
    optimizer = torch.optim.AdamW(model.parameters(), 0.003)
    for step in range(STEPS.get(name, 30)):
        batch = torch.arange(step % 4 * 32, step % 4 * 32 + 32)
        loss = F.cross_entropy(model(video[batch], audio[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        found = float((model.eval()(video[128:], audio[128:]).argmax(1) == labels[128:]).float().mean())
    assert found > 0.6, f"{found:.0%} of held-out clips; one input alone tells 50%, chance is 25%"
