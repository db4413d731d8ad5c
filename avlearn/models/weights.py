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
    """Weights that were released.

    Attributes:
        encoder, name: what to call them by; the name says who released them.
        data: what they were trained on.
        top1: published accuracy on it, percent; empty where another measure is published.
        address: see `download`.
        needs: what the file does not show and its layout does not say: options of the builder, ``mean`` and ``std``.
    """

    encoder: str
    name: str
    data: str
    top1: str
    address: str
    needs: dict[str, object]


@cache
def released_weights() -> tuple[Released, ...]:
    """All that are known by name."""
    with Path(__file__).with_name("released.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(Released(**{**row, "needs": json.loads(row["needs"] or "{}")}) for row in rows)


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
        return Weights(source, find_layout(source, encoder))
    known = {released.name: released for released in released_weights() if released.encoder == encoder}
    if str(source) in known:
        released = known[str(source)]
        path, needs = download(released.address), dict(released.needs)
    else:
        path, needs = download(str(source)) if is_address(str(source)) else Path(source), {}
    if path.is_dir():
        config = read_config(path)
        if config["name"] != encoder:
            raise ModelError(f"{path} holds weights of {config['name']}, not of {encoder}")
        tensors, layout = read_tensors(path / "model.safetensors"), OURS
        needs = {**config["options"], "mean": config["mean"], "std": config["std"]}
    elif path.exists():
        tensors = read_tensors(path)
        layout = find_layout(tensors, encoder)
    else:
        names = ", ".join(known) or "none"
        raise ModelError(f"there is no weight file {source}; weights of {encoder} that can be fetched by name: {names}")
    mean, std = tuple(needs.pop("mean", layout.mean)), tuple(needs.pop("std", layout.std))
    return Weights(tensors, replace(layout, options={**layout.options, **needs}, mean=mean, std=std), path.name)


def read_config(folder: Path) -> dict:
    """The ``config.json`` of an encoder's folder. Raises ModelError if there is none, or of another format."""
    try:
        config = json.loads((folder / "config.json").read_text())
        if config.get("format") == FORMAT:
            return config
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder} is no folder of an encoder: it has no config.json that can be read") from error
    raise ModelError(f"{folder} is no folder of an encoder: its config.json is not of the format {FORMAT}")
