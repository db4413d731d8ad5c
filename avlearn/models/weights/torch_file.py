"""PyTorch's files read as data: the zip archives that it writes since 1.6, and the runs of pickles from before.

``torch.load`` is not used: an archive with ``constants.pkl`` it hands to TorchScript, which runs what is written there.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from avlearn.models.weights.pickles import PickleReader, StorageRecord, TensorRecord

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of files from before 1.6
_MAX_ENTRIES = 200_000
_CHUNK = 2**20  # bytes that are read, and checked, at once


@dataclass(frozen=True)
class Place:
    """Bytes of a file: from where, how many, and their CRC-32 where it is known."""

    first: int
    length: int
    crc: int = 0


@dataclass(frozen=True)
class TorchFile:
    """The content of a file: its value with tensors as records, and where their storages lie."""

    path: Path
    value: object
    places: dict[str, Place]

    def tensors(self, records: Mapping[str, TensorRecord]) -> dict[str, Tensor]:
        """The tensors themselves. Views of one storage share it, as they did when they were written.

        Raises:
            ValueError: a storage is missing, too short or damaged.
        """
        keys = list({record.storage.key: None for record in records.values()})
        for key in keys:
            if key not in self.places:
                raise ValueError(f"storage {key} is missing")
        with self.path.open("rb") as file:
            held = {key: _bytes(file, self.places[key], f"storage {key}") for key in keys}
        return {name: _tensor(held[record.storage.key], record) for name, record in records.items()}


def read_archive(path: Path) -> TorchFile:
    """A file as PyTorch writes them since 1.6.

    Raises:
        ValueError: it is a TorchScript archive, no archive of PyTorch's, or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        entries = _directory(file, size)
        root = next((name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and
                     name.endswith("/data.pkl")), None)  # fmt: skip
        if root is None:
            raise ValueError("it is a zip archive, but none of PyTorch's: it has no data.pkl")
        if f"{root}constants.pkl" in entries or any(name.startswith(f"{root}code/") for name in entries):
            raise ValueError("it is a TorchScript archive, which is a program: save the state_dict() of its model")
        if any(entry.packed for entry in entries.values()):
            raise ValueError("its entries are compressed or encrypted, which PyTorch's never are")
        order = entries.get(f"{root}byteorder")
        if order and bytes(_bytes(file, _content(file, order), "its byte order").tolist()) != b"little":
            raise ValueError("its numbers are big-endian")
        pickle = _bytes(file, _content(file, entries[f"{root}data.pkl"]), "data.pkl")
        value = PickleReader(io.BytesIO(pickle.numpy().data), size).read()
        prefix = f"{root}data/"
        places = {
            name.removeprefix(prefix): _content(file, entry)
            for name, entry in entries.items()
            if name.startswith(prefix)
        }
    return TorchFile(path, value, places)


