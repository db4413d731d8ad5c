"""Recipes of published systems, each on a small data set that is laid out as its corpus and read by its reader.

Trained with the recipe's own settings but for sizes: frames of 32 x 32, batches of 2, 8 steps on one thread
(`SIZES`), and encoders of the same kind that are narrower (`NARROW`).
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli import app
from avlearn.models import registry
from avlearn.models.audio.ast import AST
from avlearn.models.audio.resnet import ResNet
from avlearn.models.audio.vgg import VGGM
from avlearn.models.audio.waveform import Waveform
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.folder import load
from avlearn.models.video.motionformer import Motionformer
from avlearn.models.video.r2plus1d import AVIDResNet, r2plus1d
from avlearn.models.video.resnet import VideoResNet, flat, full, simple_stem
from avlearn.recipe import list_recipes
from avlearn.tasks import build, load_recipe
from avlearn.tasks.synchronize.build import build_model, build_objective

CORPORA = {
    "avid_audioset": "audioset",
    "avts_kinetics": "kinetics400",
    "gdt_kinetics": "kinetics400",
    "localize_flickr": "flickr_soundnet",
    "localize_vggsound": "vggsound",
    "owens_efros_audioset": "audioset",
    "sync_kinetics": "kinetics400",
    "synchformer_vggsound_segments": "vggsound",
    "synchformer_vggsound": "vggsound",
}
SIZES = [
    "clip.size=32", "trainer.batch_size=2", "trainer.max_steps=8", "trainer.threads=1", "trainer.val_every=8",
    "trainer.log_every=2", "trainer.checkpoint_every=1000", "data.workers=0",
]  # fmt: skip
NARROW: dict[str, Callable[..., torch.nn.Module]] = {
    "f_r2d_18": lambda: VideoResNet(simple_stem(3, 8, 1), (1, 2), (2, 2, 2, 2), [flat] * 4, width=8),
    "mc3_18": lambda: VideoResNet(simple_stem(3, 8, 3), (1, 2), (2, 2, 2, 2), [full, flat, flat, flat], width=8),
    "r2plus1d_18": lambda temporal_stride=8: r2plus1d(18, "per-block", 3, temporal_stride, 1e-5, width=8),
    "r2plus1d_18_avid": lambda: AVIDResNet(width=8),
    "motionformer_b": lambda attention: Motionformer(dim=48, depth=1, heads=2, attention=attention),
    "ast_b": lambda eps: AST(48, 1, 2, eps=eps),
    "vggm_avts": lambda: VGGM(40, windowed=False, embedding=None, width=8),
    "resnet18": lambda: ResNet((1, 1, 1, 1)),
    "waveform_multisensory": lambda in_chans: Waveform(in_chans, 16),
}
ALONE = [name for name in CORPORA if "synchformer" not in name]


def video_id(number: int) -> str:
    """Eleven characters, as YouTube's."""
    return f"abc_-vid{number:03d}"


