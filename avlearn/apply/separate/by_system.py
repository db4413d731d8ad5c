"""`separate` by a released system in place of our model: the same tracks, which add up to the input."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import soxr
import torch

from avlearn.apply.expert_answer import SURE
from avlearn.apply.separate.file import track_names, track_patterns
from avlearn.apply.separate.result import SeparateResult, Track
from avlearn.apply.separate.shown_faces import ShownFaces
from avlearn.apply.separate.shown_places import ShownPlaces
from avlearn.apply.separate.stretches import Stretch
from avlearn.apply.separate.track_confidence import TrackSimilarity
from avlearn.apply.separate.track_sums import TrackSums, write_tracks
from avlearn.apply.separate.tracks import Format, WavFiles, staged_folder, write_videos
from avlearn.apply.source_choice import Choice, check_choices
from avlearn.apply.verdict import CANNOT_TELL, SILENT
from avlearn.apply.windows import SILENCE, check_finite, probe_both
from avlearn.media import stream
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.released.systems import SeparateSystem

_STRETCH = 10.0  # seconds that are written at a time
_OVERLAP = 3  # windows that hear an instant, and are faded into each other

Progress = Callable[[str, float, float], None]
Shown = ShownPlaces | ShownFaces
Judge = Callable[[ShownFaces, Sequence[Path]], Sequence[float]]


@unchanged
@opened_once
def separate_by_system(
    path: Source,
    system: SeparateSystem,
    out_dir: str | Path,
    *,
    sources: int = 2,
    choices: Sequence[Choice] = (),
    onscreen: bool = False,
    form: Format = "float",
    progress: Progress | None = None,
    offset: float = 0.0,
    judge: Judge | None = None,
) -> SeparateResult:
    """Split a file's audio by what is seen in parts of the frame, as `separate_file` writes it.

    The network does not look for sources: it is shown the places that are asked for, or as many equal parts of the
    frame, side by side; or, of voices, the faces that are seen longest. What it gives at its own rate is brought to the
    file's; the residual is what is left, such as all above half its rate. Where nothing judges the tracks, the verdict
    is that it cannot tell which is whose.

    Args:
        path: any file with video and audio.
        system: the separator.
        out_dir, form, onscreen, progress: as for `separate_file`.
        sources: into how many parts the frame is cut, or how many faces are taken.
        choices: points and boxes instead; or, of voices, faces by number or by where they are. Other faces are shown
            all the same, up to ``sources`` in all, to keep their voices out of the tracks.
        offset: seconds by which the audio leads: what is heard is seen so much later.
        judge: of faces and the WAVs of their tracks, probabilities that each is its face's voice.

    Raises:
        AvlearnError: what is asked for is nothing that the network can be shown.
        ModelError: faces are needed, and their detector is not installed.
        MediaError: the file cannot be read, or has no video or no audio.
        OutputError: the results cannot be written.
    """
    info, out_dir, stem = probe_both(path), Path(out_dir), Path(str(path)).stem
    check_choices(choices, info.duration)
    rate, channels, end, say = info.audio.sample_rate, info.audio.channels, info.duration, progress or (lambda *_: None)
    with staged_folder(out_dir, stem, track_patterns(stem)) as part, ExitStack() as closing_later:
        say("looking for faces" if system.faces else "looking", 0, end)
        shown = _shown(path, system, sources, choices, part, closing_later)
        wavs = [part / f"{stem}_{name}.wav" for name in track_names(len(shown.places), onscreen)]
        files = WavFiles(wavs, rate, channels, form, end)
        stretches = _stretches(path, system, shown, rate, offset)
        sums = write_tracks(stretches, files, len(shown.places), onscreen, lambda n: say("separating", n / rate, end))
        confidences = None
        if judge and isinstance(shown, ShownFaces):
            confidences = judge(shown, wavs[:1] * len(shown.places) if onscreen else wavs[:-1])
        videos = write_videos(path, wavs if onscreen else wavs[:-1], partial(say, "writing the videos"))
    tracks = _tracks(shown, sums, onscreen, [out_dir / wav.name for wav in wavs], videos, confidences)
    silent = sums.input_energy < SILENCE**2 * channels * sums.samples
    verdict, reason = _verdict(system, shown, silent, confidences)
    return SeparateResult(
        path=str(path), duration=round(sums.samples / rate, 3), sample_rate=rate, channels=channels, format=form,
        calibrated=confidences is not None, tracks=tracks, verdict=verdict, reason=reason,
        in_distribution={"video": None, "audio": None}, delay=round(offset, 4),
        notes=(f"by {system.title}, of what sounds below {system.sample_rate / 2000:g} kHz", *shown.notes),
        notice=None, system=system.title,
    )  # fmt: skip


def _shown(
    path: Source, system: SeparateSystem, sources: int, choices: Sequence[Choice], folder: Path, end: ExitStack
) -> Shown:
    if not system.faces:
        return ShownPlaces(path, sources, choices, max(system.looks) - min(system.looks))
    shown = ShownFaces(path, sources, choices, folder, system.device)
    end.callback(shown.close)
    return shown


def _verdict(
    system: SeparateSystem, shown: Shown, silent: bool, confidences: Sequence[float] | None
) -> tuple[str, str | None]:
    """The verdict, and the reason where it is not ``separated``."""
    if silent:
        return "silent", SILENT
    if max(confidences or (), default=0.0) >= SURE:
        return "separated", None
    why = "no face was found"
    if shown.places:
        why = f"{system.title} tells no probability" if confidences is None else "no track fits the lips of its face"
    return CANNOT_TELL, f"{CANNOT_TELL} which track is whose: {why}"


def _tracks(
    shown: Shown,
    sums: TrackSums,
    onscreen: bool,
    wavs: Sequence[Path],
    videos: Sequence[Path],
    confidences: Sequence[float] | None,
) -> list[Track]:
    """The tracks that were written."""
    count = len(shown.places)
    shares = sums.energy / max(sums.input_energy, 1e-12)
    told: list[float | None] = [None] * (count + 1) if confidences is None else [*confidences, None]
    if onscreen:
        told = [max(confidences or (), default=None), None]
    return [
        Track(
            name,
            str(wavs[k]),
            str(wavs[k].with_name(videos[k].name)) if k < len(videos) else None,
            round(float(shares[k]), 4),
            place=None if onscreen or k == count else shown.places[k],
            present=None if onscreen or k == count else shown.present[k],
            confidence=told[k],
        )
        for k, name in enumerate(track_names(count, onscreen))
    ]


def _stretches(
    path: Source, system: SeparateSystem, shown: Shown, rate: int, offset: float
) -> Generator[Stretch, None, None]:
    """A file's whole audio at its own rate, stretch by stretch, with its tracks."""
    count = len(shown.places)
    raised = _raised(_separated(path, system, shown, offset), system.sample_rate, rate) if count else iter(())
    held = None  # [K, C, S] that is separated and not yet given
    for clip in stream(path, _STRETCH, _STRETCH, video=False):
        length = clip.audio.shape[1]
        held = np.zeros((count, len(clip.audio), 0), np.float32) if held is None else held
        while held.shape[2] < length and (more := next(raised, None)) is not None:
            held = np.concatenate([held, more], 2)
        tracks = held[:, :, :length]
        held = held[:, :, length:]
        tracks = np.pad(tracks, ((0, 0), (0, 0), (0, length - tracks.shape[2])))
        yield Stretch(clip.audio, tracks, TrackSimilarity.none(count))


