"""The tensors of weight files as their authors publish them, read without executing what is pickled in them."""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.files import replacing

# Under which name the envelopes of the field keep the weights: PySlowFast and pytorchvideo, most others, DeepSpeed,
# Caffe2.
_ENVELOPES = ("model_state", "state_dict", "model_state_dict", "model", "module", "blobs")
# What wrappers put before every name: DistributedDataParallel, and models within models.
_PREFIXES = ("module.", "model.")
_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ARRAYS = ("dtype", "ndarray", "_reconstruct", "_frombuffer", "scalar")
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors of a weight file, out of its envelope and without the prefixes of wrappers.

    Reads safetensors, PyTorch's files, and the pickles of Caffe2 (PySlowFast's and VMZ's ``.pkl``). Pickled objects
    that are neither tensors nor plain data, like the training history in mmaction2's files, are passed over: nothing of
    them is imported or called.

    Raises:
        ModelError: the file is missing, of another kind, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weight file {path}")
    try:
        found = _read(path)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is no weight file that can be read: {str(error).splitlines()[0]}") from error
    while inner := next((found[name] for name in _ENVELOPES if isinstance(found.get(name), Mapping)), None):
        found = dict(inner)
    tensors = {name: _tensor(value) for name, value in found.items() if isinstance(value, Tensor | np.ndarray)}
    if not tensors:
        raise ModelError(f"{path} holds no weights")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def write_tensors(model: nn.Module, path: Path) -> None:
    """A model's tensors as safetensors; the file is whole or is not there.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as part:
        try:
            save_file(tensors, part)
        except safetensors.SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error
        part.chmod(0o644)  # safetensors writes files for the owner alone


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return load_file(path)
    found: object = None
    if path.suffix == ".pkl" and start[:2] != b"PK":
        with path.open("rb") as file:
            found = _Inert(file, encoding="latin1").load()
    if found is None or isinstance(found, int):  # PyTorch's; before 1.6 a number came first
        found = torch.load(path, map_location="cpu", pickle_module=_INERT, weights_only=False)
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, not weights by name")
    return dict(found)


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))


class _Nothing:
    """Stands for an object that is not imported; takes whatever its pickle does to it."""

    def __new__(cls, *_: object, **__: object) -> "_Nothing":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> "_Nothing":
        return self

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, *_: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...


class _Inert(pickle.Unpickler):
    """An unpickler that imports numpy's arrays and PyTorch's tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in _NUMPY and name in _ARRAYS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if module == "torch._utils" and name in _TENSORS:
            return super().find_class(module, name)
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in (("torch", "Size"), ("torch", "device")):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        return _Nothing


# What torch.load takes for a module that unpickles.
_INERT = SimpleNamespace(
    __name__="inert", Unpickler=_Inert, load=lambda file, **options: _Inert(file, **options).load()
)
