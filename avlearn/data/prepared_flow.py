"""Optical flow of prepared clips, computed once: 8 bits a component, beside the clip or behind it in its shard.

Of each pair of frames the longest component, 20 pixels at most, is 127: a component is wrong by at most 1/254 of it,
never by more than 0.08 pixels (Simonyan & Zisserman, NIPS 2014, store flow in 8 bits, too). Each pair is compressed by
itself, without loss, so that any window is read alone.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from avlearn.data.manifest import Row
from avlearn.data.transcode import FlowSettings
from avlearn.errors import DataError, MediaError
from avlearn.files import replacing
from avlearn.media import ClipReader, Window
from avlearn.remote.address import file_name, folder_of, located
from avlearn.remote.cache import open_part

SUFFIX = ".flow"
LONGEST = 20.0  # pixels: what encoders see of longer motion, see `avlearn.models.inputs.LIMIT`
_SCHEMA = "avlearn.prepared_flow/1"
_STEPS = 127  # from no motion to the longest
_AT_ONCE = 64  # pairs of frames
_LARGEST, _FASTEST = 1024, 240  # pixels, and frames a second
_HEADER = 4096  # bytes at most
_MOST_PAIRS = 10_000_000


def check_flow(flow: FlowSettings) -> None:
    """Raise DataError where there is no such method, or flow of such squares and rates is not computed."""
    from avlearn.signal.flow import METHODS  # loads OpenCV and PyTorch

    if flow.method not in METHODS:
        raise DataError(f"there is no flow by {flow.method!r}: choose one of {', '.join(METHODS)}")
    if not 16 <= flow.size <= _LARGEST or not 0 < flow.fps <= _FASTEST:
        raise DataError(
            f"flow is computed of squares of 16 to {_LARGEST} pixels and of at most {_FASTEST} frames a "
            f"second, not of {flow.size} and {flow.fps:g}"
        )


def flow_path(clip: Path) -> Path:
    """Where the flow of a prepared clip in a file of its own lies."""
    return clip.with_suffix(SUFFIX)


def flow_offset(row: Row) -> int:
    """First byte of the flow of a clip within a shard: it is the member after the clip."""
    assert row.offset is not None
    return row.offset + -(-row.bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + tarfile.BLOCKSIZE


def write_flow(clip: Path, columns: dict[str, Any], settings: FlowSettings) -> int:
    """Compute the flow of a prepared clip, and write it beside it; the same clip gives the same bytes.

    Args:
        clip: a file that `avlearn.data.transcode.transcode` wrote.
        columns: of its manifest, as that gives them.
        settings: of the flow.

    Returns:
        Bytes written.

    Raises:
        MediaError: the clip cannot be read.
        OutputError: the flow cannot be written.
    """
    scales: list[float] = []
    blobs: list[bytes] = []
    for flow in _flows(clip, columns["duration"], settings):
        scale, blob = _packed(flow)
        scales.append(scale)
        blobs.append(blob)
    header = {"schema": _SCHEMA, "clip": columns["hash"], **asdict(settings), "pairs": len(blobs)}
    ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
    target = flow_path(clip)
    with replacing(target) as part, part.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.write(np.array(scales, "<f4").tobytes() + ends.astype("<i8").tobytes() + b"".join(blobs))
    return target.stat().st_size


def _flows(clip: Path, duration: float, settings: FlowSettings) -> Iterator[np.ndarray]:
    """Flow ``[2, size, size]`` of each pair of frames, in pixels, as a training would compute it."""
    import torch

    from avlearn.signal.flow import METHODS

    torch.set_num_threads(1)  # each core has a process
    find = METHODS[settings.method]
    frames = round(duration * settings.fps) + 1  # windows may reach so far
    reader = ClipReader(fps=settings.fps, size=settings.size, audio=False)
    for first in range(0, frames - 1, _AT_ONCE):
        count = min(_AT_ONCE + 1, frames - first)
        (read,) = reader.read(clip, [Window(first / settings.fps, count / settings.fps, crop="square")])
        if len(read.video) < 2:
            break
        images = torch.from_numpy(np.ascontiguousarray(read.video)).permute(0, 3, 1, 2).float()
        for one, other in zip(images[:-1].split(8), images[1:].split(8), strict=True):
            yield from find(one, other).numpy()


def _packed(flow: np.ndarray) -> tuple[float, bytes]:
    """Pixels of the longest component, and the components in steps of 1/127 of it, compressed."""
    cut = np.clip(np.nan_to_num(flow), -LONGEST, LONGEST)
    scale = float(np.abs(cut).max())
    steps = np.rint(cut * (_STEPS / scale)) if scale else np.zeros_like(cut)
    codes = steps.astype(np.int8).view(np.uint8)
    # Neighbours are alike: differences along x are small numbers.
    return scale, zlib.compress(np.diff(codes, axis=2, prepend=np.uint8(0)).tobytes(), 6)


def _unpacked(blob: bytes, scale: float, size: int) -> np.ndarray:
    """The inverse: float32 ``[2, size, size]``."""
    length = 2 * size * size
    inflater = zlib.decompressobj()
    data = inflater.decompress(blob, length)
    if len(data) != length:
        raise ValueError("a pair is cut short")
    codes = np.cumsum(np.frombuffer(data, np.uint8).reshape(2, size, size), axis=2, dtype=np.uint8)
    return codes.view(np.int8).astype(np.float32) * np.float32(scale / _STEPS)


def stored_settings(row: Row) -> FlowSettings | None:
    """Of the flow that lies beside a clip, or behind it in its shard; None where there is none of this clip."""
    try:
        with _opened(row) as file:
            header = _header(file)
            if header["clip"] != row.hash:
                return None
            return FlowSettings(header["method"], header["fps"], header["size"])
    except (MediaError, OSError, ValueError, KeyError, TypeError):
        return None


def read_flow(row: Row, settings: FlowSettings, first: int, count: int) -> np.ndarray:
    """Flow from each frame to the next, of a window of a clip.

    Args:
        row: a clip with flow of these settings.
        settings: of the flow.
        first: number of the first frame.
        count: of pairs, at most: where the clip ends there are fewer.

    Returns:
        float32 ``[2, pairs, size, size]``: pixels along x and y.

    Raises:
        DataError: there is no such flow, or it is damaged.
    """
    try:
        with _opened(row) as file:
            header = _header(file)
            if header["clip"] != row.hash or settings != FlowSettings(header["method"], header["fps"], header["size"]):
                raise ValueError("it is of another clip, or of other settings")
            pairs, size = header["pairs"], settings.size
            if not isinstance(pairs, int) or not 0 <= pairs <= _MOST_PAIRS:
                raise ValueError("its length is none")
            begin, chosen = file.tell(), range(first, min(first + count, pairs))
            if not chosen:
                return np.zeros((2, 0, size, size), np.float32)
            scales = _array(file, begin + 4 * chosen.start, "<f4", len(chosen))
            before = 1 if chosen.start else 0
            ends = _array(file, begin + 4 * pairs + 8 * (chosen.start - before), "<i8", len(chosen) + before)
            ends = ends if before else np.concatenate([[0], ends])
            if (np.diff(ends) < 0).any() or ends[0] < 0 or ends[-1] - ends[0] > len(chosen) * (4 * size * size + 64):
                raise ValueError("its pairs have no places")
            file.seek(begin + 12 * pairs + int(ends[0]))
            data = file.read(int(ends[-1] - ends[0]))
            places = (ends - ends[0]).tolist()
            parts = zip(places[:-1], places[1:], scales.tolist(), strict=True)
            return np.stack([_unpacked(data[a:b], scale, size) for a, b, scale in parts], 1)
    except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise DataError(f"{row.path}: its prepared flow cannot be used: {error}; prepare it again") from error


def window_flow(row: Row, settings: FlowSettings, first: int, moving: int, frames: int) -> np.ndarray:
    """`read_flow` of a window that goes on with its last frame: from there on nothing moves.

    Args:
        row: a clip with flow of these settings.
        settings: of the flow.
        first: number of the first frame.
        moving: frames that are not the last one again.
        frames: of the window.

    Returns:
        float32 ``[2, frames - 1, size, size]``: pixels along x and y.

    Raises:
        DataError: as `read_flow`.
    """
    flow = read_flow(row, settings, first, max(moving - 1, 0))
    return np.pad(flow, ((0, 0), (0, frames - 1 - flow.shape[1]), (0, 0), (0, 0)))


def _opened(row: Row) -> BinaryIO:
    if isinstance(row.path, str):
        name = flow_path(Path(file_name(row.path))).name
        address = row.path if row.offset is not None else str(located(folder_of(row.path), name))
        content, begin, _ = open_part(address, flow_offset(row) if row.offset is not None else 0)
        part = BufferedReader(content)
        part.seek(begin)
        return part
    if row.offset is None:
        return flow_path(row.path).open("rb")
    file = row.path.open("rb")
    file.seek(flow_offset(row))
    return file


def _header(file: BinaryIO) -> dict[str, Any]:
    """Of the flow at the file's place, which is then behind it."""
    header = json.loads(file.readline(_HEADER))
    if not isinstance(header, dict) or header.get("schema") != _SCHEMA:
        raise ValueError("it is none")
    return header


def _array(file: BinaryIO, place: int, kind: str, count: int) -> np.ndarray:
    file.seek(place)
    return np.frombuffer(file.read(count * np.dtype(kind).itemsize), kind, count)
