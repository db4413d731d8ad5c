"""A small network that tells broad kinds of sounds: it learned from GRID, ESC-10 and rendered sounds alone."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avlearn.signal.spectrogram import LogMel

KINDS = ("speech", "music", "impacts", "engine", "animal", "cry or cough", "water or fire")
SAMPLE_RATE = 16000  # of the audio
BANDS, FRAMES = 64, 100  # of the spectrogram, and its frames a second
_FOLDER = Path(__file__).parent / "zoo" / "sound_kinds"
_WIDTHS = (24, 32, 48, 96)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, and half as many bands and frames."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(2))


class SoundKinds(nn.Module):
    """A convolutional network over a log-mel spectrogram, with one output a kind: sounds may lie over one another.

    Its blocks are those of PANNs (Kong et al., IEEE/ACM TASLP 2020), few and narrow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel = LogMel(SAMPLE_RATE, 512, 0.025, 1 / FRAMES, BANDS, floor=1e-7, mean=0.0, std=1.0)
        self.first = nn.Sequential(
            nn.Conv2d(1, _WIDTHS[0], 7, (2, 4), 3, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise(_WIDTHS)))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * _WIDTHS[-1], len(KINDS)))

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Logits ``[B, K]`` of the kinds in log-mel spectrograms ``[B, 64, U]``, standardised as by `standardise`."""
        x = self.blocks(self.first(spectrogram[:, None])).mean(2)  # [B, C, U / 32]
        return self.head(torch.cat([x.mean(2), x.amax(2)], 1))

    @torch.inference_mode()
    def scores(self, audio: Tensor) -> Tensor:
        """Logits ``[B, K]`` of windows ``[B, S]`` in [-1, 1] at `SAMPLE_RATE`, half a second or more."""
        return self(standardise(self.mel(audio)[:, 0]))


def standardise(spectrogram: Tensor) -> Tensor:
    """``[B, 64, U]`` in nats to the level of the loudest band and frame, over 45 dB: loudness itself tells nothing."""
    top = spectrogram.amax((1, 2), keepdim=True)
    return ((spectrogram - top) / 5.2 + 1).clamp(min=-1)


@cache
def load_sound_kinds(device: torch.device | None = None) -> SoundKinds:
    """The network that comes with the package, in evaluation mode."""
    model = SoundKinds()
    model.load_state_dict({name: value.float() for name, value in load_file(_FOLDER / "model.safetensors").items()})
    return model.eval().to(device or torch.device("cpu"))


@cache
def sound_calibration() -> dict[str, Any]:
    """What makes a probability of `avlearn.apply.sound_kind.SoundEvidence`, for recordings that were never heard."""
    found: dict[str, Any] = json.loads((_FOLDER / "kinds.json").read_text(encoding="utf-8"))
    return found
