"""Filters, drawn inputs and maps as frames, films and charts."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from avlearn.config import Spectrogram
from avlearn.models.inputs import LIMIT
from avlearn.report.flow_colours import flow_colours
from avlearn.report.plots import overlay

_SIDE = 56  # pixels of a filter's longer side, at least
_SHOWN = 224  # pixels of a drawn frame's shorter side, at least
_CLIPPED = 0.995  # of the values of a drawn film: the others, a few, take no contrast from these
_GAP, _PAPER = 6, 40  # pixels between tiles, and their grey
_COLOURS = 3  # channels
_COLUMNS = 1600  # of a spectrogram in a chart, at most
_TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz


def filter_films(kernels: Tensor) -> np.ndarray:
    """A sheet of a video's filters, each on a scale of its own: grey, and white for flow, is zero.

    Args:
        kernels: ``[D, C, T, Y, X]``; C is 3 of colours, 2 of flow, or both.

    Returns:
        uint8 ``[T, H, W, 3]``; of colours and flow, tiles of the one that a filter reads, or both side by side.
    """
    colours = kernels[:, :_COLOURS] if kernels.shape[1] != 2 else kernels[:, :0]
    flow = kernels[:, -2:] if kernels.shape[1] != _COLOURS else kernels[:, :0]
    kinds = [part for part in (_of_colours(colours), _of_flow(flow)) if part is not None]
    tiles = np.concatenate(kinds, 3)  # [D, T, Y, X, 3]
    zoom = max(-(-_SIDE // max(tiles.shape[2:4])), 1)
    films = [_enlarged(tile, zoom, Image.Resampling.NEAREST) for tile in tiles]
    across = max(round((1.6 * len(films)) ** 0.5), 1)
    return _sheet(films, across)


def _of_colours(kernels: Tensor) -> np.ndarray | None:
    """``[D, 3, T, Y, X]`` as uint8 ``[D, T, Y, X, 3]``; None where all are zero."""
    if not kernels.any():
        return None
    most = kernels.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1, 1, 1)
    return _bytes((0.5 + 0.5 * kernels / most).permute(0, 2, 3, 4, 1).numpy())


def _of_flow(kernels: Tensor) -> np.ndarray | None:
    """``[D, 2, T, Y, X]`` in the colours of flow; None where all are zero."""
    if not kernels.any():
        return None
    return np.stack([flow_colours(kernel.transpose(0, 1).numpy()) for kernel in kernels])


def filter_picture(kernels: Tensor) -> np.ndarray:
    """A sheet of a spectrogram's filters ``[D, 1, F, N]``, low bands below, each on a scale of its own.

    Returns:
        uint8 ``[H, W, 3]``: red where more raises the answer, blue where it lowers it.
    """
    most = kernels.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1)
    shown = (0.5 + 0.5 * kernels[:, 0] / most).flip(1).numpy()
    tiles = _bytes(colormaps["RdBu_r"](shown)[..., :3])
    zoom = max(-(-_SIDE // max(tiles.shape[1:3])), 1)
    films = [_enlarged(tile[None], zoom, Image.Resampling.NEAREST) for tile in tiles]
    return _sheet(films, max(round((1.6 * len(films)) ** 0.5), 1))[0]


def drawn_film(inputs: Sequence[Tensor]) -> np.ndarray:
    """Drawn videos side by side, as uint8 ``[T, H, W, 3]``.

    Args:
        inputs: ``[C, T, H, W]`` in [0, 1] each: colours, flow, or both, which stand one above the other.
            Contrast is stretched, each film's by itself.
    """
    return _sheet([_film_of(drawn) for drawn in inputs], len(inputs))


def _film_of(drawn: Tensor) -> np.ndarray:
    values, parts = drawn.numpy(), []
    if len(values) != 2:
        seen = values[:_COLOURS].transpose(1, 2, 3, 0) - 0.5
        parts.append(_bytes(0.5 + 0.5 * seen / max(np.quantile(np.abs(seen), _CLIPPED), 1e-6)))
    if len(values) != _COLOURS:
        vectors = _vectors(values)
        parts.append(flow_colours(vectors, _longest(vectors)))
    film = np.concatenate(parts, 1)
    zoom = max(-(-_SHOWN // min(drawn.shape[2:])), 1)
    return _enlarged(film, zoom, Image.Resampling.BICUBIC)


def _vectors(values: np.ndarray) -> np.ndarray:
    """The flow of a drawn video ``[C, T, H, W]``, as ``[T, 2, H, W]``, pixels."""
    found: np.ndarray = (values[-2:].transpose(1, 0, 2, 3) - 0.5) * 2 * LIMIT
    return found


def _longest(vectors: np.ndarray) -> float:
    return float(np.quantile(np.hypot(vectors[:, 0], vectors[:, 1]), _CLIPPED))


def full_colour(drawn: Tensor) -> float:
    """Pixels a frame that have the full colour of flow in `drawn_film` of a video ``[C, T, H, W]``."""
    return _longest(_vectors(drawn.numpy()))


def stills(film: np.ndarray, count: int = 6) -> np.ndarray:
    """Frames of a film ``[T, H, W, 3]``, evenly over it, as `as_row` puts them."""
    return as_row(film[np.linspace(0, len(film) - 1, min(count, len(film))).round().astype(int)])


def as_row(frames: np.ndarray) -> np.ndarray:
    """Frames ``[T, H, W, 3]`` side by side, of at most 320 pixels each."""
    width = min(frames.shape[2], 320)
    height = max(round(frames.shape[1] * width / frames.shape[2]), 1)
    small = [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames]
    return _sheet([frame[None] for frame in small], len(small))[0]


def _bytes(shares: np.ndarray) -> np.ndarray:
    whole: np.ndarray = (np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)
    return whole


def _enlarged(film: np.ndarray, zoom: int, how: Image.Resampling) -> np.ndarray:
    size = (film.shape[2] * zoom, film.shape[1] * zoom)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, how)) for frame in film])


def _sheet(films: Sequence[np.ndarray], across: int) -> np.ndarray:
    """Films ``[T, H, W, 3]`` of one size as one, so many in a row; sides are even, for codecs."""
    blank = np.full_like(films[0], _PAPER)
    tiles = [*films, *[blank] * (-len(films) % across)]
    padded = [np.pad(tile, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=_PAPER) for tile in tiles]
    rows = [np.concatenate(padded[first : first + across], 2) for first in range(0, len(padded), across)]
    whole = np.concatenate(rows, 1)[:, :-_GAP, :-_GAP]
    odd = [side % 2 for side in whole.shape[1:3]]
    return np.pad(whole, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), constant_values=_PAPER)


def spectrogram_charts(
    parts: Sequence[tuple[str, np.ndarray, np.ndarray | None]],
    seconds: float,
    front_end: Spectrogram,
    rate: int,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Spectrograms one above the other, on one scale.

    Args:
        parts: title, ``[F, N]`` low bands first, and the map that is laid over it (``[F', N']``, of any size; 1
            and more is brightest), or None.
        seconds: that N frames last.
        front_end, rate: what made them, for the names of the bands.
        limits: values of the darkest and the brightest colour; by default the least and the most that there is.
    """
    figure = Figure((6.4, 0.4 + 1.7 * len(parts)), layout="constrained")
    low, high = limits or (min(part[1].min() for part in parts), max(part[1].max() for part in parts))
    for place, (title, values, heat) in enumerate(parts):
        axes = figure.add_subplot(len(parts), 1, place + 1)
        held = _fewer_columns(values)
        shades = colormaps["gray" if heat is not None else "magma"]((held - low) / max(high - low, 1e-6))
        image = _bytes(shades[..., :3])
        if heat is not None:
            image = overlay(image, heat)
        bands = len(values)
        axes.imshow(image, origin="lower", aspect="auto", extent=(0, seconds, 0, bands), interpolation="none")
        axes.set_title(title, fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        marks = _band_marks(front_end, bands, rate)
        axes.set_yticks([place for place, _ in marks], [text for _, text in marks])
        axes.set_ylabel("kHz" if marks else "coefficient", fontsize=9)
    axes.set_xlabel("seconds", fontsize=9)
    return figure


def _fewer_columns(values: np.ndarray) -> np.ndarray:
    if values.shape[1] <= _COLUMNS:
        return values
    fewer: np.ndarray = torch.nn.functional.adaptive_max_pool1d(torch.from_numpy(values)[None], _COLUMNS)[0].numpy()
    return fewer


def _band_marks(front_end: Spectrogram, bands: int, rate: int) -> list[tuple[float, str]]:
    """Places among the bands of round frequencies, and their names in kHz; none of cepstra."""
    if front_end.kind not in ("log_mel", "log_linear"):
        return []
    heard = [hz for hz in _TICKS if hz < rate / 2]
    if front_end.kind == "log_mel":
        mels = [2595 * np.log10(1 + hz / 700) for hz in (*heard, rate / 2)]
        places = [mel / mels[-1] * (bands + 1) - 0.5 for mel in mels[:-1]]  # band k is centred on the k + 1st of F + 1
    else:
        places = [hz / (rate / 2) * (bands - 1) + 0.5 for hz in heard]
    marks: list[tuple[float, str]] = []
    for place, hz in zip(reversed(places), reversed(heard), strict=True):  # from above: the low ones crowd
        if not marks or marks[-1][0] - place >= bands / 12:
            marks.append((float(place), f"{hz / 1000:g}"))
    return marks
