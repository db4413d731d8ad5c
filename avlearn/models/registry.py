"""Encoders by name, in timm's manner: ``create_model``, ``list_models``."""

import difflib
import fnmatch
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from avlearn.errors import ModelError
from avlearn.models.weights.importers import Tensors, load_weights
from avlearn.models.weights.source import Weights, open_weights
from avlearn.plugins import HINT, load_plugins
from avlearn.validation import check_options


@dataclass(frozen=True)
class Spec:
    """What a registered encoder is held to.

    Attributes:
        kind: ``video`` or ``audio``.
        paper: who published it, where, and when (or what it is, for our own).
        params: parameters, exact.
        classes: of the classifier that ``params`` counts; None for none.
        clip: the input at which ``gmacs`` holds: frames, rows and columns; or bins and frames; or samples.
        gmacs: 10^9 multiply-adds of convolutions, linear maps and attention, for one clip.
        published_gmacs: what the authors print, where that differs or belongs to another input (see ``note``).
        top1: published accuracy on Kinetics-400, percent, over many views; with its source in ``note``.
        note: what a reader of papers must know to understand the figures.
        stride: frames of a video, of about 30 a second, from one of the clip's to the next.
        resize: pixels of a video's shorter side before the clip is cut out of it, or its rows and columns.
        front_end: what an audio encoder hears beside a video: fields of `avlearn.signal.Spectrogram` that are not
            those by default.
        tower: options that it is built with beside a video.
    """

    kind: str
    paper: str
    params: int
    classes: int | None = None
    clip: tuple[int, ...] = ()
    gmacs: float = 0.0
    published_gmacs: float | None = None
    top1: float | None = None
    note: str = ""
    stride: int | None = None
    resize: int | tuple[int, int] | None = None
    front_end: Mapping[str, object] = field(default_factory=dict)
    tower: Mapping[str, object] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, with its channels: colours, one spectrogram, or two of sound."""
        return ({3: 3, 2: 1, 1: 2}[len(self.clip)], *self.clip)


SYNC_STEP = 0.1  # seconds that a step lasts at most where offsets are measured, if the network has a choice

_builders: dict[str, tuple[Spec, Callable[..., nn.Module]]] = {}


def register(spec: Spec) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorator: the function's name becomes the encoder's name. Raises ValueError if it is taken."""

    def add(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if builder.__name__ in _builders:
            raise ValueError(f"encoder {builder.__name__} is registered twice")
        _builders[builder.__name__] = (spec, builder)
        return builder

    return add


def _find(name: str) -> tuple[Spec, Callable[..., nn.Module]]:
    if name not in _builders:
        load_plugins()
    if name not in _builders:
        near = difflib.get_close_matches(name, _builders, 1, 0.0)[0]
        raise ModelError(f"no encoder is called '{name}'; the nearest is '{near}'; {HINT}")
    return _builders[name]


def model_spec(name: str, kind: str | None = None) -> Spec:
    """The spec of a registered encoder. Raises ModelError for an unknown name, or one of another kind."""
    if kind is None:
        return _find(name)[0]
    if name not in _builders:
        load_plugins()
    of_kind = [other for other, (spec, _) in _builders.items() if spec.kind == kind]
    if name in of_kind:
        return _builders[name][0]
    near = difflib.get_close_matches(name, of_kind, 1, 0.0)[0]
    what, hint = "is not known", f"; {HINT}"
    if name in _builders:
        what, hint = f"is {'an audio' if kind == 'video' else 'a video'} encoder", ""
    raise ModelError(f"model.{kind}: '{name}' {what}; the nearest {kind} encoder is '{near}'{hint}")


def time_options(name: str, fps: float) -> dict[str, int]:
    """Options by which a video encoder's steps last no longer than `SYNC_STEP`, as far as it has one.

    Args:
        name: of the encoder.
        fps: frames a second of what it sees.
    """
    stride = inspect.signature(_find(name)[1]).parameters.get("temporal_stride")
    if stride is None:
        return {}
    wanted = stride.default
    while wanted > 1 and wanted / fps > SYNC_STEP:
        wanted //= 2
    return {} if wanted == stride.default else {"temporal_stride": wanted}


def default_option(name: str, option: str) -> object:
    """What an encoder's option is where nothing is said of it."""
    return inspect.signature(_find(name)[1]).parameters[option].default


def list_models(pattern: str = "*") -> list[str]:
    """Names of registered encoders that match a shell pattern such as ``slowfast*``, sorted; those of plugins too."""
    load_plugins()
    return sorted(fnmatch.filter(_builders, pattern))


def create_model(
    name: str,
    *,
    weights: str | Path | Tensors | Weights | None = None,
    num_classes: int | None = None,
    **options: object,
) -> nn.Module:
    """Build an encoder.

    Args:
        name: one of `list_models()`.
        weights: a weight file that was released for that network, its address, its name where it is known by one, or
            what `open_weights` takes besides; without, they are random.
        num_classes: size of the linear classifier; None leaves it out (``forward`` gives features). With another number
            of classes than the weights have, it is random, and a warning says so.
        options: the builder's own keyword arguments.

    Raises:
        ModelError: the name or an option is unknown (the nearest valid one is named), or the weights do not fit.
    """
    _, builder = _find(name)
    known = inspect.signature(builder).parameters
    if weights is not None:
        weights = weights if isinstance(weights, Weights) else open_weights(weights, name)
        options = {**{key: value for key, value in weights.layout.options.items() if key in known}, **options}
    check_options(builder, options, f"encoder '{name}'")
    if weights is not None:
        _check_parameters(name, builder, options, weights)
    model = _build(name, builder, options)
    if num_classes is not None:
        model.reset_classifier(num_classes)
    model.config = {"name": name, "num_classes": num_classes or None, "options": options}
    if weights is not None:
        model.loaded = load_weights(model, weights.tensors, weights.layout, weights.source)
    return model


def create_encoder(name: str, options: Mapping[str, object], kind: str) -> nn.Module:
    """Build a tower of a stored model: of one kind, from options of its architecture alone.

    Raises:
        ModelError: as `create_model`, or the encoder is of the other kind.
    """
    model_spec(name, kind)
    check_options(_find(name)[1], options, f"encoder '{name}'")  # neither weights nor classes are among a builder's
    return create_model(name, **options)


def _check_parameters(name: str, builder: Callable[..., nn.Module], options: Mapping[str, object], w: Weights) -> None:
    """Refuse options that ask for more than the weights have, before memory is taken: they may come with them."""
    with torch.device("meta"):
        asked = sum(parameter.numel() for parameter in _build(name, builder, options).parameters())
    have = sum(tensor.numel() for tensor in w.tensors.values())
    if asked > 2 * have + 2**24:
        raise ModelError(
            f"{w.source}: encoder '{name}' has {asked} parameters with {dict(options)}, the weights {have}"
        )


def _build(name: str, builder: Callable[..., nn.Module], options: Mapping[str, object]) -> nn.Module:
    try:
        return builder(**options)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if not options:
            raise
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"encoder '{name}' cannot be built with {dict(options)}: {said}") from error
