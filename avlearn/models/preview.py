"""A preview that picks the moments of a long file to look at (Listen to Look, Gao et al., CVPR 2020).

An encoder of one frame and its audio is taught to say what a recognizer says of the whole window (IMGAUD2VID). From
its features a recurrent network with attention picks one window after the other (IMGAUD-SKIMMING).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from avlearn.config import Channels, Name
from avlearn.errors import ModelError
from avlearn.files import write_text
from avlearn.models.encoder import pooled
from avlearn.models.fusion.network import front_end_of, tower
from avlearn.models.inputs import audio_input, video_input
from avlearn.models.recognizer import Recognizer
from avlearn.models.weights.checkpoint import load_whole, write_tensors
from avlearn.validation import Section, read_object, validated

FORMAT = "avlearn.preview/1"
FOLDER = "preview"  # in a recognizer's folder


class PreviewConfig(Section):
    """All that is needed to build a preview.

    Attributes:
        image, audio: names of the encoders; that of the image is one of video, which sees one frame.
        sample_rate: of the audio.
        features: of the recognizer, averaged over time and space.
        classes: of the recognizer.
        hidden, key: channels of the skimmer's state, and of its queries and keys.
    """

    image: Name = "dsconv_tiny"
    audio: Name = "conv2d_tiny"
    sample_rate: int = Field(16000, ge=1000, le=192_000)
    features: int = Field(ge=1, le=65536)
    classes: int = Field(ge=2, le=100_000)
    hidden: Channels = 1024
    key: Channels = 512


class Preview(nn.Module):
    """Features of windows by one frame and their audio, and which windows to look at.

    Raises:
        ModelError: an encoder cannot be made, or is of the other kind.
    """

    def __init__(self, config: PreviewConfig) -> None:
        super().__init__()
        self.config = config
        self.image, self.audio = tower(config.image, "video"), tower(config.audio, "audio")
        self.spectrogram = front_end_of(config.audio, config.sample_rate)
        self.sizes = self.image.num_features, self.audio.num_features
        both = sum(self.sizes)
        self.fuse = nn.Sequential(nn.Linear(both, both), nn.ReLU(), nn.Linear(both, config.features))
        self.classifier = nn.Linear(config.features, config.classes)
        self.skimmer = Skimmer(*self.sizes, config.features, config.hidden, config.key)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.classifier.weight.device

    def sides(self, frames: Tensor, audio: Tensor) -> Tensor:
        """What frames and audio say, side by side: ``[B, both]``, each by its own encoder.

        Args:
            frames: ``[B, 3, 1, H, W]`` in [0, 1], one of each window.
            audio: ``[B, S]`` in [-1, 1], of the windows.
        """
        seen = self.image.forward_features(video_input(self.image, frames))
        heard = self.audio.forward_features(audio_input(self.audio, self.spectrogram, audio))
        return torch.cat([pooled(seen), pooled(heard)], 1)

    @torch.no_grad()
    def pick(self, sides: Tensor, count: int) -> list[int]:
        """The windows of a file to look at, in the order in which they are picked.

        Args:
            sides: ``[N, both]``, of all windows.
            count: how many; all where there are no more.
        """
        there = torch.ones(1, len(sides), dtype=torch.bool, device=sides.device)
        steps = self.skimmer(sides[None], there, min(count, len(sides)), self.fuse)
        return [int(picked) for picked, _ in steps]


class Skimmer(nn.Module):
    """Attention over the windows of a file, by the state of a network that is fed what it attends to.

    Args:
        image, audio: channels of what frames and audio say.
        features: channels of both fused, which the network is fed.
        hidden: of its state.
        key: of queries and keys.
    """

    def __init__(self, image: int, audio: int, features: int, hidden: int, key: int) -> None:
        super().__init__()
        self.sizes, self.key = [image, audio], key
        self.keys = nn.ModuleList(_normed(size, key) for size in self.sizes)
        self.queries = nn.ModuleList(nn.Sequential(*_normed(hidden, hidden), nn.Linear(hidden, key)) for _ in (0, 1))
        self.cell = nn.LSTMCell(features, hidden)
        self.weigh = nn.Linear(hidden, 2)
        for bias in (self.cell.bias_ih, self.cell.bias_hh):
            nn.init.zeros_(bias)

    def forward(self, sides: Tensor, there: Tensor, steps: int, fuse: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows that are picked, ``[B]``, none of them twice, and their features, ``[B, D]``, one step after another.

        While training the features are those of all windows, weighted by attention; in use those of the one picked.

        Args:
            sides: ``[B, N, both]``, of `Preview.sides`.
            there: bool ``[B, N]``; as many of each file as there are steps.
            steps: how many are picked.
            fuse: what makes features of sides.
        """
        keys = [
            layer(side.flatten(0, 1)).unflatten(0, side.shape[:2])
            for layer, side in zip(self.keys, sides.split(self.sizes, 2), strict=True)
        ]
        fed = fuse((sides * there[..., None]).sum(1) / there.sum(1, keepdim=True))
        state, rows, left = None, torch.arange(len(sides), device=sides.device), there
        for _ in range(steps):
            state = self.cell(fed, state)
            each = zip(self.queries, keys, strict=True)
            scores = torch.stack([torch.einsum("bd,bnd->bn", ask(state[0]), key) for ask, key in each], 1)
            attention = (scores / self.key**0.5).masked_fill(~left[:, None], -torch.inf).softmax(2)
            shares = torch.einsum("bk,bkn->bn", self.weigh(state[0]).softmax(1), attention)
            picked = shares.masked_fill(~left, -1).argmax(1)
            left = left.index_put((rows, picked), torch.tensor(False, device=left.device))
            found = torch.einsum("bn,bnd->bd", shares, sides) if self.training else sides[rows, picked]
            fed = fuse(found)
            yield picked, fed


def _normed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


def save_preview(preview: Preview, folder: Path) -> Path:
    """Write a preview into a recognizer's folder; where it lies.

    Raises:
        OutputError: it cannot be written.
    """
    target = folder / FOLDER
    target.mkdir(exist_ok=True)
    write_tensors(preview.state_dict(), target / "model.safetensors")
    config = {"format": FORMAT, **preview.config.model_dump(mode="json")}
    write_text(target / "config.json", json.dumps(config, indent=1) + "\n")
    return target


def load_preview(model: Recognizer) -> Preview:
    """The preview in the folder that a recognizer was opened from, on its device, in evaluation mode.

    Raises:
        ModelError: there is none, it is damaged, or it is of another recognizer.
    """
    folder = (model.folder or Path()) / FOLDER
    path = folder / "config.json"
    if model.folder is None or not path.is_file():
        raise ModelError(
            f"{model.folder or 'the model'} has no preview: avlearn preview learns one from labelled files"
        )
    config = validated(PreviewConfig, read_object(path, FORMAT), path)
    if config.classes != len(model.config.labels):
        raise ModelError(f"{folder} is of another model: it tells {config.classes} classes apart")
    return load_whole(lambda: Preview(config), folder / "model.safetensors").eval().to(model.device)
