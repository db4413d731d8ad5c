"""Batches whose truth is known: places that sound, each in a pattern of its own, at an offset."""

import torch
from torch.nn import functional as F

from avlearn.objectives import Pair, Setting

SETTING = Setting(step=0.08, steps=10, offsets=21, video_channels=64, audio_channels=64, dim=64, clips=4)


def planted(offset: int, clips: int = 4, steps: int = 10, sound: int = 30, dim: int = 64) -> Pair:
    """One place of each clip (of 4 x 5) carries, step by step, what its sound has ``offset`` steps later."""
    torch.manual_seed(0)
    audio = F.normalize(torch.randn(clips, dim, sound), dim=1)
    video = F.normalize(torch.randn(clips, dim, steps, 4, 5), dim=1)
    for i in range(clips):
        video[i, :, :, i % 4, (i + 1) % 5] = audio[i, :, offset : offset + steps]
    return Pair(video, audio, torch.full((clips,), offset), torch.arange(clips), video, audio)


def spread(offset: int, **options: int) -> Pair:
    """The same with every place sounding, for objectives that average over places."""
    pair = planted(offset, **options)
    steps = pair.video.shape[2]
    video = pair.audio[:, :, offset : offset + steps, None, None].expand_as(pair.video)
    return Pair(video, pair.audio, pair.offset, pair.clip, video, pair.audio)
