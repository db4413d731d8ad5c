"""The labels of a file over time, drawn as a strip under its frames."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avlearn.errors import NoVideoError
from avlearn.files import check_output
from avlearn.media.frames import every_yuv, write_redrawn
from avlearn.media.probe import probe
from avlearn.media.rgb import Yuv, below
from avlearn.media.source import Source
from avlearn.media.writer import VIDEO_SUFFIXES
from avlearn.report.label_strip import LabelStrip, Stretch


def check_overlay(path: Source, out: Path, *, overwrite: bool = False) -> None:
    """Check, before the work, that the overlay of a file can be written, and that the file has frames to draw under.

    Raises:
        OutputError: as `avlearn.files.check_output`.
        NoVideoError: the file has none.
    """
    check_output(out, VIDEO_SUFFIXES, [str(path)], overwrite)
    if probe(path).video is None:
        raise NoVideoError(f"{path} has no video under which labels could be drawn")


def label_stretches(windows: Sequence[Mapping[str, Any]], seconds: float, told: bool = True) -> list[Stretch]:
    """The label of each moment: that of the window whose centre is nearest.

    Args:
        windows: of `avlearn.apply.classify.ClassifyResult`.
        seconds: that a window lasts.
        told: whether anything is; else no stretch has a label.
    """
    if not told or not windows:
        return [Stretch(0.0, None, None)]
    starts = np.array([window["start"] for window in windows])
    borders = [0.0, *((starts[1:] + starts[:-1] + seconds) / 2).tolist()]
    stretches = []
    for border, window in zip(borders, windows, strict=True):
        known = window["label"] is not None and window.get("in_distribution") is not False
        label, sure = (window["label"], window["probability"]) if known else (None, None)
        stretches.append(Stretch(border, label, sure))
    return stretches


def write_label_overlay(
    path: Source, stretches: Sequence[Stretch], out: Path, progress: Callable[[float, float], None]
) -> None:
    """Write a file's frames, each at its own time, with the strip under them, and the file's audio.

    Args:
        path: of the file.
        stretches: from `label_stretches`.
        out: one of `avlearn.media.writer.VIDEO_SUFFIXES`.
        progress: is told how many seconds are done, of how many.

    Raises:
        OutputError: it cannot be written.
    """
    info = probe(path)
    assert info.video is not None  # `check_overlay` saw to that
    seconds = info.video.duration

    def drawn() -> Iterator[tuple[float, Yuv]]:
        strip = None
        for instant, frame in every_yuv(path):
            strip = strip or LabelStrip(stretches, seconds, *frame.planes[0].shape)
            yield instant, below(frame, strip.at(instant))
            progress(instant, seconds)

    write_redrawn(path, out, drawn())
