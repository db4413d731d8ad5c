"""Maps of where the sound comes from, along a whole file."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.localize.maps import stitched_map, views
from avlearn.apply.localize.on_screen import OnScreenEvidence, on_screen_evidence
from avlearn.apply.normalize_audio import AudioNormalizer, audio_normalizer
from avlearn.apply.parallel import in_order, single_threads
from avlearn.apply.shots import Shot, ShotList
from avlearn.apply.windows import SILENCE, check_finite
from avlearn.errors import NoVideoError
from avlearn.media import Clip, stream
from avlearn.media.source import Source, opened_once
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input

_LOOK = 5.0  # seconds that are encoded at a time, about, and a window's half besides
_OVERLAP = 4  # maps that see an instant
_ROOM = 1024  # maps for which memory is asked for at once
_SHORTEST = 0.5  # seconds of a last map, unless it is all there is


@dataclass(frozen=True)
class FileMaps:
    """Maps along a file.

    Attributes:
        times: ``[N]`` seconds from the start of the file, the windows' centres.
        maps: float32 ``[N, Y, X]``, mean similarity of place and audio in [-1, 1].
        levels: ``[N]`` root mean square of the audio, of full scale.
        evidence: N, for a source on screen.
        shots: of the film, where they were looked for. A map is of the shot alone in which its window's centre lies.
    """

    times: np.ndarray
    maps: np.ndarray
    levels: np.ndarray
    evidence: tuple[OnScreenEvidence, ...]
    shots: tuple[Shot, ...] = ()

    @property
    def heard(self) -> bool:
        """Whether any of the audio is more than silence."""
        return bool((self.levels >= SILENCE).any())


@opened_once
def file_maps(
    path: Source, model: AudioVisual, progress: Callable[[float], None] | None = None, delay: float = 0.0
) -> FileMaps:
    """Maps along a file, those in which `separate_file` finds its sources too.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`.
        progress: is told how many seconds are done.
        delay: seconds by which the audio is moved later against the video.

    Raises:
        NoVideoError: video and audio are shorter than a step.
    """
    with single_threads() as workers:
        return maps_along(audio_normalizer(path), model, lambda *_: None, progress or (lambda _: None), workers, delay)


@torch.inference_mode()
def maps_along(
    normalizer: AudioNormalizer,
    model: AudioVisual,
    keep: Callable[[Tensor, Tensor], None],
    progress: Callable[[float], None],
    workers: int,
    delay: float = 0.0,
) -> FileMaps:
    """Maps along a file, decoded and encoded once.

    Args:
        normalizer: of any file with video and audio.
        model: from `avlearn.load`.
        keep: takes what is known of all steps, in order: the video's features ``[D, T, Y, X]``, and ``[D' + 1, T]``
            of the audio, its embeddings and its root mean square.
        progress: is told how many seconds are done.
        workers: threads that encode.
        delay: seconds by which the audio is moved later against the video.

    Raises:
        NoVideoError: video and audio are shorter than a step.
    """
    width = max(round(model.config.seconds / model.step), 1)
    hop = max(round(width / _OVERLAP), 1)
    times: list[float] = []
    levels: list[float] = []
    evidence: list[OnScreenEvidence] = []
    maps = np.zeros((0, 0, 0), np.float32)
    held: list[Tensor] | None = None  # placed, views, heard and power of the steps from ``begin`` on
    begin, shots = 0, ShotList(model.config.fps)

    def take(held: list[Tensor], steps: int) -> None:
        nonlocal maps
        placed, seen, heard, power = (part[..., :steps] for part in held)
        placed, seen = placed.movedim(-1, 2), seen.movedim(-1, 3)
        own = _steps_of_shot(shots, begin, steps, model.step)
        heat = stitched_map(seen[:, :, :, own], heard[..., own])[0].cpu().numpy()
        maps = _with_room(maps, len(times), heat.shape)
        maps[len(times)] = heat
        times.append((begin + steps / 2) * model.step)
        levels.append(float(power.mean().sqrt()))
        evidence.extend(on_screen_evidence(model, placed, heard, heat[None]))

    with closing(_steps(model, width, workers, normalizer, delay, shots)) as steps:
        for features, *parts in steps:
            keep(features[0], torch.cat([parts[1][0], parts[2].sqrt()[None]]))
            parts = [model.project_video(features).movedim(2, -1), *parts]
            held = parts if held is None else [torch.cat(pair, -1) for pair in zip(held, parts, strict=True)]
            while held[0].shape[-1] >= width:
                take(held, width)
                begin += hop
                held = [part[..., hop:] for part in held]
            progress(begin * model.step)
    while held is not None and (count := held[0].shape[-1]) and (not times or count * model.step >= _SHORTEST):
        take(held, count)
        begin += hop
        held = [part[..., hop:] for part in held]
    if not times:
        raise NoVideoError(f"{normalizer.source}: video and audio overlap for less than a step of the model")
    return FileMaps(np.array(times), maps[: len(times)], np.array(levels), tuple(evidence), shots.found())


def _with_room(maps: np.ndarray, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Room for many maps at once: each kept alone would pin the large blocks that were freed around it."""
    if count < len(maps):
        return maps
    return np.concatenate([maps.reshape(-1, *shape), np.zeros((_ROOM, *shape), np.float32)])


def _steps_of_shot(shots: ShotList, begin: int, steps: int, step: float) -> slice:
    """Those of a window's steps that lie in the shot of its centre."""
    start, end = shots.span_at((begin + steps / 2) * step)
    first, last = max(ceil(start / step) - begin, 0), floor(min(end / step, begin + steps)) - begin
    return slice(first, last) if first < last else slice(0, steps)


def _steps(
    model: AudioVisual, width: int, workers: int, normalizer: AudioNormalizer, delay: float, shots: ShotList
) -> Generator[tuple[Tensor, ...], None, None]:  # fmt: skip
    """Steps in order, each with a quarter of a window or more around it when it is encoded.

    Args:
        model, workers, normalizer, delay: as for `maps_along`.
        width: steps of a window.
        shots: is shown every frame, once, before the steps are given that follow it by less than a quarter of a window.

    Yields:
        Features ``[1, D', T, Y, X]``, `views` ``[4, 1, D, Y, X, T]``, audio ``[1, D, T]``, and its power ``[T]``.
    """
    config = model.config
    step_samples, step_frames = round(model.step * config.sample_rate), round(model.step * config.fps)
    # Segments that are encoded alone begin where they do for the whole file.
    segment = (model.segment_frames or step_frames) // step_frames
    margin = width // 4
    size = ceil(_LOOK / model.step / segment) * segment
    window, hop = (size + 2 * margin) * model.step, size * model.step
    clips = stream(
        normalizer.source, window, hop, fps=config.fps, size=config.size, sample_rate=config.sample_rate, mono=True,
        audio_delay=delay,
    )  # fmt: skip

    def looked_at() -> Iterator[tuple[int, Clip]]:
        for number, clip in enumerate(clips):
            shots.add(clip.video[2 * margin * step_frames if number else 0 :])
            yield number, clip

    @torch.inference_mode()
    def encoded(numbered: tuple[int, Clip]) -> tuple[Tensor, ...] | None:
        number, clip = numbered
        steps = min(len(clip.video) // step_frames, clip.audio.shape[1] // step_samples)
        kept = slice(margin if number else 0, steps if steps < size + 2 * margin else size + margin)
        if kept.start >= kept.stop:
            return None
        video = frames_to_input(torch.from_numpy(clip.video[: steps * step_frames])[None].to(model.device))
        audio = torch.from_numpy(normalizer(clip.audio[:, : steps * step_samples])).to(model.device)
        heard = model.audio_features(audio)
        return (
            check_finite(model.video_features(video)[:, :, kept], "the video"),
            check_finite(views(model, video)[:, :, :, kept].movedim(3, -1), "the video"),
            check_finite(model.project_audio(heard)[:, :, kept], "the audio"),
            audio.view(steps, step_samples).square().mean(1)[kept],
        )

    with closing(in_order(encoded, looked_at(), workers)) as found:
        for parts in found:
            if parts is None:  # one of the two ends: what comes after it is of no use
                return
            yield parts
