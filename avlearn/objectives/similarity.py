"""Readouts of the similarity volume ``S[b, c, t, u, y, x] = <V[b, :, t, y, x], A[c, :, u]>``.

``V`` is ``[B, D, T, Y, X]``, ``A`` is ``[B, D, U]``, both of unit length over D and on one clock: step t
of V and step t of A cover the same seconds where both start together. The volume is never made whole.

Everywhere the mean over time comes first and the pooling over space second: a source stays where it is
while its audio goes on, so that the average sharpens the place before the best place is chosen.
"""

import math

import torch
from torch import Tensor

BLOCK = 2**24  # scores by place that are made at a time


def pool_space(scores: Tensor, scale: float, dim: int) -> Tensor:
    """Soft maximum over places: ``(logsumexp(scale * x) - log P) / scale`` along ``dim``.

    >>> pool_space(torch.tensor([0.5, 0.5]), 20.0, 0)
    tensor(0.5000)
    """
    return (torch.logsumexp(scores * scale, dim) - math.log(scores.shape[dim])) / scale


def pair_scores(video: Tensor, audio: Tensor, scale: float) -> Tensor:
    """Every clip's video against every clip's audio at every offset.

    Args:
        video: ``[B, D, T, Y, X]``.
        audio: ``[C, D, U]``, ``U >= T``.
        scale: of the soft maximum over places.

    Returns:
        ``[B, C, O]``, ``O = U - T + 1``; entry o compares step t of the video with step t + o of the audio.

    >>> audio = torch.eye(3)[None]
    >>> pair_scores(audio[:, :, 1:, None, None], audio, 20.0)
    tensor([[[0., 1.]]])
    """
    b, d, t, y, x = video.shape
    # Scaled before the product, which is the larger by far.
    places = video.permute(0, 3, 4, 2, 1).reshape(b * y * x, t * d) * (scale / t)
    # In blocks: what pooling and its gradient make beside the scores is as large as they are.
    per_audio = len(places) * (audio.shape[2] - t + 1)
    found = []
    for block in audio.split(max(BLOCK // max(per_audio, 1), 1)):
        windows = block.unfold(2, t, 1).permute(0, 2, 3, 1)  # [C, O, T, D]
        scores = places @ windows.flatten(2).flatten(0, 1).T
        found.append(scores.view(b, y * x, *windows.shape[:2]).logsumexp(1))
    return (torch.cat(found, 1) - math.log(y * x)) / scale


def offset_scores(video: Tensor, audio: Tensor, scale: float, start: int, offsets: Tensor) -> Tensor:
    """Each clip's video against its own audio at given offsets, where part of the audio may be missing.

    Args:
        video: ``[B, D, T, Y, X]``; its step 0 coincides with step ``start`` of the audio.
        audio: ``[B, D, U]``.
        scale: of the soft maximum over places.
        offsets: ``[O]`` integer steps; offset o compares video step t with audio step start + t + o.

    Returns:
        ``[B, O]``; the mean runs over the steps for which there is audio. NaN where these are fewer than
        half of T.

    >>> audio = torch.eye(3)[None]
    >>> offset_scores(audio[:, :, 1:, None, None], audio, 20.0, 1, torch.tensor([-1, 0, 1, 2]))
    tensor([[0., 1., 0., nan]])
    """
    t, u = video.shape[2], audio.shape[2]
    places = video.flatten(3).permute(0, 3, 2, 1)  # [B, P, T, D]
    index = start + torch.arange(t, device=video.device) + offsets.to(video.device)[:, None]  # [O, T]
    known = (index >= 0) & (index < u)
    windows = audio[:, :, index.clamp(0, u - 1)].permute(0, 2, 3, 1)  # [B, O, T, D]
    windows = windows * known[..., None]
    counts = known.sum(1)
    scores = places.flatten(2) @ windows.flatten(2).transpose(1, 2)  # [B, P, O]
    pooled = pool_space(scores / counts.clamp(min=1), scale, 1)
    return pooled.masked_fill(counts * 2 < t, float("nan"))


def heatmap(video: Tensor, audio: Tensor) -> Tensor:
    """Localization map: mean over time of the aligned similarity, ``[B, Y, X]`` in [-1, 1].

    Args:
        video: ``[B, D, T, Y, X]``.
        audio: ``[B, D, T]``.

    >>> audio = torch.eye(2)[None]
    >>> heatmap(torch.stack([audio, 0 * audio], 3)[..., None], audio)  # it sounds in the upper of two cells
    tensor([[[1.],
             [0.]]])
    """
    return torch.einsum("bdtyx,bdt->byx", video, audio) / video.shape[2]


def peak_weights(heat: Tensor, peak: Tensor, scale: float) -> Tensor:
    """Weights of the cells around a peak: ``[B, Y, X]``, which sum to 1.

    Args:
        heat: ``[B, Y, X]``.
        peak: ``[B, 2]`` row and column of the peak's cell.
        scale: sharpness; the cell and its eight neighbours share by ``softmax(scale * heat)``.

    >>> peak_weights(torch.zeros(1, 1, 4), torch.tensor([[0, 0]]), 20.0)
    tensor([[[0.5000, 0.5000, 0.0000, 0.0000]]])
    """
    rows = torch.arange(heat.shape[1], device=heat.device)[None, :, None]
    columns = torch.arange(heat.shape[2], device=heat.device)[None, None]
    far_rows = (rows - peak[:, 0, None, None]).abs() > 1
    far_columns = (columns - peak[:, 1, None, None]).abs() > 1
    near = (heat * scale).masked_fill(far_rows | far_columns, float("-inf"))
    return near.flatten(1).softmax(1).view_as(heat)


def strongest_place(heat: Tensor) -> Tensor:
    """Row and column of each map's maximum: ``[B, Y, X]`` to ``[B, 2]``.

    >>> strongest_place(torch.tensor([[[0.0, 1.0], [3.0, 2.0]]]))
    tensor([[1, 0]])
    """
    flat = heat.flatten(1).argmax(1)
    return torch.stack([flat // heat.shape[2], flat % heat.shape[2]], 1)


def strongest_places(heat: Tensor, count: int) -> list[Tensor]:
    """Rows and columns of the highest cells that are at least two apart, strongest first: ``count`` of ``[B, 2]``.

    Args:
        heat: ``[B, Y, X]``; where a map is too small for more, places repeat.

    >>> strongest_places(torch.tensor([[[3.0, 2.0, 1.0]]]), 2)
    [tensor([[0, 0]]), tensor([[0, 2]])]
    """
    left, found = heat.clone(), []
    for _ in range(count):
        place = strongest_place(left)
        found.append(place)
        near = peak_weights(torch.zeros_like(heat), place, 0.0) > 0
        left = left.masked_fill(near, float("-inf"))
    return found
