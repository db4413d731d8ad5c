"""Recipes of recognition, each on a small data set that is laid out as its corpus and read by its reader.

Trained with the recipe's own settings but for sizes (`SIZES`), and encoders of the kind that are narrower (`NARROW`).
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli.app import app
from avlearn.media import read_clip, write_video, write_wav
from avlearn.models import registry
from avlearn.models.audio.ast import AST
from avlearn.models.audio.resnet import ResNet
from avlearn.models.recognizer_folder import load_recognizer
from avlearn.models.video.mvit import MViT
from avlearn.models.video.r2plus1d import r2plus1d
from avlearn.models.video.slowfast_tiny import slowfast_tiny
from avlearn.models.video.videomae import VideoMAE
from avlearn.models.video.x3d import X3D
from avlearn.recipe import list_recipes
from avlearn.tasks import load_recipe

CORPORA = {
    "slowfast_kinetics": "kinetics400",
    "r2plus1d_kinetics": "kinetics400",
    "mvit_kinetics": "kinetics400",
    "x3d_kinetics": "kinetics400",
    "videomae_finetune_ssv2": "something_something_v2",
    "ucf101_finetune": "ucf101",
    "hmdb51_finetune": "hmdb51",
    "esc50_audio": "esc50",
    "vggsound_av": "vggsound",
    "ut_interaction": "ut_interaction",
}
CLASSES = ("clap", "wave")  # four clips each: the first three to learn from
SIZES = [
    "clip.size=32", "trainer.batch_size=2", "trainer.max_epochs=null", "trainer.max_steps=20", "trainer.threads=1",
    "trainer.val_every=20", "trainer.log_every=10", "trainer.checkpoint_every=1000", "data.workers=0",
    "optimizer.warmup_steps=2", "trainer.accelerator=cpu",
]  # fmt: skip
NARROW: dict[str, Callable[..., torch.nn.Module]] = {
    "slowfast_r50_8x8": lambda: slowfast_tiny(),
    "x3d_m": lambda: X3D((1, 1, 1, 1), (8, 8, 16, 16), 32),
    "r2plus1d_18": lambda: r2plus1d(18, "per-block", 3, 8, 1e-5, width=8),
    "mvit_v2_s_16x4": lambda: MViT(16, 32, (1, 1, 1, 1), 16, improved=True),
    "videomae_b": lambda drop_path=0.1: VideoMAE(16, 32, 48, 2, 3, drop_path=drop_path),
    "ast_b": lambda: AST(48, 1, 2),
    "resnet18": lambda: ResNet((1, 1, 1, 1)),
}


def avlearn(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def numbered(clips: list[Path]) -> list[tuple[str, int, Path]]:
    """Class, number within it, and file."""
    return [(CLASSES[k % 2], k // 2, clip) for k, clip in enumerate(clips)]


def put(clip: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, place)


def lay_kinetics(folder: Path, clips: list[Path]) -> None:
    for split in ("train", "validate"):
        rows = []
        for label, k, clip in numbered(clips):
            if (k == 3) == (split == "validate"):
                rows.append(f"{label},abc_-{label:>4}{k:03d},30,40,{split}\n")
                put(clip, folder / split / label / f"abc_-{label:>4}{k:03d}_000030_000040.mp4")
        (folder / f"{split}.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "".join(rows))


def lay_something(folder: Path, clips: list[Path]) -> None:
    parts: dict[str, list[dict[str, str]]] = {"train": [], "validation": []}
    for number, (label, k, clip) in enumerate(numbered(clips), 1):
        parts["validation" if k == 3 else "train"].append({"id": str(number), "template": f"{label} [something]"})
        put(clip, folder / f"{number}.webm")
    for name, items in parts.items():
        (folder / f"something-something-v2-{name}.json").write_text(json.dumps(items))
    (folder / "something-something-v2-test.json").write_text("[]")


def lay_ucf101(folder: Path, clips: list[Path]) -> None:
    lists: dict[str, str] = {"train": "", "test": ""}
    for label, k, clip in numbered(clips):
        name = f"{label}/v_{label}_g0{k + 1}_c01.avi"
        lists["test" if k == 3 else "train"] += f"{name} 1\n" if k != 3 else f"{name}\n"
        put(clip, folder / name)
    for number in (1, 2, 3):
        for split, text in lists.items():
            (folder / f"{split}list0{number}.txt").write_text(text)


def lay_hmdb51(folder: Path, clips: list[Path]) -> None:
    lists = dict.fromkeys(CLASSES, "")
    for label, k, clip in numbered(clips):
        lists[label] += f"{label}_{k}.avi {2 if k == 3 else 1}\n"
        put(clip, folder / label / f"{label}_{k}.avi")
    for label, text in lists.items():
        for number in (1, 2, 3):
            (folder / f"{label}_test_split{number}.txt").write_text(text)


def lay_esc50(folder: Path, clips: list[Path]) -> None:
    rows = ["filename,fold,target,category,esc10,src_file,take\n"]
    for label, k, clip in numbered(clips):
        name = f"{k + 1}-{k}-A-{CLASSES.index(label)}.wav"
        rows.append(f"{name},{k + 1},0,{label},True,1,A\n")
        sound = read_clip(clip, 0.0, 4.0, sample_rate=16000, mono=True)
        (folder / "audio").mkdir(exist_ok=True)
        write_wav(folder / "audio" / name, sound.audio, 16000)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("".join(rows))


def lay_vggsound(folder: Path, clips: list[Path]) -> None:
    rows = []
    for label, k, clip in numbered(clips):
        rows.append(f"abc_-{label:>4}{k:03d},30,{label},{'test' if k == 3 else 'train'}\n")
        put(clip, folder / f"abc_-{label:>4}{k:03d}_000030.mp4")
    (folder / "vggsound.csv").write_text("".join(rows))


def lay_ut_interaction(folder: Path, clips: list[Path]) -> None:
    for label, k, clip in numbered(clips):
        frames = read_clip(clip, 0.0, 2.0)
        write_video(folder / f"set1_{k}_{k + 1}_{CLASSES.index(label)}.mp4", frames.video, frames.fps)
    for path in folder.glob("*.mp4"):
        path.rename(path.with_suffix(".avi"))


LAY = {
    "kinetics400": lay_kinetics, "something_something_v2": lay_something, "ucf101": lay_ucf101, "hmdb51": lay_hmdb51,
    "esc50": lay_esc50, "vggsound": lay_vggsound, "ut_interaction": lay_ut_interaction,
}  # fmt: skip


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The manifest of each corpus: eight clips, laid out as it is published, and scanned."""
    from avlearn.data.world import WorldConfig, make_world

    root = tmp_path_factory.mktemp("corpora")
    make_world(root / "world", 8, 3, WorldConfig.preset("solo", duration=5.0, size=48), workers=1)
    clips = sorted((root / "world").rglob("*.mp4"))
    found = {}
    for corpus, lay in LAY.items():
        folder = root / corpus
        folder.mkdir()
        lay(folder, clips)
        found[corpus] = root / f"{corpus}.parquet"
        avlearn("scan", folder, "--corpus", corpus, "-o", found[corpus], "--workers", "1")
    return found


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders of `NARROW` in place of those of their names."""
    for name, builder in NARROW.items():
        spec, _ = registry.find_encoder(name)
        monkeypatch.setitem(registry._builders, name, (spec, builder))


@pytest.mark.parametrize("name", CORPORA)
def test_a_recipe_trains_on_its_corpus(name, manifests, narrow, tmp_path):
    words = [name, f"data.train={manifests[CORPORA[name]]}", f"data.root={tmp_path / 'data'}", *SIZES]
    plan = avlearn("finetune", *words, "--dry-run")
    assert "task        recognize: 20 steps" in plan
    avlearn("finetune", *words, "-o", tmp_path / "run")
    model, recipe = load_recognizer(tmp_path / "run"), load_recipe(name)
    assert len(model.config.labels) == 2 and model.config.inputs == recipe.recognize.inputs
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["skipped"] == 0 for row in losses if "skipped" in row)


def test_every_recipe_of_recognition_is_tried():
    assert {name for name in list_recipes() if load_recipe(name).task == "recognize"} == {*CORPORA, "recognize_world"}
