"""Losses of one vector a clip, and the readouts, against their formulas in plain loops."""

import math
from dataclasses import replace

import pytest
import torch
from planted import SPEC, planted
from torch import Tensor
from torch.nn import functional as F

from avlearn.objectives import OBJECTIVES, EmbeddedBatch
from avlearn.objectives.similarity import (
    heatmap,
    offset_scores,
    pair_scores,
    peak_weights,
    pool_space,
    strongest_places,
)

SHIFTED = [2, 18, 0, 11]


def mixed(clips: int = 4) -> EmbeddedBatch:
    """Pairs that go together somewhat, each at an offset of its own."""
    torch.manual_seed(5)
    pair = planted(7, clips)
    offset = torch.tensor([7, 3, 12, 0])[:clips]
    video = torch.stack([pair.audio[i, :, o : o + 10] for i, o in enumerate(offset)])[..., None, None]
    video = F.normalize(video + 0.2 * torch.randn(clips, 64, 10, 4, 5), dim=1)
    return replace(pair, video=video, offset=offset)


def vectors(pair: EmbeddedBatch, offsets: list[int], steps: slice = slice(None)) -> tuple[list[Tensor], list[Tensor]]:
    """Unit vectors of videos, and of audio at offsets."""
    seen = [clip[:, steps].mean((1, 2, 3)) for clip in pair.video]
    heard = [clip[:, o : o + 10][:, steps].mean(1) for clip, o in zip(pair.audio, offsets, strict=True)]
    return [v / v.norm() for v in seen], [a / a.norm() for a in heard]


def nce(queries: list[Tensor], keys: list[Tensor], temperature: float) -> Tensor:
    """Mean cross-entropy of each query's own key, the one of its number."""
    losses = []
    for i, query in enumerate(queries):
        scores = torch.stack([query @ key for key in keys]) / temperature
        losses.append(scores.logsumexp(0) - scores[i])
    return torch.stack(losses).mean()


def objective(name: str, **options: float):
    kind = OBJECTIVES[name]
    made = kind(kind.Options(**options), SPEC)
    made.wrong_offsets = lambda pair: torch.tensor(SHIFTED[: len(pair.offset)])
    return made


def test_infonce():
    pair = mixed()
    seen, heard = vectors(pair, pair.offset.tolist())
    found = objective("infonce", temperature=0.1)(pair)
    to_audio, to_video = nce(seen, heard, 0.1), nce(heard, seen, 0.1)
    torch.testing.assert_close(found.loss, to_audio + to_video)
    torch.testing.assert_close(found.logs["video_to_audio"], to_audio)
    torch.testing.assert_close(found.logs["audio_to_video"], to_video)
    assert float(found.logs["retrieval"]) == 1 and float(found.logs["scale"]) == pytest.approx(10)
    other = replace(pair, audio=pair.audio[[0, 2, 3, 1]])
    seen, heard = (torch.stack(side) for side in vectors(other, other.offset.tolist()))
    right = (seen @ heard.T).argmax(1) == torch.arange(4)
    assert float(objective("infonce", temperature=0.1)(other).logs["retrieval"]) == float(right.float().mean()) < 1


def test_gdt_adds_the_clips_own_audio_at_another_time_to_what_a_video_chooses_from():
    pair = mixed()
    seen, heard = vectors(pair, pair.offset.tolist())
    _, shifted = vectors(pair, SHIFTED)
    found = objective("gdt", temperature=0.1)(pair)
    torch.testing.assert_close(found.logs["video_to_audio"], nce(seen, heard + shifted, 0.1))
    torch.testing.assert_close(found.logs["audio_to_video"], nce(heard, seen, 0.1))


