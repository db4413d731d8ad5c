"""Clips without labels in the training of a fusion network, and weights by the kinds of sound within a class."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli.app import app
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import RecipeError
from avlearn.models.recognizer_folder import load_recognizer
from avlearn.tasks import build, load_recipe
from avlearn.tasks.recognize.audio_balance import audio_balanced_weights, balanced_by_cluster, clusters

CLASSES = ("bell", "fan", "siren")
SMALL = (
    "{video: dsconv_tiny, audio: conv2d_tiny, segments: 2, dim: 16, heads: 2, inner: 16, depth: 1, "
    "recognizer_depth: 1, sounds: 16}"
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Clips to learn from, clips to choose by, and clips of the night."""
    folder = tmp_path_factory.mktemp("worlds")
    parts = (("train", 24, 1, "solo"), ("val", 6, 2, "solo"), ("night", 8, 3, "night"))
    made = []
    for name, count, seed, preset in parts:
        config = WorldConfig.preset(preset, size=48, duration=2.2, classes=CLASSES)
        made.append(make_world(folder / name, count, seed, config, workers=1))
    rows = [replace(row, labels=(), split="") for row in read_manifest(made[2])]
    write_manifest(rows, folder / "unlabelled.parquet")
    return made[0], made[1], folder / "unlabelled.parquet"


def recipe(worlds, root, *more: str) -> list[str]:
    return [
        f"data.train={worlds[0]}", f"data.val={worlds[1]}", f"data.root={root}", f"recognize.unlabelled={worlds[2]}",
        "recognize.fusion=audio_adaptive", f"recognize.fusion_options={SMALL}", "trainer.batch_size=5",
        "trainer.max_steps=4", "trainer.val_every=2", "trainer.log_every=2", "trainer.threads=1", "clip.size=48",
        "trainer.checkpoint_every=2", "trainer.accelerator=cpu", "clip.seconds=1.6", *more,
    ]  # fmt: skip


def test_a_network_is_trained_on_both(worlds, tmp_path):
    words = recipe(worlds, tmp_path, "recognize.class_weights=audio_balanced")
    done = CliRunner().invoke(app, ["finetune", "recognize_world", *words, "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output or done.exception
    model = load_recognizer(tmp_path / "run")
    assert model.config.labels == CLASSES and model.fusion.recognizer.knows_new == 1


def test_clips_with_labels_and_without_are_learned_each_in_their_way(worlds, tmp_path):
    experiment = build(load_recipe("recognize_world", recipe(worlds, tmp_path)))
    data, module = experiment.train, experiment.module.eval()
    assert len(data) == 32 and experiment.clips == (32, 6)
    items = [data[(index, 0, ())] for index in (0, 1, 26, 27)]
    assert [bool(item["labels"].any()) for item in items] == [True, True, False, False]
    video = torch.rand(4, 3, 40, 48, 48)
    targets = torch.stack([item["labels"] for item in items]).float()
    features = module.model.features(video, torch.stack([torch.as_tensor(item["audio"]) for item in items]))
    scores, clips = module.model.classify(features), torch.tensor([0, 1, 26, 27])
    some = torch.tensor([True, True, False, False])
    further = sum(
        weight * module.loss(each[:2], targets[:2])
        for weight, each in module.model.fusion.further_scores(features).values()
    )
    labelled = float(module.loss(scores[:2], targets[:2]) + further)
    found = float(module._all_losses(features, scores, targets, clips, some))
    assert found == pytest.approx(labelled + float(module.model.fusion.unlabelled_loss(features, ~some)), rel=1e-5)
    none = float(module._all_losses(features, scores, targets, clips, torch.zeros(4, dtype=torch.bool)))
    assert none == pytest.approx(float(module.model.fusion.unlabelled_loss(features, torch.ones(4) > 0)), rel=1e-5)


def test_what_cannot_learn_of_them_says_so(worlds, tmp_path):
    for more, said in (
        (["recognize.fusion=null", "recognize.fusion_options={}"], "recognize.unlabelled: takes recognize.fusion"),
        (["augment.mixup=0.5"], "no augment.mixup"),
        (["recognize.class_weights=audio_balanced", "recognize.multi_label=true"], "one label a clip"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_recipe("recognize_world", recipe(worlds, tmp_path, *more))
    tbn = ("recognize.fusion=tbn", "recognize.fusion_options={}")
    with pytest.raises(RecipeError, match="tbn learns nothing of clips without labels"):
        build(load_recipe("recognize_world", recipe(worlds, tmp_path, *tbn)))


def test_rare_kinds_of_sound_count_for_more(worlds, tmp_path):
    rng = np.random.default_rng(0)
    places = np.repeat([0, 0, 10, 20], [30, 30, 6, 3])
    values, classes = rng.normal(size=(69, 2)) * 0.1 + places[:, None], np.repeat([0, 1, 1, 1], [30, 30, 6, 3])
    values[:30] = 0  # one kind
    assert len(np.unique(clusters(values[:30]))) == 1 and len(np.unique(clusters(values[30:]))) == 3
    weights = balanced_by_cluster(values, classes)
    assert weights[68] > 1.5 * weights[62] > 2 * weights[40]
    assert np.mean([np.unique(weights[:30]).mean(), np.unique(weights[30:]).mean()]) == pytest.approx(1)
    data = build(load_recipe("recognize_world", recipe(worlds, tmp_path))).train
    found = audio_balanced_weights(data)
    assert found.shape == (32,) and bool((found[24:] == 1).all()) and found[:24].std() > 0
