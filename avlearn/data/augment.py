"""Random changes that keep picture and sound together, batched on the device."""

import torch
from torch import Tensor


def augment_video(
    video: Tensor,
    generator: torch.Generator,
    *,
    flip: bool,
    brightness: float,
    contrast: float,
    colour: float,
) -> Tensor:
    """Mirror half of the clips, and change each clip's light.

    Args:
        video: float ``[B, 3, T, H, W]`` in [0, 1]; changed in place.
        generator: on the CPU; decides everything.
        flip: whether clips may be mirrored left to right.
        brightness, contrast, colour: largest relative change (colour: a channel's shift).
    """
    batch = len(video)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).mul(2).sub(1).to(video.device)

    mirrored = torch.rand(batch, generator=generator) < 0.5
    if flip:
        video[mirrored] = video[mirrored].flip(-1)
    gain = (1 + contrast * uniform(batch)).view(-1, 1, 1, 1, 1)
    shift = brightness * uniform(batch).view(-1, 1, 1, 1, 1) * 0.5
    tint = colour * uniform(batch, 3).view(batch, 3, 1, 1, 1) * 0.5
    return video.mul_(gain).add_(0.5 * (1 - gain) + shift + tint).clamp_(0, 1)


def augment_audio(audio: Tensor, generator: torch.Generator, *, gain: float) -> Tensor:
    """Change each clip's level by up to ``exp(gain)``: ``[B, S]`` to the same."""
    change = torch.rand(len(audio), 1, generator=generator).mul(2).sub(1).mul(gain).exp()
    return audio * change.to(audio.device)
