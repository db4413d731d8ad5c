"""The simplest fusions: features side by side before one linear classifier, or the mean of two classifiers' scores."""

import torch
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.models.fusion.network import FusionNetwork, front_end_of, heard, mean_of, pooled, seen, split_bias, tower
from avlearn.models.fusion.registry import FusionSpec, register
from avlearn.models.registry import create_encoder


class Concat(FusionNetwork):
    """Features of both, averaged over time and space, side by side before one linear classifier.

    Scores are ``W_v f_v + W_a f_a + b``: each input has a share, with half of the bias.

    Args:
        video, audio: names of encoders.
        sample_rate: of the audio.
    """

    def __init__(self, video: str, audio: str, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.video, self.audio = tower(video, "video"), tower(audio, "audio")
        self.spectrogram = front_end_of(audio, sample_rate)
        self.num_features = self.video.num_features + self.audio.num_features
        self.classifier: nn.Module = nn.Identity()

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """``[B, D]`` of ``video`` and ``audio``."""
        return {
            "video": pooled(self.video.forward_features(seen(self.video, video))),
            "audio": pooled(self.audio.forward_features(heard(self.spectrogram, self.audio, audio))),
        }

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        return self.classifier(torch.cat([features[name] for name in self.inputs], 1))

    def contributions(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        if not isinstance(self.classifier, nn.Linear):
            raise ModelError("without a classifier there are no scores")
        weights = self.classifier.weight.split([self.video.num_features, self.audio.num_features], 1)
        shares = split_bias(list(weights), self.classifier.bias, [features[name] for name in self.inputs])
        return dict(zip(self.inputs, shares, strict=True))

    def reset_classifier(self, num_classes: int | None) -> None:
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


class Late(FusionNetwork):
    """The mean of the scores of a network of video and one of audio, each with the classifier of its own paper.

    Args:
        video, audio: names of encoders.
        sample_rate: of the audio.
    """

    def __init__(self, video: str, audio: str, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.video, self.audio = create_encoder(video, {}, "video"), create_encoder(audio, {}, "audio")
        self.spectrogram = front_end_of(audio, sample_rate)
        self.num_features = self.video.num_features + self.audio.num_features
        self.classes: int | None = None

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Scores ``[B, classes]`` of ``video`` and ``audio``, or their pooled features where there is no classifier."""
        return {
            "video": self.video(seen(self.video, video)),
            "audio": self.audio(heard(self.spectrogram, self.audio, audio)),
        }

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        both = [features[name] for name in self.inputs]
        return mean_of(both) if self.classes else torch.cat(both, 1)

    def contributions(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.classes:
            raise ModelError("without a classifier there are no scores")
        return {name: features[name] / len(self.inputs) for name in self.inputs}

    def reset_classifier(self, num_classes: int | None) -> None:
        self.classes = num_classes or None
        self.video.reset_classifier(num_classes)
        self.audio.reset_classifier(num_classes)


_CLIP, _SECONDS = (16, 112, 112), 1.28
_NOTE = "parameters are of r2plus1d_18 and resnet18; video=NAME and audio=NAME take any of our encoders"


@register(FusionSpec("the plain baseline", 42_880_365, 400, _CLIP, _SECONDS, 41.279, _NOTE))
def concat(video: str = "r2plus1d_18", audio: str = "resnet18", sample_rate: int = 16000) -> Concat:
    """Features side by side before one linear classifier."""
    return Concat(video, audio, sample_rate)


@register(FusionSpec("the plain baseline", 42_880_765, 400, _CLIP, _SECONDS, 41.279, _NOTE))
def late(video: str = "r2plus1d_18", audio: str = "resnet18", sample_rate: int = 16000) -> Late:
    """The mean of the scores of two networks."""
    return Late(video, audio, sample_rate)
