"""Recipes of separation, each on a small data set that is laid out as its corpus: a dry run, then 8 steps."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.models.folder import load
from avlearn.recipe import list_recipes
from avlearn.tasks import load_recipe

LAID_OUT = {
    "coseparation_music": "music",
    "onscreen_voxceleb": "voxceleb",
    "separate_grid": "grid",
    "separate_world": None,
    "sop_music": "music",
}
SIZES = [
    "trainer.batch_size=2", "trainer.max_steps=8", "trainer.threads=1", "trainer.val_every=8", "trainer.log_every=2",
    "trainer.checkpoint_every=1000", "separator.channels=[4,4,8,8,8]",
]  # fmt: skip
OWN = {
    "coseparation_music": ["separator.base=default"],
    "onscreen_voxceleb": ["clip.size=32"],
    "separate_grid": ["separator.base=default"],
    "separate_world": ["data.world.train_clips=4", "data.world.val_clips=2"],
    "sop_music": ["clip.size=32", "trainer.max_epochs=null"],
}


def avlearn(*words: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def lay_music(folder: Path, files: list[Path]) -> None:
    names = [f"abc_-vid{k:03d}" for k in range(len(files))]
    solos = {"videos": {"violin": names[:4], "flute": names[4:6]}}
    (folder / "MUSIC_solo_videos.json").write_text(json.dumps(solos))
    (folder / "MUSIC_duet_videos.json").write_text(json.dumps({"videos": {"violin flute": names[6:]}}))
    for name, file in zip(names, files, strict=True):
        shutil.copy(file, folder / f"{name}.mp4")


def lay_voxceleb(folder: Path, files: list[Path]) -> None:
    for k, file in enumerate(files):
        place = folder / f"id{10001 + k % 3}"
        place.mkdir(exist_ok=True)
        shutil.copy(file, place / f"{k:05d}.mp4")


def lay_grid(folder: Path, files: list[Path]) -> None:
    words = ["bin", "blue", "at", "f", "two", "now"]
    times = [(k * 8000 + 10000, (k + 1) * 8000 + 10000, word) for k, word in enumerate(words)]
    lines = [(0, 10000, "sil"), *times, (58000, 74500, "sil")]
    for k, file in enumerate(files):
        speaker = folder / f"s{1 + k % 4}"
        (speaker / "align").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, speaker / f"bbaf{k}n.mp4")
        (speaker / "align" / f"bbaf{k}n.align").write_text("".join(f"{a} {b} {word}\n" for a, b, word in lines))


LAY = {"grid": lay_grid, "music": lay_music, "voxceleb": lay_voxceleb}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``data.train`` is for each corpus."""
    from avlearn.data.world import WorldConfig, make_world

    root = tmp_path_factory.mktemp("corpora")
    make_world(root / "world", 20, 3, WorldConfig.preset("solo", duration=7.0, size=48), workers=1)
    found = {}
    for corpus, lay in LAY.items():
        folder = root / corpus
        folder.mkdir()
        lay(folder, sorted((root / "world").rglob("*.mp4")))
        found[corpus] = str(folder)
        if corpus != "voxceleb":
            found[corpus] = str(root / f"{corpus}.parquet")
            avlearn("scan", str(folder), "--corpus", corpus, "-o", found[corpus], "--workers", "1")
    return found


def test_every_recipe_of_separation_is_tried():
    assert set(LAID_OUT) == {name for name in list_recipes() if load_recipe(name).task == "separate"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAID_OUT)
def test_a_recipe_separates_its_corpus(name, sources, tmp_path):
    words = [name, *SIZES, *OWN[name], f"data.root={tmp_path / 'data'}"]
    if LAID_OUT[name]:
        words.append(f"data.train={sources[LAID_OUT[name]]}")
    run = tmp_path / "run"
    assert "loss" in avlearn("pretrain", *words, "--dry-run")
    assert not run.exists()
    avlearn("pretrain", *words, "-o", str(run))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row[key] for row in rows for key in ("loss", "val_loss") if key in row]
    assert len(losses) == 5  # every other step, and the validation
    assert torch.tensor(losses).isfinite().all()
    model, recipe = load(run), load_recipe(name)
    for key in ("mask", "conditioning", "query", "scale"):
        assert getattr(model.separator.config, key) == getattr(recipe.separator, key)
