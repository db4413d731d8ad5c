"""Models by name: where their folders are, and whether anything has a name; PyTorch is not loaded for that."""

from pathlib import Path

from avlearn.errors import ModelError
from avlearn.models.by_address import by_address
from avlearn.models.weights.released import released_weights
from avlearn.models.weights.systems import released_systems
from avlearn.names import hint, nearest

_ZOO = Path(__file__).resolve().parent / "zoo"


@by_address
def model_folder(name_or_path: str | Path) -> Path:
    """Where a model lies: a name in the wheel (``default``), or the path or the address of a model or run folder.

    Raises:
        ModelError: there is no such model.
    """
    folder = Path(name_or_path)
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    elif not folder.is_dir():
        folder = _ZOO / str(name_or_path)
    if not (folder / "config.json").is_file():
        if (system := released_systems().get(str(name_or_path))) is not None:
            raise ModelError(f"{system.title} is for avlearn {system.task} alone: this takes a model folder")
        names = ", ".join(sorted(p.parent.name for p in _ZOO.glob("*/config.json"))) or "none"
        known = list(released_systems())
        named = "/" not in str(name_or_path) and nearest(str(name_or_path), known)  # a path is no misspelt name
        near = hint(str(name_or_path), known, "released system") if named else ""
        raise ModelError(f"no model '{name_or_path}': neither a folder with a config.json nor one of: {names}{near}")
    return folder


def check_name(name_or_path: str | Path) -> None:
    """Refuse a name that is of no model folder, no released system and no encoder with released weights.

    Raises:
        ModelError: it is of none.
    """
    name = str(name_or_path)
    encoders = {released.encoder for released in released_weights()}
    if name not in released_systems() and name.partition("/")[0] not in encoders:
        model_folder(name)
