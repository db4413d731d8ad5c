"""AVE-Net and AVOL-Net (Arandjelović & Zisserman, ECCV 2018): whether an image and audio belong together, and where.

In the layout of objects-that-sound, whose weights are those that exist. An image is a frame of 224 x 224 pixels in
[0, 1], RGB; the audio is the second around it: the power spectral density of 16-bit samples at 48 kHz in decibels, over
26.68, of 257 bins and 199 windows of 10 ms, 5 ms apart.
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, released_shapes, renamed

_EMBEDDING = 128
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _convolutions(channels: int) -> nn.Sequential:
    """``[B, channels, H, W]`` to ``[B, 512, H / 16, W / 16]``: four groups of two."""
    layers: list[nn.Module] = []
    for group, width in enumerate((64, 128, 256, 512)):
        for i in range(2):
            stride = 2 if group == i == 0 else 1
            layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])


class _TwoTowers(nn.Module):
    """Convolutions of image and audio; the embedding of the audio is of all its bins and frames."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.image = _convolutions(3)
        self.audio = _convolutions(1)
        self.audio_embed = nn.Sequential(
            nn.Linear(512, _EMBEDDING), nn.ReLU(inplace=True), nn.Linear(_EMBEDDING, _EMBEDDING)
        )
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def image_features(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in [0, 1] to ``[B, 512, H / 16, W / 16]``."""
        return self.image((image - self.mean) / self.std)

    def embed_audio(self, spectrogram: Tensor) -> Tensor:
        """``[B, 1, F, N]`` to ``[B, 128]``."""
        return self.audio_embed(self.audio(spectrogram).amax((2, 3)))


class AVENet(_TwoTowers):
    """Embeddings of image and audio, and from their distance whether they belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.image_embed = nn.Sequential(
            nn.Linear(512, _EMBEDDING), nn.ReLU(inplace=True), nn.Linear(_EMBEDDING, _EMBEDDING)
        )
        self.head = nn.Linear(1, 2)

    def embeddings(self, image: Tensor, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 3, H, W]`` and ``[B, 1, F, N]`` to twice ``[B, 128]``, of length 1: for retrieval across modalities."""
        seen = self.image_embed(self.image_features(image).amax((2, 3)))
        return F.normalize(seen), F.normalize(self.embed_audio(spectrogram))

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """Scores ``[B, 2]``: that they belong together, and that they do not."""
        seen, heard = self.embeddings(image, spectrogram)
        return self.head((seen - heard).norm(dim=1, keepdim=True))


class AVOLNet(_TwoTowers):
    """Where in an image audio comes from."""

    def __init__(self) -> None:
        super().__init__()
        # With no rectifier between them: so the weights were trained.
        self.image_embed = nn.Sequential(nn.Conv2d(512, _EMBEDDING, 1), nn.Conv2d(_EMBEDDING, _EMBEDDING, 1))
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, image: Tensor, spectrogram: Tensor) -> Tensor:
        """``[B, 3, H, W]`` and ``[B, 1, F, N]`` to ``[B, H / 16, W / 16]``: probability that the audio is from there.

        The largest is that of image and audio belonging together.
        """
        seen, heard = self.image_embed(self.image_features(image)), self.embed_audio(spectrogram)
        similarity = torch.einsum("bdyx,bd->byx", seen, heard).unsqueeze(1)
        return self.head(similarity).sigmoid().squeeze(1)


@released_shapes("AVE-Net")
def load_avenet(source: str | Path | Tensors) -> AVENet:
    """AVE-Net from weights of objects-that-sound, in evaluation mode.

    Args:
        source: a file, or tensors by the names in it.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    model = AVENet()
    load_all_weights(model, _names(source), "AVE-Net")
    return model.eval()


@released_shapes("AVOL-Net")
def load_avolnet(source: str | Path | Tensors) -> AVOLNet:
    """AVOL-Net, as `load_avenet`."""
    model = AVOLNet()
    load_all_weights(model, _names(source), "AVOL-Net")
    return model.eval()


def _names(source: str | Path | Tensors) -> Tensors:
    """Tensors by our names."""
    tensors = source if isinstance(source, dict) else read_tensors(source)
    towers = {"icn": "image", "acn": "audio"}

    def layer(match: re.Match[str]) -> str:
        place = 7 * (int(match[3]) - 1) + 3 * (int(match[4]) - 1) + (match[2] == "bn")
        return f"{towers[match[1]]}.{place}."

    return renamed(
        tensors,
        [
            (r"^([ia]cn)\.(conv|bn)([1-4])_([12])\.", layer),
            (r"^img_fc1\.", "image_embed.0."),
            (r"^img_fc2\.", "image_embed.2."),
            (r"^im_conv5\.", "image_embed.0."),
            (r"^im_conv6\.", "image_embed.1."),
            (r"^aud_fc1\.", "audio_embed.0."),
            (r"^aud_fc2\.", "audio_embed.2."),
            (r"^(fc3|fus_conv7)\.", "head."),
        ],
    )
