"""A copy of the towers that follows them: where it is asked for, by how much, and through checkpoints."""

from pathlib import Path

import pytest
import torch
from small_runs import last, recipe

from avlearn.errors import RecipeError
from avlearn.tasks import build
from avlearn.tasks.synchronize.module import SynchronizeModule
from avlearn.training.run import pretrain

SLAVC = ("objective=slavc", "objective.momentum=0.75", "objective.dropout=0.5", "clip.context=0")


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory) -> Path:
    """A run of six steps."""
    run = tmp_path_factory.mktemp("momentum") / "whole"
    pretrain(recipe(tiny_root, *SLAVC), run)
    return run


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    state = last(run)["state_dict"]
    return {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}


def task_of(root: Path, *words: str) -> SynchronizeModule:
    torch.manual_seed(0)
    return build(recipe(root, *words)).module


def test_the_copy_moves_by_its_share_and_takes_no_gradient(tiny_root):
    task = task_of(tiny_root, *SLAVC)
    assert not any(p.requires_grad for p in task.target.parameters())
    before = [p.clone() for p in task.target.parameters()]
    assert all(torch.equal(own, theirs) for own, theirs in zip(before, task.model.parameters(), strict=True))
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.add_(1.0)
    task._update_target()
    for now, then in zip(task.target.parameters(), before, strict=True):
        torch.testing.assert_close(now, then + 0.25)


def test_the_objective_compares_the_model_with_its_copy(tiny_root):
    task = task_of(tiny_root, *SLAVC).eval()
    video, audio = torch.rand(2, 3, 50, 32, 32), torch.randn(2, 32000)
    batch = {"offset": torch.zeros(2, dtype=torch.long), "index": torch.arange(2)}
    with torch.no_grad():
        for parameter in task.target.parameters():
            parameter.mul_(0.5)
    pair = task.embed(video, audio, batch)
    seen, heard = task.target(video, audio)
    assert torch.equal(pair.target.video, seen)
    assert torch.equal(pair.target.audio, heard)
    assert not torch.allclose(pair.video, seen)
    assert pair.video.requires_grad and not pair.target.video.requires_grad
    task.train()
    task.objective.dropout = 0.0
    whole = task.embed(video, audio, batch).video
    task.objective.dropout = 0.9
    assert not torch.allclose(task.embed(video, audio, batch).video, whole)


def test_other_objectives_have_no_copy(tiny_root):
    task = task_of(tiny_root, "objective=mil_infonce")
    assert task.target is None
    assert task.objective.dropout == 0
    assert not any("target" in name for name in task.state_dict())


def test_training_resumes_to_the_bit_copy_included(tiny_root, whole, monkeypatch, tmp_path):
    step = SynchronizeModule.training_step

    def until_the_checkpoint(self, batch, index):
        if self.global_step == 3:
            raise RuntimeError("stopped")
        return step(self, batch, index)

    monkeypatch.setattr(SynchronizeModule, "training_step", until_the_checkpoint)
    with pytest.raises(RuntimeError, match="stopped"):
        pretrain(recipe(tiny_root, *SLAVC), tmp_path / "run")
    assert last(tmp_path / "run")["global_step"] == 3
    monkeypatch.undo()
    pretrain(recipe(tiny_root, *SLAVC), tmp_path / "run", resume=True)
    for part in ("model.", "target."):
        resumed, uninterrupted = weights(tmp_path / "run", part), weights(whole, part)
        assert resumed and resumed.keys() == uninterrupted.keys()
        assert all(torch.equal(resumed[name], uninterrupted[name]) for name in resumed)
    ours, copy = weights(whole, "model."), weights(whole, "target.")
    assert any(not torch.equal(ours[name], copy[name]) for name in ours if name.endswith("weight"))


def test_the_copy_sees_each_micro_batch_once(tiny_root, whole, tmp_path):
    pretrain(recipe(tiny_root, *SLAVC, "trainer.accumulate=2"), tmp_path / "parts")
    for run, times in ((whole, 6), (tmp_path / "parts", 12)):
        counts = [v for name, v in weights(run, "target.").items() if name.endswith("tracked")]
        assert counts and all(v == times for v in counts)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trainer.strategy=fsdp", "trainer.devices=2"), r"trainer\.strategy: .* take ddp"),
        (("model.dim=33",), r"model\.dim: 33 does not split"),
        (("objective.momentum=1",), r"objective\.(slavc\.)?momentum"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tiny_root, words, said):
    with pytest.raises(RecipeError, match=said):
        recipe(tiny_root, *SLAVC, *words)