def read_run(path: Path) -> TorchFile:
    """A single pickle, or the pickles and storages of a file as PyTorch wrote them before 1.6.

    Raises:
        ValueError: it is neither, or damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = PickleReader(file, size)
        value = reader.read()
        if value != MAGIC:
            return TorchFile(path, value, {})
        version, machine = reader.read(), reader.read()
        if version != 1001 or (isinstance(machine, dict) and machine.get("little_endian") is False):
            raise ValueError("it is of an unknown version of PyTorch's, or big-endian")
        value, keys = reader.read(), reader.read()
        if not isinstance(keys, list):
            raise ValueError("its list of storages is damaged")
        return TorchFile(path, value, dict(_runs(file, size, keys, reader.storages)))


def _runs(
    file: BinaryIO, size: int, keys: list[object], storages: dict[str, StorageRecord]
) -> Iterator[tuple[str, Place]]:
    """Where the storages lie that follow the pickles, each behind its number of elements."""
    for key in keys:
        if str(key) not in storages:
            raise ValueError("its list of storages is damaged")
        head = file.read(8)
        count = struct.unpack("<q", head)[0] if len(head) == 8 else -1
        place = Place(file.tell(), count * storages[str(key)].dtype.itemsize)
        if count < 0 or place.first + place.length > size:
            raise ValueError(f"storage {key} is cut short")
        file.seek(place.length, io.SEEK_CUR)
        yield str(key), place


def _bytes(file: io.BufferedReader, place: Place, title: str) -> Tensor:
    """The bytes that lie there, uint8, checked where there is a checksum (PyTorch can be told to write none: 0)."""
    data = torch.empty(place.length, dtype=torch.uint8)
    view = data.numpy().data
    file.seek(place.first)
    found = 0
    for start in range(0, place.length, _CHUNK):
        chunk = view[start : start + _CHUNK]
        if file.readinto(chunk) != len(chunk):
            raise ValueError(f"{title} is cut short")
        if place.crc:
            found = zlib.crc32(chunk, found)
    if found != place.crc:
        raise ValueError(f"{title} is damaged: its checksum is not the one that was written")
    return data


def _tensor(held: Tensor, record: TensorRecord) -> Tensor:
    """A tensor upon the bytes of its storage."""
    storage, item = record.storage, record.dtype.itemsize
    first = storage.first * storage.dtype.itemsize
    length = storage.numel * storage.dtype.itemsize
    if first + length > len(held):
        raise ValueError(f"storage {storage.key} has {len(held)} bytes, and should have {first + length}")
    data = held[first : first + length // item * item]
    if record.dtype is torch.bool:
        data = data != 0  # a byte that is neither 0 nor 1 is no truth value
    elif first % item:
        data = data.clone()
    data = data.view(record.dtype)
    return data.as_strided(record.size, record.stride, data.storage_offset() + record.first)


# The zip container. Python's own reader unfolds what is compressed, and has no bounds.


@dataclass(frozen=True)
class _Entry:
    """An entry of the central directory.

    Attributes:
        header: where its local header begins.
        length, crc: of its bytes, as they lie there.
        packed: whether they are compressed or encrypted.
    """

    name: bytes
    header: int
    length: int
    crc: int
    packed: bool


def _directory(file: BinaryIO, size: int) -> dict[str, _Entry]:
    """Entries of an archive by name.

    Raises:
        ValueError: there is no directory, or an entry lies beyond the file or upon another.
    """
    count, length, first = _end(file, size)
    if count > _MAX_ENTRIES or first + length > size:
        raise ValueError("its directory does not fit into the file")
    file.seek(first)
    data = file.read(length)
    entries: dict[str, _Entry] = {}
    at = 0
    for _ in range(count):
        entry, at = _entry(data, at)
        name = entry.name.decode("utf-8", "replace")
        if name in entries:
            raise ValueError("two of its entries have one name")
        entries[name] = entry
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.header):
        if entry.header < end:
            raise ValueError("its entries lie upon one another")
        end = entry.header + 30 + len(entry.name) + entry.length
    if end > first:
        raise ValueError("its entries lie beyond its end")
    return entries


def _end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """How many entries the directory has, its length, and where it lies."""
    tail = min(size, 22 + 65535 + 20)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\5\6")
    if at < 0 or len(data) - at < 22:
        raise ValueError("it is cut short: an archive's directory is at its end")
    count, length, first = struct.unpack_from("<HII", data, at + 10)
    if at >= 20 and data[at - 20 : at - 16] == b"PK\6\7":
        file.seek(min(struct.unpack_from("<Q", data, at - 12)[0], size))
        wide = file.read(56)
        if len(wide) < 56 or wide[:4] != b"PK\6\6":
            raise ValueError("its directory is damaged")
        count, length, first = struct.unpack_from("<QQQ", wide, 32)
    return count, length, first


def _entry(data: bytes, at: int) -> tuple[_Entry, int]:
    """The entry of the directory that begins there, and where the next one does."""
    if data[at : at + 4] != b"PK\1\2" or len(data) - at < 46:
        raise ValueError("its directory is damaged")
    flags, method, _, crc, packed, length, name, extra, comment = struct.unpack_from("<HHIIIIHHH", data, at + 8)
    header = struct.unpack_from("<I", data, at + 42)[0]
    further = data[at + 46 + name : at + 46 + name + extra]
    wide = iter(_wide(further))
    length, packed, header = (next(wide, 0) if value == 2**32 - 1 else value for value in (length, packed, header))
    entry = _Entry(data[at + 46 : at + 46 + name], header, packed, crc, bool(method or flags & 1 or packed != length))
    return entry, at + 46 + name + extra + comment


def _wide(extra: bytes) -> list[int]:
    """Numbers of 64 bits among the further fields of an entry."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            field = extra[4 : 4 + length]
            return [number for (number,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
        extra = extra[4 + length :]
    return []


def _content(file: BinaryIO, entry: _Entry) -> Place:
    """Where the bytes of an entry lie, behind its local header."""
    file.seek(entry.header)
    head = file.read(30)
    if len(head) < 30 or head[:4] != b"PK\3\4":
        raise ValueError("the header of one of its entries is damaged")
    name, extra = struct.unpack_from("<HH", head, 26)
    if file.read(name) != entry.name:
        raise ValueError("the header of one of its entries is damaged")
    return Place(entry.header + 30 + name + extra, entry.length, entry.crc)
