"""Moving scenes of tools/bench as tensors, for tests of optical flow."""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "bench"))
from moving_scenes import KINDS, Scene, edge_scene, make_scene

__all__ = ["KINDS", "edge_scene", "error", "make_scene", "pair"]

FLOW_MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media" / "flow"


def pair(*scenes: Scene) -> tuple[Tensor, Tensor]:
    """First and second frames ``[B, 3, H, W]``."""
    firsts, seconds = ([getattr(scene, which) for scene in scenes] for which in ("first", "second"))
    return tuple(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) for frames in (firsts, seconds))


def error(flow: Tensor, scene: Scene, margin: int = 0) -> float:
    """Mean end-point error, pixels, of ``[2, H, W]``, without a margin."""
    height, width = scene.flow.shape[1:]
    distance = np.hypot(*(flow.cpu().numpy() - scene.flow))
    return float(distance[margin : height - margin, margin : width - margin].mean())
