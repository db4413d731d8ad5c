"""`flow`: the motion from each frame of a file to the next, as a video of colours and as arrays."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from math import hypot
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from avlearn.apply.flow.arrays import writing_flows
from avlearn.apply.flow.estimate import FlowMethod, pairs_at_once
from avlearn.apply.shots import ShotDetector
from avlearn.errors import MediaError, NoVideoError
from avlearn.files import check_output, printable
from avlearn.media import probe
from avlearn.media.frames import every_frame, write_redrawn
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.media.writer import VIDEO_SUFFIXES
from avlearn.report.flow_colours import flow_colours

Progress = Callable[[str, float, float], None]
_FULL = 0.02  # of the frame's diagonal: motion that has the full colour


@dataclass(frozen=True)
class FlowResult:
    """The motion of a file.

    Attributes:
        path, video, arrays: the file, the video of colours, the ``.npz`` (``flow``: float16 ``[N, 2, H, W]``, pixels
            along x and y to the next frame, NaN across a cut; ``times``: ``[N]`` seconds); None where not asked for.
        method: one of `avlearn.apply.flow.estimate.FLOW_METHODS`.
        frames: N, how many frames have a next one.
        width, height: pixels of the flow.
        cuts: seconds at which a shot begins, but the first one: from the frame before, there is no flow.
        mean_length: of all vectors, pixels from a frame to the next; None where every frame is a shot.
        full_colour: pixels that have the full colour; longer vectors are darker.
    """

    path: str
    video: str
    arrays: str | None
    method: str
    frames: int
    width: int
    height: int
    cuts: list[float]
    mean_length: float | None
    full_colour: float

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.flow/1``: the attributes by name."""
        return {"schema": "avlearn.flow/1", **self.__dict__}

    def text(self) -> str:
        """Human-readable text."""
        moved = "" if self.mean_length is None else f", {self.mean_length:.2f} px a frame on average"
        cuts = f", {len(self.cuts)} cut{'s' * (len(self.cuts) != 1)}" if self.cuts else ""
        flows = f"{self.frames} flow{'s' * (self.frames != 1)} of {self.width}x{self.height} by {self.method}"
        written = " and ".join(printable(name) for name in (self.video, self.arrays) if name)
        return f"{printable(self.path)}: {flows}{moved}{cuts} (full colour: {self.full_colour:.1f} px)\nwrote {written}"


def check_flow_outputs(path: Source, out: Path, arrays: Path | None, *, overwrite: bool = False) -> None:
    """Check, before hours of work, that the video and the arrays can be written.

    Raises:
        OutputError: as `avlearn.files.check_output`.
    """
    check_output(out, VIDEO_SUFFIXES, [str(path)], overwrite)
    if arrays:
        check_output(arrays, (".npz",), [str(path)], overwrite)


@dataclass
class _Told:
    """What is known of the flows when they are all measured."""

    size: tuple[int, int] = (0, 0)
    frames: int = 0
    vectors: int = 0
    length: float = 0.0
    cuts: list[float] = field(default_factory=list)

    def add(self, pair: "_Pair", flow: np.ndarray) -> None:
        self.frames += 1
        if pair.cut:
            self.cuts.append(round(pair.next, 4))
        else:
            self.vectors += flow[0].size
            self.length += float(np.hypot(flow[0], flow[1]).sum(dtype=np.float64))


@unchanged
@opened_once
def flow_file(
    path: Source,
    method: FlowMethod,
    out: str | Path,
    *,
    arrays: str | Path | None = None,
    size: int | None = None,
    longest: float | None = None,
    progress: Progress | None = None,
) -> FlowResult:
    """Draw the motion from each frame to the next as colours (`avlearn.report.flow_colours`); the audio is kept.

    Across a hard cut there is no motion: that frame is black, and NaN in the arrays.

    Args:
        path: any file with video.
        method: from `avlearn.apply.flow.estimate.load_flow`.
        out: the video to write: one of `avlearn.media.writer.VIDEO_SUFFIXES`.
        arrays: the ``.npz`` to write; none by default.
        size: pixels of the shorter side that frames are scaled to before; by default they are not.
        longest: pixels of motion that have the full colour; 2 % of the frame's diagonal by default.
        progress: is told what is done, and how many seconds of how many.

    Raises:
        MediaError: the file cannot be read, or has fewer than two frames.
        OutputError: the results cannot be written.
    """
    info, out, arrays = probe(path), Path(out), Path(arrays) if arrays else None
    if info.video is None:
        raise NoVideoError(f"{path} has no video")
    check_flow_outputs(path, out, arrays, overwrite=True)
    pairs = _pairs(path, size)
    first = next(pairs, None)
    if first is None:
        raise MediaError(f"{path} has a single frame: motion takes two")
    height, width = first.one.shape[:2]
    full, told = longest or _FULL * hypot(height, width), _Told((height, width))
    duration = info.video.duration
    with writing_flows(arrays) if arrays else nullcontext(lambda *_: None) as keep:

        def drawn() -> Iterator[tuple[float, np.ndarray]]:
            for pair, flow in _flows(chain([first], pairs), method):
                told.add(pair, flow)
                keep(pair.time, flow)
                yield pair.time, flow_colours(flow, full)
                if progress:
                    progress("measuring motion", pair.next, max(duration, pair.next))

        write_redrawn(path, out, drawn())
    return FlowResult(
        str(path), str(out), str(arrays) if arrays else None, method.name, told.frames, width, height, told.cuts,
        round(told.length / told.vectors, 4) if told.vectors else None, round(full, 2),
    )  # fmt: skip


@dataclass
class _Pair:
    """Two frames that follow each other, their seconds, and whether there is a cut between."""

    time: float
    next: float
    one: np.ndarray
    other: np.ndarray
    cut: bool = False


def _pairs(path: Source, size: int | None) -> Iterator[_Pair]:
    """Each frame with the next. A cut is known a frame later, so that each pair waits for one more."""
    detector, last, waiting = ShotDetector(), None, None
    for time, frame in every_frame(path):
        cut = detector.add(frame)
        image = frame if size is None else _scaled(frame, size)
        if waiting is not None:
            waiting.cut = cut
            yield waiting
        waiting = None if last is None else _Pair(last[0], time, last[1], image)
        last = time, image
    if waiting is not None:
        yield waiting


def _scaled(frame: np.ndarray, size: int) -> np.ndarray:
    height, width = frame.shape[:2]
    ratio = size / min(height, width)
    sides = [max(round(side * ratio / 2) * 2, 2) for side in (width, height)]
    return cv2.resize(frame, sides, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)


def _flows(pairs: Iterable[_Pair], method: FlowMethod) -> Iterator[tuple[_Pair, np.ndarray]]:
    """Each pair with its flow ``[2, H, W]``, NaN across a cut."""
    pairs = iter(pairs)
    first = next(pairs)
    pairs, count = chain([first], pairs), pairs_at_once(*first.one.shape[:2])
    while batch := list(islice(pairs, count)):
        seen = [pair for pair in batch if not pair.cut]
        flows = iter(())
        if seen:
            ones, others = (_tensor([getattr(pair, which) for pair in seen]) for which in ("one", "other"))
            flows = iter(method(ones, others).cpu().numpy())
        for pair in batch:
            yield pair, np.full((2, *pair.one.shape[:2]), np.nan, np.float32) if pair.cut else next(flows)


def _tensor(frames: list[np.ndarray]) -> torch.Tensor:
    """uint8 ``[B, 3, H, W]``."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
