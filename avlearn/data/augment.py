"""Random changes that keep video and audio together, batched on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class VideoChange:
    """A random change of clips: of B, where they are looked at and their light.

    Attributes:
        mirrored: bool ``[B]``.
        window: ``[B, 2, 3]``, of `torch.nn.functional.affine_grid`; None where all of the frame is seen.
        gain: ``[B, 1, 1, 1, 1]`` around the middle grey.
        shift: ``[B, 3, 1, 1, 1]``, added.
    """

    mirrored: Tensor
    window: Tensor | None
    gain: Tensor
    shift: Tensor

    def of_video(self, video: Tensor) -> Tensor:
        """Frames ``[B, 3, T, H, W]`` in [0, 1]; changed in place, unless zoomed."""
        video[self.mirrored] = video[self.mirrored].flip(-1)
        seen = self._zoomed(video)
        return torch.addcmul(0.5 * (1 - self.gain) + self.shift, seen, self.gain, out=seen).clamp_(0, 1)

    def of_flow(self, flow: Tensor) -> Tensor:
        """Flow ``[B, 2, T, H, W]`` in pixels of the same clips: what is mirrored moves the other way, and what is seen
        nearer moves further. Light does not move."""
        flow = flow.clone()
        flow[self.mirrored] = flow[self.mirrored].flip(-1) * flow.new_tensor([-1.0, 1.0]).view(2, 1, 1, 1)
        if self.window is None:
            return flow
        return self._zoomed(flow) / self.window[:, 0, 0].to(flow).view(-1, 1, 1, 1, 1)

    def _zoomed(self, video: Tensor) -> Tensor:
        if self.window is None:
            return video
        # One grid a clip: its frames are channels here.
        places = F.affine_grid(self.window.to(video), [len(video), 1, *video.shape[3:]], align_corners=False)
        seen = F.grid_sample(video.flatten(1, 2), places, padding_mode="border", align_corners=False)
        return seen.view(video.shape)


def draw_change(
    batch: int,
    device: torch.device,
    generator: torch.Generator,
    *,
    flip: bool,
    brightness: float,
    contrast: float,
    colour: float,
    zoom: float = 0.0,
) -> VideoChange:
    """Mirror half of so many clips, look nearer at a part of each, and change its light.

    Args:
        batch: clips.
        device: that they are on.
        generator: on the CPU; decides everything.
        flip: whether clips may be mirrored left to right.
        brightness, contrast, colour: largest relative change (colour: a channel's shift).
        zoom: largest share of the sides that is cut off.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).mul(2).sub(1).to(device)

    mirrored = (torch.rand(batch, generator=generator) < 0.5) & flip
    window = None
    if zoom:
        left = 1 - zoom * torch.rand(batch, generator=generator)
        middle = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (1 - left)[:, None]
        window = torch.cat([torch.eye(2) * left.view(-1, 1, 1), middle[:, :, None]], 2)
    gain = (1 + contrast * uniform(batch)).view(-1, 1, 1, 1, 1)
    shift = brightness * uniform(batch).view(-1, 1, 1, 1, 1) * 0.5
    tint = colour * uniform(batch, 3).view(batch, 3, 1, 1, 1) * 0.5
    return VideoChange(mirrored, window, gain, shift + tint)


def augment_audio(audio: Tensor, generator: torch.Generator, *, gain: float) -> Tensor:
    """Change each clip's level by up to ``exp(gain)``: ``[B, S]`` to the same."""
    change = torch.rand(len(audio), 1, generator=generator).mul(2).sub(1).mul(gain).exp()
    return audio * change.to(audio.device)
