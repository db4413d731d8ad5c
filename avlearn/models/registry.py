"""Encoders by name, in timm's manner: ``create_model``, ``list_models``.

``encoders.json`` tells the specs of the package's own encoders and the module of each, so that they are listed without
torch, and building one imports its module alone. ``python tools/model_docs.py`` writes it; a test holds it to the code.
"""

import fnmatch
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from avlearn.errors import ModelError
from avlearn.names import hint
from avlearn.plugins import HINT, load_plugins
from avlearn.validation import check_options

if TYPE_CHECKING:
    from avlearn.models.encoder import Encoder
    from avlearn.models.weights.importers.layout import Tensors
    from avlearn.models.weights.source import Weights


Takes = Literal["video", "flow", "video+flow"]
CHANNELS: dict[Takes, int] = {"video": 3, "flow": 2, "video+flow": 5}  # of a frame


@dataclass(frozen=True)
class Spec:
    """The figures that a registered encoder is held to.

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
        takes: what a video encoder sees: the frames, their optical flow, or both (see `Encoder.takes`).
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
    takes: Takes = "video"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, with its channels: colours and flow along x and y, one spectrogram, or two of samples."""
        return self.shape_of(self.clip)

    def shape_of(self, clip: Sequence[int]) -> tuple[int, ...]:
        """The same, of another clip of so many axes."""
        return ({3: CHANNELS[self.takes], 2: 1, 1: 2}[len(clip)], *clip)


SYNC_STEP = 0.1  # seconds that a step lasts at most where offsets are measured, if the network has a choice

_NEAREST, _MOST = 3, 20  # that are named for one that is not known: networks come in sizes

TABLE = Path(__file__).with_name("encoders.json")
_builders: dict[str, tuple[Spec, Callable[..., "Encoder"]]] = {}  # of the modules that were imported

B = TypeVar("B", bound=Callable[..., "Encoder"])


def register(spec: Spec) -> Callable[[B], B]:
    """Decorator: the function's name becomes the encoder's name. Raises ValueError if it is taken."""

    def add(builder: B) -> B:
        name, module = builder.__name__, builder.__module__
        if name in _builders or _own().get(name, (module,))[0] != module:
            raise ValueError(f"encoder {name} is registered twice")
        _builders[name] = (spec, builder)
        return builder

    return add


@cache
def _own() -> dict[str, tuple[str, Spec]]:
    """Module and spec of each of the package's encoders, as they were when the table was written."""
    return {name: (entry.pop("module"), _spec(entry)) for name, entry in json.loads(TABLE.read_text()).items()}


def _spec(values: Mapping[str, Any]) -> Spec:
    """A spec from JSON, which has lists for tuples."""
    own: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Spec(**own)


