"""Labelled clips as a recognizer takes them: windows of video, of audio, or of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any, Literal

import numpy as np
import torch

from avlearn.data.cache import ClipCache
from avlearn.data.clips import ClipDataset, WindowRule, collate
from avlearn.data.manifest import Row
from avlearn.data.prepared_flow import window_flow
from avlearn.data.sampling import Pick
from avlearn.data.transcode import FlowSettings
from avlearn.errors import DataError
from avlearn.media import ClipReader, Window

_ASPECT = 4 / 3  # of a random crop's sides at most
_TRIES = 10
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ClipRule:
    """Rule by which clips are cut.

    A clip that is shorter than a window goes on with its last frame, and with silence.

    Attributes:
        fps, size, sample_rate: of the arrays; size is the side of a square, pixels.
        seconds: of a window.
        segments: frames, one out of each of so many parts of the clip; None: all of the window.
        sees, hears: whether video and audio are read.
        random: windows, frames and crops are drawn; else they are those in the middle.
        area: smallest share of the frame's area that a random crop keeps.
        repeats: windows of a clip in an item.
        flow: what is read of the flow that lies beside prepared clips; None: none is.
    """

    fps: float
    size: int
    sample_rate: int
    seconds: float
    segments: int | None = None
    sees: bool = True
    hears: bool = False
    random: bool = False
    area: float = 1.0
    repeats: int = 1
    flow: FlowSettings | None = None

    @property
    def frames(self) -> int:
        """Of a window."""
        return self.segments or round(self.seconds * self.fps)

    @property
    def samples(self) -> int:
        """Of a window."""
        return round(self.seconds * self.sample_rate)


class LabelledClips(ClipDataset):
    """Windows of labelled clips.

    An item has ``labels`` bool ``[classes]``, ``index``, and ``video`` uint8 ``[T, H, W, 3]``, ``audio`` float32
    ``[S]`` and ``flow`` float32 ``[2, T - 1, H, W]`` (pixels) as far as the rule asks for them; or it is ``skipped``,
    with the reason. Of several windows of a clip it has a list of such, ``windows``.

    Args:
        rows: clips that can be used.
        names: of the classes, in their order.
        rule: how clips are cut.
        cache: decoded clips in the rows' order, or None to read the files each time.
        bad_files: ``skip`` gives an item that only carries the reason, ``error`` raises.
        keep: windows read along that are held at most.
        whole_shards: as for `ClipDataset`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        names: Sequence[str],
        rule: ClipRule,
        cache: ClipCache | None = None,
        bad_files: Literal["skip", "error"] = "skip",
        keep: int = 1024,
        whole_shards: bool = False,
    ):
        plain = WindowRule(rule.fps, rule.size, rule.sample_rate, rule.seconds, 0.0, 1 / rule.fps)
        super().__init__(rows, plain, cache, bad_files, keep, whole_shards)
        self.classes = tuple(names)
        self._places = {label: k for k, label in enumerate(names)}
        self.how = rule

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        index, seed, further = pick
        if self.how.repeats == 1:
            return self._wanted(super().__getitem__(pick), seed)
        seeds = np.random.SeedSequence(seed).generate_state(self.how.repeats).tolist()
        items = [super().__getitem__((index, seeds[0], (*seeds[1:], *further)))]
        if "skipped" in items[0]:
            return items[0]
        items += [super(LabelledClips, self).__getitem__((index, later, ())) for later in seeds[1:]]
        windows = [self._wanted(item, of) for item, of in zip(items, seeds, strict=True)]
        failed = next((window for window in windows if "skipped" in window), None)
        return failed or {"windows": windows}

    def _wanted(self, item: dict[str, Any], seed: int) -> dict[str, Any]:
        if self.how.flow is not None and "skipped" not in item:
            try:
                item["flow"] = torch.from_numpy(self._flow(item["index"], seed, self.how.flow))
            except DataError as error:
                return {"skipped": str(error)}
        without = {"offset", *(["video"] * (not self.how.sees)), *(["audio"] * (not self.how.hears))}
        return {key: value for key, value in item.items() if key not in without}

    def _cut(self, cache: ClipCache, index: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
        how, rng = self.how, np.random.default_rng(seed)
        first, start, _ = self._starts(cache.seconds, rng)
        frame, sample = round(first * how.fps), round(start * how.sample_rate)
        video = np.array(cache.video[index, frame : frame + how.frames])
        audio = np.array(cache.audio[index, sample : sample + how.samples])
        return self._whole(video, audio)

    def _read(self, index: int, seeds: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray, int]]:
        how, row = self.how, self.rows[index]
        row.require_unchanged()
        frames: list[Window] = []
        sounds: list[Window] = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            first, start, instants = self._starts(row.duration, rng)
            length = min(how.seconds, row.duration)
            crop = random_crop(row.width, row.height, how.area, rng) if how.random and how.area < 1 else "square"
            if how.segments:
                frames += [Window(row.start + float(at), 1 / how.fps, crop=crop) for at in instants]
            else:
                frames.append(Window(row.start + first, max(length, 1 / how.fps), crop=crop))
            sounds.append(Window(row.start + start, length))
        seen = [np.zeros((0, how.size, how.size, 3), np.uint8)] * len(seeds)
        heard = [np.zeros(0, np.float32)] * len(seeds)
        if how.sees:
            size = (how.size, how.size)
            clips = ClipReader(fps=how.fps, size=size, audio=False).read(self.source_of(row), frames)
            each = how.segments or 1
            parts = [clips[k : k + each] for k in range(0, len(clips), each)]
            seen = [np.concatenate([clip.video for clip in part]) for part in parts]
        if how.hears:
            reader = ClipReader(sample_rate=how.sample_rate, mono=True, video=False)
            heard = [clip.audio[0] for clip in reader.read(self.source_of(row), sounds)]
        return [self._whole(video, audio) for video, audio in zip(seen, heard, strict=True)]

    def _flow(self, index: int, seed: int, settings: FlowSettings) -> np.ndarray:
        """Flow ``[2, T - 1, H, W]`` of the window that a seed draws; none from a last frame that is repeated."""
        row, how, cache = self.rows[index], self.how, self.cache
        duration = cache.seconds if cache else row.duration
        start, *_ = self._starts(duration, np.random.default_rng(seed))
        first = round(start * how.fps)
        frames = cache.video.shape[1] - first if cache else round(min(how.seconds, duration) * how.fps)
        return window_flow(row, settings, first, min(how.frames, frames), how.frames)

    def _starts(self, duration: float, rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
        """Where video and audio begin, seconds, and the instants of the frames of `ClipRule.segments`."""
        how = self.how
        slack = max(duration - how.seconds, 0.0)
        share = rng.random() if how.random else 0.5
        start = int(share * slack * how.fps + 1e-6) / how.fps  # at a frame, of a file whose frames are such
        parts = how.segments or 1
        within = rng.random(parts) if how.random else np.full(parts, 0.5)
        instants = (np.arange(parts) + within) / parts * max(duration - 1 / how.fps, 0.0)
        return start, start, instants

    def _whole(self, video: np.ndarray, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Filled up: with the last frame, and with silence."""
        how = self.how
        if how.sees:
            if not len(video):
                raise DataError("the window holds no frame")
            video = np.concatenate([video, video[-1:].repeat(max(how.frames - len(video), 0), 0)])[: how.frames]
        if how.hears:
            audio = np.pad(audio, (0, max(how.samples - len(audio), 0)))[: how.samples]
        return video, audio, 0


def random_crop(width: int, height: int, area: float, rng: np.random.Generator) -> _Box | Literal["square"]:
    """A crop of random size and shape (Szegedy et al., CVPR 2015): left, top, right, bottom as shares of the frame.

    Args:
        width, height: of the frame, pixels.
        area: smallest share of its area.
        rng: what decides.

    Returns:
        The largest square in the middle where no crop fits.
    """
    for _ in range(_TRIES if width and height else 0):
        pixels = width * height * rng.uniform(area, 1.0)
        aspect = exp(rng.uniform(-log(_ASPECT), log(_ASPECT)))
        across, down = sqrt(pixels * aspect) / width, sqrt(pixels / aspect) / height
        if across <= 1 and down <= 1:
            left, top = rng.uniform(0, 1 - across), rng.uniform(0, 1 - down)
            return left, top, left + across, top + down
    return "square"


def collate_windows(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack all windows of what could be read; see `avlearn.data.clips.collate`."""
    return collate([window for item in items for window in item.get("windows", [item])])
