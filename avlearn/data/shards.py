"""Clips packed into tar files that WebDataset reads in order, and anything at random by offset and length."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from avlearn.data.manifest import Manifest, Row
from avlearn.data.prepared_flow import SUFFIX, flow_path, stored_settings
from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.remote.cache import local_file


def shards_of(rows: Sequence[Row]) -> tuple[list[Path | str], np.ndarray]:
    """The shards that clips lie in, and the number of each clip's.

    Args:
        rows: of clips.

    Returns:
        Paths or addresses, and int64 ``[N]``; without any where clips lie in files of their own.
    """
    if rows[0].offset is None:
        return [], np.zeros(0, np.int64)
    if isinstance(rows, Manifest):
        paths, which = rows.distinct("path")
        used, numbers = np.unique(which, return_inverse=True)
        paths = [paths[k] for k in used]
    else:
        places = {path: k for k, path in enumerate(dict.fromkeys(row.path for row in rows))}
        paths, numbers = list(places), np.array([places[row.path] for row in rows], np.int64)
    return paths, numbers


def write_shards(
    rows: Sequence[Row], names: Sequence[str], folder: Path, count: int, *, flow: bool = False
) -> list[Row]:
    """Pack clips into ``count`` shards, in their order; a shard appears whole or not at all.

    Clip ``k`` becomes the members ``{k:08d}.mp4`` and ``{k:08d}.json`` (labels, split, events and the like). The same
    clips give the same bytes. The flow of a clip, where it has any, is ``{k:08d}.flow``, between the two.

    Args:
        rows: clips in files of their own.
        names: of the clips, for their JSON.
        folder: gets ``00000.tar`` and so on; other shards in it are removed.
        count: of shards; never more than clips.
        flow: whether the clips have flow beside them (`avlearn.data.prepared_flow`).

    Returns:
        The rows, with the tar as path, and the offset of the clip in it.

    Raises:
        OutputError: a shard cannot be written, or a clip is no longer what its hash says.
    """
    count = min(count, len(rows))
    packed: list[Row] = []
    for shard in range(count):
        path = folder / f"{shard:05d}.tar"
        with replacing(path) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for k in range(shard * len(rows) // count, (shard + 1) * len(rows) // count):
                offset = _add(tar, f"{k:08d}.mp4", _content(rows[k]))
                if flow:
                    _add(tar, f"{k:08d}{SUFFIX}", _flow(rows[k]))
                _add(tar, f"{k:08d}.json", clip_metadata(rows[k], names[k]))
                packed.append(replace(rows[k], path=path, offset=offset))
    for path in set(folder.glob("*.tar")) - {row.path for row in packed}:
        path.unlink()
    return packed


def clip_metadata(row: Row, name: str) -> bytes:
    """The JSON that lies beside a clip."""
    kept = ("labels", "split", "flags", "duration", "fps", "width", "height", "sample_rate", "hash")
    told = {"name": name} | {key: getattr(row, key) for key in kept}
    return json.dumps(told | {"events": [asdict(event) for event in row.events]}).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a member; returns where its first byte lies."""
    member = tarfile.TarInfo(name)  # no owner, and the date zero
    member.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(data))
    return offset


def _content(row: Row) -> bytes:
    data = local_file(row.path).read_bytes()
    if hashlib.sha256(data).hexdigest()[:32] != row.hash:
        raise OutputError(f"{row.path} has changed since it was written: remove it, and prepare again")
    return data


def _flow(row: Row) -> bytes:
    path = flow_path(local_file(row.path))
    if stored_settings(row) is None:
        raise OutputError(f"{path} has changed since it was written: remove it, and prepare again")
    return path.read_bytes()
