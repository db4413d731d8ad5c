"""Training on windows of planted clips, whose offsets are drawn as the loader draws them."""

from dataclasses import replace

import torch

from avlearn.objectives import EmbeddedBatch, Objective, ObjectiveOutput


def windows(pool: EmbeddedBatch, clips: torch.Tensor, audio_steps: int) -> EmbeddedBatch:
    """Some clips of a `planted` or `spread` pool, with so many steps of its audio at random places around the truth."""
    offset = torch.randint(audio_steps - pool.video.shape[2] + 1, clips.shape)
    at = (pool.offset[clips] - offset)[:, None] + torch.arange(audio_steps)
    audio = pool.audio[clips].gather(2, at[:, None].expand(-1, pool.audio.shape[1], -1))
    return EmbeddedBatch(pool.video[clips], audio, offset, clips, pool.video[clips], audio)


def shuffled(pair: EmbeddedBatch) -> EmbeddedBatch:
    """The same with each video at another clip's audio."""
    video = pair.video.roll(1, 0)
    return replace(pair, video=video, video_features=video)


def train(
    objective: Objective, pool: EmbeddedBatch, audio_steps: int, steps: int, lr: float, *, right: bool = True
) -> ObjectiveOutput:
    """Train on three quarters of a pool, 32 windows a step; then, in evaluation mode, what it says of the rest."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr)
    held_out = len(pool.video) * 3 // 4
    arrange = (lambda pair: pair) if right else shuffled
    for _ in range(steps):
        optimizer.zero_grad()
        objective(arrange(windows(pool, torch.randint(held_out, (32,)), audio_steps))).loss.backward()
        optimizer.step()
    objective.eval()
    with torch.no_grad():
        return objective(arrange(windows(pool, torch.arange(held_out, len(pool.video)), audio_steps)))
