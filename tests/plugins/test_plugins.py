"""A module from elsewhere adds a task, an encoder, an objective, a corpus and an evaluator to the commands."""

import json
import shutil
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from commands import run

from avlearn import plugins
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import ModelError
from avlearn.models.folder import load
from avlearn.objectives import OBJECTIVES
from avlearn.tasks.synchronize.objective_folder import FORMAT, load_objective

HERE = Path(__file__).parent
TINY = [
    "data.world.preset=solo", "data.world.train_clips=6", "data.world.val_clips=4", "trainer.max_steps=3",
    "trainer.batch_size=2", "trainer.val_every=3", "trainer.log_every=1", "trainer.threads=1",
    "trainer.accelerator=cpu", "data.cache=false",
]  # fmt: skip


def avlearn(*words, plugin: str | None = "colour_plugin", check: bool = True) -> subprocess.CompletedProcess:
    done = run(*(["--plugin", plugin] if plugin else []), *words, path=HERE)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "bright.yaml"
    path.write_text(
        "defaults: [{model: dsconv}, {data: world}, {clip: laptop}, {optimizer: adamw}, {trainer: laptop}]\n"
        "name: bright\ntask: brightness\nbrightness: {weight: 2.0}\nmodel: {video: pixels}\n"
    )
    return path


def test_a_task_and_an_encoder_are_trained_exported_reopened_and_evaluated(recipe, tmp_path):
    world = make_world(tmp_path / "world", 4, 3, WorldConfig.preset("solo"), workers=1, split="test")
    words = [f"data.root={tmp_path / 'data'}", *TINY]
    assert "task        brightness: 3 steps of 2 clips" in avlearn("pretrain", recipe, *words, "--dry-run").stdout
    avlearn("pretrain", recipe, *words, "-o", tmp_path / "run")
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["video"] == "pixels"
    found = avlearn("evaluate", "--model", tmp_path / "run", "--data", world, "--task", "brightness", "--json", "-")
    figures = json.loads(found.stdout)["figures"]
    assert [figure["name"] for figure in figures] == ["mean error"] and figures[0]["n"] == 4
    # A folder of files is worked on in processes, which know of the plugin too.
    many = avlearn(
        "sync", world.parent / "clips", "--model", tmp_path / "run", "--workers", 2, "--json", "-", check=False
    )
    assert [row["status"] for row in json.loads(many.stdout)] != ["error"] * 4, many.stdout
    assert "pixels" in avlearn("models", "pix*").stdout


def test_an_objective_of_ones_own_is_named_in_a_recipe(tmp_path):
    words = [f"data.root={tmp_path}", *TINY, "objective=cosine"]
    assert "loss" in avlearn("pretrain", "sync_world", *words, "--dry-run").stdout
    shown = avlearn("recipe", "show", "sync_world", "objective=cosine").stdout
    assert "name: cosine" in shown


def test_a_corpus_of_ones_own_is_scanned(small_world, tmp_path):
    for number, path in enumerate(sorted((small_world / "clips").glob("*.mp4"))[:2]):
        (tmp_path / f"bell_{number}.mp4").write_bytes(path.read_bytes())
    found = avlearn("scan", tmp_path, "--corpus", "flat", "-o", tmp_path / "m.csv", "--json", "-")
    assert json.loads(found.stdout)["clips"] == 2
    assert (tmp_path / "m.csv").read_text().count("bell") >= 2


@pytest.mark.parametrize(
    "words, said",
    [
        (["recipe", "show", "RECIPE"], "there is no task 'brightness'; there are"),
        (["pretrain", "sync_world", "model.video=pixels", "--dry-run"], "no encoder is called 'pixels'"),
        (["recipe", "show", "sync_world", "objective=cosine"], "no piece of 'objective' is called 'cosine'"),
        (["scan", ".", "--corpus", "flat"], "there is no corpus 'flat'"),
    ],
)
def test_without_the_plugin_its_names_are_not_known(words, said, recipe):
    done = avlearn(*[recipe if word == "RECIPE" else word for word in words], plugin=None, check=False)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name, code, said",
    [
        ("no_such_plugin", None, "No module named"),
        ("a_script", "raise SystemExit(0)\n", "it ends Python, as a script does"),
        ("broken", "raise ValueError('one\\ntwo')\n", "one"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_in_a_line(name, code, said, tmp_path, monkeypatch):
    if code:
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    done = avlearn("recipe", "list", plugin=name, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"avlearn: error: the plugin {name} cannot be imported: {said}")
    assert done.stderr.count("\n") == 1


def test_a_model_folder_whose_encoder_a_plugin_added_says_what_is_missing(untrained, tmp_path):
    folder = shutil.copytree(untrained, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "video": "pixels", "video_options": {}}))
    with pytest.raises(ModelError, match=r"model\.video: 'pixels' is not known; if a plugin adds it, name that"):
        load(folder)


def test_an_installed_plugin_is_known_where_its_objective_is_opened(tmp_path, monkeypatch):
    """It is imported when it is asked for, by whatever asks."""
    (tmp_path / "later_plugin.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import Literal\n"
        "from avlearn.objectives import ShiftBCE, register\n"
        "from avlearn.objectives.fusion import ShiftBCEOptions\n"
        "@dataclass(frozen=True)\n"
        "class Options(ShiftBCEOptions):\n"
        "    name: Literal['later'] = 'later'\n"
        "@register\n"
        "class Later(ShiftBCE):\n"
        "    Options = Options\n"
    )
    (tmp_path / "objective.json").write_text(json.dumps({"format": FORMAT, "name": "later"}))
    with pytest.raises(ModelError, match=r"no objective is called 'later'; .* if a plugin adds it, name that"):
        load_objective(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("later", "later_plugin", group)])
    try:
        with pytest.raises(ModelError, match="features"):
            load_objective(tmp_path)
    finally:
        OBJECTIVES.pop("later", None)
