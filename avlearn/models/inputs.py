"""What encoders see and hear: frames, their optical flow, or both; spectrograms; as many as each takes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder
from avlearn.signal import FrontEnd

LIMIT = 20.0  # pixels along x or y that are 0 and 1 in an input; longer motion is cut (Carreira & Zisserman, CVPR 2017)
_PIXELS = 1 << 20  # of the pairs of frames that are worked on at once
_COLOURS = 3


def extended(video: Tensor, frames: int) -> Tensor:
    """``[B, C, T, H, W]`` with its last frame repeated, to so many."""
    missing = frames - video.shape[2]
    return video if missing <= 0 else torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)


def video_input(encoder: Encoder, video: Tensor | None, flow: Tensor | None = None) -> Tensor:
    """`encoder_input` of frames, the last one repeated to as many as the encoder takes.

    Args:
        encoder: of video; ``encoder.takes`` says what it sees.
        video: ``[B, 3, T, H, W]`` in [0, 1]; may be None for one that sees flow alone, where that is given.
        flow: ``[B, 2, T - 1, H, W]``, pixels from each frame to the next, where it is known already.
    """
    if flow is None:
        assert video is not None  # one of the two is given
        return encoder_input(encoder, extended(video, encoder.frames_for(video.shape[2])))
    frames = encoder.frames_for(flow.shape[2] + 1)
    missing = max(frames - 1 - flow.shape[2], 0)  # a frame that is repeated does not move
    found = _in_range(F.pad(flow, (0, 0, 0, 0, 0, missing)))
    if encoder.takes == "video+flow" and video is not None:
        return torch.cat([extended(video, frames), found.to(video.dtype)], 1)
    return stacked(found, (encoder.in_chans or 2) // 2)


def audio_input(encoder: Encoder, front_end: FrontEnd, audio: Tensor) -> Tensor:
    """Samples ``[B, S]`` by a front end, with silence after them up to what the encoder takes."""
    frames = front_end.frames(audio.shape[1])
    missing = encoder.frames_for(frames) - frames
    return front_end(F.pad(audio, (0, missing * front_end.kind.hop_samples)) if missing > 0 else audio)


def encoder_input(encoder: Encoder, video: Tensor, method: str | None = None) -> Tensor:
    """Frames as an encoder takes them.

    Args:
        encoder: of video; ``encoder.takes`` says what it sees.
        video: ``[B, 3, T, H, W]`` in [0, 1], on any device: flow is computed there, in batches, without gradients (by
            OpenCV's methods, on the processor).
        method: of optical flow, a key of `avlearn.signal.flow.METHODS`; the encoder's own ``flow_method`` by default.

    Returns:
        ``[B, C, T, H, W]`` in [0, 1]: the frames; or their flow (see `flow_input`), as many stacked as the encoder has
        channels for; or both, the frames first.

    Raises:
        ModelError: there is no such method, or the video is none of colours.
    """
    if encoder.takes == "video":
        return video
    if video.ndim != 5 or video.shape[1] != _COLOURS:
        raise ModelError(f"flow is made of [B, 3, T, H, W], not of {[*video.shape]}")
    if encoder.takes == "video+flow":
        return torch.cat([video, flow_input(video, method or encoder.flow_method)], 1)
    return stacked(flow_input(video, method or encoder.flow_method), (encoder.in_chans or 2) // 2)


def flow_input(video: Tensor, method: str = "lucas_kanade") -> Tensor:
    """Optical flow from each frame to the next.

    Args:
        video: ``[B, 3, T, H, W]`` in [0, 1].
        method: a key of `avlearn.signal.flow.METHODS`.

    Returns:
        ``[B, 2, T, H, W]`` in [0, 1], along x and y: 0.5 is no motion, 0 and 1 are 20 pixels. The last frame has the
        flow of the one before; a single frame does not move.

    Raises:
        ModelError: there is no such method.
    """
    from avlearn.signal.flow import METHODS  # loads OpenCV

    if method not in METHODS:
        raise ModelError(f"flow is by {', '.join(METHODS)}, not by {method}")
    batch, _, frames, rows, columns = video.shape
    if frames < 2:
        return video.new_full((batch, 2, frames, rows, columns), 0.5)
    with torch.no_grad(), _in_single_precision(video.device):
        images = video.detach().float().transpose(1, 2) * 255
        pairs = images[:, :-1].flatten(0, 1), images[:, 1:].flatten(0, 1)
        flows = torch.cat(list(_in_parts(METHODS[method], *pairs))).unflatten(0, (batch, frames - 1))
    return _in_range(flows.transpose(1, 2)).to(video.dtype)


def _in_range(flows: Tensor) -> Tensor:
    """Flow ``[B, 2, T - 1, H, W]`` in pixels as ``[B, 2, T, H, W]`` in [0, 1], the last one twice."""
    found = (flows / (2 * LIMIT) + 0.5).clamp(0, 1)
    return torch.cat([found, found[:, :, -1:]], 2)


def stacked(flow: Tensor, length: int) -> Tensor:
    """The flows of so many frames from each on, as channels x, y, x, y, ... (Simonyan & Zisserman, NIPS 2014).

    Args:
        flow: ``[B, 2, T, H, W]``; beyond the end the last one is repeated.
        length: of a stack, L.

    Returns:
        ``[B, 2 L, T, H, W]``.
    """
    if length == 1:
        return flow
    frames = flow.shape[2]
    longer = F.pad(flow.flatten(3), (0, 0, 0, length - 1), "replicate").unflatten(3, flow.shape[3:])
    return torch.cat([longer[:, :, k : k + frames] for k in range(length)], 1)


def _in_single_precision(device: torch.device) -> AbstractContextManager[object]:
    """Flow is less than a pixel: half precision loses it."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _in_parts(find: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Iterator[Tensor]:
    count = max(_PIXELS // (first.shape[2] * first.shape[3]), 1)
    for one, other in zip(first.split(count), second.split(count), strict=True):
        yield find(one, other)
