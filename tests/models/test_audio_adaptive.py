"""The audio-adaptive network: its parts beside the published code, what each loss reaches, and that it learns."""

import itertools

import pytest
import torch
from test_learning import CHANCE, World, rendered_once
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.fusion import create_fusion
from avlearn.models.fusion.audio_adaptive import AudioAdaptive, last_stages, multiplied
from avlearn.models.registry import create_model

SMALL = {
    "video": "dsconv_tiny", "audio": "conv2d_tiny", "segments": 2, "dim": 32, "heads": 2, "inner": 64, "depth": 1,
    "recognizer_depth": 1, "sounds": 32,
}  # fmt: skip


def built(classes: int | None = 4, **changes: object) -> AudioAdaptive:
    torch.manual_seed(0)
    return create_fusion("audio_adaptive", classes, **{**SMALL, **changes})


def clips(count: int = 3, frames: int = 9) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 3, frames, 32, 32), torch.randn(count, 8000) / 10


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_its_parts_are_as_large_as_in_the_published_code():
    """``ViT`` and ``Recognizer`` of EPIC-rgb-audio, built from their source, have 6,736,768 and 3,811,289 parameters;
    of the latter two tokens of 256 and a head of 769 are in no result."""
    with torch.device("meta"):
        model = create_fusion("audio_adaptive", 8)
    assert parameters(model.attention) == 6_736_768
    assert [head[1].out_features for head in model.attention.heads] == [1280, 128]
    assert parameters(model.recognizer) == 3_811_289 - 2 * 256 - 769
    assert model.recognizer.sounds.shape == (8, 512) and model.recognizer.video_embed.in_features == 2304


def test_clips_follow_each_other():
    model = built().eval()
    video = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(2, 3, 9, 8, 8)
    assert model._clips(video)[:, 0, :, 0, 0].tolist() == 2 * [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]
    assert model._clips(video[:, :, :1]).shape == (4, 3, 2, 8, 8)


@pytest.mark.parametrize("name", ["dsconv_tiny", "x3d_xs", "slowfast_r50_8x8"])
def test_audio_weighs_channels_before_the_last_stage(name):
    """Where all weights are one nothing changes; where those of a clip are zero, its map is that of nothing."""
    torch.manual_seed(0)
    encoder = create_model(name).as_tower().eval()
    stages, video = last_stages(encoder), torch.rand(2, 3, encoder.frames_for(4), 64, 64)
    sizes = []
    hooks = [stage.register_forward_pre_hook(lambda _, taken: sizes.append(taken[0].shape[1])) for stage in stages]
    with torch.no_grad():
        plain = encoder.forward_features(video)
        for hook in hooks:
            hook.remove()
        with multiplied(stages, [torch.ones(2, size) for size in sizes]):
            torch.testing.assert_close(encoder.forward_features(video), plain)
        gates = [torch.ones(2, size) for size in sizes]
        for gate in gates:
            gate[1] = 0
        with multiplied(stages, gates):
            found = encoder.forward_features(video)
        torch.testing.assert_close(encoder.forward_features(video), plain)
    torch.testing.assert_close(found[0], plain[0])
    assert (found[1] - plain[1]).abs().max() > 1e-3
    assert sizes == ([1280, 128] if name.startswith("slowfast") else sizes)


def test_networks_without_such_a_stage_are_refused():
    for name in ("swin3d_t", "slowfast_tiny"):
        with torch.device("meta"), pytest.raises(ModelError, match=f"{name} has no last stage of convolutions"):
            built(video=name)
    with pytest.raises(ModelError, match="segments are 1 or more, not 0"):
        built(segments=0)


