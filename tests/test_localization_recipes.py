"""The recipe for maps of the synthetic world, on 16 tiny clips."""

import pytest
import torch
from small_runs import TINY, rows
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.models.folder import load


@pytest.fixture
def words(tiny_root) -> list[str]:
    return ["localize_world", f"data.root={tiny_root}", *TINY, "trainer.max_steps=8", "trainer.val_every=8"]


def avlearn(*words: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, ["pretrain", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_worlds_recipe_trains_and_maps(words, tmp_path):
    run = tmp_path / "run"
    assert "loss" in avlearn(*words, "--dry-run")
    assert not run.exists()
    avlearn(*words, "-o", str(run))
    losses = [row["loss"] for row in rows(run, "loss")]
    assert len(losses) == 8
    assert torch.tensor(losses).isfinite().all()
    assert load(run).config.common_space
