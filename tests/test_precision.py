"""The precision of a training: left to the machine, or said."""

import pytest
import torch
import yaml
from small_runs import last, recipe, rows

from avlearn.tasks import load_recipe
from avlearn.training.precision import settled
from avlearn.training.run import pretrain

SHORT = ["clip.size=16", "clip.seconds=0.64", "clip.context=0.32", "trainer.val_every=2", "trainer.checkpoint_every=2"]


@pytest.fixture
def computes(monkeypatch):
    """Makes the processor one that computes in bfloat16, or one that does not."""

    def pretend(bfloat16: bool):
        known = {"avx2": True, "avx512_bf16": bfloat16}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)

    return pretend


def test_a_recipe_for_a_laptop_leaves_it_to_the_machine(computes):
    left = load_recipe("sync_world", ["trainer.accelerator=cpu"])
    assert left.trainer.precision == "auto"
    computes(True)
    assert settled(left).trainer.precision == "bf16-mixed"
    computes(False)
    assert settled(left).trainer.precision == "32-true"


@pytest.mark.parametrize("said", ["32-true", "bf16-mixed", "16-mixed"])
def test_what_is_said_stays(computes, said):
    computes(said == "32-true")
    recipe = load_recipe("sync_world", [f"trainer.precision={said}"])
    assert settled(recipe) == recipe


def test_a_run_goes_on_as_it_began_on_another_machine(computes, tiny_root, tmp_path):
    small = recipe(tiny_root, *SHORT)
    computes(True)
    pretrain(small, tmp_path / "run")
    computes(False)
    pretrain(small, tmp_path / "run", resume=True)  # refused, if it were of another precision now
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["trainer"]["precision"] == "bf16-mixed"


def test_both_learn_alike(tiny_root, tmp_path):
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        run = tmp_path / precision
        pretrain(recipe(tiny_root, *SHORT, f"trainer.precision={precision}"), run)
        assert all(weight.dtype != torch.bfloat16 for weight in last(run)["state_dict"].values())
        losses[precision] = [row["loss"] for row in rows(run, "loss")]
    exact, coarse = losses["32-true"], losses["bf16-mixed"]
    assert len(exact) == len(coarse) == 6
    assert exact != coarse and coarse == pytest.approx(exact, rel=0.05)
