"""Features for recognition: of the place that makes the sound, over time."""

from types import SimpleNamespace

import torch
from torch.nn import functional as F

from avlearn.apply.embed import pooled_features


def towers(common_space: bool) -> SimpleNamespace:
    """Of a model whose encoders are in the common space already."""
    return SimpleNamespace(
        config=SimpleNamespace(common_space=common_space, pool_scale=30.0),
        project_video=lambda features: F.normalize(features, dim=1),
        project_audio=lambda features: F.normalize(features, dim=1),
    )


def test_the_place_that_sounds_is_described_and_not_the_others():
    audio = torch.randn(2, 16, 8)
    video = torch.randn(2, 16, 8, 4, 5)
    places = ((1, 3), (2, 0))
    for i, (row, column) in enumerate(places):
        video[i, :, :, row, column] = audio[i]
    seen, heard = pooled_features(towers(True), video, audio)
    for i in range(2):
        parts = [audio[i].mean(1), audio[i].amax(1), audio[i].std(1, unbiased=False)]
        torch.testing.assert_close(heard[i], torch.cat(parts))
        torch.testing.assert_close(seen[i], torch.cat(parts), atol=1e-3, rtol=0)


def test_without_a_common_space_all_places_count_alike():
    video, audio = torch.randn(1, 6, 8, 4, 5), torch.randn(1, 3, 8)
    seen, heard = pooled_features(towers(False), video, audio)
    mean = video.mean((3, 4))
    torch.testing.assert_close(seen, torch.cat([mean.mean(2), mean.amax(2), mean.std(2, unbiased=False)], 1))
    assert heard.shape == (1, 9)
