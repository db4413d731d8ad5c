"""Similarity of each window of a file's video with its audio at each offset."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.normalize_audio import AudioNormalizer, audio_normalizer
from avlearn.apply.rows import Rows
from avlearn.apply.sync.repeats import last_seen, loudness, period, thumbnails
from avlearn.apply.windows import SILENCE, check_finite, probe_both
from avlearn.errors import MediaError, NoAudioError, NoVideoError
from avlearn.files import printable
from avlearn.media import stream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.two_tower import frames_to_input
from avlearn.objectives.similarity import offset_scores

STILL = 0.1  # mean change of a pixel from frame to frame, of 255, below which nothing moves
_REST = 25  # frames without motion in which nothing is to be seen
PHASES = 4  # the audio is heard at this many places within a step: offsets finer than the step
_CHUNK = 20.0  # seconds of audio that are encoded at a time
_LEAST = 3  # steps of a last window, where whole ones have as many
_NEAR, _FAR = 2.24, 5.0  # seconds searched on each side: in any file, and in one that is twice as long


@dataclass(frozen=True)
class AudioEmbedding:
    """A file's whole audio in the common space.

    Attributes:
        features: ``[PHASES, dim, U]``; phase p of step u begins at ``(first + u + p / PHASES) * step`` seconds from
            the start of the file. Silence before the first and after the last audio is left out: that there is
            none tells nothing.
        first: steps of silence left out at the start.
        loudness: ``[T, 16]`` of the whole audio in frames of the model's, for `last_seen`.
    """

    features: Tensor
    first: int
    loudness: np.ndarray

    def steps_known(self, begin: int, length: int, shifts: Tensor) -> Tensor:
        """How many of ``length`` steps from ``begin`` on have audio, shifted by ``shifts [O]`` steps: ``[O]``."""
        index = begin + torch.arange(length)[None] + shifts[:, None]
        return ((index >= 0) & (index < self.features.shape[2])).sum(1)


@dataclass(frozen=True)
class OffsetCurves:
    """Similarity of video and audio over offsets, for each window of the video.

    Attributes:
        offsets: ``[O]`` seconds on a grid of a fraction of the model's step, positive when the audio leads.
        starts: ``[W]`` seconds of the windows from the start of the file.
        lengths: ``[W]`` seconds of the windows.
        scores: ``[W, O]`` mean similarity; NaN where less than half of the window has audio.
        steps: ``[W, O]`` steps of the model in that mean.
        fresh: ``[W]`` share of each window that moves and was not seen and heard before: only that is evidence.
        motion: mean change of a pixel from frame to frame, of 255, in the window where it is largest.
        period: seconds after which the file comes again, where it is a loop: offsets that differ by it look alike, so
            only those up to half of it are there; else None.
        fps: frames a second that the file itself has.
        notes: lines for people, of how the audio was read.
        in_distribution: whether the file is like the training data.
    """

    offsets: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray
    steps: np.ndarray
    fresh: np.ndarray
    motion: float
    period: float | None
    fps: float
    notes: tuple[str, ...]
    in_distribution: InDistributionCheck

    @property
    def grid(self) -> float:
        """Seconds from an offset to the next."""
        return float(self.offsets[1] - self.offsets[0])


def seconds_searched(duration: float) -> float:
    """Seconds that are searched on each side in a video that lasts so many: half of it, from 2.24 to 5."""
    return min(max(duration / 2, _NEAR), _FAR)


@torch.inference_mode()
def encode_audio(
    normalizer: AudioNormalizer, model: AudioVisual, check: InDistributionCheck, end: float = inf
) -> AudioEmbedding | None:
    """A file's audio, at `PHASES` places within each step; None where all of it is silence.

    Args:
        normalizer: of the file.
        model: the towers.
        check: is shown the audio.
        end: seconds from the start of the file after which no more is read, about.

    Raises:
        NoAudioError: the track holds no audio to speak of.
    """
    rate = model.config.sample_rate
    step = round(model.step * rate)
    margin = 8 * step  # the encoder's reach on each side
    chunk = round(_CHUNK * rate / step) * step
    seconds = (chunk + 2 * margin + step) / rate
    pieces, own, levels = Rows(), Rows(), Rows()  # of the steps ``[PHASES, dim]``, the frames, the steps again
    for number, clip in enumerate(
        stream(normalizer.source, seconds, chunk / rate, video=False, mono=True, sample_rate=rate)
    ):
        audio = torch.from_numpy(normalizer(clip.audio)).to(model.device)
        phases = []
        steps = (audio.shape[1] - (PHASES - 1) * step // PHASES) // step
        if steps < 2:
            break
        for phase in range(PHASES):
            begin = phase * step // PHASES
            phases.append(audio[0, begin : begin + steps * step])
        features = model.audio_features(torch.stack(phases))
        check.add_audio(features[:1])
        heard = check_finite(model.project_audio(features), "the audio")
        last = audio.shape[1] < round(seconds * rate)
        # Each chunk but the first gives up its first margin (the one before has it better).
        lower = margin // step if number else 0
        upper = heard.shape[2] if last else (chunk + margin) // step
        pieces.extend(heard[:, :, lower:upper].permute(2, 0, 1).cpu().numpy())
        own.extend(loudness(audio[0, lower * step : upper * step].cpu().numpy(), round(rate / model.config.fps)))
        levels.extend(phases[0].view(-1, step).square().mean(1).sqrt()[lower:upper].cpu().numpy())
        if last or (number + 1) * chunk / rate >= end:
            break
    if not len(pieces):
        raise NoAudioError(f"{normalizer.source}: the audio track is shorter than two steps of the model")
    loud = np.flatnonzero(levels.array() >= SILENCE)
    if not len(loud):
        return None
    begin, after = int(loud[0]), int(loud[-1]) + 1
    features = torch.from_numpy(pieces.array()[begin:after]).to(model.device).permute(1, 2, 0)
    return AudioEmbedding(features, begin, own.array())


@torch.inference_mode()
def offset_curves(
    path: Source,
    model: AudioVisual,
    max_offset: float | None = None,
    *,
    audio: Source | None = None,
    end: float = inf,
) -> OffsetCurves | None:
    """Compare every window of the video with the audio at all offsets; None where the audio is silent.

    Windows last as long as those of the training and overlap by half.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`.
        max_offset: seconds searched on each side; by default `seconds_searched`.
        audio: the file whose audio it is compared with, by default its own.
        end: seconds from the start of the file after which no window begins.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    info = probe_both(path)
    check = InDistributionCheck(model)
    normalizer = audio_normalizer(path if audio is None else audio)
    if max_offset is None:
        max_offset = seconds_searched(info.video.duration)
    encoded = encode_audio(normalizer, model, check, end + max_offset + model.config.seconds)
    if encoded is None:
        return None
    reach = round(max_offset / model.step)
    steps = torch.arange(-reach, reach + 1)
    # Compared with audio that comes o steps later, the audio lags by o steps: it leads by -o.
    delays = (steps[:, None] * PHASES + torch.arange(PHASES)).flatten()
    keep = torch.where(delays.abs() <= reach * PHASES)[0].flip(0).numpy()
    seen = _FrameHistory()
    spans, rows, counts = Rows(), Rows(), Rows()
    for span, similarity, known in _compared(path, model, encoded, steps, check, seen, end):
        spans.append(span)
        rows.append(similarity[keep])
        counts.append(known[keep])
    if not len(spans):
        raise _no_window(path, info.video.duration, model.step)
    config, (starts, lengths) = model.config, spans.array().T
    offsets = -delays.numpy()[keep] * model.step / PHASES
    fresh, loop = seen.fresh(encoded, round(config.seconds * config.fps))
    among = np.flatnonzero(np.abs(offsets) < (loop / config.fps / 2 if loop else np.inf))
    near = slice(among[0], among[-1] + 1)
    ranges = np.round(np.array([starts, starts + lengths]) * config.fps).astype(int)
    shares = [fresh[begin:after].mean() for begin, after in ranges.T]
    return OffsetCurves(
        offsets[near], starts, lengths, rows.array()[:, near], counts.array()[:, near], np.array(shares),
        max(seen.motion), loop / config.fps if loop else None, info.video.fps, normalizer.notes, check,
    )  # fmt: skip


def _compared(
    path: Source,
    model: AudioVisual,
    encoded: AudioEmbedding,
    steps: Tensor,
    check: InDistributionCheck,
    seen: "_FrameHistory",
    end: float,
) -> Iterator[tuple[tuple[float, float], np.ndarray, np.ndarray]]:
    """Windows of the video against the audio, delayed by whole steps ``[O]`` and parts of one; also shown to others.

    Yields:
        Seconds at which it starts and that it lasts, and ``[O * PHASES]`` similarities and steps that are in them.
    """
    config = model.config
    step_frames = round(model.step * config.fps)
    hop = max(round(config.seconds / 2 / model.step), 1) * model.step
    least = min(_LEAST, round(config.seconds / model.step))
    first, alone = None, True
    for clip in stream(path, config.seconds, hop, audio=False, fps=config.fps, size=config.size):
        first = clip.start if first is None else first
        if clip.start - first >= end:
            break
        length = len(clip.video) // step_frames
        if length < 1 or (length < least and not alone):
            continue
        frames = clip.video[: length * step_frames]
        features = model.video_features(frames_to_input(torch.from_numpy(frames)[None].to(model.device)))
        check.add_video(features, frames)
        seen.add(round((clip.start - first) * config.fps), frames)
        placed = check_finite(model.project_video(features), "the video").expand(PHASES, -1, -1, -1, -1)
        begin = round((clip.start - first) / model.step) - encoded.first
        scores = offset_scores(placed, encoded.features, config.pool_scale, begin, steps)
        known = encoded.steps_known(begin, length, steps).repeat_interleave(PHASES)
        alone = False
        span = clip.start - first, length * model.step
        yield span, scores.T.flatten().cpu().numpy(), known.numpy().astype(np.int16)


def _no_window(path: Source, duration: float, step: float) -> MediaError:
    """The error about a video that gives not even one step."""
    if duration >= 2 * step:
        most = f"of {duration:.2f} s of video less than {step:.2f} s can be decoded"
        return MediaError(f"{printable(path)} is damaged: {most}")
    return NoVideoError(f"{path}: the video is shorter than a step of the model")


class _FrameHistory:
    """What each frame of a file shows, from windows that overlap."""

    def __init__(self) -> None:
        self._thumbnails, self._moving = Rows(), Rows()
        self.motion: list[float] = []  # of each window

    def add(self, begin: int, frames: np.ndarray) -> None:
        """A window from frame ``begin`` on: uint8 ``[T, H, W, 3]``."""
        change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
        self.motion.append(float(change.mean()) if len(change) else 0.0)
        change = np.append(change, change[-1:]) if len(change) else np.zeros(len(frames))
        for kept, new in ((self._thumbnails, thumbnails(frames)), (self._moving, change >= STILL)):
            kept.cut(begin)
            kept.extend(new)

    def fresh(self, encoded: AudioEmbedding, apart: int) -> tuple[np.ndarray, int | None]:
        """Whether each frame moves, somewhat before or after, and is no repetition: float ``[T]``; and the `period`."""
        seen = self._thumbnails.array()
        heard = np.full((len(seen), encoded.loudness.shape[1]), encoded.loudness.min(initial=0))
        there = min(len(seen), len(encoded.loudness))
        heard[:there] = encoded.loudness[:there]
        moving = maximum_filter1d(self._moving.array(), _REST)
        ago = last_seen(seen, heard, apart)
        return ((ago == 0) & moving).astype(float), period(ago)
