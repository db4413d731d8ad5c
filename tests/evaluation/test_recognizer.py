"""A recognizer is measured by the command: which clips, which figures, what is said of the others."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avlearn.cli.app import app
from avlearn.config import RecognizerConfig
from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import AvlearnError, DataError, ModelError
from avlearn.evaluation.recognizer import evaluate_recognizer, rows_to_test
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import save_recognizer

CLASSES = ("bell", "fan", "siren")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Six clips of a world."""
    config = WorldConfig.preset("solo", size=48, duration=2.2, classes=CLASSES)
    return make_world(tmp_path_factory.mktemp("world"), 6, 3, config, workers=1, split="test")


def network(**changes) -> Recognizer:
    torch.manual_seed(0)
    said = {"labels": CLASSES, "inputs": "both", "size": 32, "fps": 12.5, "seconds": 0.96}
    return Recognizer(RecognizerConfig(**{**said, **changes})).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "recognizer"
    save_recognizer(network(), path, "# untrained\n")
    return path


def rows_of(manifest, tmp_path, *changes: dict):
    """A manifest of the first rows, changed."""
    rows = [replace(row, **change) for row, change in zip(read_manifest(manifest), changes, strict=False)]
    write_manifest(rows, tmp_path / "changed.parquet")
    return tmp_path / "changed.parquet"


def run(*words: object):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--device", "cpu"])
    if isinstance(done.exception, AvlearnError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_the_command_tells_figures_and_writes_them(folder, manifest, tmp_path):
    said = run("--model", folder, "--data", manifest, "--views", "2x3", "--json", tmp_path / "it.json").stdout
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["schema"] == "avlearn.recognition/1"
    assert (found["views"], found["average"], found["inputs"]) == ("even:2x3", "probabilities", "both")
    names = [figure["name"] for figure in found["figures"]]
    assert names[:4] == ["top-1", "mean per class", "top-1, video's share alone", "top-1, audio's share alone"]
    assert len([name for name in names if name.startswith("modality confusion")]) == 3
    for figure in found["figures"]:
        assert figure["n"] == 6 and figure["interval"][0] <= figure["value"] <= figure["interval"][1]
    assert sum(one["n"] for one in found["classes"]) == 6
    assert sum(pair["n"] for pair in found["confused"]) == sum(not clip["right"] for clip in found["clips"])
    assert all(clip["answered"] in CLASSES and 0 <= clip["probability"] <= 1 for clip in found["clips"])
    assert found["items"][:16] in said and "views: even:2x3, mean of probabilities" in said


def test_figures_are_those_of_the_answers(manifest):
    found = evaluate_recognizer(network(inputs="video"), [manifest])
    clips = found.to_dict()["clips"]
    right = np.mean([clip["answered"] in clip["labels"] for clip in clips])
    assert found.figures[0].value == pytest.approx(right)
    assert [figure.name for figure in found.figures] == ["top-1", "mean per class"]
    assert found.figures[0].chance == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.clips.probabilities.sum(1), 1, rtol=1e-5)
    logits = evaluate_recognizer(network(inputs="video"), [manifest], average="logits")
    np.testing.assert_allclose(logits.clips.probabilities.sum(1), 1, rtol=1e-5)
    assert not np.allclose(logits.clips.own.sum(1), 1)


def test_several_labels(manifest, tmp_path):
    several = rows_of(manifest, tmp_path, {"labels": ("bell", "fan")}, {"labels": ("fan",)}, {"labels": ()})
    found = evaluate_recognizer(network(inputs="audio", multi_label=True), [several])
    assert [figure.name for figure in found.figures] == [
        "mAP of 2 classes (1 without clips left out)", "top-1", "mean per class",
    ]  # fmt: skip
    assert [reason for _, reason in found.skipped] == ["it has no label"]
    assert "ap" in found.classes[0]


def test_which_clips(manifest, tmp_path):
    train, val, test, none = ({"split": split} for split in ("train", "val", "test", ""))
    for changes, expected in (((train, val, test), "test"), ((train, val, none), "val"), ((train, none, none), "")):
        assert {row.split for row in rows_to_test(rows_of(manifest, tmp_path, *changes))} == {expected}
    with pytest.raises(DataError, match="no clips to test on: its 2 clips are all of the split 'train'"):
        rows_to_test(rows_of(manifest, tmp_path, train, train))


