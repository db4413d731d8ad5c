"""Where weights come from: tensors, a file, an encoder's folder, an address, or the name of released ones."""

import csv
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from avlearn.errors import ModelError
from avlearn.models.checkpoint import read_tensors
from avlearn.models.download import download, is_address
from avlearn.models.importers import OURS, find_layout
from avlearn.models.importers.layout import Layout, Tensors

FORMAT = "avlearn.encoder/1"  # of folders


@dataclass(frozen=True)
class Released:
    """Weights that were released: of which encoder, by whom, trained on what, top-1 in percent there, and where."""

    encoder: str
    name: str
    data: str
    top1: str
    address: str


@cache
def released_weights() -> tuple[Released, ...]:
    """All that are known by name."""
    with Path(__file__).with_name("released.tsv").open(newline="") as file:
        return tuple(Released(**row) for row in csv.DictReader(file, delimiter="\t"))


@dataclass(frozen=True)
class Weights:
    """Tensors as they were released, and the layout that they are in."""

    tensors: Tensors
    layout: Layout
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
        return Weights(source, find_layout(source))
    path = Path(source)
    if not path.exists():
        path = _fetched(str(source), encoder)
    if not path.is_dir():
        tensors = read_tensors(path)
        return Weights(tensors, find_layout(tensors), path.name)
    config = read_config(path)
    if config["name"] != encoder:
        raise ModelError(f"{path} holds weights of {config['name']}, not of {encoder}")
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Weights(
        read_tensors(path / "model.safetensors"), replace(OURS, options=config["options"], mean=mean, std=std)
    )


def read_config(folder: Path) -> dict:
    """The ``config.json`` of an encoder's folder. Raises ModelError if there is none, or of another format."""
    try:
        config = json.loads((folder / "config.json").read_text())
        if config.get("format") == FORMAT:
            return config
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder} is no folder of an encoder: it has no config.json that can be read") from error
    raise ModelError(f"{folder} is no folder of an encoder: its config.json is not of the format {FORMAT}")


def _fetched(source: str, encoder: str) -> Path:
    if is_address(source):
        return download(source)
    known = {released.name: released for released in released_weights() if released.encoder == encoder}
    if source not in known:
        names = ", ".join(known) or "none"
        raise ModelError(f"there is no weight file {source}; weights of {encoder} that can be fetched by name: {names}")
    return download(known[source].address)
