"""The tensors of weight files as their authors publish them. Files are data: nothing in them is imported or called."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.files import replacing
from avlearn.models.weights.pickles import ArrayRecord, Inert, TensorRecord, nbytes
from avlearn.models.weights.torch_file import TorchFile, read_archive, read_run

# Under which name the envelopes of the field keep the weights: PySlowFast and pytorchvideo, most others, DeepSpeed,
# Caffe2, V-JEPA 2.1.
_ENVELOPES = ("model_state", "state_dict", "model_state_dict", "model", "module", "blobs", "ema_encoder")
# What wrappers put before every name: DistributedDataParallel, and models within models.
_PREFIXES = ("module.", "model.")
_MAX_TENSORS, _MAX_NAME = 50_000, 500
# What tensors may have, each counted alone: so many times the file's size, since tied weights share what lies there
# once, and so many bytes besides, since a number may stand for a whole tensor.
_SHARED, _SPREAD = 4, 2**29

Model = TypeVar("Model", bound=nn.Module)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors of a weight file, out of its envelope and without the prefixes of wrappers.

    Reads safetensors, PyTorch's files, and the pickles of Caffe2 (PySlowFast's and VMZ's ``.pkl``). Pickled objects
    that are neither tensors nor plain data, like the training history in mmaction2's files, are passed over.

    Raises:
        ModelError: the file is missing, damaged, of another kind (a TorchScript archive among them), or holds no
            weights, or ones of a kind that is not read (sparse, quantized).
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weight file {path}")
    try:
        tensors = _read(path)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} is no weight file that can be read: {_line(error)}") from error
    if not tensors:
        raise ModelError(f"{path} holds no weights")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def load_whole(build: Callable[[], Model], path: Path, other: str | None = None) -> Model:
    """Build a model and give it all of its tensors from a safetensors file, which holds nothing besides.

    The model is built without memory first, and held to what the file says that it has: a folder whose configuration
    asks for more than its weights takes none.

    Args:
        build: makes the model.
        path: of the file.
        other: how names begin of tensors in the file that are not the model's.

    Raises:
        ModelError: a tensor is missing, left over, of another shape, or holds NaN or infinity, or the file is damaged.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ModelError(f"there is no weight file {path}")
    with torch.device("meta"):
        model = build()
    empty = model.state_dict()
    renamed = getattr(model, "renamed", str)  # where a file of before has another name for a tensor
    # Models of before have what only a tower's classifier would read.
    removed = [(name, getattr(module, "removed_parts", ())) for name, module in model.named_modules()]
    off = tuple(f"{name}.{part}." for name, parts in removed for part in parts)
    try:
        with safe_open(path, "pt") as file:
            found = {renamed(name): file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no mapping)
        skipped = off if other is None else (*off, other)
        wanted = {name: list(tensor.shape) for name, tensor in empty.items() if not name.startswith(skipped)}
        _compare(wanted, {name: shape for name, shape in found.items() if not name.startswith(skipped)}, path)
        tensors = {renamed(name): tensor for name, tensor in load_file(path).items()}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(skipped)}
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path} is no weight file that can be read: {_line(error)}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != empty[name].is_floating_point():
            raise ModelError(f"{path}: {name} holds {tensor.dtype}, and in the model {empty[name].dtype}")
    model = build()
    # Limits that are not set yet.
    infinite = {name for name, buffer in model.named_buffers() if buffer.is_floating_point() and buffer.isinf().any()}
    check_finite(tensors, path, infinite)
    model.load_state_dict(tensors)
    return model


def check_finite(tensors: Mapping[str, Tensor], source: object, infinite: Collection[str] = ()) -> None:
    """Refuse weights that hold NaN, or infinity where a name is not among the ``infinite``.

    Raises:
        ModelError: some do; the first is named.
    """
    for name, tensor in tensors.items():
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex) or not tensor.numel() or tensor.is_meta:
            continue
        real = torch.view_as_real(tensor) if tensor.dtype.is_complex else tensor
        low, high = torch.aminmax(real if real.dtype.itemsize > 1 else real.float())
        if torch.isnan(low) or (name not in infinite and torch.isinf(torch.stack([low, high])).any()):
            raise ModelError(f"{source}: {name} holds numbers that are not finite")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Tensors as safetensors; the file is whole or is not there.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path, (OSError, SafetensorError)) as part:  # the latter of a full disk
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        part.chmod(0o644)  # safetensors writes files for the owner alone


def _read(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        start = file.read(262)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        tensors = load_file(path)
        _check_names(tensors)
        _check_size((nbytes(tensor.shape, tensor.dtype) for tensor in tensors.values()), path)
        return tensors
    if start[257:] == b"ustar":
        raise ValueError("it is an archive of PyTorch 0.1, which is not read")
    archive = read_archive(path) if start[:4] == b"PK\3\4" else read_run(path)
    found = archive.value
    for _ in _ENVELOPES:
        if not isinstance(found, dict):
            break
        found = next((found[name] for name in _ENVELOPES if isinstance(found.get(name), dict)), found)
    if not isinstance(found, dict):
        what = found.origin if isinstance(found, Inert) else type(found).__name__
        raise ValueError(f"it holds a {what}, not weights by name")
    return _tensors(archive, found)


def _tensors(file: TorchFile, values: Mapping[object, object]) -> dict[str, Tensor]:
    """Records by name to tensors; other things are passed over."""
    found = {name: value for name, value in values.items() if isinstance(name, str)}
    for name, value in found.items():
        if isinstance(value, Inert) and "_rebuild_" in value.origin:
            raise ValueError(f"{name[:_MAX_NAME]} is no dense tensor ({value.origin}); others are not read")
    records = {name: value for name, value in found.items() if isinstance(value, TensorRecord)}
    _check_names(found)
    _check_size((record.nbytes for record in records.values()), file.path)
    arrays = {name: value.value for name, value in found.items() if isinstance(value, ArrayRecord)}
    tensors = file.tensors(records)
    tensors |= {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    return {name: tensors[name] for name in found if name in tensors}


def _check_names(tensors: Mapping[str, object]) -> None:
    if len(tensors) > _MAX_TENSORS:
        raise ValueError(f"it holds {len(tensors)} tensors, and no network that is known has {_MAX_TENSORS}")
    if not all(len(name) <= _MAX_NAME and name.isprintable() for name in tensors):
        raise ValueError("the name of one of its tensors is too long, or cannot be printed")


def _check_size(tensors: Iterable[int], path: Path) -> None:
    total, size = sum(tensors), path.stat().st_size
    if total > _SHARED * size + _SPREAD:
        raise ValueError(f"its tensors have {total} bytes, and the file {size}")


def _compare(wanted: Mapping[str, list[int]], found: Mapping[str, list[int]], path: Path) -> None:
    _check_names(found)
    if missing := sorted(wanted.keys() - found.keys()):
        raise ModelError(f"{path}: {len(missing)} tensors are missing; the first is {missing[0]}")
    if left := sorted(found.keys() - wanted.keys()):
        raise ModelError(f"{path}: {len(left)} tensors have no place in the model; the first is {left[0]}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(f"{path}: {name} has the shape {found[name]}, and in the model {shape}")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
