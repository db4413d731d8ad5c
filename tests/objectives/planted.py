"""Batches whose truth is known: places that sound, each in a pattern of its own, at an offset."""

import torch
from torch import nn
from torch.nn import functional as F

from avlearn.objectives import EmbeddedBatch, FeatureSpec, Objective

SPEC = FeatureSpec(step=0.08, steps=10, offsets=21, video_channels=64, audio_channels=64, dim=64, clips=4)


def planted(offset: int, clips: int = 4, steps: int = 10, audio_steps: int = 30, dim: int = 64) -> EmbeddedBatch:
    """One place of each clip (of 4 x 5) carries, step by step, what its audio has ``offset`` steps later."""
    torch.manual_seed(0)
    audio = F.normalize(torch.randn(clips, dim, audio_steps), dim=1)
    video = F.normalize(torch.randn(clips, dim, steps, 4, 5), dim=1)
    for i in range(clips):
        video[i, :, :, i % 4, (i + 1) % 5] = audio[i, :, offset : offset + steps]
    return EmbeddedBatch(video, audio, torch.full((clips,), offset), torch.arange(clips), video, audio)


def spread(offset: int, **options: int) -> EmbeddedBatch:
    """The same with every place sounding, for objectives that average over places."""
    pair = planted(offset, **options)
    steps = pair.video.shape[2]
    video = pair.audio[:, :, offset : offset + steps, None, None].expand_as(pair.video)
    return EmbeddedBatch(video, pair.audio, pair.offset, pair.clip, video, pair.audio)


def vectors(video: torch.Tensor, audio: torch.Tensor, clip: torch.Tensor) -> EmbeddedBatch:
    """Clips of a single step and place: ``[B, D]`` each."""
    seen, heard = video[:, :, None, None, None], audio[:, :, None]
    return EmbeddedBatch(F.normalize(seen, dim=1), F.normalize(heard, dim=1), torch.zeros_like(clip), clip, seen, heard)


def learn(objective: Objective, causes: torch.Tensor, shuffle: bool, steps: int = 300) -> dict[str, torch.Tensor]:
    """Train linear towers on two noisy views of what causes each clip, ``[N, C]``: logs for clips not trained on.

    Half of the clips are trained on, in batches of 16; ``shuffle`` gives each of them the audio of another.
    """
    torch.manual_seed(0)
    dim = objective.spec.dim
    mixes = torch.randn(2, causes.shape[1], dim)
    looks, noises = (causes @ mix + torch.randn(len(causes), dim) for mix in mixes)
    towers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim)])
    trained = len(causes) // 2
    order = torch.randperm(trained) if shuffle else torch.arange(trained)
    optimizer = torch.optim.Adam([*towers.parameters(), *objective.parameters()], 0.003)
    objective.train()
    for step in range(steps):
        clip = torch.randint(trained, (16,))
        objective.progress = step / steps
        loss = objective(vectors(towers[0](looks[clip]), towers[1](noises[order[clip]]), clip)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = torch.arange(trained, len(causes))
    with torch.no_grad():
        return objective.eval()(vectors(towers[0](looks[held]), towers[1](noises[held]), held)).logs
