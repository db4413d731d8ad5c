"""The interface of networks of video and audio."""

from torch import Tensor, nn

from avlearn.config import Spectrogram
from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder
from avlearn.models.registry import create_encoder, model_spec
from avlearn.signal import FrontEnd


class FusionNetwork(nn.Module):
    """Video ``[B, 3, T, H, W]`` in [0, 1] and audio ``[B, S]`` in [-1, 1] of it to scores ``[B, classes]``.

    Subclasses give `features`, `classify` and `reset_classifier`, `contributions` where scores are a sum of them, and
    `further_scores` and `unlabelled_loss` where they learn by more than the loss of their scores.

    Attributes:
        num_features: channels of what is classified.
        sample_rate: of the audio.
        inputs: of the encoders, ``video`` and ``audio`` among them.
        learns_unlabelled: whether it has an `unlabelled_loss`.
    """

    num_features: int
    sample_rate: int
    inputs: tuple[str, ...] = ("video", "audio")
    learns_unlabelled: bool = False

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """What is classified, by input: ``[B, D]``, or ``[B, D, K]`` of parts of the clip."""
        raise NotImplementedError

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """Scores ``[B, classes]`` of `features`; without a classifier, what it would see: ``[B, num_features]``."""
        raise NotImplementedError

    def contributions(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The share of each input in the scores, ``[B, classes]``, with its part of the bias; their sum is the scores.

        Raises:
            ModelError: scores of this network are no sum.
        """
        raise ModelError(f"scores of {type(self).__name__} are no sum of shares of its inputs")

    def further_scores(self, features: dict[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Scores ``[B, classes]`` that are learned beside those of `classify`, each after the weight of its loss."""
        return {}

    def unlabelled_loss(self, features: dict[str, Tensor], rows: Tensor) -> Tensor:
        """What is learned of clips whose labels are not known.

        Args:
            features: of a training batch.
            rows: which of them have no labels, bool ``[B]``; one at least.
        """
        raise NotImplementedError

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new classifier on top, or take it off (None or 0)."""
        raise NotImplementedError

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """Scores of clips."""
        return self.classify(self.features(video, audio))


def front_end_of(audio: str, sample_rate: int) -> FrontEnd:
    """What makes samples into what an audio encoder takes, by its spec.

    Raises:
        ModelError: it is none of audio, or does not go with the sample rate.
    """
    front_end = model_spec(audio, "audio").front_end
    try:
        return FrontEnd(sample_rate, Spectrogram.model_validate(dict(front_end)))
    except ValueError as error:
        raise ModelError(f"{audio} at {sample_rate} Hz: {error}") from error


def tower(name: str, kind: str) -> Encoder:
    """An encoder without a classifier. Raises ModelError where there is none of that kind."""
    return create_encoder(name, {}, kind).as_tower()
