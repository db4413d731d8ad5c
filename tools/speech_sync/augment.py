"""What a training clip may look and sound like elsewhere: GRID has ten speakers, one camera and no noise."""

import math
import random

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.models.speech_sync import BANDS, SIDE, standardise_mouths, standardise_voice


def at_speed(crops: Tensor, mel: Tensor, speed: float) -> tuple[Tensor, Tensor]:
    """Both sides of a clip, faster or slower; four columns of the spectrogram to a crop."""
    count = int((len(crops) - 1) / speed)
    frames = _interpolate(crops.float(), torch.arange(count) * speed, 0)
    return frames, _interpolate(mel, torch.arange(4 * count) * speed, 1)


def of_another_voice(mel: Tensor, warp: float) -> Tensor:
    """A spectrogram whose frequencies are stretched by a factor, as by a longer or shorter throat."""
    return _interpolate(mel, torch.arange(BANDS) * warp, 0)


def _interpolate(x: Tensor, at: Tensor, dim: int) -> Tensor:
    """Values between the entries of a dimension; beyond its end the last."""
    at = at.clamp(max=x.shape[dim] - 1.001)
    low = at.floor().long()
    share = (at - low).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    return x.index_select(dim, low) * (1 - share) + x.index_select(dim, low + 1) * share


def augment_mouths(crops: Tensor) -> Tensor:
    """``[B, T, 64, 64]`` to standardised ``[B, T, 48, 48]``: pose, trembling, light, blur, cover and noise."""
    x = _posed(crops)
    count = len(x)
    for clip in range(count):
        if random.random() < 0.4:
            side = random.choice([16, 20, 24, 32])
            small = F.interpolate(x[clip][None], (side, side), mode="area")
            x[clip] = F.interpolate(small, (SIDE, SIDE), mode="bilinear")[0]
        if random.random() < 0.3:
            height, width = random.randrange(6, 20), random.randrange(6, 20)
            top, left = random.randrange(SIDE - height), random.randrange(SIDE - width)
            x[clip, :, top : top + height, left : left + width] = x[clip].mean()
    x = (x / 255).clamp(1e-3, 1) ** torch.exp(_even(count, 0.5)) * 255
    ramp = torch.linspace(-1, 1, SIDE)
    x = standardise_mouths(x + _even(count, 40) * ramp + _even(count, 40) * ramp[:, None])
    x = x + torch.randn_like(x) * torch.rand(count, 1, 1, 1) * 0.25
    flicker = [_wander(count, x.shape[1], 0.1)[:, :, None, None] for _ in range(2)]
    return x * torch.exp(flicker[0]) + flicker[1]


def _posed(crops: Tensor) -> Tensor:
    """Turned, scaled, moved, mirrored, each clip as a whole and trembling a little."""
    count, length = crops.shape[:2]
    tremble = torch.rand(count, 1)
    turn, zoom, across, down = (
        _even(count, size)[:, :, 0, 0] + _wander(count, length, 0.03) * tremble for size in (0.25, 0.22, 0.14, 0.14)
    )
    zoom = 0.78 * torch.exp(zoom)
    tall = torch.exp(_even(count, 0.1)[:, :, 0, 0])
    mirror = torch.where(torch.rand(count, 1) < 0.5, -1.0, 1.0)
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    rows = [cos * mirror, -sin * tall, across, sin * mirror, cos * tall, down]
    matrices = torch.stack([row.expand(count, length) for row in rows], -1).reshape(-1, 2, 3)
    grid = F.affine_grid(matrices, [count * length, 1, SIDE, SIDE], align_corners=False)
    moved = F.grid_sample(crops.reshape(-1, 1, *crops.shape[2:]), grid, align_corners=False, padding_mode="border")
    return moved.reshape(count, length, SIDE, SIDE)


def augment_voice(mel: Tensor, other: Tensor) -> Tensor:
    """``[40, U]`` in natural logarithms to a standardised one, by another microphone, in a room, with noise."""
    mel = mel + _curve(random.randrange(2, 9)) + random.gauss(0, 2)
    if random.random() < 0.7:
        if random.random() < 0.5:
            noise = _curve(5) + torch.randn_like(mel) * 0.8
            noise = noise + mel.max() - 2 - random.uniform(0, 8)
        else:
            noise = other.repeat(1, 3)[:, random.randrange(100) :][:, : mel.shape[1]]
            noise = noise + mel.mean() - noise.mean() - 1.5 - random.uniform(0, 4)
        mel = torch.logaddexp(mel, noise)
    if random.random() < 0.3:
        mel = _in_a_room(mel, math.exp(-1 / random.uniform(3, 15)), random.uniform(0.05, 0.5))
    if random.random() < 0.3:
        first = random.randrange(BANDS - 8)
        mel[first : first + random.randrange(2, 9)] = mel.mean()
    if random.random() < 0.3:
        mel = mel.clamp(min=float(mel.max()) - random.uniform(4, 9))
    return standardise_voice(mel[None])[0]


def _in_a_room(mel: Tensor, decay: float, loudness: float) -> Tensor:
    """With an echo whose power falls by a factor with each column."""
    power, left, echo = mel.exp(), torch.zeros(BANDS), torch.empty_like(mel)
    for column in range(mel.shape[1]):
        left = left * decay + power[:, column]
        echo[:, column] = left
    return torch.log(power + loudness * echo)


def _even(count: int, size: float) -> Tensor:
    return ((torch.rand(count) * 2 - 1) * size)[:, None, None, None]


def _wander(count: int, length: int, size: float) -> Tensor:
    """Slow noise ``[B, T]`` of about such a std."""
    return F.avg_pool1d(torch.randn(count, 1, length + 10), 11, 1)[:, 0] * 3.3 * size


def _curve(knots: int) -> Tensor:
    """A random smooth curve over the bands, of natural logarithms: ``[40, 1]``."""
    return F.interpolate(torch.randn(1, 1, knots) * 1.5, BANDS, mode="linear")[0, 0][:, None]
