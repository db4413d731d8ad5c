"""Localization of two things that sound at once: whether both are found, and whether each one's audio points at it."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.localize.file_maps import file_maps
from avlearn.apply.localize.maps import stitched_map, views
from avlearn.apply.localize.sources import SoundSource, find_sources
from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.errors import DataError
from avlearn.evaluation.evaluator import NO_COMMON_SPACE, CandidateClips, Evaluator, NotMeasurableError
from avlearn.evaluation.result import EvaluatorResult
from avlearn.evaluation.scene_objects import SceneObject, motion_map, scene_objects, truth_of
from avlearn.evaluation.selection import duets
from avlearn.evaluation.windows import video_windows
from avlearn.metrics import MetricResult
from avlearn.metrics.ciou import centre_maps
from avlearn.metrics.localization import box_mask, ciou, enlarge, ideal_maps
from avlearn.metrics.multi_source import interactive_iou
from avlearn.models.audiovisual import AudioVisual
from avlearn.remote.address import file_name, folder_of, located
from avlearn.remote.cache import local_file

_STEMS = 64  # sounds of a clip, at most
_CELLS = 8  # of the motion's map, on a side


class MultiSourceEvaluator(Evaluator):
    """Localization on clips of a world that show two sounding things."""

    task = "localization"

    def choose(self, listed: CandidateClips) -> list[Row]:
        if not self.subject.common_space:
            raise NotMeasurableError(NO_COMMON_SPACE)
        rows = duets(listed.rows, self.subject.model)
        if not rows:
            raise NotMeasurableError("no clip shows two sounding things, with their places")
        return rows

    def measure(self, rows: list[Row]) -> EvaluatorResult:
        return EvaluatorResult(multi_source_metrics(self.subject.model, self.subject.decoded(rows), rows))


@torch.inference_mode()
def multi_source_metrics(model: AudioVisual, cache: ClipCache, rows: list[Row]) -> list[MetricResult]:
    """IIoU and IAUC with each thing's own audio over the same video, and how often both are found in the mixture.

    Args:
        model: one with a common space.
        cache: decoded clips of a world, each with two sounding things.
        rows: of the clips, with truth and stems.
    """
    config = model.config
    asked, mixed, boxes = [], [], []
    found: list[bool] = []
    moving: list[bool] = []
    for index, row in enumerate(rows):
        sounding, alone = duet(row)
        seen = views(model, video_windows(cache, np.array([index]), np.zeros(1), config.seconds, model.device))
        samples = round(config.seconds * cache.sample_rate)
        tracks = [*alone[:, :samples], cache.audio[index, :samples]]
        heard = model.project_audio(model.audio_features(torch.from_numpy(np.stack(tracks)).to(model.device)))
        maps = stitched_map(seen.expand(-1, len(tracks), -1, -1, -1, -1), heard).cpu().numpy()
        asked += list(maps[:-1])
        mixed += [maps[-1]] * len(sounding)
        boxes += [thing.box(0.0, config.seconds, row.fps) for thing in sounding]
        along = file_maps(row.source, model)
        motion = np.stack([_motion(cache, index, time, config.seconds) for time in along.times])
        for sources, hits in (
            (find_sources(along.times, along.maps, len(sounding)), found),
            (find_sources(along.times, motion, len(sounding)), moving),
        ):
            hits.append(all(is_found(thing, sources, along.times, row.fps) for thing in sounding))
    both = MetricResult(
        "localization", "both sources found", float(np.mean(found)), None, float(np.mean(moving)), "loudest motion",
        1.0, len(rows),
    )  # fmt: skip
    return [*_interactive(np.stack(asked), np.stack(mixed), np.array(boxes) * config.size, config.size), both]


def duet(row: Row) -> tuple[list[SceneObject], np.ndarray]:
    """The two sounding things of a clip, and what each of them sounds like alone: float32 ``[2, S]``.

    Raises:
        DataError: the truth or the stems cannot be read, or are not those of such a clip.
    """
    sounding = [thing for thing in scene_objects(row) if thing.sounding]
    if len(sounding) != 2:
        raise DataError(f"{row.truth} tells of {len(sounding)} sounding things, and its row of two")
    alone = stems(row)
    if max(thing.stem for thing in sounding) >= len(alone):
        raise DataError(f"{row.truth} tells of more sounds than its stems hold")
    return sounding, alone[[thing.stem for thing in sounding]]


def stems(row: Row) -> np.ndarray:
    """What each thing of a clip sounds like alone: float32 ``[K + 1, S]``, the noise last.

    Raises:
        DataError: they cannot be read, are not of that kind, or do not last as long as the clip.
    """
    truth = truth_of(row)
    tracks = located(folder_of(folder_of(truth)), f"stems/{Path(file_name(truth)).stem}.npz")
    samples = row.duration * row.sample_rate
    most = 2 * _STEMS * (samples + row.sample_rate)  # bytes
    try:
        path = local_file(tracks)
        if not path.is_file():
            raise ValueError("there is no such file")
        with zipfile.ZipFile(path) as archive, archive.open("stems.npy") as member:
            content = member.read(round(most) + 1)
        if len(content) > most:
            raise ValueError(f"more than {_STEMS} sounds as long as the clip")
        values = np.load(io.BytesIO(content), allow_pickle=False)
        if values.dtype != np.int16 or values.ndim != 2 or values.shape[1] < samples - row.sample_rate / row.fps:
            raise ValueError(f"{values.dtype} of {values.shape} for {samples:.0f} samples")
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        EOFError,
        MemoryError,
        RuntimeError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:  # whatever zipfile and NumPy make of a damaged file
        raise DataError(f"{tracks} does not hold the sounds of its clip: {error}") from error
    return values.astype(np.float32) / 32767


def is_found(thing: SceneObject, sources: list[SoundSource], times: np.ndarray, fps: float) -> bool:
    """Whether the centre of one of the sources lies in the thing's box, for most of the time that it is there."""
    truth = thing.boxes[np.minimum((times * fps).astype(int), len(thing.boxes) - 1)]
    for source in sources:
        there = np.isfinite(source.boxes[:, 0])
        centre = (source.boxes[there, :2] + source.boxes[there, 2:]) / 2
        if ((centre >= truth[there, :2]) & (centre <= truth[there, 2:])).all(1).mean() > 0.5:
            return True
    return False


def _motion(cache: ClipCache, index: int, time: float, seconds: float) -> np.ndarray:
    first, last = (round((time + sign * seconds / 2) * cache.fps) for sign in (-1, 1))
    return motion_map(cache.video[index, max(first, 0) : last], _CELLS)


def _interactive(asked: np.ndarray, mixed: np.ndarray, boxes: np.ndarray, size: int) -> list[MetricResult]:
    """Of maps ``[2 P, Y, X]`` with each thing's own audio, and with the mixture, which cannot point at both."""
    videos = len(boxes) // 2
    which = np.repeat(np.arange(videos), 2)
    centre = centre_maps(len(boxes), (size, size), float(box_mask(boxes, size).mean()))
    ideal = ideal_maps(boxes, asked.shape[1:], size)
    ours, mixture, flat, middle, best = (
        interactive_iou(ciou(enlarge(maps, size), boxes), which)
        for maps in (asked, mixed, np.zeros_like(asked), centre, ideal)
    )
    return [
        MetricResult(
            "localization", f"{label}, each with its own audio", ours[k], flat[k],
            *max((mixture[k], "the mixture's map"), (middle[k], "centre")), best[k], videos,
        )
        for k, label in enumerate(("IIoU@0.5", "IAUC"))
    ]  # fmt: skip
