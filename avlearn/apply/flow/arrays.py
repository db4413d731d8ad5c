"""Flows of a file of any length as one ``.npz``, with memory that does not grow."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from avlearn.files import replacing

_CHUNK = 1 << 20  # bytes copied at once


@contextmanager
def writing_flows(path: Path) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Write what is added within: ``flow`` float16 ``[N, 2, H, W]``, pixels, and ``times`` float64 ``[N]``, seconds.

    An array tells its length before its values: these lie beside the file, nameless, until they are counted.

    Yields:
        A function of the seconds and the flow ``[2, H, W]`` of a frame, all of one size.

    Raises:
        OutputError: the file cannot be written.
    """
    times: list[float] = []
    shape: tuple[int, ...] = (2, 0, 0)
    with replacing(path) as part, tempfile.TemporaryFile(dir=path.parent) as values:

        def add(time: float, flow: np.ndarray) -> None:
            nonlocal shape
            times.append(time)
            shape = flow.shape
            values.write(np.ascontiguousarray(flow, "<f2").data)

        yield add
        values.seek(0)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with _member(archive, "times.npy") as member:
                np.lib.format.write_array(member, np.array(times), allow_pickle=False)
            with _member(archive, "flow.npy") as member:
                header = {"descr": "<f2", "fortran_order": False, "shape": (len(times), *shape)}
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(values, member, _CHUNK)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file within an archive, dated as all: the same flows make the same bytes."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)
