"""A network whose filters, classes and decisions can be shown: what its encoders take, and what they score."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from avlearn.apply.encoder_alone import EncoderAlone, load_features
from avlearn.config import Spectrogram
from avlearn.errors import ModelError
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.encoder import Encoder
from avlearn.models.inputs import stacked
from avlearn.models.recognizer import Recognizer
from avlearn.models.registry import CHANNELS
from avlearn.models.weights.preprocessing import Preprocessing
from avlearn.names import hint
from avlearn.signal import FrontEnd

_LOUDEST_HZ = 1000.0  # of the sine, as loud as can be, that says how high values of a spectrogram go
_LEAST_SECONDS = 0.5  # of that sine


@dataclass(frozen=True)
class Canvas:
    """The input of an encoder that is drawn on.

    Attributes:
        shape: video ``(C, T, H, W)``, C being 3 for colours, 2 for flow along x and y, or both; audio ``(1, F, N)``.
        rate: frames a second.
        low, high: its range.
        front_end, sample_rate: that spectrograms are made by; None of video.
    """

    shape: tuple[int, ...]
    rate: float
    low: float = 0.0
    high: float = 1.0
    front_end: Spectrogram | None = None
    sample_rate: int = 0


@dataclass(frozen=True)
class ExplainedNetwork:
    """A network as it is explained; its weights get no gradients.

    Attributes:
        name: of its encoders, in words.
        model: what was opened; None where encoders are given alone.
        encoders: by ``video`` and ``audio``.
        canvases: of the encoders.
        labels: of the classes; empty where there is no classifier. An encoder's own classes have numbers for names.
        head: scores ``[B, classes]`` of a kind, and of features of that kind; of two encoders, the share of that one.
        score: the same, of a kind and an encoder's input.
        multi_label: several classes may hold at once.
    """

    name: str
    model: Recognizer | EncoderAlone | AudioVisual | None
    encoders: Mapping[str, Encoder]
    canvases: Mapping[str, Canvas]
    labels: tuple[str, ...] = ()
    head: Callable[[str, Tensor], Tensor] = field(default=lambda kind, features: features)
    score: Callable[[str, Tensor], Tensor] = field(default=lambda kind, given: given)
    multi_label: bool = False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(next(iter(self.encoders.values())).parameters()).device

    def on_canvas(self, kind: str, canvas: Tensor) -> Tensor:
        """What is drawn, ``[B, C, ...]``, as the encoder takes it: flow stacked, where it sees that of many frames."""
        encoder = self.encoders[kind]
        return stacked(canvas, (encoder.in_chans or 2) // 2) if encoder.takes == "flow" and kind == "video" else canvas

    def log_odds(self, scores: Tensor) -> Tensor:
        """Of each class, of scores ``[B, classes]``: against all others; if several may hold, against its absence."""
        if self.multi_label:
            return scores
        others = scores[:, None].expand(-1, scores.shape[1], -1)
        itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
        return scores - others.masked_fill(itself, -torch.inf).logsumexp(2)

    def class_numbers(self, names: list[str]) -> list[int]:
        """Numbers of classes.

        Raises:
            ModelError: there are no classes, or none of such a name: the nearest are named.
        """
        if not self.labels:
            raise ModelError(f"{self.name} has no classifier, so that no class can be shown")
        for name in names:
            if name not in self.labels:
                raise ModelError(f"there is no class '{name}' in {self.name}{hint(name, self.labels, count=3)}")
        return [self.labels.index(name) for name in dict.fromkeys(names)]


def open_network(name_or_path: str | Path, device: str = "auto") -> ExplainedNetwork:
    """Open what is to be explained.

    Args:
        name_or_path: a recognizer's folder, or that of its run; an encoder's, as ``avlearn weights import`` writes it;
            an encoder whose weights are fetched by name; or a model of two towers, as for `avlearn.load`.
        device: as for `avlearn.load`.

    Raises:
        ModelError: there is no such network, or it cannot be read.
        AvlearnError: there is no such device here.
    """
    model = load_features(name_or_path, device)
    if isinstance(model, EncoderAlone):
        model.encoder.requires_grad_(False)
        return _of_encoder(model)
    model.requires_grad_(False)
    return of_recognizer(model) if isinstance(model, Recognizer) else _of_towers(model)


def of_recognizer(model: Recognizer) -> ExplainedNetwork:
    """A recognizer; of two encoders each is shown by its share of the scores."""
    config, canvases = model.config, {}
    if model.video is not None:
        rate = config.frames / config.seconds
        canvases["video"] = Canvas((*_seen(model.video, config.frames), config.size, config.size), rate)
    if model.audio is not None and model.spectrogram is not None:
        canvases["audio"] = _heard(
            model.spectrogram, model.audio, config.seconds, config.sample_rate, config.spectrogram
        )

    def head(kind: str, features: Tensor) -> Tensor:
        if model.classifier is None:
            return model.classify({kind: features})
        silent = {other: encoder.num_features for other, encoder in model.encoders.items() if other != kind}
        rest = {other: features.new_zeros(len(features), size, 1) for other, size in silent.items()}
        return model.contributions({kind: features, **rest})[kind]

    def score(kind: str, given: Tensor) -> Tensor:
        return head(kind, model.encoders[kind].forward_features(given))

    names = {"video": config.video, "audio": config.audio}
    name = " and ".join(names[kind] for kind in model.encoders)
    return ExplainedNetwork(name, model, model.encoders, canvases, config.labels, head, score, config.multi_label)


def _of_encoder(model: EncoderAlone) -> ExplainedNetwork:
    encoder, clip = model.encoder, model.preprocessing
    labels = tuple(str(number) for number in range(encoder.config["num_classes"] or 0))

    def head(kind: str, features: Tensor) -> Tensor:
        return encoder.forward_head(features)

    def score(kind: str, given: Tensor) -> Tensor:
        scores: Tensor = encoder(given)
        return scores

    if isinstance(clip, Preprocessing):
        canvas = Canvas((*_seen(encoder, clip.frames), *clip.crop), clip.frames / model.seconds)
    else:
        canvas = _heard(clip.front_end, encoder, model.seconds, clip.sample_rate, clip.spectrogram)
    kind = "video" if model.sees else "audio"
    return ExplainedNetwork(encoder.config["name"], model, {kind: encoder}, {kind: canvas}, labels, head, score)


def _of_towers(model: AudioVisual) -> ExplainedNetwork:
    """Filters alone: classifiers of towers read statistics of a window's two tracks together."""
    config = model.config
    canvases = {
        "video": Canvas(
            (*_seen(model.video, round(config.seconds * config.fps)), config.size, config.size), config.fps
        ),
        "audio": _heard(model.spectrogram, model.audio, config.seconds, config.sample_rate, config.spectrogram),
    }
    encoders = {"video": model.video, "audio": model.audio}
    return ExplainedNetwork(f"{config.video} and {config.audio}", model, encoders, canvases)


