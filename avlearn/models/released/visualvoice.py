"""VisualVoice (Gao & Grauman, CVPR 2021): of a mixture of voices, that of each face that is seen.

The motion of the lips and the look of the face enter a U-Net over the complex spectrogram at its bottom; it gives
complex masks.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import shufflenet_v2_x1_0

from avlearn.errors import ModelError
from avlearn.models.released.separators import (
    ImageNetFeatures,
    down_block,
    read_parts,
    resnet_features,
    separate_windows,
    up_block,
)
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, released_shapes, renamed

SAMPLE_RATE = 16000
FRAME_RATE = 25
SAMPLES, FRAMES = 40800, 64  # of a window
_FFT, _WINDOW, _HOP = 512, 400, 160  # samples
_LOUDNESS = 0.07  # root mean square
_LARGEST = 5  # of a mask
_MOUTH, _MEAN, _STD = 88, 0.421, 0.165  # pixels, of which the middle is seen


class _Temporal(nn.Module):
    """``[B, inputs, T]`` to ``[B, 512, T]``: two convolutions of 3 frames that lie some apart, and a shortcut."""

    def __init__(self, inputs: int, apart: int) -> None:
        super().__init__()
        width = 512
        self.conv1 = nn.Conv1d(inputs, width, 3, padding=apart, dilation=apart)
        self.batchnorm1, self.relu1 = nn.BatchNorm1d(width), nn.PReLU(width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=apart, dilation=apart)
        self.batchnorm2, self.relu2 = nn.BatchNorm1d(width), nn.PReLU(width)
        self.downsample = nn.Identity() if inputs == width else nn.Conv1d(inputs, width, 1)
        self.relu = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.batchnorm1(self.conv1(x)))
        y = self.relu2(self.batchnorm2(self.conv2(y)))
        return self.relu(y + self.downsample(x))


class _Lips(nn.Module):
    """``[B, T, H, W]`` of grey in [0, 1] to ``[B, 512, T]``; the middle 88 x 88 pixels are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.frontend3D = nn.Sequential(
            nn.Conv3d(1, 24, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False),
            nn.BatchNorm3d(24),
            nn.PReLU(24),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        net = shufflenet_v2_x1_0()
        self.trunk = nn.Sequential(nn.Sequential(*net.stage2, *net.stage3, *net.stage4), net.conv5)
        self.temporal = nn.Sequential(*(_Temporal(1024 if apart == 1 else 512, apart) for apart in (1, 2, 4, 8)))

    def forward(self, mouth: Tensor) -> Tensor:
        top, left = (mouth.shape[2] - _MOUTH) // 2, (mouth.shape[3] - _MOUTH) // 2
        mouth = (mouth[:, :, top : top + _MOUTH, left : left + _MOUTH] - _MEAN) / _STD
        x = self.frontend3D(mouth.unsqueeze(1)).transpose(1, 2)
        x = self.trunk(x.flatten(0, 1)).mean((2, 3)).unflatten(0, x.shape[:2])
        return self.temporal(x.transpose(1, 2))


def _pooled_block(inputs: int, outputs: int) -> nn.Sequential:
    """Half the frequencies."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.MaxPool2d((2, 1)))


def _unpooled_block(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the frequencies."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(nn.Upsample(scale_factor=(2, 1)), conv, nn.BatchNorm2d(outputs), nn.ReLU())


class VisualVoice(nn.Module):
    """The voices of faces, of a mixture at 16 kHz, in windows of 2.55 s."""

    def __init__(self) -> None:
        super().__init__()
        self.lips = _Lips()
        self.face = ImageNetFeatures(resnet_features())
        self.project = nn.Linear(512, 128)
        widths = (64, 128, 256, *[512] * 5)
        self.down = nn.ModuleList([down_block(2, 64), down_block(64, 128)])
        self.down.extend(_pooled_block(*pair) for pair in pairwise(widths[1:]))
        self.up = nn.ModuleList([up_block(128, 2)[:1], up_block(256, 64)])
        self.up.extend(_unpooled_block(2 * outputs, inputs) for inputs, outputs in pairwise(widths[1:-1]))
        self.up.append(_unpooled_block(128 + 512 + 512, 512))

    def embed_face(self, face: Tensor) -> Tensor:
        """``[B, K, 3, H, W]`` in [0, 1], RGB, to ``[B, K, 128]``."""
        return self.project(self.face(face.flatten(0, 1)).amax((2, 3))).unflatten(0, face.shape[:2])

    def masks(self, spectrum: Tensor, mouth: Tensor, seen: Tensor) -> Tensor:
        """As `forward`, with what `embed_face` gives."""
        sources = seen.shape[1]
        levels = [torch.stack([spectrum.real, spectrum.imag], 1)[:, :, :-1]]
        for down in self.down:
            levels.append(down(levels[-1]))
        lips = self.lips(mouth.flatten(0, 1))
        x = torch.cat([seen.flatten(0, 1).unsqueeze(2).expand(-1, -1, lips.shape[2]), lips], 1).unsqueeze(2)
        for up in reversed(self.up):
            x = up(torch.cat([x, levels.pop().repeat_interleave(sources, 0)], 1))
        real, imag = (_LARGEST * x.float().tanh()).unbind(1)
        return torch.complex(real, imag).unflatten(0, seen.shape[:2])

    def forward(self, spectrum: Tensor, mouth: Tensor, face: Tensor) -> Tensor:
        """Masks of a mixture's spectrum.

        Args:
            spectrum: complex ``[B, 257, 4 T]``: a transform of 512 samples, a Hann window of 400, every 160.
            mouth, face: as `separate` takes them, T frames.

        Returns:
            Complex ``[B, K, 256, 4 T]``, both parts within 5: without the highest frequency, which is not masked.
        """
        return self.masks(spectrum, mouth, self.embed_face(face))

    @torch.no_grad()
    def separate(self, mixture: Tensor, mouth: Tensor, face: Tensor) -> Tensor:
        """The voice of every face, as the paper's evaluator finds it: in windows of 2.55 s, as loud as in training.

        The evaluator mixes by the mean of two voices, not by their sum.

        Args:
            mixture: ``[B, S]`` at 16 kHz, of at least 2.55 s.
            mouth: ``[B, K, T, H, W]`` grey in [0, 1], at 25 frames a second, of at least 88 x 88 pixels, of which the
                middle is seen; published with 96 x 96 around the lips of an upright face.
            face: ``[B, K, 3, H, W]`` in [0, 1], RGB; published with 224 x 224 pixels.

        Returns:
            ``[B, K, S]`` within [-1, 1].

        Raises:
            ModelError: the mixture is shorter than a window, or there are too few frames.
        """
        samples, frames = mixture.shape[1], mouth.shape[2]
        if samples < SAMPLES:
            raise ModelError(f"VisualVoice takes windows of {SAMPLES} samples at 16 kHz; there are {samples}")
        needed = FRAMES + max((_frame(start) for start in range(0, samples - SAMPLES, SAMPLES)), default=0)
        if frames < needed:
            raise ModelError(
                f"VisualVoice needs {needed} frames at 25 a second for {samples} samples; there are {frames}"
            )
        part = partial(self._part, mouth, self.embed_face(face), samples)
        return separate_windows(part, mixture, SAMPLES, SAMPLES).clamp(-1, 1)

    def split(self, audio: Tensor, mouth: Tensor, face: Tensor) -> Tensor:
        """The voices of one window whose channels share the masks: those of their mean.

        Args:
            audio: ``[C, 40800]`` at 16 kHz.
            mouth, face: as of `separate`, of 64 frames and one mixture.

        Returns:
            ``[K, C, 40800]``.
        """
        mean = audio.mean(0, keepdim=True)
        loudness = _loudness(mean)
        transform = _transform(audio)
        heard = torch.stft(mean / loudness, **transform, pad_mode="reflect", return_complex=True)
        masks = F.pad(self.masks(heard, mouth, self.embed_face(face))[0], (0, 0, 0, 1), value=1)
        spectrum = torch.stft(audio, **transform, pad_mode="reflect", return_complex=True)
        parts = torch.istft((spectrum * masks.unsqueeze(1)).flatten(0, 1), **transform, length=SAMPLES)
        return parts.unflatten(0, (len(masks), len(audio)))

    def _part(self, mouth: Tensor, seen: Tensor, samples: int, start: int, mixture: Tensor) -> Tensor:
        first = mouth.shape[2] - FRAMES if start == samples - SAMPLES else _frame(start)
        loudness, transform = _loudness(mixture), _transform(mixture)
        spectrum = torch.stft(mixture / loudness, **transform, pad_mode="reflect", return_complex=True)
        masks = F.pad(self.masks(spectrum, mouth[:, :, first : first + FRAMES], seen), (0, 0, 0, 1), value=1)
        parts = torch.istft((spectrum.unsqueeze(1) * masks).flatten(0, 1), **transform, length=SAMPLES)
        return parts.clamp(-1, 1).unflatten(0, seen.shape[:2]) * loudness.unsqueeze(1)


def _loudness(mixture: Tensor) -> Tensor:
    """Of ``[B, S]``, against that of the training: ``[B, 1]``."""
    return mixture.square().mean(1, keepdim=True).sqrt().clamp(min=1e-4) / _LOUDNESS


def _transform(audio: Tensor) -> dict[str, Any]:
    taper = torch.hann_window(_WINDOW).to(audio)
    return {"n_fft": _FFT, "hop_length": _HOP, "win_length": _WINDOW, "window": taper}


def _frame(start: int) -> int:
    """Of a sample."""
    return round(start / SAMPLE_RATE * FRAME_RATE)


@released_shapes("VisualVoice")
def load_visualvoice(
    lipreading: str | Path | Tensors, facial: str | Path | Tensors, unet: str | Path | Tensors
) -> VisualVoice:
    """VisualVoice as its authors released it, in evaluation mode.

    That is with ShuffleNet lips (``lrw_snv1x_tcn2x``), ``--visual_feature_type both``, ``--identity_feature_dim 128``
    and ``--compression_type none``.

    Args:
        lipreading, facial, unet: files like ``lipreading_best.pth``, or tensors by the names in them.

    Raises:
        ModelError: a file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    model = VisualVoice()
    parts = read_parts(lipreading=lipreading, facial=facial, unet=unet)
    parts = {name: tensor for name, tensor in parts.items() if not _is_spare(name)}
    tensors = renamed(
        parts,
        [
            (r"^lipreading\.trunk\.0\.(\d+)\.banch", r"lips.trunk.0.\1.branch"),
            (r"^lipreading\.tcn\.tcn_trunk\.network\.", "lips.temporal."),
            (r"^lipreading\.", "lips."),
            (r"^facial\.feature_extraction\.", "face.features."),
            (r"^facial\.fc\.", "project."),
            (r"^unet\.audionet_convlayer(\d)\.(conv\.)?", lambda m: f"down.{int(m[1]) - 1}."),
            (r"^unet\.audionet_upconvlayer(\d)\.(up\.)?", lambda m: f"up.{8 - int(m[1])}."),
        ],
    )
    load_all_weights(model, tensors, "VisualVoice")
    return model.eval()


def _is_spare(name: str) -> bool:
    """What is in the files twice, or classifies words."""
    return name == "facial.conv1.weight" or name.startswith("lipreading.tcn.tcn_output.") or ".net." in name
