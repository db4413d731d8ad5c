"""Arrays to pictures. Each function gives uint8 ``[H, W, 3]``."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from avlearn.errors import OutputError


def png_bytes(image: np.ndarray) -> bytes:
    """uint8 ``[H, W, 3]`` as a PNG."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 ``[H, W, 3]``. Raises OutputError."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(png_bytes(image))
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


@lru_cache(maxsize=2)
def _colours(name: str) -> np.ndarray:
    return (colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)


@lru_cache(maxsize=8)
def _weights(cells: int, pixels: int) -> np.ndarray:
    """Bilinear enlargement of one axis as a matrix ``[pixels, cells]``."""
    at = np.clip((np.arange(pixels) + 0.5) / pixels * cells - 0.5, 0, cells - 1)
    low = np.minimum(at.astype(int), max(cells - 2, 0))
    share = at - low
    out = np.zeros((pixels, cells), np.float32)
    out[np.arange(pixels), low] += 1 - share
    out[np.arange(pixels), np.minimum(low + 1, cells - 1)] += share
    return out


def overlay(frame: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A frame with a heatmap over it.

    Args:
        frame: uint8 ``[H, W, 3]``.
        heat: ``[Y, X]`` in [0, 1]; enlarged to the frame, the hotter the more opaque.
    """
    big = _weights(heat.shape[0], frame.shape[0]) @ heat.astype(np.float32)
    big = np.clip(big @ _weights(heat.shape[1], frame.shape[1]).T, 0, 1)
    colour = _colours("inferno")[(big * 255).astype(np.uint8)]
    alpha = (0.7 * big**1.5)[..., None]
    return (frame * (1 - alpha) + colour * alpha).astype(np.uint8)


def _rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _plain(figure: Figure, count: int = 1) -> list:
    axes = [figure.add_subplot(1, count, k + 1) for k in range(count)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return axes


def training_curves(rows: Sequence[dict]) -> np.ndarray:
    """Loss, and shares of right offsets and pairs, from the rows of ``metrics.jsonl``."""
    figure = Figure((9, 3), dpi=110, layout="constrained")
    left, right = _plain(figure, 2)
    for axis, names in (
        (left, ("loss", "val_loss")),
        (right, ("offset_within_1", "val_offset_within_1", "retrieval", "val_retrieval")),
    ):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                style = "o-" if name.startswith("val_") else "-"
                label = name.removeprefix("val_").replace("_", " ")
                label += ", held-out clips" if name.startswith("val_") else ", training"
                axis.plot(*zip(*points, strict=True), style, ms=3, lw=1.3, label=label)
        axis.set_xlabel("step")
        if axis.has_data():
            axis.legend(fontsize=7, frameon=False)
    left.set_ylabel("loss")
    right.set_ylabel("share")
    return _rendered(figure)


def spectrogram(audio: np.ndarray, rate: int) -> np.ndarray:
    """Level over time and frequency of ``[S]`` or ``[C, S]``, 80 dB deep."""
    sound = audio.mean(0) if audio.ndim == 2 else audio
    window = max(int(0.032 * rate), 64)
    hop = window // 4
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, window // 2), window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1).T) / window * 4
    decibel = np.clip(20 * np.log10(power + 1e-9), -90, -10)
    figure = Figure((4.2, 1.8), dpi=100, layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(
        decibel, origin="lower", aspect="auto", cmap="magma", vmin=-90, vmax=-10,
        extent=(0, len(sound) / rate, 0, rate / 2000),
    )  # fmt: skip
    axis.set_xlabel("s", fontsize=7)
    axis.set_ylabel("kHz", fontsize=7)
    axis.tick_params(labelsize=6)
    return _rendered(figure)


def heatmap_frames(frames: np.ndarray, maps: np.ndarray, zoom: int = 2) -> np.ndarray:
    """Frames ``[N, H, W, 3]`` above the same with their maps ``[N, Y, X]`` in [0, 1] laid over them."""
    bigger = frames.repeat(zoom, 1).repeat(zoom, 2)
    lower = [overlay(frame, heat) for frame, heat in zip(bigger, maps, strict=True)]
    return np.concatenate([np.concatenate(list(bigger), 1), np.concatenate(lower, 1)], 0)


def offset_curve(offsets: np.ndarray, scores: np.ndarray, estimate: float | None) -> np.ndarray:
    """Mean similarity over offsets in seconds, with the estimate marked."""
    figure = Figure((4.6, 2.2), dpi=110, layout="constrained")
    (axis,) = _plain(figure)
    axis.plot(offsets * 1000, scores, lw=1.4)
    if estimate is not None:
        axis.axvline(estimate * 1000, color="crimson", lw=1, ls="--")
    axis.set_xlabel("audio leads by (ms)")
    axis.set_ylabel("similarity")
    return _rendered(figure)


def confusion(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Counts ``[C, C]``, true classes in rows."""
    figure = Figure((4.2, 3.8), dpi=110, layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(matrix, cmap="Blues")
    axis.set_xticks(range(len(names)), names, rotation=60, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            shade = "white" if count > matrix.max() / 2 else "black"
            axis.text(column, row, int(count), ha="center", va="center", fontsize=6, color=shade)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    return _rendered(figure)
