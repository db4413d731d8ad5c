import numpy as np
import pytest
import torch
from curved import Reader, curved_clips

from avlearn.data.cache import ClipCache
from avlearn.errors import ModelError
from avlearn.evaluation.sync import shifted, sync_metrics, wrong_shifts
from avlearn.objectives import FeatureSpec, Objective
from avlearn.objectives.similarity import offset_scores


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def test_a_reader_of_planted_curves_gets_everything_right():
    labels = [("even",) if k % 2 else ("odd", "rare" if k < 8 else "odd") for k in range(40)]
    metrics, classes = sync_metrics(Reader(), None, curved_clips(40, 8.0), labels, 0)
    found = by_name(metrics)
    shares = [metric for metric in metrics if metric.unit == ""]
    assert all(metric.value == 1.0 for metric in shares), [f for f in shares if f.value < 1]
    assert {"offset exact of 21", "offset within 200 ms of 21", "R@10 of 40, video to audio"} < set(found)
    assert found["offset exact of 21"].interval[0] == pytest.approx(0.912, abs=1e-3)
    # A step of 80 ms cannot say more than 20 ms in the median; the parabola can.
    steps, between = found["median offset error, steps of 80 ms"], found["median offset error, between steps"]
    assert steps.value == pytest.approx(steps.oracle) and 10 <= steps.value <= 30
    assert between.value < 6 and between.oracle == 0.0
    assert [one.label for one in classes] == ["even", "odd"] and classes[0].within.n == 20


def test_the_audio_of_another_clip_is_at_chance_and_short_clips_have_no_wide_grid():
    clips = curved_clips(120, 4.0)
    other = ClipCache(clips.video, np.roll(clips.audio, 1, 0), clips.fps, clips.sample_rate)
    metrics, _ = sync_metrics(Reader(), None, other, [()] * 120, 0)
    found = by_name(metrics)
    assert not any("200 ms of 21" in name for name in found)
    for name in ("aligned over shifted (2AFC)", "offset within 80 ms of 21"):
        low, high = found[name].interval
        assert low < found[name].chance < high
    assert found["R@1 of 100, video to audio"].value < 0.1


def test_every_offset_is_wrong_as_often_as_right():
    wrong = (np.arange(21)[:, None] + wrong_shifts(21, 0.08)) % 21
    assert np.all(np.bincount(wrong.flatten()) == wrong.shape[1])
    away = np.abs(wrong - np.arange(21)[:, None])
    assert away.min() == 7  # half a second and more
    drawn = shifted(np.arange(21).repeat(50), 21, 0.08, np.random.default_rng(0))
    # Whoever prefers the middle, and looks at nothing, does not pass.
    middle = -np.abs(np.arange(21) - 10)
    wins = (middle[np.arange(21).repeat(50)] > middle[drawn]).mean() + 0.5 * (
        middle[np.arange(21).repeat(50)] == middle[drawn]
    ).mean()
    assert wins == pytest.approx(0.5, abs=0.03)


class Wide(Objective):
    """Scores by audio that is as long as in its training: 25 offsets."""

    common_space = False

    def offset_scores(self, pair, offsets):
        assert pair.audio_features.shape[2] == 25 + 24
        normal = torch.nn.functional.normalize
        return offset_scores(normal(pair.video_features, dim=1), normal(pair.audio_features, dim=1), 20.0, 0, offsets)


def test_an_objective_scores_with_the_audio_that_it_was_trained_on():
    reader = Reader()
    reader.config = type(reader.config)(**{**vars(reader.config), "common_space": False})
    with pytest.raises(ModelError, match="no common space"):
        sync_metrics(reader, None, curved_clips(12, 4.0), [()] * 12, 0)
    objective = Wide(spec=FeatureSpec(0.08, 25, 25, 8, 8, 8, 12))
    metrics, _ = sync_metrics(reader, objective, curved_clips(12, 8.0), [()] * 12, 0)
    found = by_name(metrics)
    assert found["offset exact of 21"].value == 1.0
    assert not any("R@" in name or "200 ms" in name for name in found)


class Coarse(Wide):
    """Classes that are two steps apart."""

    offset_classes = 13

    def offset_scores(self, pair, offsets):
        return super().offset_scores(pair, 2 * offsets)


def test_an_objective_with_a_grid_of_its_own_is_measured_on_that():
    objective = Coarse(spec=FeatureSpec(0.08, 25, 25, 8, 8, 8, 12))
    metrics, _ = sync_metrics(Reader(), objective, curved_clips(12, 4.0), [()] * 12, 0)
    found = by_name(metrics)
    assert found["offset exact of 13"].value == found["offset within 160 ms of 13"].value == 1.0
    assert found["R@1 of 12, video to audio"].value == 1.0
