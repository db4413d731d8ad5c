"""Arrays to images.

Charts are matplotlib figures in black on white, for which a page puts its own ink and background.
Frames are uint8 arrays.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from avlearn.files import replacing
from avlearn.metrics.localization import enlarge

TRAINING, HELD_OUT, MARK = "#3b82f6", "#ea580c", "#dc2626"  # seen well on white and on black
_WIDTH = 4.6  # inches: one column of a page, and all of a phone's
_COUNTED, _NAMED = 30, 150  # classes of a confusion matrix whose counts, and whose names, can be read


def png_bytes(image: np.ndarray | Figure) -> bytes:
    """uint8 ``[H, W, 3]``, or a figure, as a PNG."""
    buffer = BytesIO()
    if isinstance(image, Figure):
        image.savefig(buffer, format="png", dpi=150)
    else:
        Image.fromarray(image).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def write_png(path: str | Path, image: np.ndarray | Figure) -> None:
    """Write uint8 ``[H, W, 3]`` or a figure.

    Raises:
        OutputError: the file cannot be written; nothing is left of it.
    """
    with replacing(path) as part:
        part.write_bytes(png_bytes(image))


@lru_cache(maxsize=1)
def heat_colours() -> tuple[np.ndarray, np.ndarray]:
    """For 256 levels of heat: in [0, 1] how much each covers ``[256, 1]``, and its colour ``[256, 3]``, 0 to 255."""
    level = np.linspace(0, 1, 256)[:, None]
    return 0.7 * level**1.5, colormaps["inferno"](level[:, 0])[:, :3] * 255


@lru_cache(maxsize=257)
def _blend(opacity: int) -> tuple[np.ndarray, np.ndarray]:
    """For 256 levels, in 256ths: what stays of a frame ``[256]``, what is added ``[256, 3]``."""
    most, colours = heat_colours()
    covers = most * opacity / 256
    stays = np.floor(256 * (1 - covers))
    return stays[:, 0].astype(np.uint16), ((256 - stays) * colours).astype(np.uint16)


def overlay(frame: np.ndarray, heat: np.ndarray, opacity: float = 1.0) -> np.ndarray:
    """A frame with a heatmap over it, the hotter the more opaque.

    Args:
        frame: uint8 ``[H, W, 3]``.
        heat: ``[Y, X]`` in [0, 1], of any size; enlarged to the frame.
        opacity: in [0, 1], of the whole map.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    # Enlarging is a weighted mean: levels stay in [0, 255].
    level = (enlarge(255 * np.clip(heat[None], 0, 1), frame.shape[:2])[0] + 0.5).astype(np.uint8)
    stays, added = _blend(round(opacity * 256))
    blended: np.ndarray = frame * stays.take(level)[..., None]
    blended += added.take(level, axis=0)
    blended >>= 8
    return blended.astype(np.uint8)


def outline(image: np.ndarray, box: Sequence[float] | np.ndarray, shade: int, thick: int) -> None:
    """Draw a box.

    Args:
        image: uint8 ``[H, W, ...]``, written to.
        box: x0, y0, x1, y1 in pixels; what lies outside is moved to the edge.
        shade: of its lines.
        thick: pixels of them, inside the box.
    """
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(round(float(x)), 0, width - 1)) for x in (box[0], box[2]))
    y0, y1 = (int(np.clip(round(float(y)), 0, height - 1)) for y in (box[1], box[3]))
    image[y0 : y0 + thick, x0 : x1 + 1] = shade
    image[max(y1 - thick + 1, y0) : y1 + 1, x0 : x1 + 1] = shade
    image[y0 : y1 + 1, x0 : x0 + thick] = shade
    image[y0 : y1 + 1, max(x1 - thick + 1, x0) : x1 + 1] = shade


