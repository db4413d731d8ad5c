"""Objectives learn a world small enough for seconds, and nothing from videos with another clip's audio.

Those with a memory of all clips, and the second stage: test_memory.py, test_clusters.py, test_offset_classifier.py.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives import OBJECTIVES, EmbeddedBatch, FeatureSpec, Objective, ShiftSchedule
from avlearn.objectives.objective import aligned_audio
from avlearn.tasks import load_recipe

STEPS, OFFSETS, KINDS, CLIPS, HELD_OUT = 10, 9, 16, 384, 192
SPEC = FeatureSpec(0.08, STEPS, OFFSETS, video_channels=24, audio_channels=24, dim=16, clips=CLIPS)
OPTIONS = {
    "segments": {"seconds": 0.24},
    "shift_bce": {"width": 8},
}
# What an objective asks: at which time, or whose audio?
WHEN, WHOSE = ("dense", "segments", "shift_bce"), ("infonce", "gdt", "margin")


class Towers(nn.Module):
    """A colour and a flash at one of nine places; a pitch and a beep."""

    def __init__(self) -> None:
        super().__init__()
        self.video = nn.Sequential(nn.Conv3d(12, 24, 1), nn.ReLU(), nn.Conv3d(24, 24, (3, 1, 1), padding=(1, 0, 0)))
        self.audio = nn.Sequential(nn.Conv1d(10, 24, 1), nn.ReLU(), nn.Conv1d(24, 24, 3, padding=1))
        self.video_head, self.audio_head = nn.Conv3d(24, 16, 1), nn.Conv1d(24, 16, 1)

    def forward(self, video: Tensor, audio: Tensor, offset: Tensor, clip: Tensor) -> EmbeddedBatch:
        """``[B, 12, T, 3, 3]`` and ``[B, 10, U]`` to what objectives take."""
        seen, heard = self.video(video), self.audio(audio)
        placed, said = (F.normalize(head(x), dim=1) for head, x in ((self.video_head, seen), (self.audio_head, heard)))
        return EmbeddedBatch(placed, said, offset, clip, seen, heard)


def world(count: int, seed: int, *, shuffled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Videos, audio and offsets: things of some kind that do what is seen and heard at random times."""
    g = torch.Generator().manual_seed(0)
    looks, pitches = torch.randn(KINDS, 12, generator=g), torch.randn(KINDS, 10, generator=g)
    moves, noises = torch.randn(4, 12, generator=g), torch.randn(4, 10, generator=g)
    g.manual_seed(seed)
    kind = torch.randint(KINDS, (count,), generator=g)
    acts = (torch.rand(count, STEPS + OFFSETS - 1, 4, generator=g) < 0.4).float()
    offset = torch.randint(OFFSETS, (count,), generator=g)
    seen = acts[torch.arange(count)[:, None], offset[:, None] + torch.arange(STEPS)] @ moves + looks[kind, None]
    place = F.one_hot(torch.randint(9, (count,), generator=g), 9).view(count, 1, 1, 3, 3)
    video = seen.transpose(1, 2)[..., None, None] * place
    audio = (acts @ noises + pitches[kind, None]).transpose(1, 2)
    video, audio = (x + 0.2 * torch.randn(x.shape, generator=g) for x in (video, audio))
    return video, audio.roll(1, 0) if shuffled else audio, offset


def objective_of(name: str) -> Objective:
    options = load_recipe("sync_world", [f"objective={name}"]).objective
    return OBJECTIVES[name](replace(options, shift=ShiftSchedule(0.24, 0.24), **OPTIONS.get(name, {})), SPEC)


def learned(name: str, *, shuffled: bool) -> float:
    """Share of held-out clips whose audio is told from a wrong one, after some seconds of training."""
    torch.manual_seed(0)
    towers, objective = Towers(), objective_of(name)
    clips = world(CLIPS, 1, shuffled=shuffled)
    optimizer = torch.optim.AdamW([*towers.parameters(), *objective.parameters()], 5e-3)
    for step in range(240):
        objective.progress = step / 240
        chosen = torch.randperm(CLIPS)[:32]
        video, audio, offset = objective.transform(*(x[chosen] for x in clips))
        loss = objective(towers(video, audio, offset, chosen.repeat(len(offset) // 32))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    towers.eval(), objective.eval()
    with torch.inference_mode():
        return float(told_apart(name, objective, towers, *world(HELD_OUT, 2, shuffled=shuffled)))


def told_apart(name: str, objective: Objective, towers: Towers, video: Tensor, audio: Tensor, offset: Tensor) -> Tensor:
    pair = towers(video, audio, offset, torch.arange(len(video)))
    if name in WHEN:
        every = objective.offset_scores(pair, torch.arange(1 - OFFSETS, OFFSETS))
        scores = every.gather(1, OFFSETS - 1 - offset[:, None] + torch.arange(OFFSETS))  # by place in the audio
        right = scores.gather(1, offset[:, None])
        # As often wrong as right, each: else the audio alone would tell.
        wrong = scores.gather(1, (offset[:, None] + torch.arange(3, OFFSETS - 2)) % OFFSETS)
    else:
        videos = F.normalize(pair.video.mean((2, 3, 4)), dim=1)
        audios = F.normalize(aligned_audio(pair.audio, offset, STEPS).mean(2), dim=1)
        every = videos @ audios.T
        right, wrong = every.diag()[:, None], every
    return (right > wrong).float().mean() + 0.5 * (right == wrong).float().mean()


@pytest.mark.parametrize("name", WHEN + WHOSE)
def test_learns_at_least_ten_points_above_chance_and_nothing_from_shuffled_pairs(name):
    assert learned(name, shuffled=False) > 0.6
    assert abs(learned(name, shuffled=True) - 0.5) < 0.08