def reached(model: AudioAdaptive, loss: Tensor) -> set[str]:
    """Parts whose parameters have a gradient."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_each_loss_reaches_its_part_alone():
    model = built()
    features = model.features(*clips())
    assert features["video"].shape == (3, 256, 2) and features["audio"].shape == (3, 128)
    assert reached(model, model.classify(features).square().sum()) == {"recognizer"}
    further = model.further_scores(features)
    parts = {name: reached(model, scores.square().sum()) for name, (_, scores) in further.items()}
    assert parts == {
        "encoder": {"video", "attention", "video_head"}, "audio": {"audio", "audio_head"},
        "heard": {"recognizer"}, "heard_and_seen": {"recognizer"},
    }  # fmt: skip
    assert {name: weight for name, (weight, _) in further.items()} == {
        "encoder": 1.0, "audio": 1.0, "heard": 0.1, "heard_and_seen": 0.02,
    }  # fmt: skip
    new = reached(model, model.unlabelled_loss(features, torch.tensor([True, False, True])))
    assert new == {"video", "attention", "video_head", "recognizer"}


def test_every_parameter_learns():
    model = built()
    features = model.features(*clips())
    loss = model.classify(features).square().sum() + model.unlabelled_loss(features, torch.ones(3, dtype=torch.bool))
    for weight, scores in model.further_scores(features).values():
        loss = loss + weight * scores.square().sum()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_activities_that_are_not_heard_are_absent():
    """The loss of the encoder's probabilities of what the audio thinks least likely, and of pseudo-labels, by hand."""
    model = built(5).eval()
    features = model.features(*clips())
    rows = torch.tensor([False, True, True])
    with torch.no_grad():
        loss = model.unlabelled_loss(features, rows)
        encoder = model._encoder_scores(features).softmax(1)[1:]
        heard = model.audio_head(features["audio"])[1:]
        absent = 0.0
        for probabilities, scores in zip(encoder, heard, strict=True):
            absent -= sum(float(torch.log(1 - probabilities[k])) for k in scores.argsort()[:2]) / 2  # 3 / 8 of 5
        known, answers = encoder.max(1)
        pseudo = known * F.cross_entropy(model.classify(features)[1:], answers, reduction="none")
    assert float(loss) == pytest.approx(0.01 * absent + float(pseudo.mean()), rel=1e-4)


def test_after_new_clips_it_takes_all_for_such():
    model = built().eval()
    features = model.features(*clips())
    before = model.classify(features)
    model.unlabelled_loss(features, torch.ones(3, dtype=torch.bool))
    again = built().eval()
    again.load_state_dict(model.state_dict())
    assert not torch.allclose(before, again.classify(features))
    torch.testing.assert_close(model.classify(features), again.classify(features))


def test_without_a_classifier_it_gives_features():
    model = built(None).eval()
    assert model(*clips()).shape == (3, model.num_features)
    with pytest.raises(ModelError, match="without a classifier there are no scores"):
        model._recognized(model.features(*clips()), torch.zeros((), dtype=torch.long))


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> World:
    return rendered_once(tmp_path_factory, 1, 160)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> World:
    return rendered_once(tmp_path_factory, 3, 40)


@pytest.mark.slow
def test_it_learns_the_world_from_scratch(seen, held_out):
    model, steps = built(8), 200
    video, unseen = (world.inputs((3, 16, 32, 32)) for world in (seen, held_out))
    optimizer = torch.optim.AdamW(model.parameters(), 0.002)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, steps)
    shuffles = (torch.randperm(len(video)).split(16) for _ in itertools.count())
    for batch in itertools.islice(itertools.chain.from_iterable(shuffles), steps):
        features, labels = model.features(video[batch], seen.audio[batch]), seen.labels[batch]
        loss = F.cross_entropy(model.classify(features), labels)
        for weight, scores in model.further_scores(features).values():
            loss = loss + weight * F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        features = model.features(unseen, held_out.audio)
        answers = {"recognizer": model.classify(features)}
        answers |= {name: scores for name, (_, scores) in model.further_scores(features).items()}
    found = {name: float((scores.argmax(1) == held_out.labels).float().mean()) for name, scores in answers.items()}
    assert found["recognizer"] > 3 * CHANCE and found["encoder"] > 3 * CHANCE, found
