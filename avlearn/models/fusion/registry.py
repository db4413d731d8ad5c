"""Fusion networks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from avlearn.errors import ModelError
from avlearn.names import hint
from avlearn.validation import check_options

if TYPE_CHECKING:
    from avlearn.models.fusion.network import FusionNetwork


@dataclass(frozen=True)
class FusionSpec:
    """The figures that a registered network is held to.

    Attributes:
        paper: who published it, where, and when.
        params: parameters, exact, with the classifier.
        classes: of that.
        clip: frames, rows and columns of the video.
        seconds: of the clip.
        gmacs: 10^9 multiply-adds of convolutions, linear maps and attention, for one clip.
        note: what a reader of papers must know.
    """

    paper: str
    params: int
    classes: int
    clip: tuple[int, int, int]
    seconds: float
    gmacs: float
    note: str = ""


_MODULES = ("tbn", "mbt", "audio_adaptive")  # of this room, that register networks
_builders: dict[str, tuple[FusionSpec, Callable[..., "FusionNetwork"]]] = {}

B = TypeVar("B", bound=Callable[..., "FusionNetwork"])


def register(spec: FusionSpec) -> Callable[[B], B]:
    """Decorator: the function's name becomes the network's name; its arguments are its options."""

    def add(builder: B) -> B:
        _builders[builder.__name__] = (spec, builder)
        return builder

    return add


def _known() -> dict[str, tuple[FusionSpec, Callable[..., "FusionNetwork"]]]:
    for module in _MODULES:
        import_module(f"avlearn.models.fusion.{module}")
    return _builders


def list_fusions() -> list[str]:
    """Names, sorted."""
    return sorted(_known())


def fusion_spec(name: str) -> FusionSpec:
    """The spec of a network. Raises ModelError for an unknown name."""
    return _find(name)[0]


def _find(name: str) -> tuple[FusionSpec, Callable[..., "FusionNetwork"]]:
    known = _known()
    if name not in known:
        raise ModelError(
            f"no fusion network is called '{name}'{hint(name, known)}; there are {', '.join(sorted(known))}"
        )
    return known[name]


def create_fusion(name: str, num_classes: int | None = None, **options: object) -> "FusionNetwork":
    """Build a network of video and audio.

    Args:
        name: one of `list_fusions()`.
        num_classes: without, its classifier is left out, and it gives features.
        options: the builder's own keyword arguments.

    Raises:
        ModelError: the name or an option is unknown, or the network cannot be built with them.
    """
    _, builder = _find(name)
    check_options(builder, options, f"fusion network '{name}'")
    try:
        network = builder(**options)
    except ValueError as error:
        raise ModelError(f"fusion network '{name}': {error}") from error
    network.reset_classifier(num_classes)
    return network
