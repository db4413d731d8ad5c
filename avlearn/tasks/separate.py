"""Separation learned by mixing: two clips' sounds are added, and each picture asks for its own back."""

from collections.abc import Sequence

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from avlearn.models.audiovisual import AudioVisual
from avlearn.models.unet import at_frames
from avlearn.objectives.similarity import heatmap, peak_weights, strongest_place
from avlearn.signal import Stft


@torch.inference_mode()
def seen_source(model: AudioVisual, video: Tensor, audio: Tensor) -> Tensor:
    """Features over time at the place that a clip's own sound comes from.

    Args:
        video: ``[B, 3, T, H, W]`` in [0, 1].
        audio: ``[B, S]`` of the same seconds.

    Returns:
        ``[B, D, T']``; step i stands for the instant ``i * model.step``.
    """
    features = model.video_features(video)
    heard = model.hear(model.audio_features(audio))
    placed = model.place(features)
    steps = min(placed.shape[2], heard.shape[2])
    heat = heatmap(placed[:, :, :steps], heard[:, :, :steps])
    weights = peak_weights(heat, strongest_place(heat), model.config.pool_scale)
    return torch.einsum("bdtyx,byx->bdt", features, weights)


class Mixtures(Dataset):
    """Pairs of clips to be mixed; an item is asked for by ``(clip index, seed)``.

    Args:
        audio: float32 ``[N, S]``.
        features: ``[N, D, T]`` from `seen_source`.
        labels: a class a clip, to raise the share of pairs of one class; None keeps the natural share.
        same_class_share: share of pairs drawn within a class.
        seconds: length of a mixture.
        step: seconds of a feature step.
        sample_rate: of the audio.
    """

    def __init__(
        self,
        audio: np.ndarray,
        features: np.ndarray,
        labels: Sequence[str] | None,
        same_class_share: float,
        seconds: float,
        step: float,
        sample_rate: int,
    ):
        self.audio, self.features, self.labels = audio, features, labels
        self.same_class_share = same_class_share
        self.steps = round(seconds / step)
        self.samples_per_step = round(step * sample_rate)

    def __len__(self) -> int:
        return len(self.audio)

    def _partner(self, index: int, rng: np.random.Generator) -> int:
        others = np.delete(np.arange(len(self)), index)
        if self.labels is not None and rng.random() < self.same_class_share:
            same = others[[self.labels[i] == self.labels[index] for i in others]]
            others = same if len(same) else others
        return int(rng.choice(others))

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """``stems`` float32 ``[2, S]`` at random levels, ``features`` ``[2, D, T]``, ``index`` ``[2]``."""
        index, seed, *_ = key
        rng = np.random.default_rng(seed)
        pair = (index, self._partner(index, rng))
        stems, features = [], []
        for i in pair:
            first = int(rng.integers(self.features.shape[2] - self.steps + 1))
            start, count = first * self.samples_per_step, self.steps * self.samples_per_step
            stems.append(self.audio[i, start : start + count])
            features.append(self.features[i, :, first : first + self.steps])
        level = 10 ** (rng.uniform(-5, 5) / 40)
        stems = np.stack(stems) * np.array([[level], [1 / level]], np.float32)
        return {
            "stems": torch.from_numpy(stems),
            "features": torch.from_numpy(np.stack(features)),
            "index": torch.tensor(pair),
        }


class Separate(lightning.LightningModule):
    """Trains the separator of a model whose towers stay as they are.

    The masks are held to the ideal ratio masks by binary cross-entropy, weighted by how loud the
    mixture is in each cell.
    """

    def __init__(self, model: AudioVisual, optimizer):
        super().__init__()
        self.model, self.optimizer_of = model, optimizer
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("separator."))
        settings = model.config.separator
        self.stft = Stft(model.config.sample_rate, settings.window, settings.hop)

    def configure_optimizers(self) -> dict:
        """AdamW with its schedule, over the separator alone."""
        return self.optimizer_of(self)

    def _loss(self, batch: dict) -> Tensor:
        separator = self.model.separator
        stems = batch["stems"]
        bands = separator.bands(self.stft(stems).abs().flatten(0, 1), self.stft.bin_hz)
        bands = bands.unflatten(0, stems.shape[:2])  # [B, 2, bins, N]
        mixture = separator.bands(self.stft(stems.sum(1)).abs(), self.stft.bin_hz)
        target = bands / bands.sum(1, keepdim=True).clamp(min=1e-6)
        hop = self.model.config.separator.hop
        features = at_frames(batch["features"], self.model.step, hop, mixture.shape[-1])
        logits = separator(mixture, features)
        weight = (3 * mixture).log1p().add(0.02).unsqueeze(1)
        return F.binary_cross_entropy_with_logits(logits, target, weight.expand_as(target))

    def training_step(self, batch: dict, batch_index: int) -> Tensor:
        """One step on ``stems [B, 2, S]`` and ``features [B, 2, D, T]``."""
        loss = self._loss(batch)
        self.log("loss", loss.detach())
        return loss

    def validation_step(self, batch: dict, batch_index: int) -> None:
        """The loss on fixed mixtures of clips that are not trained on."""
        self.log("val_loss", self._loss(batch), batch_size=len(batch["stems"]), sync_dist=True)
