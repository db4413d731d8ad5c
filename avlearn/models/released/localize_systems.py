"""Released localizers as the tools use them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from avlearn.errors import ModelError
from avlearn.models.released.localizers import (
    EVALUATORS,
    SAMPLE_RATE,
    Localizer,
    load_localizer,
    prepare_image,
    window_spectrogram,
)

_SIDE, _CELL = 224, 16  # pixels of LVS's frames and cells


class LocalizerSystem:
    """A localizer of the LVS family: sees one frame, and hears the seconds about it that its evaluator hears."""

    sample_rate = SAMPLE_RATE

    def __init__(self, network: Localizer, title: str):
        self.network, self.title = network, title
        self.seconds = EVALUATORS[network.paper].seconds
        self.hop = self.seconds / (4 if self.seconds < 5 else 10)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    @torch.inference_mode()
    def localize_window(self, frame: np.ndarray, audio: Tensor) -> Tensor:
        """See `LocalizeSystem`; cosines. LVS, whose evaluator sees a square, sees all of another frame in its shape."""
        paper = self.network.paper
        image = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].float() / 255
        image = _whole(image) if EVALUATORS[paper].cropped else prepare_image(image, paper)
        return self.network.heatmap(image, window_spectrogram(audio.to(self.device), paper))[0].cpu()


def _whole(image: Tensor) -> Tensor:
    """To 224 pixels of the shorter side, in whole cells."""
    height, width = image.shape[2:]
    scale = _SIDE / min(height, width)
    size = [max(round(side * scale / _CELL), _SIDE // _CELL) * _CELL for side in (height, width)]
    return TF.resize(image, size, TF.InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)


def open_localizer(
    path: Path, *, title: str, device: torch.device, precision: torch.dtype | None, paper: str
) -> LocalizerSystem:
    """A system from its file.

    Raises:
        ModelError: the file cannot be read, or is that of another paper.
    """
    network = load_localizer(path)
    if network.paper != paper and {network.paper, paper} not in ({"EZ-VSL", "FNAC"}, {"LVS", "SSLalignment"}):
        raise ModelError(f"{path} holds {network.paper}, not {paper}")
    network.paper, network.precision = paper, precision
    return LocalizerSystem(network.to(device), title)
