"""The task of recognition: trained, exported, used and evaluated by the commands."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli.app import app
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import DataError, RecipeError
from avlearn.models.folder import load
from avlearn.tasks import build, load_recipe
from avlearn.tasks.recognize.module import RecognizeModule

CLASSES = ("ball", "bell", "drum")


def avlearn(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Clips to learn from, and others."""
    folder = tmp_path_factory.mktemp("worlds")
    config = WorldConfig.preset("solo", size=64, duration=3.8, classes=CLASSES)
    return [
        make_world(folder / split, count, seed, config, workers=1, split=split)
        for split, count, seed in (("train", 18, 1), ("val", 6, 2), ("test", 9, 3))
    ]


def words(worlds, root, *more: str) -> list[str]:
    return [
        f"data.train={worlds[0]}", f"data.val={worlds[1]}", f"data.root={root}", "trainer.batch_size=9",
        "trainer.max_steps=24", "trainer.val_every=12", "trainer.log_every=4", "trainer.threads=1",
        "trainer.accelerator=cpu", "clip.seconds=1.6", *more,
    ]  # fmt: skip


def test_classifiers_are_trained_exported_used_and_evaluated_by_the_commands(worlds, tmp_path):
    plan = avlearn("pretrain", "recognize_world", *words(worlds, tmp_path / "data"), "--dry-run")
    assert "task        recognize: 24 steps of 9 clips" in plan and "video [9, 3]" in plan
    avlearn("pretrain", "recognize_world", *words(worlds, tmp_path / "data"), "-o", tmp_path / "run")
    model, base = load(tmp_path / "run"), load("default")
    assert model.config.labels == CLASSES
    for name, value in model.video.state_dict().items():
        assert torch.equal(value, base.video.state_dict()[name]), name  # towers do not learn, nor do their norms
    assert torch.equal(model.in_distribution["audio"].mean, base.in_distribution["audio"].mean)
    found = json.loads(
        avlearn("evaluate", "--model", tmp_path / "run", "--data", worlds[2], "--task", "classification", "--json", "-")
    )["figures"]
    assert [figure["name"].split(", ")[1] for figure in found] == ["video", "audio", "both"]
    assert all(figure["chance"] == pytest.approx(1 / 3, abs=1e-4) and figure["n"] == 9 for figure in found)
    assert found[2]["value"] >= 0.85, found
    rows = read_manifest(worlds[2])
    most = max(Counter(row.labels[0] for row in rows).values())
    assert all(figure["prior"] == pytest.approx(most / 9, abs=1e-4) for figure in found)
    row = rows[0]
    labels = json.loads(avlearn("classify", row.path, "--model", tmp_path / "run", "--json", "-"))["labels"]
    assert labels["both"][0][0] == row.labels[0]


def test_the_exported_classifiers_take_features_as_they_are():
    """Their scores are those of the training's classifiers, which take standardised ones."""
    torch.manual_seed(0)
    module = RecognizeModule(load("default").with_heads(labels=("a", "b")), {}, 0)
    for norm in module.norms.values():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    module.eval()
    exported = RecognizeModule(module.classifying_model(), {}, 0).eval()
    for norm in exported.norms.values():
        norm.eps = 0.0
    video, audio = torch.rand(2, 3, 20, 64, 64), torch.randn(2, 12800) / 10
    with torch.inference_mode():
        wanted, found = module.scores(video, audio), exported.scores(video, audio)
    for kind, values in wanted.items():
        torch.testing.assert_close(found[kind], values, rtol=1e-4, atol=1e-4)


def test_clips_without_one_label_are_left_out_and_none_is_an_error(worlds, tmp_path):
    rows = read_manifest(worlds[0])
    several = [replace(row, labels=("ball", "bell")) for row in rows[:4]] + [
        replace(row, labels=()) for row in rows[4:6]
    ]
    write_manifest([*several, *rows[6:]], tmp_path / "some.csv")
    more = words(worlds, tmp_path, f"data.train={tmp_path / 'some.csv'}", "data.cache=false", "trainer.batch_size=4")
    assert len(build(load_recipe("recognize_world", more)).train) == 12
    write_manifest(several, tmp_path / "none.csv")
    with pytest.raises(DataError, match="none of 6 training clips has one label"):
        build(load_recipe("recognize_world", [*more, f"data.train={tmp_path / 'none.csv'}"]))
    write_manifest([replace(row, labels=("ball",)) for row in rows], tmp_path / "one.csv")
    with pytest.raises(DataError, match="all training clips have the label 'ball'"):
        build(load_recipe("recognize_world", [*more, f"data.train={tmp_path / 'one.csv'}"]))


def test_settings_of_towers_are_refused():
    with pytest.raises(RecipeError, match="the task 'recognize' trains no towers"):
        load_recipe("recognize_world", ["trainer.accumulate=2"])
