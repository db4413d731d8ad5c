"""The readouts agree with each other, and with the truth where it is planted."""

import torch
from torch.nn import functional as F

from avlearn.objectives import similarity
from avlearn.objectives.similarity import heatmap, offset_scores, pair_scores, peak_weights, strongest_place


def planted(offset: int, batch: int = 3):
    """Clips whose audio is, at one place each, what the video shows ``offset`` steps into the audio."""
    torch.manual_seed(0)
    audio = F.normalize(torch.randn(batch, 16, 30), dim=1)
    video = F.normalize(torch.randn(batch, 16, 10, 4, 5), dim=1)
    for b in range(batch):
        video[b, :, :, b, b + 1] = audio[b, :, offset : offset + 10]
    return video, audio


def test_pairs_peak_at_the_planted_clip_and_offset():
    video, audio = planted(7)
    scores = pair_scores(video, audio, 20.0)
    assert scores.shape == (3, 3, 21)
    assert [int(s.argmax()) for s in scores] == [b * 21 + 7 for b in range(3)]


def test_offset_scores_equal_the_pairs_of_the_own_audio():
    video, audio = planted(7)
    own = pair_scores(video, audio, 20.0).diagonal().T
    found = offset_scores(video, audio, 20.0, 7, torch.arange(-7, 14))
    assert torch.allclose(found, own, atol=1e-5)


def test_too_little_audio_is_unknown_rather_than_a_score():
    video, audio = planted(7)
    found = offset_scores(video, audio, 20.0, 7, torch.tensor([-13, -12, 0, 18, 19]))
    assert found.isnan().any(0).tolist() == [True, False, False, False, True]


def test_the_heatmap_points_at_the_planted_place():
    video, audio = planted(7)
    heat = heatmap(video, audio[:, :, 7:17])
    assert strongest_place(heat).tolist() == [[0, 1], [1, 2], [2, 3]]
    weights = peak_weights(heat, strongest_place(heat), 20.0)
    assert torch.allclose(weights.sum((1, 2)), torch.ones(3))
    assert weights[0, 3].sum() == 0


def test_scores_in_blocks_are_those_of_the_whole(monkeypatch):
    """A block for two audio clips of five, and the last for one."""
    generator = torch.Generator().manual_seed(0)
    video, audio = torch.randn(3, 8, 4, 2, 3, generator=generator), torch.randn(5, 8, 9, generator=generator)
    weights = torch.randn(3, 5, 6, generator=generator)

    def found(block: int) -> tuple[torch.Tensor, ...]:
        monkeypatch.setattr(similarity, "BLOCK", block)
        leaves = video.clone().requires_grad_(), audio.clone().requires_grad_()
        scores = pair_scores(*leaves, 20.0)
        return scores, *torch.autograd.grad((scores * weights).sum(), leaves)

    for whole, by_block in zip(found(10**9), found(2 * 3 * 6 * 6), strict=True):
        torch.testing.assert_close(by_block, whole, rtol=1e-5, atol=1e-6)
