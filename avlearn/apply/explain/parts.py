"""The parts of an explanation: each written to a folder, with what the page says of it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from avlearn.apply.explain.file import file_class_maps, write_overlay
from avlearn.apply.explain.filters import FirstLayer, first_layers
from avlearn.apply.explain.maximize import Maximised, maximise
from avlearn.apply.explain.network import Canvas, ExplainedNetwork
from avlearn.apply.explain.pictures import (
    as_row,
    drawn_film,
    filter_films,
    filter_picture,
    full_colour,
    spectrogram_charts,
    stills,
)  # fmt: skip
from avlearn.media import probe, write_video
from avlearn.media.source import Source
from avlearn.report.plots import write_png

_FILTER_FPS, _FILTER_SECONDS = 4.0, 3.0  # of a sheet of filters: those of a few frames come again, at least so long
_MOST_FPS = 25.0  # of a film of what is drawn

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Shown:
    """A picture or a film of the page.

    Attributes:
        title: of its card.
        path: of the file that it was written to.
        picture: itself; of a film, some of its frames.
        caption: below it.
        facts: of it, for JSON.
    """

    title: str
    path: Path
    picture: np.ndarray | Figure
    caption: str
    facts: dict[str, Any]


def show_filters(network: ExplainedNetwork, folder: Path) -> list[Shown]:
    """First layers: a film, or a picture where a filter sees one frame alone, or sees a spectrogram."""
    found = []
    for kind in network.encoders:
        for place, layer in enumerate(first_layers(network, kind)):
            stem = folder / f"filters_{kind}{f'_{place + 1}' if place else ''}"
            found.append(_filters(kind, layer, stem))
    return found


def _filters(kind: str, layer: FirstLayer, stem: Path) -> Shown:
    size = list(layer.kernels.shape[2:])
    film = filter_films(layer.kernels) if kind == "video" else filter_picture(layer.kernels)[None]
    path = stem.with_suffix(".mp4" if len(film) > 1 else ".png")
    if len(film) > 1:
        again = max(round(_FILTER_SECONDS * _FILTER_FPS / len(film)), 1)
        write_video(path, np.concatenate([film] * again), _FILTER_FPS, crf=12)
    else:
        write_png(path, film[0])
    shown = len(layer.kernels)
    many = f"{layer.count} filters" if shown == layer.count else f"the strongest {shown} of {layer.count} filters"
    if kind == "video":
        axes = "{} frame{} of {} x {} pixels".format(size[0], "s" * (size[0] > 1), *size[1:])
    else:
        axes = "{} bands, {} frames".format(*size)
    caption = f"`{layer.name}`: {many}; {axes}"
    facts = {"input": kind, "layer": layer.name, "filters": layer.count, "size": size}
    return Shown(kind.capitalize(), path, film[0] if len(film) == 1 else stills(film), caption, facts)


def show_classes(
    network: ExplainedNetwork, folder: Path, numbers: Sequence[int], steps: int, progress: Progress
) -> list[Shown]:
    """Inputs that classes are surest of, of each encoder whose input has two axes or more."""
    kinds = [kind for kind, canvas in network.canvases.items() if len(canvas.shape) > 2 and network.labels]
    jobs = [(kind, number) for number in numbers for kind in kinds]
    found = []
    for place, (kind, number) in enumerate(jobs):
        done = place * steps

        def say(step: int, done: int = done) -> None:
            progress("drawing", done + step, len(jobs) * steps)

        drawn = maximise(network, kind, number, steps, say)
        stem = folder / f"class_{kind}_{_named(network, number)}"
        found.append(_drawn(network, kind, number, drawn, stem))
    return found


def _drawn(network: ExplainedNetwork, kind: str, number: int, drawn: Maximised, stem: Path) -> Shown:
    label, odds = network.labels[number], drawn.log_odds
    said = ", ".join(f"{name} {value:+.1f}" for name, value in odds.items())
    facts = {"label": label, "input": kind, "noise": round(drawn.first, 3)}
    facts |= {name: round(value, 3) for name, value in odds.items()}
    caption = f"{kind}, {' and '.join(odds)}: log odds from {drawn.first:+.1f} to {said}"
    if kind == "video":
        if network.encoders[kind].takes != "video":
            pixels = ", ".join(f"{name} {full_colour(values):.1f}" for name, values in drawn.inputs.items())
            caption += f"; full colour of flow: {pixels} px a frame"
        film, path = drawn_film(list(drawn.inputs.values())), stem.with_suffix(".mp4")
        write_video(path, film, min(network.canvases[kind].rate, _MOST_FPS), crf=16)
        return Shown(label, path, stills(film), caption, facts)
    charts = [(name, values[0].numpy(), None) for name, values in drawn.inputs.items()]
    return Shown(label, *_chart(network.canvases[kind], stem, charts, None), caption=caption, facts=facts)


def _chart(
    canvas: Canvas, stem: Path, charts: Sequence[tuple[str, np.ndarray, np.ndarray | None]], seconds: float | None
) -> tuple[Path, Figure]:
    """Write spectrograms of so many seconds, or of those that their frames last."""
    assert canvas.front_end is not None  # only what is known is drawn, or heard
    lasting = charts[0][1].shape[1] / canvas.rate if seconds is None else seconds
    figure = spectrogram_charts(charts, lasting, canvas.front_end, canvas.sample_rate, (canvas.low, canvas.high))
    path = stem.with_suffix(".png")
    write_png(path, figure)
    return path, figure


def show_maps(
    network: ExplainedNetwork, folder: Path, path: Source, numbers: Sequence[int], progress: Progress
) -> list[Shown]:
    """Grad-CAM of classes along a file: a film of its frames, and a picture of what is heard."""
    info = probe(path)
    duration = info.duration

    def say(what: str) -> Callable[[float], None]:
        return lambda done: progress(what, min(done, duration), duration)

    maps = file_class_maps(path, network, numbers, say("looking"))
    found = []
    for place, (number, chance) in enumerate(zip(numbers, maps.probabilities, strict=True)):
        label = network.labels[number]
        name, caption = _named(network, number), f"probability {chance:.2f} over the file"
        facts = {"label": label, "probability": chance}
        if maps.video.size:
            film = folder / f"gradcam_video_{name}.mp4"
            frames = write_overlay(path, network, maps, place, film, say(f"writing {film.name}"))
            said = caption if maps.video[place].any() else f"{caption}; nothing seen speaks for it"
            found.append(Shown(label, film, as_row(frames), said, facts | {"input": "video"}))
        if maps.audio.size:
            charts = [("heard", maps.spectrogram, None), (f"for {label}", maps.spectrogram, maps.audio[place])]
            file, figure = _chart(network.canvases["audio"], folder / f"gradcam_audio_{name}", charts, maps.seconds)
            said = caption if maps.audio[place].any() else f"{caption}; nothing heard speaks for it"
            found.append(Shown(label, file, figure, said, facts | {"input": "audio"}))
    return found


def _named(network: ExplainedNetwork, number: int) -> str:
    """A class in the name of a file: its number, for names may differ by what no file's name holds."""
    return f"{number}_{re.sub(r'[^a-zA-Z0-9]+', '_', network.labels[number])[:40].strip('_')}".rstrip("_")
