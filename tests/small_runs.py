"""Trainings of a few steps on 16 tiny clips, and what they leave."""

import json
from pathlib import Path

import torch

from avlearn.recipe import Recipe
from avlearn.tasks import load_recipe

TINY = [
    "data.world.preset=solo", "data.world.train_clips=16", "data.world.val_clips=8", "trainer.batch_size=4",
    "trainer.max_steps=6", "trainer.val_every=6", "trainer.checkpoint_every=3", "trainer.log_every=1",
    "trainer.threads=1", "trainer.accelerator=cpu", "clip.size=32",
]  # fmt: skip


def recipe(root: Path, *words: str) -> Recipe:
    return load_recipe("sync_world", [f"data.root={root}", *TINY, *words])


def command(run: Path, root: Path, *words: str) -> list[str]:
    """Arguments of the command."""
    return ["pretrain", "sync_world", "-o", str(run), f"data.root={root}", *TINY, *words]


def last(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)


def rows(run: Path, key: str) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if key in row]
