"""Files of optical flow: Middlebury's ``.flo``, and KITTI's PNG of 16 bits."""

from pathlib import Path

import cv2
import numpy as np

from avlearn.errors import MediaError, OutputError
from avlearn.files import replacing

FLOW_SUFFIXES = (".flo", ".png")
_TAG = b"PIEH"  # 202021.25 as a float: Middlebury's mark (Baker et al., IJCV 2011)
_UNKNOWN = 1e9  # pixels: in a .flo, a vector as long as that is unknown
_LIMIT = 1 << 15  # pixels of a side
_STEPS, _ZERO = 64.0, 1 << 15  # of KITTI: 64 a pixel, and what stands for no motion


def read_flow(path: str | Path) -> np.ndarray:
    """A flow with a known truth.

    Args:
        path: a ``.flo``, or a PNG of 16 bits as KITTI has them.

    Returns:
        float32 ``[2, H, W]``, pixels along x and y; NaN where it is unknown.

    Raises:
        MediaError: the file cannot be read, or is none of these.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    if data[:4] == _TAG:
        return _from_flo(data, path)
    if data[:4] == b"\x89PNG":
        return _from_png(data, path)
    raise MediaError(f"{path} is no file of flow: neither a .flo nor a PNG of 16 bits")


def write_flow(path: str | Path, flow: np.ndarray) -> None:
    """Write a flow; in a PNG, in 64ths of a pixel, within 512 pixels.

    Args:
        path: ends in ``.flo`` or ``.png``.
        flow: ``[2, H, W]``, pixels along x and y; NaN where it is unknown.

    Raises:
        OutputError: the suffix is neither, the flow does not fit a PNG, or the file cannot be written.
    """
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or len(flow) != 2:
        raise OutputError(f"{path}: a flow is [2, H, W], not {[*flow.shape]}")
    writers = {".flo": _to_flo, ".png": _to_png}
    writer = writers.get(Path(path).suffix.lower())
    if writer is None:
        raise OutputError(f"cannot write {path}: flow is written to {', '.join(FLOW_SUFFIXES)}")
    data = writer(flow, path)
    with replacing(path) as part:
        part.write_bytes(data)


def _from_flo(data: bytes, path: str | Path) -> np.ndarray:
    width, height = np.frombuffer(data[4:12].ljust(8, b"\0"), "<i4").tolist()
    if not (0 < width <= _LIMIT and 0 < height <= _LIMIT):
        raise MediaError(f"{path}: a flow of {width} x {height} pixels: the file is damaged")
    if len(data) < 12 + 8 * width * height:
        raise MediaError(f"{path} ends early: {width} x {height} vectors take {12 + 8 * width * height} bytes")
    flow = np.frombuffer(data, "<f4", 2 * width * height, 12).reshape(height, width, 2).transpose(2, 0, 1)
    known = (np.abs(flow) < _UNKNOWN).all(0)
    return np.where(known, flow, np.nan).astype(np.float32)


def _to_flo(flow: np.ndarray, path: str | Path) -> bytes:
    values = np.where(np.isfinite(flow).all(0), flow, np.float32(10 * _UNKNOWN))
    size = np.array(flow.shape[:0:-1], "<i4")
    return _TAG + size.tobytes() + np.ascontiguousarray(values.transpose(1, 2, 0), "<f4").tobytes()


def _from_png(data: bytes, path: str | Path) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise MediaError(f"{path} is no flow: a PNG of KITTI's has three channels of 16 bits")
    known, down, across = np.moveaxis(image, 2, 0)  # OpenCV has the channels from last to first
    flow = (np.stack([across, down]).astype(np.float32) - _ZERO) / _STEPS
    return np.where(known > 0, flow, np.nan).astype(np.float32)


def _to_png(flow: np.ndarray, path: str | Path) -> bytes:
    known = np.isfinite(flow).all(0)
    steps = np.round(np.where(known, flow, 0) * _STEPS) + _ZERO
    if steps.min() < 0 or steps.max() > np.iinfo(np.uint16).max:
        raise OutputError(f"{path}: a PNG holds flow from -512 to below 512 pixels; write a .flo")
    across, down = np.where(known, steps, 0).astype(np.uint16)
    done, data = cv2.imencode(".png", np.stack([known.astype(np.uint16), down, across], 2))
    assert done  # it has the shape and type that a PNG has
    return data.tobytes()