def encoder_table() -> str:
    """What ``encoders.json`` is to hold, by the code: all of the package's encoders are imported."""
    for kind in ("video", "audio"):
        for module in iter_modules([str(TABLE.with_name(kind))], f"avlearn.models.{kind}."):
            import_module(module.name)
    own = {name: found for name, found in sorted(_builders.items()) if found[1].__module__.startswith("avlearn.")}
    entries = {name: {"module": builder.__module__, **asdict(spec)} for name, (spec, builder) in own.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    return f"{{\n{lines}\n}}\n"


def _hint(name: str, known: Collection[str], what: str = "") -> str:
    """`hint`, with all names that hold the whole word, as a family's do, or the three that are nearest."""
    family = sum(name.lower() in other.lower() for other in known) if len(name) > 2 else 0
    return hint(name, known, what, min(max(family, _NEAREST), _MOST))


def find_encoder(name: str) -> tuple[Spec, Callable[..., "Encoder"]]:
    """Spec and builder of a registered encoder. Raises ModelError for an unknown name: the nearest are named."""
    if name not in _builders and name in _own():
        import_module(_own()[name][0])
    if name not in _builders:
        load_plugins()
    if name not in _builders:
        raise ModelError(f"no encoder is called '{name}'{_hint(name, list_specs())}; {HINT}")
    return _builders[name]


def model_spec(name: str, kind: str | None = None) -> Spec:
    """The spec of a registered encoder. Raises ModelError for an unknown name, or one of another kind."""
    if kind is None:
        return find_encoder(name)[0]
    specs = list_specs()
    of_kind = [other for other, spec in specs.items() if spec.kind == kind]
    if name in of_kind:
        return specs[name]
    near = _hint(name, of_kind, f"{kind} encoder")
    if name in specs:
        raise ModelError(f"model.{kind}: '{name}' is {'an audio' if kind == 'video' else 'a video'} encoder{near}")
    raise ModelError(f"model.{kind}: '{name}' is not known{near}; {HINT}")


def time_options(name: str, fps: float) -> dict[str, int]:
    """Options by which a video encoder's steps last no longer than `SYNC_STEP`, as far as it has one.

    Args:
        name: of the encoder.
        fps: frames a second of what it sees.
    """
    stride = inspect.signature(find_encoder(name)[1]).parameters.get("temporal_stride")
    if stride is None:
        return {}
    wanted = stride.default
    while wanted > 1 and wanted / fps > SYNC_STEP:
        wanted //= 2
    return {} if wanted == stride.default else {"temporal_stride": wanted}


def default_option(name: str, option: str) -> Any:
    """What an encoder's option is where nothing is said of it."""
    return inspect.signature(find_encoder(name)[1]).parameters[option].default


def match_encoders(pattern: str) -> list[str]:
    """Names that match a shell pattern, sorted.

    Raises:
        ModelError: there are none; the nearest are named.
    """
    names = list_models(pattern)
    if not names:
        near = _hint(pattern.strip("*"), list_specs())
        raise ModelError(f"no encoder's name matches '{pattern}'{near}; avlearn models lists all; {HINT}")
    return names


def list_models(pattern: str = "*") -> list[str]:
    """Names of registered encoders that match a shell pattern such as ``slowfast*``, sorted; those of plugins too."""
    return fnmatch.filter(list_specs(), pattern)


def list_specs() -> dict[str, Spec]:
    """Specs of all registered encoders by name, sorted; those of plugins too. Imports no network of the package."""
    load_plugins()
    own = {name: spec for name, (_, spec) in _own().items()}
    return dict(sorted((own | {name: spec for name, (spec, _) in _builders.items()}).items()))


def create_model(
    name: str,
    *,
    weights: "str | Path | Tensors | Weights | None" = None,
    num_classes: int | None = None,
    **options: object,
) -> "Encoder":
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
    return create_from(name, options, weights, num_classes)


def create_from(
    name: str,
    options: Mapping[str, object],
    weights: "str | Path | Tensors | Weights | None" = None,
    num_classes: int | None = None,
) -> "Encoder":
    """`create_model`, of options that come from elsewhere: none of them is taken for another argument."""
    _, builder = find_encoder(name)
    known = inspect.signature(builder).parameters
    if weights is not None:
        from avlearn.models.weights.importers import load_weights
        from avlearn.models.weights.source import Weights, open_weights

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


def create_encoder(name: str, options: Mapping[str, object], kind: str) -> "Encoder":
    """Build a tower of a stored model: of one kind, from options of its architecture alone.

    Raises:
        ModelError: as `create_model`, or the encoder is of the other kind.
    """
    model_spec(name, kind)
    # Neither weights nor classes are among a builder's options.
    check_options(find_encoder(name)[1], options, f"encoder '{name}'")
    return create_from(name, options)


def _check_parameters(
    name: str, builder: Callable[..., "Encoder"], options: Mapping[str, object], w: "Weights"
) -> None:  # fmt: skip
    """Refuse options that ask for more than the weights have, before memory is taken: they may come with them."""
    import torch

    with torch.device("meta"):
        asked = sum(parameter.numel() for parameter in _build(name, builder, options).parameters())
    have = sum(tensor.numel() for tensor in w.tensors.values())
    if asked > 2 * have + 2**24:
        raise ModelError(
            f"{w.source}: encoder '{name}' has {asked} parameters with {dict(options)}, the weights {have}"
        )


def _build(name: str, builder: Callable[..., "Encoder"], options: Mapping[str, object]) -> "Encoder":
    try:
        return builder(**options)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if not options:
            raise
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"encoder '{name}' cannot be built with {dict(options)}: {said}") from error
