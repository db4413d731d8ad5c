"""Optical flow of frames, by any of the methods: one call behind all."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avlearn.device import choose_device
from avlearn.errors import AvlearnError, ModelError
from avlearn.models.flow import FLOW_NETWORKS, create_flow_network
from avlearn.names import hint
from avlearn.signal.flow import METHODS

FLOW_METHODS = (*METHODS, *FLOW_NETWORKS)
_PIXELS = 1 << 20  # of the pairs that are worked on at once


@dataclass(frozen=True)
class FlowMethod:
    """A method of optical flow, ready on a device.

    Attributes:
        name: one of `FLOW_METHODS`.
        device: where it computes; Farneback and DIS always on the processor.
        network: of those that are one.
    """

    name: str
    device: torch.device
    network: nn.Module | None = None

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow float32 ``[B, 2, H, W]``, on the device, of RGB ``[B, 3, H, W]``, 0 to 255.

        Raises:
            ModelError: a network gives what is not finite.
        """
        find = self.network or METHODS[self.name]
        flow: Tensor = find(first.to(self.device).float(), second.to(self.device).float())
        if self.network is not None and not flow.isfinite().all():
            raise ModelError(f"the flow of {self.name} is not finite: its weights are damaged")
        return flow


def load_flow(method: str = "lucas_kanade", device: str = "auto", precision: str = "32") -> FlowMethod:
    """A method by its name.

    Args:
        method: one of `FLOW_METHODS`; a network with its weights behind a colon: ``raft_large:FILE``.
        device: as for `avlearn.device.choose_device`.
        precision: ``32`` alone.

    Raises:
        AvlearnError: there is no such method, device or precision.
        ModelError: a network has no weights, or they cannot be read.
    """
    name, _, weights = method.partition(":")
    if name not in FLOW_METHODS:
        raise AvlearnError(f"no method of optical flow is called '{name}'{hint(name, FLOW_METHODS, count=2)}")
    if precision != "32":
        raise AvlearnError(f"optical flow is computed in precision 32, not {precision}")
    if name in METHODS:
        if weights:
            raise AvlearnError(f"{name} has no weights: leave out ':{weights}'")
        return FlowMethod(name, choose_device(device if name not in ("farneback", "dis") else "cpu"))
    if not weights:
        raise ModelError(f"{name} is a network without weights in the package: give their file, {name}:FILE")
    place = choose_device(device)
    return FlowMethod(name, place, create_flow_network(name, weights).to(place))


def estimate_flow(
    video: np.ndarray | Tensor, method: str | FlowMethod = "lucas_kanade", *, device: str = "auto"
) -> Tensor:  # fmt: skip
    """The motion from each frame to the next.

    Args:
        video: uint8 ``[T, H, W, 3]``, as `avlearn.Clip.video`.
        method: as for `load_flow`, or what that gave.
        device: as for `avlearn.device.choose_device`.

    Returns:
        float32 ``[T - 1, 2, H, W]``, pixels along x and y, on the device: the pixel (x, y) of frame t is at
        ``(x, y) + flow[t, :, y, x]`` in frame t + 1.

    Raises:
        AvlearnError: there is no such method or device, or there are fewer than two frames.

    >>> still = np.full((3, 32, 32, 3), 128, np.uint8)
    >>> estimate_flow(still, device="cpu").abs().max()
    tensor(0.)
    """
    find = load_flow(method, device) if isinstance(method, str) else method
    frames = torch.as_tensor(video)
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise AvlearnError(f"frames are [T, H, W, 3], not {[*frames.shape]}")
    if len(frames) < 2:
        raise AvlearnError("flow is from a frame to the next: there are fewer than two frames")
    flows = [find(part[:-1], part[1:]) for part in _parts(frames.permute(0, 3, 1, 2))]
    return torch.cat(flows)


def pairs_at_once(height: int, width: int) -> int:
    """How many pairs of frames of a size are worked on at once."""
    return max(_PIXELS // (height * width), 1)


def _parts(frames: Tensor) -> Iterator[Tensor]:
    """Runs of frames, each beginning with the last of the run before."""
    count = pairs_at_once(*frames.shape[2:])
    for begin in range(0, len(frames) - 1, count):
        yield frames[begin : begin + count + 1]