def lay_audioset(folder: Path, files: list[Path]) -> None:
    head = "# Segments csv\n# num_ytids=8\n# YTID, start_seconds, end_seconds, positive_labels\n"
    rows = [f'{video_id(i)}, 30.000, 40.000, "/m/0bt9lr,/m/04rlf"\n' for i in range(len(files))]
    (folder / "balanced_train_segments.csv").write_text(head + "".join(rows[:-1]))
    (folder / "eval_segments.csv").write_text(head + rows[-1])
    (folder / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0bt9lr,Dog\n1,/m/04rlf,Music\n")
    for i, file in enumerate(files):
        shutil.copy(file, folder / f"{video_id(i)}_30.mp4")


def lay_vggsound(folder: Path, files: list[Path]) -> None:
    splits = ["train"] * (len(files) - 1) + ["test"]
    (folder / "vggsound.csv").write_text(
        "".join(f"{video_id(i)},30,playing bells,{split}\n" for i, split in enumerate(splits))
    )
    for i, file in enumerate(files):
        shutil.copy(file, folder / f"{video_id(i)}_000030.mp4")


def lay_kinetics(folder: Path, files: list[Path]) -> None:
    parts = {"train": range(len(files) - 2), "validate": range(len(files) - 2, len(files))}
    for split, numbers in parts.items():
        rows = [f"tap dancing,{video_id(i)},30,40,{split}\n" for i in numbers]
        (folder / f"{split}.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "".join(rows))
        for i in numbers:
            place = folder / split / "tap_dancing"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(files[i], place / f"{video_id(i)}_000030_000040.mp4")


def lay_flickr(folder: Path, files: list[Path]) -> None:
    (folder / "Flickr_train_144k.txt").write_text("".join(f"{i + 1}.wav\n" for i in range(len(files) - 1)))
    (folder / "flickr_test.csv").write_text(f"{len(files)},0\n")
    for i, file in enumerate(files, 1):
        shutil.copy(file, folder / f"{i}.mp4")


LAY = {
    "audioset": lay_audioset, "flickr_soundnet": lay_flickr, "kinetics400": lay_kinetics, "vggsound": lay_vggsound,
}  # fmt: skip


def avlearn(*words: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The manifest of each corpus: eight clips of ten seconds, laid out as it is published, and scanned."""
    from avlearn.data.world import WorldConfig, make_world

    root = tmp_path_factory.mktemp("corpora")
    config = WorldConfig.preset("solo", duration=10.0, size=48)
    make_world(root / "world", 8, 3, config, workers=1)
    found = {}
    for corpus, lay in LAY.items():
        folder = root / corpus
        folder.mkdir()
        lay(folder, sorted((root / "world").rglob("*.mp4")))
        found[corpus] = root / f"{corpus}.parquet"
        avlearn("scan", str(folder), "--corpus", corpus, "-o", str(found[corpus]), "--workers", "1")
    return found


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders of `NARROW` in place of those of their names."""
    for name, builder in NARROW.items():
        spec, _ = registry.find_encoder(name)
        monkeypatch.setitem(registry._builders, name, (spec, builder))


def train(name: str, manifest: Path, run: Path, *more: str) -> AudioVisual:
    """A dry run, then 8 steps: the model, loaded from its folder."""
    words = [name, f"data.train={manifest}", *SIZES, *more]
    assert "loss" in avlearn("pretrain", *words, "--dry-run")
    assert not run.exists()
    avlearn("pretrain", *words, "-o", str(run))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row[key] for row in rows for key in ("loss", "val_loss") if key in row]
    assert len(losses) == 5  # every other step, and the validation
    assert torch.tensor(losses).isfinite().all()
    shutil.rmtree(run / "checkpoints")
    return load(run)


def test_every_recipe_of_a_corpus_is_tried():
    names = [name for name in list_recipes() if load_recipe(name).task == "synchronize"]
    own = {name for name in names if "world" in name or name.startswith("sync_grid")} | {"adapt"}
    assert set(CORPORA) == set(names) - own


@pytest.mark.parametrize("name", CORPORA)
def test_models_and_objectives_are_built_at_full_size(name):
    recipe = load_recipe(name)
    model = build_model(recipe, "nothing")
    objective = build_objective(recipe, model, 1000)
    clip, steps = recipe.clip, recipe.clip.seconds / model.step
    assert abs(steps - round(steps)) < 1e-6
    assert abs(2 * clip.context / model.step - (objective.spec.offsets - 1)) < 1e-6
    assert clip.seconds + 2 * clip.context <= 10  # as long as the corpora's clips are


@pytest.mark.usefixtures("narrow")
def test_clips_of_the_test_are_neither_trained_on_nor_held_out(manifests):
    for corpus, name in (
        ("audioset", "avid_audioset"),
        ("flickr_soundnet", "localize_flickr"),
        ("vggsound", "synchformer_vggsound_segments"),
    ):
        built = build(load_recipe(name, [f"data.train={manifests[corpus]}", *SIZES]))
        rows = [*built.train.rows, *built.val.rows]
        assert {row.split for row in rows} == {"train"}
        assert len({row.path for row in rows}) == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
@pytest.mark.usefixtures("narrow")
def test_a_recipe_trains_on_its_corpus(name, manifests, tmp_path):
    model = train(name, manifests[CORPORA[name]], tmp_path / "run")
    clip = load_recipe(name).clip
    seconds = clip.seconds + 2 * clip.context
    with torch.inference_mode():
        video = torch.rand(1, 3, round(clip.seconds * clip.fps), 32, 32)
        seen, heard = model(video, torch.randn(1, round(seconds * clip.sample_rate)))
    assert seen.shape[2] == round(clip.seconds / model.step)
    assert heard.shape[2] == round(seconds / model.step)
    assert seen.isfinite().all()
    assert heard.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["fnac", "slavc"])
@pytest.mark.usefixtures("narrow")
def test_localization_has_other_objectives(objective, manifests, tmp_path):
    model = train("localize_vggsound", manifests["vggsound"], tmp_path / "run", f"objective={objective}")
    recipe = load_recipe("localize_vggsound", [f"objective={objective}"])
    assert recipe.objective.name == objective
    assert model.config.common_space
    assert model.config.pool_scale == pytest.approx(1 / 0.03)
    with torch.inference_mode():
        seen, heard = model(torch.rand(1, 3, 1, 32, 32), torch.randn(1, 48000))
    assert seen.shape[2] == heard.shape[2] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_the_second_stage_of_synchformer_stands_on_the_first(manifests, tmp_path):
    manifest, first = manifests["vggsound"], tmp_path / "first"
    base = train("synchformer_vggsound_segments", manifest, first)
    model = train("synchformer_vggsound", manifest, tmp_path / "second", f"model.base={first}")
    before, after = base.state_dict(), model.state_dict()
    towers = [name for name in before if name.startswith(("video", "audio"))]
    assert towers
    assert all(torch.equal(before[name], after[name]) for name in towers)
    recipe = load_recipe("synchformer_vggsound")
    assert build_objective(recipe, model, 8).offset_classes == 21
    assert recipe.clip.context / 10 == recipe.objective.grid == 0.2
