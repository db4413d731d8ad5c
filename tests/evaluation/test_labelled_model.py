"""Classifiers of a probe as the labels of a model: they say the same, and classify uses them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run

from avlearn.apply.classify import classify_file
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.errors import DataError, OutputError
from avlearn.evaluation.classifiers import fit_classifier
from avlearn.evaluation.labelled_model import linear_layer, probe_into
from avlearn.evaluation.linear_probe import ProbeProtocol
from avlearn.media import write_video
from avlearn.models.folder import load


@pytest.mark.parametrize("classes", [2, 4])
def test_a_layer_says_what_the_classifier_says(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(80) % classes
    values = rng.normal(2, 3, (80, 7)) + np.eye(7)[labels]
    classifier = fit_classifier(values, labels, values, labels)
    weight, bias = linear_layer(classifier)
    assert weight.shape == (classes, 7)
    found = torch.from_numpy(values @ weight.T + bias).softmax(1)
    np.testing.assert_allclose(found, classifier.predict_proba(values), rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Bright clips with a high tone, and dark ones with a low one."""
    folder = tmp_path_factory.mktemp("labels")
    rng, rows, time = np.random.default_rng(0), [], np.arange(16000 * 2) / 16000
    for k in range(24):
        bright = k % 2
        frames = (60 + 120 * bright + rng.integers(0, 40, (50, 64, 64, 3))).astype(np.uint8)
        audio = 0.2 * np.sin(2 * np.pi * (300 + 3000 * bright + 20 * k) * time) + 0.01 * rng.normal(size=len(time))
        path = folder / f"{k}.mkv"
        write_video(path, frames, 25, audio=audio[None].astype(np.float32), sample_rate=16000)
        rows.append(Row(path, duration=2.0, labels=(("night", "day")[bright],)))
    write_manifest(rows, folder / "mine.csv")
    return folder / "mine.csv"


def test_classify_uses_the_labels(clips, untrained, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(untrained, source)
    (source / "beside.json").write_text("{}")
    done = run("linear-probe", "--model", source, "--data", clips, "-o", tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    assert "top-1, both" in done.stdout
    model = load(tmp_path / "mine")
    assert model.config.labels == ("day", "night") and (tmp_path / "mine" / "beside.json").exists()
    assert model.config.trained_on == "nothing; labels of mine.csv"
    before = load(source).state_dict()
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifiers.")}
    assert len(kept) > 50 and all(torch.equal(before[name], tensor) for name, tensor in kept.items())
    for row in read_manifest(clips)[:4]:
        found = classify_file(row.path, model)
        assert found.verdict == "labelled" and found.in_distribution == {"video": True, "audio": True}
        assert all(ranked[0][0] == row.labels[0] for ranked in found.labels.values())
    card = (tmp_path / "mine" / "README.md").read_text()
    assert card.startswith("# untrained\n") and card.count("## Labels") == 1 and "top-1, both" in card
    again = run("linear-probe", "--model", tmp_path / "mine", "--data", clips, "-o", tmp_path / "mine")
    assert again.returncode == 2 and "is the model itself: give another folder, or --overwrite" in again.stderr
    probe_into(tmp_path / "mine", tmp_path / "mine", [clips], ProbeProtocol(), overwrite=True)
    assert (tmp_path / "mine" / "README.md").read_text().count("## Labels") == 1


def test_a_label_that_one_kind_never_learned_is_named(clips, untrained, tmp_path):
    rows = read_manifest(clips)
    mute = [replace(row, labels=("dusk",), split="train") for row in rows[:2]]
    for k, row in enumerate(mute):
        write_video(tmp_path / f"mute{k}.mkv", np.full((50, 64, 64, 3), 90 + k, np.uint8), 25)
        mute[k] = replace(row, path=tmp_path / f"mute{k}.mkv")
    splits = ("train", "train", "train", "train", "val", "val", "test", "test")
    write_manifest([*mute, *(replace(r, split=splits[k % 8]) for k, r in enumerate(rows))], tmp_path / "m.csv")
    with pytest.raises(DataError, match="labels are for video, audio and both: 'dusk' has no clip of audio"):
        probe_into(tmp_path / "out", untrained, [tmp_path / "m.csv"], ProbeProtocol())
    assert not (tmp_path / "out").exists()


def test_what_makes_no_labels_is_told_before_the_work(clips, untrained, tmp_path):
    for protocol in (ProbeProtocol("svm"), ProbeProtocol(shots=3), ProbeProtocol(folds=True)):
        with pytest.raises(DataError, match="labels are logistic regressions on one split"):
            probe_into(tmp_path / "out", untrained, [clips], protocol)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputError, match="is there already"):
        probe_into(tmp_path / "full", untrained, [clips], ProbeProtocol())
    done = run("linear-probe", "--features", clips, "--data", clips, "-o", tmp_path / "out")
    assert done.returncode == 2 and "leave out --features" in done.stderr
