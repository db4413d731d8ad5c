"""Pickles as data: plain values, tensors and arrays are read; nothing is imported, called or changed.

Python's own unpickler calls what a file names, and its ``BUILD`` writes into functions and classes of the process. This
one knows the operations (Python's ``pickletools`` documents them) and a table of names. Whatever is not in the table
becomes an `Inert`, which takes what its pickle does to it and does nothing.
"""

import codecs
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeGuard

import numpy as np
import torch

MAX_OPERATIONS = 4_000_000  # a checkpoint with all of its training's state has some hundred thousand
_MAX_DIGITS = 1000  # of a number that is written out
_MAX_LONG = 255  # bytes of a whole number
_MAX_KEY = 2**61 - 1  # from here on whole numbers can be chosen to collide in a dictionary
_MAX_DIMS, _MAX_SIDE = 64, 2**40
_OTHER = "it is damaged, or of another kind: weights are safetensors, files of torch.save, or Caffe2's pickles"

DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_NUMPY_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")  # those that PyTorch has too


@dataclass(frozen=True)
class Global:
    """The name of a class or function; it is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
    """Stands for an object that is neither plain data nor a tensor; ``origin`` is what would have made it."""

    def __init__(self, origin: str) -> None:
        self.origin = origin


@dataclass(frozen=True)
class StorageRecord:
    """A run of numbers that lies elsewhere in the file, from element ``first`` on."""

    key: str
    dtype: torch.dtype
    numel: int
    first: int = 0


@dataclass(frozen=True)
class TensorRecord:
    """Where a tensor lies in its storage; ``first`` and ``stride`` in elements of ``dtype``."""

    storage: StorageRecord
    dtype: torch.dtype
    first: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of its elements, each counted, however many of them lie at one place."""
        return nbytes(self.size, self.dtype)


