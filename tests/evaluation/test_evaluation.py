"""What is measured, and what is said where something cannot be."""

from dataclasses import replace

import pytest

from avlearn.data.manifest import read_manifest, write_manifest
from avlearn.errors import DataError
from avlearn.evaluation import EVALUATORS, Evaluator, EvaluatorResult, NotMeasurableError, evaluate
from avlearn.evaluation.windows import off_grid
from avlearn.metrics import MetricResult
from avlearn.models.folder import load


def test_one_task_of_a_world(untrained, small_world):
    result = evaluate(load(untrained), [small_world / "manifest.parquet"], tasks=["sync"])
    assert {metric.task for metric in result.metrics} == {"sync", "retrieval"}
    values = result.to_dict()
    assert values["schema"] == "avlearn.evaluate/2" and values["classes"] == []
    assert len(values["figures"][0]["interval"]) == 2
    assert result.text().splitlines()[2].startswith("sync")


def test_what_cannot_be_measured_is_said(untrained, small_world):
    model, manifests = load(untrained), [small_world / "manifest.parquet"]
    with pytest.raises(DataError, match="there is no task 'synk'"):
        evaluate(model, manifests, tasks=["synk"])
    with pytest.raises(DataError, match="12 clips have one source alone"):
        evaluate(model, manifests, tasks=["sync", "recognition"])
    model.config = model.config.model_copy(update=dict(common_space=False))
    with pytest.raises(DataError, match="neither a common space nor an objective"):
        evaluate(model, manifests, tasks=["sync"])
    model.config = model.config.model_copy(update=dict(labels=()))
    with pytest.raises(DataError, match="nothing can be measured"):
        evaluate(model, manifests)
    model.config = model.config.model_copy(update=dict(seconds=3.0))
    with pytest.raises(DataError, match=r"no clip lasts the 4\.64 s"):
        evaluate(model, manifests)


def test_evaluators_of_plugins_are_known(untrained, small_world, tmp_path, monkeypatch):
    model = load(untrained)  # before there is a plugin: what is asked for an unknown name loads them too
    (tmp_path / "more_evaluators.py").write_text(
        "from avlearn.evaluation import Evaluator, register_evaluator\n"
        "@register_evaluator\n"
        "class Smells(Evaluator):\n"
        "    task = 'smells'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AVLEARN_PLUGINS", "more_evaluators")
    monkeypatch.setattr("avlearn.evaluation.run.EVALUATORS", list(EVALUATORS))
    with pytest.raises(DataError, match=r"there is no task 'synk'; there are .*, smells"):
        evaluate(model, [small_world / "manifest.parquet"], tasks=["synk"])


def test_too_few_clips_for_synchronization(untrained, small_world, tmp_path):
    rows = read_manifest(small_world / "manifest.parquet")
    model = load(untrained)
    for count in (1, 2):
        few = write_few(rows[:count], tmp_path / f"{count}.csv")
        with pytest.raises(DataError, match=f"sync cannot be measured: .*{count}, and 3 are needed"):
            evaluate(model, [few], tasks=["sync"])
        with pytest.raises(DataError, match=r"nothing can be measured: .*too few clips"):
            evaluate(model, [few])
    assert evaluate(model, [write_few(rows[:3], tmp_path / "3.csv")], tasks=["sync"]).metrics


def write_few(rows, path):
    write_manifest(rows, path)
    return path


def test_audio_between_steps_begins_within_the_clip_and_the_video_with_a_frame(untrained):
    import numpy as np

    lead = np.arange(161) / 100
    cut = off_grid(load(untrained), lead, 1.6)
    assert np.allclose(cut.video_starts - cut.audio_starts, lead)
    assert np.allclose(cut.video_starts * 25, np.round(cut.video_starts * 25))
    assert cut.audio_starts.min() > -1e-9 and cut.audio_starts.max() < 1 / 25 and cut.seconds == pytest.approx(3.6)


class BrightnessEvaluator(Evaluator):
    """An evaluator from outside the package."""

    task = "brightness"

    def choose(self, listed):
        if not listed.rows[3:]:
            raise NotMeasurableError("it takes four clips")
        return listed.rows[:4]

    def measure(self, rows):
        values = self.subject.decoded(rows).video.mean((1, 2, 3, 4))
        return EvaluatorResult([MetricResult("brightness", "mean", float(values.mean()), n=len(values))])


def test_an_evaluator_of_ones_own_is_measured_on_the_clips_that_it_chooses_and_no_others_are_read(
    untrained, small_world, tmp_path
):
    rows = read_manifest(small_world / "manifest.parquet")
    rows = [*rows[:5], *(replace(row, path=tmp_path / "gone.mp4") for row in rows[5:])]
    manifest = write_few(rows, tmp_path / "rows.csv")
    found = evaluate(load(untrained), [manifest], evaluators=[BrightnessEvaluator])
    assert [metric.n for metric in found.metrics] == [4] and not found.skipped
    assert "left out" not in found.text()
    with pytest.raises(DataError, match="there is no task 'sync'; there are brightness"):
        evaluate(load(untrained), [manifest], tasks=["sync"], evaluators=[BrightnessEvaluator])
    few = write_few(rows[:3], tmp_path / "few.csv")
    with pytest.raises(DataError, match="brightness cannot be measured: it takes four clips"):
        evaluate(load(untrained), [few], tasks=["brightness"], evaluators=[BrightnessEvaluator])
