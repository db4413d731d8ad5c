"""`localize`: where in the frame the sound comes from, over time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avlearn.apply.expert_answer import SURE
from avlearn.apply.localize.drawing import mark, overlay
from avlearn.apply.localize.experts import EXPLAINED, localize_with_experts
from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.localization import Localization
from avlearn.apply.localize.maps import above_median, map_at, peak_of
from avlearn.apply.localize.sources import SoundSource, find_sources
from avlearn.apply.source_choice import MAX_SOURCES
from avlearn.apply.verdict import ADVICE, CANNOT_TELL
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.files import check_output, printable, replacing
from avlearn.media.frames import every_yuv, write_redrawn
from avlearn.media.rgb import Yuv
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.media.writer import VIDEO_SUFFIXES
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.released.systems import LocalizeSystem

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class LocalizeResult:
    """Where the sound comes from, over time.

    Attributes:
        path, video, maps: the file, the overlay MP4, the ``.npz`` (``maps``: float32 ``[N, Y, X]`` mean similarity of
            place and audio in [-1, 1]; ``times``: ``[N]`` seconds, the windows' centres; ``audible``: ``[N]``, NaN
            where none was told).
        audible: probability in [0, 1] that something on screen makes the sound, the mean over the windows with audio;
            0 where all is silent; None of a released system, and where it cannot tell.
        calibrated: whether that was held to clips with known truth; else it is the share of the true offset among
            others, which tends to be too sure.
        verdict: ``on screen``, ``partly on screen``, ``nothing on screen explains the sound``, ``silent``, or
            ``this model cannot tell``. Only a model that was shown to know such files says that nothing is on screen.
        reason: why it cannot tell, or that it is silent; else "".
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        delay: seconds by which the audio was moved later to be measured, where it is out of sync.
        peak: ``(x, y)`` of the strongest place, as fractions of width and height, on average over what is audible.
        windows: one dict a window: ``time`` (its centre, seconds), ``audible``, ``silent``, ``peak``.
        sources: one dict a source, where they were asked for: ``id`` (1 is the strongest), ``loudness`` (dB of full
            scale, see `SoundSource`), ``audible``, ``present`` (share of the windows), ``boxes`` (one a window: x0, y0,
            x1, y1 as fractions, or None).
        notes: lines for people: of an offset, of quiet audio.
        notice: why the model cannot tell, where the file is unlike the training data; else None.
        system: the released system that looked in place of our model; else "".
        expert: who gave the verdict where the model could not: ``speech`` (`avlearn.apply.localize.speech`), or "".
        maps_by: whose maps are drawn and written: ``model``, or that of an expert: a guess where it gave no verdict.
        experts: what each expert that was asked says, one dict each: ``expert``, ``confidence`` (probability in [0, 1]
            that its peak makes the sound, at best), ``peak``, ``reason`` (why it does not tell; else "").
    """

    path: str
    video: str
    maps: str
    audible: float | None
    calibrated: bool
    verdict: str
    reason: str
    in_distribution: dict[str, bool | None]
    delay: float
    peak: tuple[float, float]
    windows: list[dict[str, Any]]
    sources: list[dict[str, Any]] | None
    notes: tuple[str, ...]
    notice: str | None
    system: str = ""
    expert: str = ""
    maps_by: str = "model"
    experts: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types under the schema ``avlearn.localize/2``: the attributes by name; ``system`` where one looked."""
        values = {name: value for name, value in self.__dict__.items() if name != "system" or value}
        return {"schema": "avlearn.localize/2", **values}

    def text(self) -> str:
        """Human-readable text."""
        said = f"{printable(self.path)}: {self.verdict}"
        x, y = self.peak
        if self.verdict in ("on screen", "partly on screen"):
            said = f"{printable(self.path)}: the sound comes from {x:.0%} across, {y:.0%} down"
        if self.verdict == "partly on screen":
            explained = SURE if self.expert else EXPLAINED
            heard = [window["audible"] >= explained for window in self.windows if not window["silent"]]
            rest = f"else {CANNOT_TELL} ({self.reason})" if self.reason else "else from nothing on screen"
            said += f" for {np.mean(heard):.0%} of the time, {rest}"
        if self.verdict == CANNOT_TELL:
            whose = "its map" if self.maps_by == "model" else "a guess, by motion that goes with the sound: the map"
            said += f": {self.reason}; {whose} is strongest at {x:.0%} across, {y:.0%} down"
            said += "" if self.system else f"; {ADVICE}"
        elif self.verdict == "silent":
            said = f"{printable(self.path)}: {self.reason}: there is nothing to localize"
        else:
            how = f"by {self.expert} that goes with it, " if self.expert else ""
            said += f" ({how}audible on screen {self.audible:.2f}{'' if self.calibrated else ', not calibrated'})"
        lines = [said]
        for source in self.sources or ():
            boxes = np.array([box for box in source["boxes"] if box])
            x, y = (boxes[:, :2] + boxes[:, 2:]).mean(0) / 2
            lines.append(
                f"  source {source['id']} at {x:.0%} across, {y:.0%} down, {source['loudness']:.0f} dB, "
                f"there {source['present']:.0%} of the time"
            )
        if self.sources == []:
            lines.append("  no source stands out")
        lines.append(f"wrote {printable(self.video)} and {printable(self.maps)}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def check_outputs(path: Source, out: Path, maps: Path | None, *, overwrite: bool = False) -> None:
    """Check, before hours of work, that the video and the maps can be written.

    Raises:
        OutputError: as `avlearn.files.check_output`.
    """
    check_output(out, VIDEO_SUFFIXES, [str(path)], overwrite)
    check_output(maps or out.with_suffix(".npz"), (".npz",), [str(path)], overwrite)


@unchanged
@opened_once
def localize_file(
    path: Source,
    model: AudioVisual | LocalizeSystem,
    out: str | Path,
    *,
    maps: str | Path | None = None,
    sources: bool = False,
    progress: Progress | None = None,
) -> LocalizeResult:
    """Draw where the sound comes from over a file's frames, with its audio kept.

    The map fades where nothing on screen explains the sound, and is gone in silence. Where the model cannot tell, what
    moves with the sound is drawn, as a guess (`avlearn.apply.localize.motion`).

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`, or a released localizer.
        out: the video to write: one of `avlearn.media.writer.VIDEO_SUFFIXES`.
        maps: the ``.npz`` to write; beside ``out`` by default.
        sources: find the sources too, and draw their boxes and numbers.
        progress: is told what is done, and how many seconds of how many.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
        OutputError: the results cannot be written.
    """
    info, out = probe_both(path), Path(out)
    maps_path = Path(maps) if maps else out.with_suffix(".npz")
    check_outputs(path, out, maps_path, overwrite=True)
    say = progress or (lambda *_: None)
    looked = _localize(path, model, lambda what, done: say(what, done, info.video.duration))
    say("looking", info.video.duration, info.video.duration)
    found, drawn = looked.found, looked.drawn
    silent = found.levels < SILENCE
    chosen = _sources(looked) if sources else []
    frames = _drawn(path, found, drawn, chosen, lambda done: say("drawing", done, info.video.duration))
    write_redrawn(path, out, frames)
    _write_maps(maps_path, looked)
    mean = None if looked.audible is None else 0.0 if silent.all() else float(looked.audible[~silent].mean())
    return LocalizeResult(
        path=str(path),
        video=str(out),
        maps=str(maps_path),
        audible=None if mean is None else round(mean, 4),
        calibrated=looked.calibrated,
        verdict=looked.verdict,
        reason=looked.reason,
        in_distribution=looked.in_distribution,
        delay=round(looked.delay, 4),
        peak=peak_of(np.average(found.maps, axis=0, weights=drawn if drawn.any() else np.ones(len(drawn)))),
        windows=_windows(looked, silent),
        sources=[_source(source) for source in chosen] if sources else None,
        notes=looked.notes,
        notice=looked.notice,
        system=looked.system,
        expert=looked.expert,
        maps_by=looked.maps_by,
        experts=tuple(answer.to_dict() for answer in looked.experts),
    )


def _localize(
    path: Source, model: AudioVisual | LocalizeSystem, progress: Callable[[str, float], None]
) -> Localization:
    if not isinstance(model, AudioVisual):
        from avlearn.apply.localize.by_system import localize_by_system

        return localize_by_system(path, model, lambda done: progress("looking", done))
    return localize_with_experts(path, model, progress)


def _sources(looked: Localization) -> list[SoundSource]:
    """Those that explain the sound; none where it cannot tell."""
    if looked.audible is None and not looked.system:
        return []
    found, told = looked.found, looked.drawn if looked.audible is None else looked.audible
    every = find_sources(found.times, found.maps, MAX_SOURCES, found.levels, told)
    return [source for source in every if source.audible >= EXPLAINED]


def _write_maps(path: Path, looked: Localization) -> None:
    found = looked.found
    audible = np.full(len(found.times), np.nan) if looked.audible is None else looked.audible
    with replacing(path) as part:
        np.savez_compressed(
            part, maps=found.maps, times=found.times.astype(np.float32), audible=audible.astype(np.float32)
        )  # fmt: skip


def _windows(looked: Localization, silent: np.ndarray) -> list[dict[str, Any]]:
    """One dict a window."""
    found, audible = looked.found, looked.audible
    return [
        {
            "time": round(float(time), 3),
            "audible": None if audible is None else round(float(audible[number]), 4),
            "silent": bool(quiet),
            "peak": peak_of(heat),
        }
        for number, (time, quiet, heat) in enumerate(zip(found.times, silent, found.maps, strict=True))
    ]


def _source(source: SoundSource) -> dict[str, Any]:
    there = np.isfinite(source.boxes[:, 0])
    return {
        "id": source.id,
        "loudness": round(source.loudness, 1),
        "audible": round(source.audible, 4),
        "present": round(float(there.mean()), 4),
        "boxes": [
            [round(float(v), 4) for v in box] if known else None for box, known in zip(source.boxes, there, strict=True)
        ],
    }


def _drawn(
    path: Source, found: FileMaps, strength: np.ndarray, sources: list[SoundSource], progress: Callable[[float], None]
) -> Iterator[tuple[float, Yuv]]:
    """The file's frames, each at its own time, with their maps, and with the boxes of sources, over them."""
    for instant, frame in every_yuv(path):
        chance = float(map_at(found.times, strength, instant))
        shown = overlay(frame, above_median(map_at(found.times, found.maps, instant)), chance)
        for source in sources if chance >= EXPLAINED else ():
            box = map_at(found.times, source.boxes, instant)
            if np.isfinite(box).all():
                mark(shown, box, str(source.id))
        yield instant, shown
        progress(instant)