def nbytes(size: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of a tensor; sides of none count as one, since others may be made of the rest."""
    return math.prod(max(side, 1) for side in size) * dtype.itemsize


class _DType:
    """A NumPy dtype, whose byte order its pickle tells afterwards."""

    def __init__(self, code: object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = ""

    def found(self) -> np.dtype | None:
        """The dtype; None for one that PyTorch does not have."""
        if self.code == "?":
            return np.dtype(bool)
        match = _NUMPY_DTYPE.fullmatch(self.code)
        return np.dtype((self.order if self.order in ("<", ">") else "") + match[1]) if match else None


class ArrayRecord:
    """A NumPy array, whose content its pickle tells afterwards: ``value`` is None for one of another dtype."""

    value: np.ndarray | None = None


class PickleReader:
    """Read the pickles that follow one another in a file.

    Args:
        file: where the first begins.
        size: bytes that the file has: no more is read at once, and no more than four times that is made of it.

    Attributes:
        storages: those that were mentioned, by their keys.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._operations, self._bytes = MAX_OPERATIONS, 4 * size + 2**20
        self.storages: dict[str, StorageRecord] = {}

    def read(self) -> object:
        """The next pickle's value: tensors as records, mappings as dicts whose keys are strings or whole numbers.

        Raises:
            ValueError: it is damaged, too long, or takes what is not data.
        """
        self._stack: list[object] = []
        self._below: list[list[object]] = []
        self._memo: dict[int, object] = {}
        try:
            while (code := self._file.read(1)) != b".":
                self._operations -= 1
                if self._operations < 0:
                    raise ValueError(f"it has more than {MAX_OPERATIONS} operations")
                if code not in _OPERATIONS:
                    raise ValueError(_OTHER if code else "it is cut short")
                _OPERATIONS[code](self)
            return self._stack.pop()
        except (IndexError, KeyError, struct.error) as error:
            raise ValueError(_OTHER) from error

    # What operations are made of.

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        return self._stack.pop()

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        data = self._file.read(count) if 0 <= count <= self._size else b""
        if len(data) != count:
            raise ValueError("it is cut short")
        return data

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self, limit: int | None = None) -> bytes:
        data = self._file.readline(limit or self._size + 1)
        if not data.endswith(b"\n"):
            raise ValueError("it is cut short")
        return data[:-1]

    def to_mark(self) -> list[object]:
        """What was pushed since the last mark."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def memoize(self, key: int | None = None) -> None:
        self._memo[len(self._memo) if key is None else key] = self._stack[-1]

    def recall(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def spend(self, count: int) -> None:
        """Count bytes that are made, not read."""
        self._bytes -= count
        if self._bytes < 0:
            raise ValueError("it unfolds to many times its size")

    # Operations on containers and objects.

    def append(self, items: list[object]) -> None:
        into = self._stack[-1]
        if isinstance(into, list):
            into.extend(items)
        elif not isinstance(into, Inert):
            raise ValueError(_OTHER)

    def set_items(self, items: list[object]) -> None:
        into = self._stack[-1]
        if isinstance(into, dict):
            into.update(_pairs(items))
        elif not isinstance(into, Inert):
            raise ValueError(_OTHER)

    def add(self, items: list[object]) -> None:
        into = self._stack[-1]
        if isinstance(into, set):
            into.update(filter(_is_key, items))

    def call(self, function: object, arguments: object) -> None:
        """Push what a name of the table makes of arguments; an `Inert` for every other."""
        known = _CALLS.get((function.module, function.name)) if isinstance(function, Global) else None
        if known and isinstance(arguments, tuple):
            self.push(known(self, arguments))
        else:
            self.push(Inert(str(function) if isinstance(function, Global) else "an object"))

    def build(self, state: object) -> None:
        """Tell an array, or its dtype, its content; whatever else stays as it is."""
        into = self._stack[-1]
        if isinstance(into, _DType) and isinstance(state, tuple) and len(state) >= 3:
            into.order = state[1] if isinstance(state[1], str) else ""
            if state[2] is not None:  # of several numbers
                into.code = ""
        elif isinstance(into, ArrayRecord) and isinstance(state, tuple) and len(state) >= 4:
            shape, dtype, fortran, data = state[-4:]
            into.value = _array(self, data, dtype, shape, "F" if fortran else "C")

    def find(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError(_OTHER)
        self.push(DTYPES[name] if module == "torch" and name in DTYPES else Global(module, name))

    def persistent(self, identity: object) -> None:
        """A storage; other things that lie outside the pickle are nothing that is needed."""
        if isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage":
            storage = _storage(*identity[1:])
            if isinstance(storage, StorageRecord):
                self.storages.setdefault(storage.key, storage)
            self.push(storage)
        else:
            self.push(Inert("an object outside the pickle"))


def _is_key(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < _MAX_KEY)


def _pairs(items: list[object]) -> dict[object, object]:
    """Keys and values in turn; those with keys that nothing asks for are passed over."""
    if len(items) % 2:
        raise ValueError(_OTHER)
    return {key: value for key, value in zip(items[::2], items[1::2], strict=True) if _is_key(key)}


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIDE


def _is_shape(value: object) -> TypeGuard[Sequence[int]]:
    return isinstance(value, tuple | list) and len(value) <= _MAX_DIMS and all(map(_is_count, value))


def _storage(
    kind: object, key: object, location: object, numel: object, view: object = None, *_: object
) -> StorageRecord | Inert:
    if not (isinstance(kind, Global) and isinstance(key, str | int) and _is_count(numel)):
        raise ValueError("a storage is not described as PyTorch does it")
    if kind.name not in _STORAGES:
        return Inert(str(kind))
    first = 0
    if view is not None:  # of another storage, as files before 1.0 have it
        if not (isinstance(view, tuple) and len(view) == 3 and _is_count(view[1]) and _is_count(view[2])):
            raise ValueError("a storage is not described as PyTorch does it")
        first, numel = view[1], view[2]
    return StorageRecord(str(key), _STORAGES[kind.name], numel, first)


# What the names of the table make of their arguments.


def _tensor(_: PickleReader, arguments: tuple[object, ...]) -> TensorRecord | Inert:
    """``_rebuild_tensor_v2`` and its elders: storage, offset, size, stride, and what does not matter here."""
    metadata = arguments[6] if len(arguments) > 6 else None
    return _view(arguments[:4], None, metadata)


def _tensor_v3(_: PickleReader, arguments: tuple[object, ...]) -> TensorRecord | Inert:
    """``_rebuild_tensor_v3``, of dtypes that have no storage of their own."""
    dtype = arguments[6]
    if not isinstance(dtype, torch.dtype):
        return Inert("_rebuild_tensor of an unknown dtype")
    return _view(arguments[:4], dtype, arguments[7] if len(arguments) > 7 else None)


def _view(place: tuple[object, ...], dtype: torch.dtype | None, metadata: object) -> TensorRecord | Inert:
    storage, first, size, stride = place
    if isinstance(storage, Inert):
        return Inert(f"_rebuild_tensor of {storage.origin}")
    if metadata:
        return Inert("_rebuild_tensor of a conjugate or negative view")
    if not isinstance(storage, StorageRecord) or not (_is_count(first) and _is_shape(size) and _is_shape(stride)):
        raise ValueError("a tensor is not described as PyTorch does it")
    dtype = dtype or storage.dtype
    held = storage.numel * storage.dtype.itemsize // dtype.itemsize
    numel = math.prod(size)
    if len(size) != len(stride) or numel > 2**62:
        raise ValueError("a tensor is not described as PyTorch does it")
    if numel and first + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) >= held:
        raise ValueError(f"a tensor of shape {list(size)} lies beyond its storage of {held} numbers")
    return TensorRecord(storage, dtype, first, tuple(size), tuple(stride))


def _first(_: PickleReader, arguments: tuple[object, ...]) -> object:
    """``_rebuild_parameter``: the tensor in it."""
    return arguments[0] if isinstance(arguments[0], TensorRecord) else Inert("a parameter without a tensor")


def _of_torch(function: object) -> TypeGuard[Global]:
    return isinstance(function, Global) and function.module == "torch._utils"


def _with_attributes(reader: PickleReader, arguments: tuple[object, ...]) -> object:
    """``_rebuild_from_type_v2``: a tensor with attributes, which are passed over."""
    function, _, inner, _ = arguments
    rebuild = _CALLS.get((function.module, function.name)) if _of_torch(function) else None
    return rebuild(reader, inner) if rebuild and isinstance(inner, tuple) else Inert(str(function))


def _mapping(_: PickleReader, arguments: tuple[object, ...]) -> dict[object, object]:
    items = arguments[-1] if arguments and isinstance(arguments[-1], list) else []
    return _pairs([part for item in items if isinstance(item, tuple | list) and len(item) == 2 for part in item])


def _set(_: PickleReader, arguments: tuple[object, ...]) -> set[object]:
    items = arguments[0] if arguments else ()
    return set(filter(_is_key, items)) if isinstance(items, list | tuple) else set()


def _size(_: PickleReader, arguments: tuple[object, ...]) -> object:
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else Inert("torch.Size")


def _device(_: PickleReader, arguments: tuple[object, ...]) -> object:
    name = ":".join(str(part) for part in arguments[:2] if isinstance(part, str | int))
    return torch.device(name) if re.fullmatch(r"(cpu|cuda|mps|xpu|meta)(:\d{1,3})?", name) else Inert("torch.device")


def _encode(reader: PickleReader, arguments: tuple[object, ...]) -> bytes:
    """``_codecs.encode``, which Python 3 writes bytes with at the protocols of Python 2."""
    if not isinstance(arguments[0], str):
        raise ValueError(_OTHER)
    reader.spend(len(arguments[0]))
    return arguments[0].encode("latin1")


def _bytes(_: PickleReader, arguments: tuple[object, ...]) -> object:
    return arguments[0] if arguments and isinstance(arguments[0], bytes) else b""


def _complex(_: PickleReader, arguments: tuple[object, ...]) -> object:
    numbers = [part for part in arguments if isinstance(part, float)]
    return complex(*numbers) if len(numbers) == 2 else Inert("complex")


def _frombuffer(reader: PickleReader, arguments: tuple[object, ...]) -> ArrayRecord:
    record = ArrayRecord()
    data, dtype, shape, order = arguments
    record.value = _array(reader, data, dtype, shape, "F" if order == "F" else "C")
    return record


def _scalar(reader: PickleReader, arguments: tuple[object, ...]) -> object:
    dtype, data = arguments
    value = _array(reader, data, dtype, (), "C")
    return Inert("numpy.scalar") if value is None else value.item()


def _array(
    reader: PickleReader, data: object, dtype: object, shape: object, order: Literal["C", "F"]
) -> np.ndarray | None:
    found = dtype.found() if isinstance(dtype, _DType) else None
    if found is None or not isinstance(data, bytes | str):
        return None
    if not _is_shape(shape) or math.prod(shape) * found.itemsize != len(data):
        raise ValueError(f"an array is not as long as its shape {shape if _is_shape(shape) else ''} says")
    reader.spend(len(data))
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, found).reshape(shape, order=order).astype(found.newbyteorder("="), order="C")


_CALLS: dict[tuple[str, str], Callable[[PickleReader, tuple[object, ...]], object]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("_codecs", "encode"): _encode,
    **{
        (f"{numpy}.{module}", name): call
        for numpy in ("numpy.core", "numpy._core")
        for module, name, call in (
            ("multiarray", "_reconstruct", lambda *_: ArrayRecord()),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
    ("numpy", "dtype"): lambda _, arguments: _DType(arguments[0]),
    **{
        (builtins, name): call
        for builtins in ("builtins", "__builtin__")
        for name, call in (
            ("set", _set), ("frozenset", _set), ("bytes", _bytes), ("bytearray", _bytes), ("complex", _complex),
        )
    },
}  # fmt: skip


# The operations, by their codes.


def _long(reader: PickleReader, count: int) -> None:
    if count > _MAX_LONG:
        raise ValueError(f"a whole number of {count} bytes")
    reader.push(int.from_bytes(reader.take(count), "little", signed=True))


def _int(reader: PickleReader) -> None:
    data = reader.line(_MAX_DIGITS)
    reader.push({b"00": False, b"01": True}[data] if data in (b"00", b"01") else int(data))


def _quoted(reader: PickleReader) -> None:
    data = reader.line()
    if len(data) < 2 or data[:1] != data[-1:] or data[:1] not in (b"'", b'"'):
        raise ValueError(_OTHER)
    reader.push(codecs.escape_decode(data[1:-1])[0].decode("latin1"))


def _text(reader: PickleReader, layout: str) -> None:
    reader.push(reader.take(reader.number(layout)).decode("utf-8", "surrogatepass"))


def _string(reader: PickleReader, layout: str) -> None:
    """Of Python 2: text or bytes, which Latin-1 keeps apart from nothing and loses nothing of."""
    reader.push(reader.take(reader.number(layout)).decode("latin1"))


def _tuple(reader: PickleReader, count: int) -> None:
    reader.push(tuple([reader.pop() for _ in range(count)][::-1]))


def _reduce(reader: PickleReader) -> None:
    arguments, function = reader.pop(), reader.pop()
    reader.call(function, arguments)


def _new_with_keywords(reader: PickleReader) -> None:
    _, arguments, function = reader.pop(), reader.pop(), reader.pop()
    reader.call(function, arguments)


def _instance(reader: PickleReader) -> None:
    reader.find(reader.line().decode("latin1"), reader.line().decode("latin1"))
    function = reader.pop()
    reader.call(function, tuple(reader.to_mark()))


def _object(reader: PickleReader) -> None:
    function, *arguments = reader.to_mark()
    reader.call(function, tuple(arguments))


def _stack_global(reader: PickleReader) -> None:
    name, module = reader.pop(), reader.pop()
    reader.find(module, name)


def _set_item(reader: PickleReader) -> None:
    value, key = reader.pop(), reader.pop()
    reader.set_items([key, value])


def _duplicate(reader: PickleReader) -> None:
    value = reader.pop()
    reader.push(value)
    reader.push(value)


_OPERATIONS: dict[bytes, Callable[[PickleReader], object]] = {
    b"\x80": lambda r: r.take(1),  # PROTO
    b"\x95": lambda r: r.take(8),  # FRAME
    b"(": PickleReader.mark,
    b"0": lambda r: r.pop() if r._stack else r.to_mark(),
    b"1": PickleReader.to_mark,
    b"2": _duplicate,
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"I": _int,
    b"J": lambda r: r.push(r.number("<i")),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"L": lambda r: r.push(int(r.line(_MAX_DIGITS).removesuffix(b"L"))),
    b"\x8a": lambda r: _long(r, r.number("<B")),
    b"\x8b": lambda r: _long(r, r.number("<I")),
    b"F": lambda r: r.push(float(r.line(_MAX_DIGITS))),
    b"G": lambda r: r.push(r.number(">d")),
    b"S": _quoted,
    b"T": lambda r: _string(r, "<I"),
    b"U": lambda r: _string(r, "<B"),
    b"V": lambda r: r.push(r.line().decode("raw-unicode-escape")),
    b"X": lambda r: _text(r, "<I"),
    b"\x8c": lambda r: _text(r, "<B"),
    b"\x8d": lambda r: _text(r, "<Q"),
    b"B": lambda r: r.push(r.take(r.number("<I"))),
    b"C": lambda r: r.push(r.take(r.number("<B"))),
    b"\x8e": lambda r: r.push(r.take(r.number("<Q"))),
    b"\x96": lambda r: r.push(r.take(r.number("<Q"))),
    b"]": lambda r: r.push([]),
    b"l": lambda r: r.push(r.to_mark()),
    b"a": lambda r: r.append([r.pop()]),
    b"e": lambda r: r.append(r.to_mark()),
    b")": lambda r: r.push(()),
    b"t": lambda r: r.push(tuple(r.to_mark())),
    b"\x85": lambda r: _tuple(r, 1),
    b"\x86": lambda r: _tuple(r, 2),
    b"\x87": lambda r: _tuple(r, 3),
    b"}": lambda r: r.push({}),
    b"d": lambda r: r.push(_pairs(r.to_mark())),
    b"s": _set_item,
    b"u": lambda r: r.set_items(r.to_mark()),
    b"\x8f": lambda r: r.push(set()),
    b"\x90": lambda r: r.add(r.to_mark()),
    b"\x91": lambda r: r.push(set(filter(_is_key, r.to_mark()))),
    b"c": lambda r: r.find(r.line().decode("latin1"), r.line().decode("latin1")),
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _reduce,  # NEWOBJ
    b"\x92": _new_with_keywords,
    b"i": _instance,
    b"o": _object,
    b"b": lambda r: r.build(r.pop()),
    b"P": lambda r: r.persistent(r.line().decode("latin1")),
    b"Q": lambda r: r.persistent(r.pop()),
    b"g": lambda r: r.recall(int(r.line(_MAX_DIGITS))),
    b"h": lambda r: r.recall(r.number("<B")),
    b"j": lambda r: r.recall(r.number("<I")),
    b"p": lambda r: r.memoize(int(r.line(_MAX_DIGITS))),
    b"q": lambda r: r.memoize(r.number("<B")),
    b"r": lambda r: r.memoize(r.number("<I")),
    b"\x94": PickleReader.memoize,
}