def _raised(pieces: Iterator[np.ndarray], source: int, target: int) -> Iterator[np.ndarray]:
    """Pieces ``[K, C, S]`` at another rate, as if they were in one."""
    resampler = None
    shape: tuple[int, ...] = ()
    for piece in pieces:
        shape = piece.shape[:2]
        if source == target:
            yield piece
            continue
        resampler = resampler or soxr.ResampleStream(source, target, shape[0] * shape[1], dtype="float32")
        yield _unrolled(resampler.resample_chunk(piece.reshape(-1, piece.shape[2]).T.copy()), shape)
    if resampler is not None:
        yield _unrolled(resampler.resample_chunk(np.zeros((0, shape[0] * shape[1]), np.float32), last=True), shape)


def _unrolled(samples: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return samples.T.reshape(*shape, -1)


def _separated(path: Source, system: SeparateSystem, shown: Shown, offset: float) -> Iterator[np.ndarray]:
    """Tracks ``[K, C, S]`` at the system's rate, piece by piece: windows weighed by a triangle, and averaged."""
    rate, size = system.sample_rate, system.samples
    hop = size // _OVERLAP
    weight = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
    held = total = None  # audio from `begin` on, and the tracks there, weighed
    weights = np.zeros(0, np.float32)
    begin = 0

    def separate(first: int, audio: np.ndarray) -> np.ndarray:
        """A window of audio; one that is too short is repeated (lips move with its first time: they are not)."""
        filled = np.tile(audio, -(-size // audio.shape[1]))[:, :size]
        middle = (first + (size if system.faces else audio.shape[1]) / 2) / rate + offset
        instants = [middle + look for look in system.looks]
        seen = shown.at(instants, system.gaps) if isinstance(shown, ShownFaces) else shown.at(instants)
        there = [k for k, frames in enumerate(seen) if frames]
        parts = torch.zeros(len(seen), *filled.shape)
        if there:
            parts[there] = system.separate_window(torch.from_numpy(filled.copy()), [seen[k] for k in there])
        return check_finite(parts, "the tracks").numpy()[: len(shown.places), :, : audio.shape[1]]

    def add(first: int, parts: np.ndarray) -> None:
        nonlocal total, weights
        own = weight[: parts.shape[2]]
        room = first - begin + parts.shape[2] - len(weights)
        if total is None:
            total = np.zeros((*parts.shape[:2], 0), np.float32)
        total = np.pad(total, ((0, 0), (0, 0), (0, max(room, 0))))
        weights = np.pad(weights, (0, max(room, 0)))
        place = slice(first - begin, first - begin + parts.shape[2])
        total[:, :, place] += parts * own
        weights[place] += own

    for clip in stream(path, hop / rate, hop / rate, video=False, sample_rate=rate):
        held = clip.audio if held is None else np.concatenate([held, clip.audio], 1)
        while held.shape[1] >= size + hop:  # more comes behind it: the last window ends with the audio
            add(begin, separate(begin, held[:, :size]))
            assert total is not None
            yield total[:, :, :hop] / weights[:hop]
            held, total, weights, begin = held[:, hop:], total[:, :, hop:], weights[hop:], begin + hop
    if held is None or not held.shape[1]:
        return
    if held.shape[1] > size:
        add(begin, separate(begin, held[:, :size]))
    last = max(held.shape[1] - size, 0)
    add(begin + last, separate(begin + last, held[:, last:]))
    assert total is not None
    yield total / weights