def _seen(encoder: Encoder, frames: int) -> tuple[int, int]:
    """Channels and frames of what is drawn for a video encoder."""
    return (2 if encoder.takes == "flow" else CHANNELS[encoder.takes]), encoder.frames_for(frames)


def _heard(front_end: FrontEnd, encoder: Encoder, seconds: float, rate: int, options: Spectrogram) -> Canvas:
    """Silence is the least that there is, a sine at full scale the most."""
    samples = round(seconds * rate)
    shape = front_end.shape(encoder.frames_for(front_end.frames(samples)))
    if len(shape) < 3:
        return Canvas((encoder.in_chans or 1, *shape[1:]), 1 / front_end.hop, -1.0, 1.0)
    device = next(front_end.buffers(), torch.empty(0)).device
    time = torch.arange(max(samples, round(_LEAST_SECONDS * rate)), device=device) / rate
    sine = (2 * torch.pi * _LOUDEST_HZ * time).sin()
    with torch.no_grad():
        low, high = float(front_end(torch.zeros_like(sine)[None]).min()), float(front_end(sine[None]).max())
    return Canvas(shape, 1 / front_end.hop, low, high, options, rate)


@contextmanager
def differentiable(encoder: nn.Module) -> Iterator[None]:
    """Gradients of a network in evaluation mode: cuDNN has none of recurrent layers there."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in encoder.modules())
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent):
        yield
