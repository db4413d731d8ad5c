"""Random changes that keep video and audio together, batched on the device."""

import torch
from torch import Tensor
from torch.nn import functional as F


def augment_video(
    video: Tensor,
    generator: torch.Generator,
    *,
    flip: bool,
    brightness: float,
    contrast: float,
    colour: float,
    zoom: float = 0.0,
) -> Tensor:
    """Mirror half of the clips, look nearer at a part of each, and change its light.

    Args:
        video: float ``[B, 3, T, H, W]`` in [0, 1]; changed in place, unless zoomed.
        generator: on the CPU; decides everything.
        flip: whether clips may be mirrored left to right.
        brightness, contrast, colour: largest relative change (colour: a channel's shift).
        zoom: largest share of the sides that is cut off.
    """
    batch = len(video)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).mul(2).sub(1).to(video.device)

    mirrored = torch.rand(batch, generator=generator) < 0.5
    if flip:
        video[mirrored] = video[mirrored].flip(-1)
    if zoom:
        left = 1 - zoom * torch.rand(batch, generator=generator)
        middle = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (1 - left)[:, None]
        window = torch.cat([torch.eye(2) * left.view(-1, 1, 1), middle[:, :, None]], 2).to(video)
        # One grid a clip: its frames are channels here.
        places = F.affine_grid(window, [batch, 1, *video.shape[3:]], align_corners=False)
        seen = F.grid_sample(video.flatten(1, 2), places, padding_mode="border", align_corners=False)
        video = seen.view(video.shape)
    gain = (1 + contrast * uniform(batch)).view(-1, 1, 1, 1, 1)
    shift = brightness * uniform(batch).view(-1, 1, 1, 1, 1) * 0.5
    tint = colour * uniform(batch, 3).view(batch, 3, 1, 1, 1) * 0.5
    return video.mul_(gain).add_(0.5 * (1 - gain) + shift + tint).clamp_(0, 1)


def augment_audio(audio: Tensor, generator: torch.Generator, *, gain: float) -> Tensor:
    """Change each clip's level by up to ``exp(gain)``: ``[B, S]`` to the same."""
    change = torch.rand(len(audio), 1, generator=generator).mul(2).sub(1).mul(gain).exp()
    return audio * change.to(audio.device)
