"""Checkpoints on disk: whole, checked before they are believed, the last and the one before it."""

import os
import pickle  # nosec B403
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from avlearn.errors import OutputError

LAST, BEFORE, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
METRICS_STATE = "Figures"  # under which checkpoints of all versions hold the rows of ``metrics.jsonl``


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints of one process to the disk's platter: the same state gives the same bytes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write; the caller renames."""
        with open(path, "wb") as file:
            torch.save(_plain(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())


def _plain(value: Any) -> Any:
    """Equal values as equal pickles: which of them are one object differs between a fresh run and a resumed one."""
    if type(value) in (dict, OrderedDict):
        return type(value)((_plain(key), _plain(item)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return sys.intern(value) if type(value) is str else value


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours without running anything that is pickled in it.

    Each member of the archive has a checksum, which torch does not look at.

    Raises:
        OutputError: the file is damaged, or no checkpoint.
    """
    if not path.is_file():  # a pipe would be waited for
        raise OutputError(f"{path} is damaged: it is no file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            program = any(name.endswith("constants.pkl") for name in archive.namelist())
        if damaged:
            raise OutputError(f"{path} is damaged: the checksum of {damaged} is wrong")
        if program:  # torch would look into it with TorchScript
            raise OutputError(f"{path} is damaged: it is a TorchScript archive")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words advise to run what is pickled
        raise OutputError(f"{path} is damaged: it holds other than tensors and plain values") from error
    # What damage brings out of the zip reader and out of torch.
    except (
        zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
        IndexError, AttributeError, NotImplementedError,
    ) as error:  # fmt: skip
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OutputError(f"{path} is damaged: {reason}") from error
    if not isinstance(state, dict) or not {"state_dict", "global_step", "callbacks"} <= state.keys():
        raise OutputError(f"{path} is no checkpoint of a run")
    return state


def last_good(folder: Path, say: bool = True) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its state; None where there is none at all.

    Args:
        folder: of the checkpoints.
        say: name damaged ones on standard error.

    Raises:
        OutputError: there are some, and all are damaged.
    """
    damaged = None
    for path in (folder / LAST, folder / BEFORE):
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path)
        except OutputError as error:
            damaged = error
            continue
        if damaged and say:
            print(f"warning: {damaged}; going on from step {state['global_step']} in {path.name}", file=sys.stderr)
        return path, state
    if damaged:
        raise OutputError(f"{damaged}, and there is no other to go on from: start again with another --run-dir")
    return None