def heatmap_frames(
    frames: np.ndarray, maps: np.ndarray, boxes: np.ndarray | None = None, columns: int = 3
) -> np.ndarray:
    """Frames, each above itself with its map laid over it.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        maps: ``[T, Y, X]`` in [0, 1].
        boxes: ``[T, 4]`` in pixels of the frames (NaN: none), the truth, drawn in white.
        columns: frames in a row.

    Returns:
        uint8 ``[.., .., 3]``: small frames are enlarged, black lies between.
    """
    zoom = max(round(192 / min(frames.shape[1:3])), 1)
    size = (frames.shape[2] * zoom, frames.shape[1] * zoom)
    tiles = []
    for k, (frame, heat) in enumerate(zip(frames, maps, strict=True)):
        plain = np.array(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        hot = overlay(plain, heat)
        if boxes is not None and np.isfinite(boxes[k]).all():
            outline(hot, np.asarray(boxes[k]) * zoom, 255, max(min(hot.shape[:2]) // 96, 1))
        tiles.append(np.concatenate([plain, np.zeros_like(plain[:2]), hot]))
    columns = min(columns, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = []
    for first in range(0, len(tiles), columns):
        row = [np.pad(tile, ((0, 6), (0, 2), (0, 0))) for tile in tiles[first : first + columns]]
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)[:-6, :-2]


def _chart(height: float = 2.6, width: float = _WIDTH) -> tuple[Figure, Axes]:
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a twentieth of the values, shorter at the ends."""
    reach = len(values) // 40
    total = np.concatenate([[0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    means: np.ndarray = (total[high] - total[low]) / (high - low)
    return means


def training_curves(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """A chart for each key in the rows of ``metrics.jsonl``, which ``NAME`` and ``val_NAME`` share.

    Args:
        rows: dicts with ``step`` and numbers.

    Returns:
        Charts, the loss first and the learning rate last; a thick line is a running mean.
    """
    names = dict.fromkeys(key.removeprefix("val_") for row in rows for key in row if key not in ("step", "skipped"))
    figures = []
    for name in sorted(names, key=lambda n: (n != "loss", n == "lr")):
        figure, axes = _chart()
        for key, label, colour in (
            (name, "training", TRAINING),
            (f"val_{name}", "held-out clips", HELD_OUT),
        ):
            points = np.array([(row["step"], row[key]) for row in rows if row.get(key) is not None])
            if not len(points):
                continue
            steps, values = points.T
            dots = "o" if key != name else ""
            if len(points) >= 80:
                axes.plot(steps, values, color=colour, alpha=0.3, lw=0.7)
                values = _smooth(values)
            axes.plot(steps, values, color=colour, lw=1.6, marker=dots, ms=3, label=label)
        axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
        axes.set_xlabel("step")
        axes.grid(alpha=0.2, lw=0.6)
        if name != "lr":
            axes.legend(fontsize=8, frameon=False)
        figures.append(figure)
    return figures


def spectrogram(audio: np.ndarray, rate: int) -> Figure:
    """Level over time and frequency, 80 dB below full scale to full scale.

    Args:
        audio: ``[S]`` or ``[C, S]`` in [-1, 1].
        rate: samples a second.
    """
    samples = np.asarray(audio, np.float32)
    samples = samples.mean(0) if samples.ndim == 2 else samples
    window = max(round(0.032 * rate), 64)
    padded = np.pad(samples, window // 2)
    # About as many columns as the chart has pixels: more would only make the page heavier.
    hop = max(len(samples) // 400, window // 8)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    level = np.abs(np.fft.rfft(frames * np.hanning(window))).T / (window / 4)
    figure, axes = _chart(1.9)
    axes.imshow(
        20 * np.log10(level + 1e-9), origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=0,
        extent=(0, len(samples) / rate, 0, rate / 2000), interpolation="none",
    )  # fmt: skip
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    return figure


def offset_curve(offsets: np.ndarray, scores: np.ndarray, estimate: float | None) -> Figure:
    """Mean similarity over offsets, the estimate marked.

    Args:
        offsets: ``[O]`` seconds, positive where the audio leads.
        scores: ``[O]``; NaN leaves a gap.
        estimate: seconds, None where there is none.
    """
    figure, axes = _chart()
    axes.plot(np.asarray(offsets) * 1000, scores, color=TRAINING, lw=1.6)
    if estimate is not None:
        said = f"{estimate * 1000:+.0f} ms"
        axes.axvline(estimate * 1000, color=MARK, lw=1.2, ls="--", label=said)
        axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel("audio leads by (ms)")
    axes.set_ylabel("similarity")
    axes.grid(alpha=0.2, lw=0.6)
    return figure


def reliability_curve(said: np.ndarray, found: np.ndarray, clips: np.ndarray) -> Figure:
    """How often a confidence is right, beside what it says.

    Args:
        said: ``[N]``, mean confidence of each bin, in [0, 1].
        found: ``[N]``, share of its clips that are right.
        clips: ``[N]``, how many they are.
    """
    figure, axes = _chart()
    axes.plot([0, 1], [0, 1], color=MARK, lw=1.2, ls="--")
    axes.plot(said, found, color=HELD_OUT, lw=1.6, marker="o")
    for x, y, count in zip(said, found, clips, strict=True):
        axes.annotate(str(int(count)), (x, y), (-4, 8), textcoords="offset points", fontsize=8)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that is right")
    axes.grid(alpha=0.2, lw=0.6)
    return figure


def confusion(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Counts of true classes (rows) and predicted ones (columns), coloured by share of the row.

    Of many classes the counts are left out, and of very many the names; colours then are by the root of the share, so
    that little is seen.

    Args:
        matrix: ``[C, C]`` counts.
        names: of the C classes.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(1.6 + 0.4 * len(names), 12)
    figure, axes = _chart(side, max(side + 0.4, 2.6))
    cells = np.empty((*matrix.shape, 4))
    cells[..., :3], cells[..., 3] = (
        to_rgb(TRAINING),
        0.8 * (share if len(names) <= _COUNTED else share**0.5),
    )  # see-through: fit for any background
    axes.imshow(cells, interpolation="none")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(names) <= _NAMED:
        letters, turn = (8, 45) if len(names) <= _COUNTED else (max(650 / len(names), 4), 90)
        axes.set_xticks(range(len(names)), names, rotation=turn, ha="right", rotation_mode="anchor", fontsize=letters)
        axes.set_yticks(range(len(names)), names, fontsize=letters)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if len(names) <= _COUNTED:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                axes.text(column, row, str(int(count)), ha="center", va="center", fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure
