"""Maps finer than the model's cells, at their true places."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avlearn.apply.localize.maps import above_median, map_at, peak_of, stitched_map, views
from avlearn.config import ModelConfig
from avlearn.models.audiovisual import AudioVisual

HEARD = torch.ones(1, 1, 4)


class Brightness:
    """A model whose cells of eight pixels answer to how bright they are."""

    video = SimpleNamespace(feature_info=SimpleNamespace(stride=(2, 8, 8)))

    def video_features(self, video):
        return F.avg_pool3d(video.mean(1, keepdim=True), (2, 8, 8))

    def project_video(self, features):
        return features


@pytest.mark.parametrize("shape", [(64, 64), (64, 114), (36, 64)])
def test_a_constant_video_gives_a_constant_map(shape):
    heat = stitched_map(views(Brightness(), torch.full((1, 3, 8, *shape), 0.5)), HEARD)
    assert heat.shape == (1, 2 * round(shape[0] / 8), 2 * round(shape[1] / 8))
    torch.testing.assert_close(heat, torch.full_like(heat, 0.5))


def test_sides_that_are_no_whole_cells_are_stretched_to_some():
    video = torch.rand(1, 3, 8, 36, 60)
    stretched = F.interpolate(video[0].transpose(0, 1), (32, 64), mode="bilinear", antialias=True).transpose(0, 1)[None]
    maps = [stitched_map(views(Brightness(), v), HEARD) for v in (video, stretched)]
    torch.testing.assert_close(*maps)


def test_a_bright_spot_comes_out_where_it_is_to_half_a_cell():
    rng = np.random.default_rng(0)
    errors, coarse = [], []
    for _ in range(40):
        top, left = rng.integers(0, 57, 2)
        video = torch.zeros(1, 3, 8, 64, 64)
        video[..., top : top + 8, left : left + 8] = 1
        truth = np.array([left + 4, top + 4]) / 64
        heat = stitched_map(views(Brightness(), video), HEARD)[0].numpy()
        errors.append(np.abs(np.array(peak_of(heat)) - truth).max() * 8)
        cells = Brightness().video_features(video)[0, 0, 0].numpy()
        coarse.append(np.abs(np.array(peak_of(cells)) - truth).max() * 8)
    assert max(errors) <= 0.5
    assert np.mean(errors) < 0.7 * np.mean(coarse)  # what it is for


def test_a_model_sees_the_mirrored_video_where_it_sees_the_video():
    torch.manual_seed(1)
    model = AudioVisual(ModelConfig()).eval()
    video = torch.rand(1, 3, 8, 64, 64)
    heard = F.normalize(torch.randn(1, 128, 4), dim=1)
    one, other = (stitched_map(views(model, v), heard)[0] for v in (video, video.flip(-1)))
    fit = torch.corrcoef(torch.stack([one.flatten(), other.flip(-1).flatten()]))[0, 1]
    unmoved = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    assert fit > 0.9 and fit > unmoved


def test_between_windows_the_map_changes_evenly_and_holds_at_the_ends():
    times, maps = np.array([1.0, 2.0]), np.array([[[0.0, 4.0]], [[1.0, 0.0]]])
    np.testing.assert_allclose(map_at(times, maps, 1.25), [[0.25, 3.0]])
    for instant, expected in ((0.0, maps[0]), (1.0, maps[0]), (2.0, maps[1]), (9.0, maps[1])):
        np.testing.assert_array_equal(map_at(times, maps, instant), expected)
    steps = np.array([map_at(times, maps, t) for t in np.arange(0, 3, 0.04)])
    assert np.abs(np.diff(steps, axis=0)).max() <= 4 * 0.04 + 1e-9


def test_relief_stands_on_the_median():
    heat = np.array([[-1.0, 0.0, 0.0], [0.0, 2.0, 4.0]])
    np.testing.assert_allclose(above_median(heat), [[0, 0, 0], [0, 0.5, 1]])
    assert not above_median(np.full((2, 2), 3.0)).any()