def test_clips_without_splits_may_be_those_of_the_training(manifest, tmp_path, capsys):
    assert len(rows_to_test(rows_of(manifest, tmp_path, {"split": ""}, {"split": ""}))) == 2
    assert "has no splits: all of its clips are tested on, also those that a training took" in capsys.readouterr().err
    rows_to_test(rows_of(manifest, tmp_path, {"split": "test"}))
    assert not capsys.readouterr().err


def test_clips_that_would_take_all_memory_are_refused():
    for more in (
        {"seconds": 600.0, "fps": 1000.0},
        {"seconds": 600.0, "fps": 1000.0, "segments": 8, "inputs": "video"},
    ):
        with pytest.raises(ModelError, match="a clip has 614 million pixels, and no more than 34 million"):
            network(**more)


def test_a_fold_has_its_own_test(manifest, tmp_path, folder):
    folds = (("test", "train"), ("train", "test"), ("train", ""))
    made = rows_of(manifest, tmp_path, *({"folds": fold, "split": fold[0]} for fold in folds))
    names = [row.path.name for row in read_manifest(made)]
    assert [row.path.name for row in rows_to_test(made, 1)] == names[:1]
    assert [row.path.name for row in rows_to_test(made, 2)] == names[1:2]
    with pytest.raises(DataError, match="has no fold 3: it has 2"):
        rows_to_test(made, 3)
    with pytest.raises(DataError, match="has no fold 1: it has none"):
        rows_to_test(manifest, 1)
    only = rows_of(manifest, tmp_path, {"folds": ("train",)})
    with pytest.raises(DataError, match=r"fold 1 of .* has no clips to test on"):
        rows_to_test(only, 1)
    made = rows_of(manifest, tmp_path, *({"folds": fold} for fold in folds))
    models = [tmp_path / name for name in ("one", "two")]
    for number, place in enumerate(models, 1):
        save_recognizer(network(fold=number), place, "")
    said = run("-m", models[0], "-m", models[1], "--data", made, "--json", tmp_path / "folds.json").stdout
    found = json.loads((tmp_path / "folds.json").read_text())
    assert [fold["fold"] for fold in found["folds"]] == [1, 2]
    each = [fold["figures"][0]["value"] for fold in found["folds"]]
    assert found["figures"][0]["value"] == pytest.approx(np.mean(each))
    assert found["figures"][0]["n"] == 2
    assert said.startswith("mean of 2 folds") and "fold 2\n" in said
    alone = evaluate_recognizer(network(fold=2), [made])
    assert alone.fold == 2 and [row.path.name for row in alone.clips.rows] == names[1:2]
    for other in (models[0], folder):
        with pytest.raises(AvlearnError, match="several --model are one of each fold, and these are of folds 1, "):
            run("-m", models[0], "-m", other, "--data", made)


def test_a_label_that_the_model_does_not_know_is_named(manifest, tmp_path):
    changed = rows_of(manifest, tmp_path, {}, {"labels": ("sirens",)})
    with pytest.raises(DataError, match=r"row 2, .*: the label 'sirens' is none of the model's 3; the nea"):
        evaluate_recognizer(network(), [changed])


def test_clips_that_cannot_be_read_are_listed(manifest, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing at all")
    changed = rows_of(manifest, tmp_path, {"path": broken, "bytes": 0}, {}, {"reason": "there is no audio track"})
    told = []
    found = evaluate_recognizer(network(), [changed], progress=lambda done, of: told.append((done, of)))
    assert [path for path, _ in found.skipped] == [str(read_manifest(changed)[2].path), str(broken)]
    assert "2 clips are left out" in found.text()
    assert told == [(1, 2), (2, 2)]
    seen = evaluate_recognizer(network(inputs="video"), [changed])
    assert len(seen.skipped) == 1  # who does not listen misses no audio
    alone = rows_of(manifest, tmp_path, {"path": broken, "bytes": 0})
    with pytest.raises(DataError, match=r"none of 1 clips could be tested on; the first, .*broken.mp4"):
        evaluate_recognizer(network(), [alone])


def test_what_does_not_go_together(folder, manifest, untrained):
    for words, says in (
        (("--model", folder, "--task", "sync"), "not for recognizers"),
        (("--model", folder, "--average", "best"), "it is probabilities or logits"),
        (("--model", folder, "--model", folder, "--page", "page"), "for one model"),
        (("--model", folder, "--views", "all"), "write clips x crops"),
        (("--model", untrained, "--views", "10x3"), "are for recognizers: .* is none"),
    ):
        with pytest.raises(AvlearnError, match=says):
            run("--data", manifest, *words)
