"""Devices and precisions by the names that people use."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from avlearn.errors import AvlearnError

if TYPE_CHECKING:
    import torch

PRECISIONS = {"32": None, "bf16": "bfloat16", "16": "float16"}


def choose_device(name: str = "auto") -> "torch.device":
    """The device of a name.

    Args:
        name: ``auto`` (the accelerator, where there is one), ``cpu``, ``cuda``, ``cuda:1``, or ``mps``.

    Raises:
        AvlearnError: there is no such device here; says which there are.
    """
    import torch

    there = ["cpu"]
    if torch.cuda.is_available():
        there += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        there.append("mps")
    wanted = {"auto": there[1] if len(there) > 1 else "cpu", "cuda": "cuda:0"}.get(name, name)
    if wanted not in there:
        raise AvlearnError(f"there is no device '{name}' here; there are {', '.join([*there, 'auto'])}")
    return torch.device(wanted)


def choose_precision(name: str, device: "torch.device") -> "torch.dtype | None":
    """What encoders compute in on a device; None: single precision.

    Args:
        name: ``32``, ``bf16`` or ``16``.
        device: of the model.

    Raises:
        AvlearnError: there is no such precision, or the device does not have it.
    """
    import torch

    if name not in PRECISIONS:
        raise AvlearnError(f"there is no precision '{name}'; there are {', '.join(PRECISIONS)}")
    if name == "16" and device.type == "cpu":
        raise AvlearnError("precision 16 takes a GPU; on a processor take bf16 or 32")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise AvlearnError("this GPU does not have precision bf16; take 16 or 32")
    known = PRECISIONS[name]
    return getattr(torch, known) if known is not None else None


def computing_in(precision: "torch.dtype | None", device: "torch.device") -> AbstractContextManager[object]:
    """A context in which encoders compute in a precision of `choose_precision`."""
    import torch

    return nullcontext() if precision is None else torch.autocast(device.type, precision)
