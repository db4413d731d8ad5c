"""The offset as a class: learned where there is one, and on top of towers that stay as they are if they shall."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from planted import SPEC, spread
from windows import train, windows

from avlearn.errors import RecipeError
from avlearn.models.folder import load
from avlearn.objectives.offset import OffsetClassifier
from avlearn.tasks import load_recipe

SMALL = replace(SPEC, steps=4, offsets=5, video_channels=8, audio_channels=8, dim=8)
AUDIO_STEPS = SMALL.steps + SMALL.offsets - 1


def pool():
    return spread(4, clips=512, steps=4, audio_steps=12, dim=8)


def objective(frozen: bool = False, heads: int = 4) -> OffsetClassifier:
    return OffsetClassifier(OffsetClassifier.Options(dim=32, heads=heads, frozen=frozen), SMALL)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    found = objective()
    output = train(found, pool(), AUDIO_STEPS, 300, 3e-3)
    return found, output, windows(pool(), torch.arange(384, 512), AUDIO_STEPS)


def test_offsets_of_new_clips_and_audio_of_others_are_recognized(trained):
    _, output, _ = trained
    assert output.logs["offset_within_1"] > 0.9
    assert output.logs["offset_loss"] < 0.5  # chance: log 5 = 1.6
    assert output.logs["sync_accuracy"] > 0.75


def test_shuffled_pairs_stay_at_chance():
    output = train(objective(), pool(), AUDIO_STEPS, 300, 3e-3, right=False)
    assert output.logs["offset_loss"] > 1.5
    assert abs(output.logs["sync_accuracy"] - 0.5) < 0.15


@torch.no_grad()
def test_scores_are_log_probabilities_around_the_true_class(trained):
    found, _, pair = trained
    shifts = torch.arange(-5, 6)
    scores = found.offset_scores(pair, shifts)
    at = pair.offset[:, None] + shifts
    assert torch.equal(scores.isnan(), (at < 0) | (at > 4))
    assert torch.allclose(scores.exp().nansum(1), torch.ones(len(scores)), atol=1e-5)
    assert (scores.nan_to_num(-torch.inf).argmax(1) == 5).float().mean() > 0.8


@torch.no_grad()
def test_own_audio_is_likelier_to_be_synchronizable_than_those_of_others(trained):
    found, _, pair = trained
    own, other = (found.synchronizable(replace(pair, audio=a)) for a in (pair.audio, pair.audio.roll(1, 0)))
    assert (own > other).float().mean() > 0.8


@torch.no_grad()
def test_windows_of_one_clip_are_no_negatives_of_each_other():
    pair = windows(pool(), torch.zeros(3, dtype=torch.long), AUDIO_STEPS)
    found = objective().eval()
    right = -found.synchronizable(pair).log().mean()
    assert torch.isclose(found(pair).logs["sync_loss"], right, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_reach_the_towers_unless_they_are_frozen(frozen):
    pair = windows(pool(), torch.arange(4), AUDIO_STEPS)
    seen, heard = pair.video.clone().requires_grad_(), pair.audio.clone().requires_grad_()
    objective(frozen)(replace(pair, video=seen, audio=heard)).loss.backward()
    if frozen:
        assert seen.grad is None
        assert heard.grad is None
    else:
        assert seen.grad.abs().sum() > 0
        assert heard.grad.abs().sum() > 0


def test_heads_share_the_channels_evenly():
    with pytest.raises(RecipeError, match=r"objective\.dim: 32 is no multiple of 5 heads"):
        objective(heads=5)


def test_classes_may_be_further_apart_than_steps():
    """Four steps of 0.08 s, to either side of the middle: three classes of 0.16 s."""
    options = OffsetClassifier.Options(dim=32, layers=1, heads=4, grid=0.16)
    coarse = OffsetClassifier(options, SMALL).eval()
    assert coarse.offset_classes == 3
    pair = windows(pool(), torch.arange(4), AUDIO_STEPS)
    pair = replace(pair, offset=torch.tensor([0, 1, 2, 1]))
    scores = coarse.offset_scores(pair, torch.arange(-2, 3))
    assert torch.allclose(scores.exp().nansum(1), torch.ones(4), atol=1e-5)
    assert torch.equal(scores.isnan().sum(1), torch.tensor([2, 2, 2, 2]))
    assert coarse(pair).loss.isfinite()
    with pytest.raises(RecipeError, match=r"objective\.grid: 0\.32 s \(2 clip\.context\) is no multiple of 0\.2 s"):
        OffsetClassifier(replace(options, grid=0.2), SMALL)


@pytest.fixture
def words(small_world, untrained, tmp_path):
    return [
        "objective=offset", "objective.frozen=true", f"model.base={untrained}", f"data.train={small_world}",
        f"data.root={tmp_path}", "trainer.batch_size=4", "trainer.max_steps=2", "trainer.val_every=1",
        "trainer.threads=1",
    ]  # fmt: skip


def test_the_second_stage_keeps_the_towers_of_the_first_and_how_they_are_read(words, untrained, tmp_path):
    from avlearn.training.run import pretrain

    first = tmp_path / "first"
    shutil.copytree(untrained, first)
    config = json.loads((first / "config.json").read_text())
    read = {"pool_scale": 7.0, "score_scale": 3.0, "common_space": False}
    (first / "config.json").write_text(json.dumps(config | read))
    base, recipe = load(first), load_recipe("sync_world", [*words, f"model.base={first}", "trainer.checkpoint_every=1"])

    def check() -> None:
        trained = load(tmp_path / "run")
        for part in ("video", "audio", "video_head", "audio_head"):
            before, after = getattr(base, part).state_dict(), getattr(trained, part).state_dict()
            assert all(torch.equal(before[name], after[name]) for name in before)
        assert {key: getattr(trained.config, key) for key in read} == read

    pretrain(recipe, tmp_path / "run")
    check()
    shutil.rmtree(first)
    shutil.rmtree(tmp_path / "run" / "model")
    pretrain(recipe, tmp_path / "run", resume=True)
    check()


def test_towers_that_do_not_fit_are_refused(words):
    from avlearn.training.run import pretrain

    with pytest.raises(RecipeError, match=r"^model\.dim: the recipe has 64, and model\.base .* has 128: leave it out$"):
        pretrain(load_recipe("sync_world", [*words, "model.dim=64"]), "unused")


def test_frozen_towers_must_be_trained_ones():
    with pytest.raises(RecipeError, match=r"objective\.frozen: .* set model\.base"):
        load_recipe("sync_world", ["objective=offset", "objective.frozen=true"])
