"""The linear probe: what it may learn from, what it is chosen by, and what it is measured against."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avlearn.config import ModelConfig
from avlearn.data.manifest import Row, read_manifest, write_manifest
from avlearn.data.prepare import prepare
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import DataError
from avlearn.evaluation import classifiers, clip_features
from avlearn.evaluation.classifiers import fit_classifier
from avlearn.evaluation.clip_features import ClipFeatures
from avlearn.evaluation.linear_probe import probe_features, probe_manifests, probe_model
from avlearn.evaluation.trials import split_trial
from avlearn.evaluation.untrained import untrained
from avlearn.models.audiovisual import AudioVisual

TOOL = Path(__file__).resolve().parents[2] / "tools" / "linear_probe.py"


def random_features(rng: np.random.Generator, count: int, labels: np.ndarray | None = None) -> ClipFeatures:
    """Of many dimensions, so that any labels of a few clips can be learned by heart."""
    labels = rng.integers(0, 2, count) if labels is None else labels
    return ClipFeatures(rng.normal(size=(count, 300)), rng.normal(size=(count, 300)), labels)


def noisy(rng: np.random.Generator, count: int, wrong: float) -> tuple[np.ndarray, np.ndarray]:
    """One dimension tells the class, 60 tell nothing; a share of the labels is wrong."""
    truth = rng.integers(0, 2, count)
    values = rng.normal(size=(count, 61))
    values[:, 0] += 2.0 * (2 * truth - 1)
    return values, np.where(rng.random(count) < wrong, 1 - truth, truth)


def test_regularisation_is_chosen_on_validation_clips():
    rng = np.random.default_rng(1)
    train, val = noisy(rng, 150, 0.2), noisy(rng, 400, 0.0)
    scores = {}
    for strength in classifiers._STRENGTHS:
        one = fit_alone(strength, train)
        scores[strength] = one.score(*train), one.score(*val)
    on_train, on_val = (max(scores, key=lambda strength, k=k: scores[strength][k]) for k in (0, 1))
    assert scores[on_val][1] > scores[on_train][1] + 0.05  # otherwise the choice would not matter
    chosen = fit_classifier(*train, *val)
    assert strength_of(chosen) == on_val
    assert chosen.score(*val) == scores[on_val][1]
    assert strength_of(fit_classifier(*train, *train)) == on_train


def strength_of(classifier) -> float:
    return classifier[-1].C


def fit_alone(strength: float, train: tuple[np.ndarray, np.ndarray]):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(*train)


def test_the_most_regularised_classifier_is_taken_of_equals():
    values, labels = np.array([[-1.0], [1.0]] * 10), np.array([0, 1] * 10)
    assert strength_of(fit_classifier(values, labels, values, labels)) == min(classifiers._STRENGTHS)


def test_what_cannot_be_known_of_test_clips_is_not_known():
    """Labels by lot: whoever had seen the test clips in training would know them by heart."""
    rng = np.random.default_rng(1)
    train, val, test = (random_features(rng, count) for count in (60, 60, 200))
    metrics, predicted = probe_features(train, val, test, {})
    top = {metric.name: metric.value for metric in metrics}
    for kind in ("video", "audio", "both"):
        assert 0.35 < top[f"top-1, {kind}"] < 0.65
        assert (predicted[kind] == test.labels).mean() == top[f"top-1, {kind}"]
    # And by a classifier that did see them, all are.
    metrics, _ = probe_features(test, test, test, {})
    assert min(f.value for f in metrics if f.name.startswith("top-1")) > 0.9


def row(name: str, label: str, split: str = "", reason: str = "") -> Row:
    return Row(Path(name), labels=(label,), split=split, reason=reason)


@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train", "val", "test")])
def test_no_clip_is_in_two_parts(splits):
    given = [splits[k % len(splits)] for k in range(30)]
    trial = split_trial(given)
    ((train, val),) = trial.choices
    parts = [train, val, trial.test]
    assert all(map(len, parts)) and trial.fitted is train
    assert sorted(np.concatenate(parts).tolist()) == list(range(30))
    if "test" in splits:
        assert all(given[k] == "test" for k in trial.test)
        assert not any(given[k] == "test" for part in parts[:2] for k in part)


def test_the_untrained_network_is_the_same_towers():
    torch.manual_seed(5)
    model = AudioVisual(ModelConfig(labels=("a", "b")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    state = torch.get_rng_state()
    twin, again, other = untrained(model), untrained(model), untrained(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert twin.config == model.config.model_copy(update={"labels": ()})
    assert not twin.training
    theirs, first, second, third = (dict(m.named_parameters()) for m in (model, twin, again, other))
    assert {name for name in theirs if not name.startswith("classifiers.")} == first.keys()
    for name, parameter in first.items():
        assert not torch.equal(parameter, theirs[name]), name
        assert torch.equal(parameter, second[name])
    assert any(not torch.equal(parameter, third[name]) for name, parameter in first.items())


def test_a_probe_is_held_against_the_untrained_network(monkeypatch):
    """Only the trained model's features tell the class; clips are unlike each other in all else."""
    model = AudioVisual(ModelConfig())
    with torch.no_grad():
        model.video_head.bias.fill_(7.0)

    def embed(source: Path, network: AudioVisual):
        k = int(source.stem)
        rng = np.random.default_rng(k)
        video, audio = rng.normal(size=(1, 40)), rng.normal(size=(1, 40))
        if bool((network.video_head.bias == 7.0).all()):
            video[0, :10] = 8.0 * (k % 2)
        return np.zeros(1), video, audio

    monkeypatch.setattr(clip_features, "embed_file", embed)
    rows = [row(f"{k}.mp4", "ab"[k % 2], ("train", "val", "test", "test")[k // 40]) for k in range(160)]
    del rows[141::2]  # ten of the last class, to be tested on
    result = probe_model(model, [*rows, row("lost.mp4", "a", "train", "it cannot be decoded"), Row(Path("bare.mp4"))])
    top = {f.name: f for f in result.metrics}
    assert top["top-1, video"].value == 1.0
    assert top["top-1, video"].prior < 0.7
    assert top["top-1, video"].prior_name == "random init"
    assert 0.3 < top["top-1, audio"].value < 0.7
    assert result.confusion["video"] == [[40, 0], [0, 30]]
    audio = np.array(result.confusion["audio"])  # true classes in rows, whatever is guessed
    assert audio.sum(1).tolist() == [40, 30] != audio.sum(0).tolist()
    assert result.skipped == [("lost.mp4", "it cannot be decoded"), ("bare.mp4", "it has no label")]
    said = "2 clips are left out:\n  lost.mp4: it cannot be decoded\n  bare.mp4: it has no label"
    assert result.text().endswith(said)
    assert result.to_dict()["skipped"] == ["lost.mp4: it cannot be decoded", "bare.mp4: it has no label"]


def test_clips_that_cannot_be_used_are_named_with_the_reason():
    rows = [row("a.mp4", "a"), row("b.mp4", "b", reason="it is silent"), row("c.mp4", "b", reason="it is silent")]
    with pytest.raises(DataError) as caught:
        probe_model(None, rows)
    assert str(caught.value) == (
        "a probe needs clips of at least two classes: there are 1 clips of 1; 2 more cannot be used, "
        "the first: b.mp4: it is silent"
    )


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    make_world(folder / "clips", 10, 3, WorldConfig.preset("solo", size=64, duration=2.2), workers=1)
    return folder


def test_shards_give_what_their_clips_give(worlds, untrained, monkeypatch):
    """The path of a clip in a shard is that of the tar: it is read from where it lies in it."""
    rows = [
        replace(r, labels=("ab"[k % 2],)) for k, r in enumerate(read_manifest(worlds / "clips" / "manifest.parquet"))
    ]
    write_manifest(rows, worlds / "two.parquet")
    prepare(worlds / "two.parquet", worlds / "packed", short_side=64, shards=2, workers=1)
    seen = []
    real = clip_features.embed_file
    monkeypatch.setattr(clip_features, "embed_file", lambda source, model: seen.append(source) or real(source, model))
    result = probe_manifests(untrained, [worlds / "packed"])
    assert result.skipped == []
    assert sum(map(sum, result.confusion["video"])) == 2
    assert len({(str(source.path), source.offset) for source in seen}) == 10


def test_the_tool_says_what_is_wrong_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "no_such_model", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("linear_probe: error: ")
    assert said.count("\n") == 1
