"""A network that names what a clip shows: encoders of video, of audio, or of both, and a classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.config import RecognizerConfig
from avlearn.device import computing_in
from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, pooled
from avlearn.models.fusion import create_fusion
from avlearn.models.inputs import audio_input, video_input
from avlearn.models.registry import create_encoder, model_spec
from avlearn.models.two_tower import MOST_PIXELS
from avlearn.signal import FrontEnd

if TYPE_CHECKING:
    from avlearn.models.in_distribution import InDistribution


class Recognizer(nn.Module):
    """Class scores of clips.

    One encoder alone classifies as its paper does. Of two, features are averaged over time and space and lie side by
    side before one linear classifier, so that each has a share of every score (`contributions`); or a network that
    fuses both otherwise takes their place.

    Attributes:
        video, audio: encoders; None for what ``config.inputs`` leaves out, and beside ``fusion``.
        fusion: the network that ``config.fusion`` names.
        precision: what the encoders compute in; None: in that of their weights, or as the training's context says.
        in_distribution: statistics of ``video`` and ``audio`` like the validation clips of the training, by kind
            (`avlearn.models.in_distribution.InDistribution`); they lie beside the weights.
        folder: that it was opened from, or None.

    Raises:
        ModelError: an encoder or the spectrogram cannot be made, or does not take such clips.
    """

    def __init__(self, config: RecognizerConfig):
        super().__init__()
        self.config = config
        classes, alone, fused = len(config.labels), config.inputs != "both", config.fusion is not None
        self.fusion = create_fusion(config.fusion, classes, **config.fusion_options) if config.fusion else None
        self.video = self._encoder("video", classes if alone else None) if config.sees and not fused else None
        self.audio = self._encoder("audio", classes if alone else None) if config.hears and not fused else None
        if self.video is not None and config.video_mean:
            self.video.mean, self.video.std = torch.tensor(config.video_mean), torch.tensor(config.video_std)
        self.spectrogram: FrontEnd | None = None
        if self.audio is not None:
            try:
                self.spectrogram = FrontEnd(config.sample_rate, config.spectrogram)
            except ValueError as error:
                raise ModelError(f"model.spectrogram: {error}") from error
        self.classifier: nn.Linear | None = None
        if self.video is not None and self.audio is not None:
            self.classifier = nn.Linear(self.video.num_features + self.audio.num_features, classes)
        self.precision: torch.dtype | None = None
        self.in_distribution: dict[str, InDistribution] = {}
        self.folder: Path | None = None
        self._check_inputs()

    def _encoder(self, kind: str, classes: int | None) -> Encoder:
        name, options = getattr(self.config, kind), getattr(self.config, f"{kind}_options")
        encoder = create_encoder(name, options, kind)
        if classes is None:
            return encoder.as_tower()
        encoder.reset_classifier(classes)
        return encoder

    def _check_inputs(self) -> None:
        """Raise ModelError where clips of the configuration are none that the encoders take."""
        config = self.config
        if self.fusion is not None and self.fusion.sample_rate != config.sample_rate:
            raise ModelError(
                f"clip.sample_rate: {config.fusion} takes {self.fusion.sample_rate}, not {config.sample_rate}"
            )
        # As much is read of a file at once, of networks of segments too.
        pixels = max(config.seconds * config.fps, config.frames) * config.size**2 if config.sees else 0
        if pixels > MOST_PIXELS:
            raise ModelError(
                f"clip.seconds, clip.fps, clip.size: a clip has {pixels / 1e6:.0f} million pixels, and no more than "
                f"{MOST_PIXELS / 1e6:.0f} million are looked at at once"
            )
        try:
            if self.video is not None:
                side = config.size
                channels = self.video.in_chans or 3
                frames = self.video.frames_for(config.frames)
                self.video.check(torch.empty(1, channels, frames, side, side, device="meta"))
        except ModelError as error:
            raise ModelError(f"clip.seconds, clip.size: {error}") from error
        if self.audio is not None and self.spectrogram is not None:
            frames = self.audio.frames_for(self.spectrogram.frames(round(config.seconds * config.sample_rate)))
            bins = 1 if config.spectrogram.kind == "waveform" else config.spectrogram.n_fft // 2 + 1
            values = frames * max(bins, self.spectrogram.kind.bands or 1)
            if values > MOST_PIXELS:
                raise ModelError(
                    f"clip.seconds, model.spectrogram: a clip's spectrogram has {values / 1e6:.0f} million values, and "
                    f"no more than {MOST_PIXELS / 1e6:.0f} million are listened to at once"
                )
            try:
                self.audio.check(torch.empty(1, *self.spectrogram.shape(frames), device="meta"))
            except ModelError as error:
                needs = ", ".join(f"{key}: {value}" for key, value in model_spec(config.audio).front_end.items())
                takes = needs or "the spectrogram by default"
                raise ModelError(f"model.spectrogram: {error}; {config.audio} takes {takes}") from error

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def encoders(self) -> dict[str, Encoder]:
        """Those that there are, by ``video`` and ``audio``."""
        both = {"video": self.video, "audio": self.audio}
        return {kind: encoder for kind, encoder in both.items() if encoder is not None}

    def features(
        self,
        video: Tensor | None,
        audio: Tensor | None,
        change: Callable[[Tensor], Tensor] | None = None,
        flow: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Features of what there is: video ``[B, D, T', Y, X]``, audio ``[B, D, U]``; of ``fusion``, as it has them.

        Args:
            video: frames ``[B, 3, T, H, W]`` in [0, 1]; where the encoder sees motion, its flow is computed.
            audio: ``[B, S]`` in [-1, 1].
            change: of the audio's spectrograms, before they are encoded.
            flow: of the frames, where it is known already: see `avlearn.models.inputs.video_input`.
        """
        found: dict[str, Tensor] = {}
        if self.fusion is not None and video is not None and audio is not None:
            with computing_in(self.precision, self.device):
                return self.fusion.features(video, audio)
        # Flow and spectrograms are made in single precision.
        if self.video is not None and (video is not None or flow is not None):
            frames = video_input(self.video, video, flow)
            with computing_in(self.precision, self.device):
                found["video"] = self.video.forward_features(frames)
        if self.audio is not None and self.spectrogram is not None and audio is not None:
            spectrogram = audio_input(self.audio, self.spectrogram, audio)
            with computing_in(self.precision, self.device):
                found["audio"] = self.audio.forward_features(spectrogram if change is None else change(spectrogram))
        return found

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """Scores ``[B, classes]``, before a softmax or sigmoid, of `features`."""
        if self.fusion is not None:
            with computing_in(self.precision, self.device):
                return self.fusion.classify(features).float()
        if self.classifier is None:
            ((kind, values),) = features.items()
            with computing_in(self.precision, self.device):
                return self.encoders[kind].forward_head(values).float()
        return self.classifier(torch.cat([pooled(features[kind]) for kind in ("video", "audio")], 1))

    def contributions(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The part of each in the scores of both: ``[B, classes]`` each, with half of the bias."""
        if self.fusion is not None:
            return self.fusion.contributions(features)
        if self.classifier is None:
            raise ModelError("a network of one input alone has no shares")
        seen = pooled(features["video"])
        weights = self.classifier.weight.split([seen.shape[1], self.classifier.in_features - seen.shape[1]], 1)
        both = {"video": (seen, weights[0]), "audio": (pooled(features["audio"]), weights[1])}
        return {kind: F.linear(values, weight, self.classifier.bias / 2) for kind, (values, weight) in both.items()}

    def forward(self, video: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [0, 1], audio ``[B, S]``, as they are taken, to scores ``[B, classes]``."""
        return self.classify(self.features(video, audio))

    def probabilities(self, scores: Tensor) -> Tensor:
        """Softmax, or sigmoid of multi-label networks."""
        return scores.sigmoid() if self.config.multi_label else scores.softmax(-1)
