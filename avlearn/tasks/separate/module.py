"""Separation learned by mixing: audio of several clips is added, and each video asks for its own back.

Mix-and-separate as in Sound of Pixels (Zhao et al., ECCV 2018); where a video may show several sources, the
co-separation loss of Gao & Grauman (ICCV 2019) asks that what is separated for them adds up to their clip's audio.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avlearn.data.augment import draw_change
from avlearn.data.cache import ClipCache
from avlearn.data.mixing import Mixing
from avlearn.data.sampling import Pick
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input
from avlearn.models.unet import at_frames
from avlearn.objectives.separation import (
    WAVE_LOSSES,
    best_order,
    fixed_order,
    loudness_weights,
    mask_loss,
    mask_targets,
)
from avlearn.objectives.similarity import heatmap, peak_weights, strongest_places
from avlearn.signal import Stft
from avlearn.tasks.module import TaskModule


def seen_sources(model: AudioVisual, features: Tensor, audio: Tensor, places: int = 1) -> Tensor:
    """Features over time of the sources of clips' own audio.

    Args:
        model: its separator's ``query`` says what is taken: features at the strongest places of the heatmap, or the
            strongest response of each channel.
        features: ``[B, D, T', Y, X]`` of the videos.
        audio: ``[B, S]`` of the same seconds.
        places: how many.

    Returns:
        ``[B, places, D, T']``; step i stands for the instant ``i * model.step``.
    """
    query = model.require_separator().config.query
    if query != "place":
        over = features.amax((3, 4))
        return (over if query == "frame" else over.amax(2, keepdim=True).expand_as(over)).unsqueeze(1)
    with torch.no_grad():
        heard = model.project_audio(model.audio_features(audio))
        placed = model.project_video(features)
        steps = min(placed.shape[2], heard.shape[2])
        heat = heatmap(placed[:, :, :steps], heard[:, :, :steps])
        weights = torch.stack(
            [peak_weights(heat, place, model.config.pool_scale) for place in strongest_places(heat, places)], 1
        )
    return torch.einsum("bdtyx,bpyx->bpdt", features, weights)


class SeenClips(Dataset[dict[str, Any]]):
    """Clips with one source each, whose video was looked at once; an item is asked for by ``(clip, seed)``.

    Args:
        model: whose towers look, and do not change.
        cache: decoded clips.
        labels: bool ``[N, classes]``.
        seconds: length of a window.
    """

    def __init__(self, model: AudioVisual, cache: ClipCache, labels: Tensor, seconds: float):
        self.audio, self.labels = cache.audio, labels
        self.features = solo_features(model, cache)
        self.steps = round(seconds / model.step)
        self.samples_per_step = round(model.step * model.config.sample_rate)

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        """``audio`` float32 ``[S]``, ``features`` ``[D, T]`` of the same seconds, ``labels`` bool ``[classes]``."""
        index, seed, *_ = pick
        first = int(np.random.default_rng(seed).integers(self.features.shape[2] - self.steps + 1))
        audio, features = self.cut(index, first)
        return {"audio": torch.from_numpy(audio), "features": torch.from_numpy(features), "labels": self.labels[index]}

    def cut(self, index: int, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Audio ``[S]`` and features ``[D, T]`` of a window of clip ``index`` that begins with step ``first``."""
        start, count = first * self.samples_per_step, self.steps * self.samples_per_step
        return self.audio[index, start : start + count].copy(), self.features[index, :, first : first + self.steps]


@torch.inference_mode()
def solo_features(model: AudioVisual, cache: ClipCache, batch: int = 16) -> np.ndarray:
    """`seen_sources` over a cache of clips with one source each: float32 ``[N, D, T]``."""
    found = []
    for first in range(0, len(cache.video), batch):
        frames = frames_to_input(torch.from_numpy(np.array(cache.video[first : first + batch])).to(model.device))
        audio = torch.from_numpy(np.array(cache.audio[first : first + batch])).to(model.device)
        found.append(seen_sources(model, model.video_features(frames), audio)[:, 0].cpu().numpy())
    return np.concatenate(found)


@dataclass(frozen=True)
class SeparationLoss:
    """The loss of separated audio.

    Attributes:
        name: ``bce`` and ``l1`` compare masks with ideal ones, ``snr``, ``si_sdr`` and ``multi_stft`` the audio.
        alone_share: of mixtures whose sources do not know of each other, as where one of two is off the screen.
        places: sources sought in each video; where there are several, those of a clip together are held to its audio.
    """

    name: str = "bce"
    alone_share: float = 0.4
    places: int = 1


class SeparateModule(TaskModule):
    """Trains the separator of a model, and its video's tower if that is to learn with it.

    Args:
        model: the towers and the separator.
        loss: what the sources are held to.
        mixing: how mixtures are drawn.
        augment: keyword arguments of `draw_change`.
        seed: of all that is drawn; what a step draws depends on nothing else but the step and the process.
        train_video: whether the video tower learns too.
    """

    model: AudioVisual

    def __init__(
        self, model: AudioVisual, loss: SeparationLoss, mixing: Mixing, augment: Mapping[str, Any], seed: int,
        train_video: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(model, seed)
        self.loss, self.mixing, self.augment, self.train_video = loss, mixing, dict(augment), train_video
        learns = ("separator.", "video.") if train_video else ("separator.",)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(learns))
        settings = model.require_separator().config
        self.stft = Stft(model.config.sample_rate, settings.window, settings.hop)

    def train(self, mode: bool = True) -> "SeparateModule":
        """Towers that do not learn keep the statistics of their norms too."""
        super().train(mode)
        self.model.eval()
        self.model.require_separator().train(mode)
        self.model.video.train(mode and self.train_video)
        return self

    def _queries(self, batch: dict[str, Any], training: bool) -> Tensor | None:
        """What is seen of each clip, ``[B, places, D, T]``."""
        if self.model.require_separator().config.conditioning == "none":
            return None
        if "features" in batch:
            return batch["features"].unsqueeze(1)
        video = frames_to_input(batch["video"])
        if training:
            generator = torch.Generator(video.device).manual_seed(self._seed("picture"))  # another word, other crops
            video = draw_change(len(video), video.device, generator, **self.augment).of_video(video)
        with torch.set_grad_enabled(training and self.train_video):
            features = self.model.video_features(video)
        return seen_sources(self.model, features, batch["audio"], self.loss.places)

    def _seed(self, *what: object) -> int:
        words = [self.seed, self.global_step, self.global_rank, *map(ord, "".join(map(str, what)))]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def mixture_loss(self, batch: dict[str, Any], rng: np.random.Generator, training: bool) -> Tensor:
        """The loss of mixtures of a batch's clips.

        Args:
            batch: ``audio`` float32 ``[B, S]``, ``labels`` bool ``[B, classes]``, and of the video ``features``
                ``[B, D, T]`` or ``video`` uint8 ``[B, T, H, W, 3]``.
            rng: what decides the mixtures.
            training: whether videos are changed at random.
        """
        audio, separator, places = batch["audio"], self.model.require_separator(), self.loss.places
        drawn = self.mixing.draw(batch["labels"].cpu().numpy(), rng)
        clips, gains = (torch.from_numpy(values).to(audio.device) for values in drawn)
        parts = audio[clips] * gains.unsqueeze(2)  # [B, K + 1, S]
        mixture, sources = parts.sum(1), parts[:, :-1]
        spectrum = self.stft(mixture)
        queries = self._queries(batch, training)
        if queries is not None:
            queries = at_frames(queries, self.model.step, separator.config.hop, spectrum.shape[-1])
            queries = queries[clips[:, :-1]].flatten(1, 2)  # [B, K places, D, N]
        alone = torch.from_numpy(rng.random(len(audio)) < self.loss.alone_share).to(audio.device)
        found = separator(spectrum, self.stft.bin_hz, queries, alone)
        together = found.shape[1] // places
        if self.loss.name in WAVE_LOSSES:
            masks = separator.masks(found, spectrum.shape[1], self.stft.bin_hz)
            masks = masks.unflatten(1, (together, places)).sum(2)
            estimates = self.stft.inverse(masks * spectrum.unsqueeze(1), audio.shape[1])
            pairwise = WAVE_LOSSES[self.loss.name](estimates, sources)
        else:
            targets = mask_targets(
                separator.config.mask, self.stft(parts), spectrum, lambda bins: separator.bands(bins, self.stft.bin_hz)
            )[:, :-1]
            weights = loudness_weights(separator.bands(spectrum.abs(), self.stft.bin_hz))
            logits = found.squeeze(2)
            if places > 1:
                summed = logits.sigmoid().unflatten(1, (together, places)).sum(2)
                logits = summed.clamp(1e-4, 1 - 1e-4).logit()
            pairwise = mask_loss(self.loss.name, logits, targets, weights)
        order = best_order if separator.config.conditioning == "none" else fixed_order
        return order(pairwise).mean()

    def training_loss(self, batch: dict[str, Any]) -> Tensor:
        """That of the mixtures that are drawn at this step."""
        return self.mixture_loss(batch, np.random.default_rng(self._seed("mixture")), True)

    def try_batch(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, list[int]]]:
        """The loss of a training batch."""
        return self.training_loss(batch), {}

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor | None:
        """One step."""
        if len(batch.get("audio", ())) < 2:
            return None
        loss = self.training_loss(batch)
        self.log("loss", loss.detach())
        return loss

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """The loss on fixed mixtures of clips that are not trained on."""
        if len(batch.get("audio", ())) < 2:
            return
        loss = self.mixture_loss(batch, np.random.default_rng([self.seed, batch_index]), False)
        self.log("val_loss", loss, batch_size=len(batch["audio"]), sync_dist=True)