def test_segments_are_all_told_from_each_other():
    pair = mixed()
    seen, heard = [], []
    for i in range(4):
        for start in (0, 4):  # of ten steps, two segments of four
            clip = replace(pair, video=pair.video[i : i + 1], audio=pair.audio[i : i + 1])
            one = vectors(clip, [int(pair.offset[i])], slice(start, start + 4))
            seen += one[0]
            heard += one[1]
    found = objective("segments", temperature=0.1, seconds=0.32)(pair)
    torch.testing.assert_close(found.loss, nce(seen, heard, 0.1) + nce(heard, seen, 0.1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("progress", "hard"), [(0.4, False), (0.5, True)])
def test_margin(progress, hard):
    """Of two clips, the wrong audio is the other's, or the clip's own at another time."""
    pair = mixed(2)
    seen, heard = vectors(pair, pair.offset.tolist())
    _, shifted = vectors(pair, SHIFTED[:2])
    made = objective("margin", margin=1.2, hard_share=1.0, hard_from=0.5)
    made.progress = progress
    terms, right, wrong = [], [], []
    for i in range(2):
        right.append((seen[i] - heard[i]).norm())
        wrong.append((seen[i] - (shifted[i] if hard else heard[1 - i])).norm())
        terms.append((right[i] ** 2 + max(1.2 - float(wrong[i]), 0.0) ** 2) / 2)
    found = made(pair)
    torch.testing.assert_close(found.loss, torch.stack(terms).mean())
    assert float(found.logs["positive_distance"]) == pytest.approx(
        float(torch.stack(right).square().mean().sqrt()), rel=1e-5
    )
    assert float(found.logs["negative_distance"]) == pytest.approx(float(torch.stack(wrong).mean()), rel=1e-5)
    nearer = sum(float(r < w) for r, w in zip(right, wrong, strict=True)) / 2
    assert float(found.logs["accuracy"]) == nearer


def test_temperatures_stay_within_their_bounds():
    made = objective("infonce", temperature=0.1)
    for log_scale, scale in ((-5.0, 2.0), (20.0, 1000.0), (math.log(30), 30.0)):
        made.log_scale.data.fill_(log_scale)
        assert float(made.scale) == pytest.approx(scale, rel=1e-5)


def test_pooling_is_between_the_mean_and_the_maximum():
    x = torch.randn(3, 7, 5)
    expected = (torch.stack([torch.exp(4.0 * row) for row in x.unbind(1)]).mean(0)).log() / 4.0
    torch.testing.assert_close(pool_space(x, 4.0, 1), expected)


def test_scores_of_pairs_and_offsets():
    pair = mixed()
    scores = pair_scores(pair.video, pair.audio, 20.0)
    assert scores.shape == (4, 4, 21)
    for b, c, o in ((0, 0, 7), (1, 0, 3), (2, 3, 20), (3, 3, 0)):
        similarity = torch.einsum("dtyx,dt->yx", pair.video[b], pair.audio[c, :, o : o + 10]) / 10
        torch.testing.assert_close(scores[b, c, o], pool_space(similarity.flatten(), 20.0, 0))


def test_offsets_with_less_audio_are_means_of_what_there_is():
    pair = mixed()
    offsets = torch.tensor([-12, -11, -5, 0, 9, 12, 13])
    found = offset_scores(pair.video, pair.audio, 20.0, 7, offsets)
    for i in range(4):
        for k, offset in enumerate(offsets.tolist()):
            known = [t for t in range(10) if 0 <= 7 + t + offset < 30]
            steps = [torch.einsum("dyx,d->yx", pair.video[i, :, t], pair.audio[i, :, 7 + t + offset]) for t in known]
            expected = pool_space(torch.stack(steps).mean(0).flatten(), 20.0, 0)
            torch.testing.assert_close(found[i, k], expected if len(known) >= 5 else torch.tensor(float("nan")),
                                       equal_nan=True)  # fmt: skip


def test_a_heatmap_is_the_mean_similarity_of_a_place():
    pair = mixed()
    heat = heatmap(pair.video, pair.audio[:, :, :10])
    assert float(heat[1, 2, 3]) == pytest.approx(
        sum(float(pair.video[1, :, t, 2, 3] @ pair.audio[1, :, t]) for t in range(10)) / 10, abs=1e-6
    )


def test_a_peak_has_its_cell_and_eight_neighbours():
    heat = torch.randn(2, 5, 6)
    weights = peak_weights(heat, torch.tensor([[2, 3], [0, 5]]), 3.0)
    inside = torch.zeros(2, 5, 6, dtype=torch.bool)
    inside[0, 1:4, 2:5] = True
    inside[1, 0:2, 4:6] = True
    for i in range(2):
        expected = torch.where(inside[i], (3.0 * heat[i]).exp(), 0.0)
        torch.testing.assert_close(weights[i], expected / expected.sum())


def test_strongest_places_are_two_apart():
    heat = torch.zeros(1, 5, 6)
    heat[0, 1, 1], heat[0, 2, 2], heat[0, 1, 3], heat[0, 4, 5] = 5.0, 4.0, 3.0, 1.0
    found = [place.tolist() for place in strongest_places(heat, 3)]
    assert found == [[[1, 1]], [[1, 3]], [[4, 5]]]
