"""Sources of weights: tensors, a file, an encoder's folder, an address, or the name of released ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from avlearn.errors import ModelError
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.download import download, require_source
from avlearn.models.weights.importers import OURS, find_layout
from avlearn.models.weights.importers.layout import Tensors, WeightLayout
from avlearn.models.weights.released import released_weights
from avlearn.remote.address import is_address
from avlearn.validation import STRICT, read_object, validated

FORMAT = "avlearn.encoder/1"  # of folders


@dataclass(frozen=True)
class Weights:
    """Tensors as they were released, and the layout that they are in."""

    tensors: Tensors
    layout: WeightLayout
    source: str = "the weights"


def open_weights(source: str | Path | Tensors, encoder: str) -> Weights:
    """Read weights, of whatever source.

    Args:
        source: tensors; a weight file; a folder that ``avlearn weights import`` wrote; an address (see `download`);
            or a name of `released_weights`.
        encoder: whose weights they are to be.

    Raises:
        ModelError: there is no such thing, it cannot be read, or the folder is another encoder's.
    """
    if isinstance(source, dict):
        return Weights(source, find_layout(source, encoder))
    known = {released.name: released for released in released_weights() if released.encoder == encoder}
    require_source(str(source), encoder, known)
    needs: dict[str, Any] = {}
    if str(source) in known:
        released = known[str(source)]
        path, needs = download(released.address), dict(released.needs)
    else:
        path = download(str(source)) if is_address(str(source)) else Path(source)
    if path.is_dir():
        config = read_config(path)
        if config.name != encoder:
            raise ModelError(f"{path} holds weights of {config.name}, not of {encoder}")
        tensors, layout = read_tensors(path / "model.safetensors"), OURS
        needs = {**config.options, "mean": config.mean, "std": config.std}
    else:
        tensors = read_tensors(path)
        layout = find_layout(tensors, encoder)
    mean, std = tuple(needs.pop("mean", layout.mean)), tuple(needs.pop("std", layout.std))
    return Weights(tensors, replace(layout, options={**layout.options, **needs}, mean=mean, std=std), path.name)


@dataclass(frozen=True)
class EncoderConfig:
    """The ``config.json`` of an encoder's folder; ``preprocessing`` is checked by who reads it."""

    __pydantic_config__ = STRICT

    name: Annotated[str, Field(max_length=64)]
    num_classes: Annotated[int, Field(ge=1, le=10**6)] | None
    options: dict[str, object]
    mean: Annotated[tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], Field(max_length=64)] = ()
    std: Annotated[tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...], Field(max_length=64)] = ()
    preprocessing: dict[str, object] | None = None


def read_config(folder: Path) -> EncoderConfig:
    """The ``config.json`` of an encoder's folder.

    Raises:
        ModelError: there is none, or it is of another format or has other keys.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no folder of an encoder: it has no config.json")
    config = validated(EncoderConfig, read_object(path, FORMAT), path)
    if len(config.mean) != len(config.std):
        raise ModelError(f"{path}: mean, std: one has {len(config.mean)} numbers, the other {len(config.std)}")
    return config


def is_encoder_folder(folder: Path) -> bool:
    """Whether ``avlearn weights import`` wrote it."""
    try:
        read_object(folder / "config.json", FORMAT)
    except ModelError:
        return False
    return True
