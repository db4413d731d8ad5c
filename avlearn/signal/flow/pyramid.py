"""What methods of optical flow share: grey levels, pictures in halved sizes, gradients, sums over windows."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
_LEAST = 8  # pixels of the shorter side of the smallest picture


def grey(frames: Tensor) -> Tensor:
    """Float ``[B, 1, H, W]``, of ``[B, 3, H, W]`` RGB or ``[B, 1, H, W]``, of the same range."""
    if frames.shape[1] == 1:
        return frames.float()
    luma = torch.tensor(_LUMA, device=frames.device).view(1, 3, 1, 1)
    return (frames * luma).sum(1, keepdim=True)


def check_pair(first: Tensor, second: Tensor) -> None:
    """Raise ValueError where two batches of frames are no pairs of ``[B, 1 or 3, H, W]``."""
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] not in (1, 3):
        raise ValueError(f"flow is between two of [B, 1 or 3, H, W], not {[*first.shape]} and {[*second.shape]}")


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """A picture ``[B, C, H, W]``, then each time at half its size, without aliasing; none is below 8 pixels.

    Args:
        image: the largest.
        levels: sizes at most, with the largest.
    """
    found = [image]
    while len(found) < levels and min(found[-1].shape[2:]) >= 2 * _LEAST:
        size = [-(-side // 2) for side in found[-1].shape[2:]]
        found.append(F.interpolate(found[-1], size=size, mode="bilinear", antialias=True, align_corners=False))
    return found


def gradient(image: Tensor) -> Tensor:
    """Derivatives along x and y of ``[B, 1, H, W]``, a pixel: ``[B, 2, H, W]``, by Scharr's kernel."""
    smooth = torch.tensor([3.0, 10.0, 3.0], device=image.device) / 16
    slope = torch.tensor([-0.5, 0.0, 0.5], device=image.device)
    kernels = torch.stack([torch.outer(smooth, slope), torch.outer(slope, smooth)]).unsqueeze(1)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)


def box_mean(values: Tensor, side: int) -> Tensor:
    """Mean of ``[B, C, H, W]`` over a square of ``side`` (odd) pixels around each, as far as it is in the picture."""
    reach = side // 2
    rows = F.avg_pool2d(values, (1, side), 1, (0, reach), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), 1, (reach, 0), count_include_pad=False)
