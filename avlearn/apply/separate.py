"""`separate`: the audio of each thing that is seen, by itself."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from glob import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from avlearn.apply.confidence import check_calibration
from avlearn.apply.feature_file import FeatureFile
from avlearn.apply.file_maps import FileMaps, maps_along
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.parallel import single_threads
from avlearn.apply.separate_stretches import Stretch, separate_stretches
from avlearn.apply.source_choice import MAX_SOURCES, Choice, chosen_sources
from avlearn.apply.source_weights import SourceWeights, source_weights
from avlearn.apply.sources import SoundSource
from avlearn.apply.sync_check import SyncCheck, check_sync
from avlearn.apply.track_confidence import TrackEvidence, TrackSimilarity, track_confidence
from avlearn.apply.tracks import Format, WavFiles, staged_folder, write_videos
from avlearn.apply.verdict import ADVICE, CANNOT_TELL, NOTHING_ON_SCREEN, SILENT
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.files import printable
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual

_EXPLAINS = 0.5  # confidence that one track at least has where something on screen makes the sound

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Track:
    """A part of the input's audio, as long as all of it.

    Attributes:
        name: ``source1``, ``source2``, ...; ``onscreen``, ``offscreen``; or ``residual``.
        audio: the WAV.
        video: the MP4 or MKV with this audio alone; None for the residual.
        share: of the input's energy.
        id: of the source, as `avlearn localize --sources` numbers them; None where a place was asked for.
        place: x and y of the source as fractions of the frame, the median over time; None but for sources.
        present: share of the video's time for which the source is there; None but for sources.
        confidence: that it is the sound of its own place, in [0, 1]; None for what is off screen and for the residual.
        evidence: what that stands on; None but for sources, and for one whose track is silent.
    """

    name: str
    audio: str
    video: str | None
    share: float
    id: int | None = None
    place: tuple[float, float] | None = None
    present: float | None = None
    confidence: float | None = None
    evidence: TrackEvidence | None = None

    def text(self, calibrated: bool = True) -> str:
        """Human-readable text; ``calibrated``: whether the confidence is."""
        said = [f"{self.share:.0%} of the energy"]
        if self.place:
            said.insert(0, f"at {self.place[0]:.0%} across, {self.place[1]:.0%} down")
        if self.present is not None and self.present < 0.995:
            said.append(f"there {self.present:.0%} of the time")
        if self.confidence is not None:
            said.append(f"confidence {self.confidence:.2f}{'' if calibrated else ', not calibrated'}")
        return f"  {printable(self.audio)}  {', '.join(said)}"


@dataclass(frozen=True)
class SeparateResult:
    """Tracks that add up to the input.

    Attributes:
        path: the file.
        duration: seconds of the tracks.
        sample_rate, channels: of the tracks, as of the input.
        format: ``float`` (32 bits) or ``24`` (bits).
        calibrated: whether confidences were held to tracks with known truth; else each is the share of the track's
            place beside the best of the others.
        tracks: the last holds what belongs to no other.
        verdict: ``separated``, ``nothing on screen explains the sound``, ``silent``, or ``this model cannot tell``.
        reason: why it is not ``separated``, in plain words; else None.
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was never measured.
        delay: seconds by which the audio was moved later to be measured, where it is out of sync; the tracks lie as in
            the input.
        notes: lines for people: of an offset, of quiet audio.
        notice: why the model cannot tell, where the file is unlike the training data; else None.
        system: the released system that separated in place of our model; else "".
    """

    path: str
    duration: float
    sample_rate: int
    channels: int
    format: Format
    calibrated: bool
    tracks: list[Track]
    verdict: str
    reason: str | None
    in_distribution: dict[str, bool | None]
    delay: float
    notes: tuple[str, ...]
    notice: str | None
    system: str = ""

    @property
    def sources(self) -> list[Track]:
        """All but the last."""
        return self.tracks[:-1]

    @property
    def residual(self) -> Track:
        """What belongs to no source."""
        return self.tracks[-1]

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``system`` is there where one separated."""
        values = asdict(self)
        if not self.system:
            del values["system"]
        return {"schema": "avlearn.separate/2", **values}

    def text(self) -> str:
        """Human-readable text."""
        count = len(self.sources)
        lines = [f"{printable(self.path)}: {count} track{'s' * (count != 1)} and what is left"]
        lines += [track.text(self.calibrated) for track in self.tracks]
        lines += [self.reason] if self.reason else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def track_patterns(stem: str) -> list[str]:
    """Patterns of the files that `separate_file` makes of a file with that stem."""
    kinds = ("source[1-8]", "residual", "onscreen", "offscreen")
    return [f"{escape(stem)}_{kind}.{suffix}" for kind in kinds for suffix in ("wav", "mp4", "mkv")]


@unchanged
@opened_once
def separate_file(
    path: Source,
    model: AudioVisual,
    out_dir: str | Path,
    *,
    sources: int = 2,
    choices: Sequence[Choice] = (),
    onscreen: bool = False,
    form: Format = "float",
    progress: Progress | None = None,
) -> SeparateResult:
    """Split a file's audio by what is seen to make it.

    The places that make sound are followed over time; what is seen there asks the U-Net for masks. Tracks and
    residual add up to the input at its own rate, length and channels, whatever its length in constant memory.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`, with a separator.
        out_dir: gets ``NAME_source1.wav``, ``NAME_source1.mp4``, ..., ``NAME_residual.wav``; or, with ``onscreen``,
            ``NAME_onscreen`` and ``NAME_offscreen``, both with video. An earlier call's files give way.
        sources: how many to look for at most.
        choices: which sources to take, instead of the strongest: see `avlearn.apply.source_choice.chosen_sources`.
        onscreen: give one track for all sources together, and one for what is off screen.
        form: of the WAV files: ``float`` (32 bits) or ``24`` (bits; what exceeds full scale is clipped).
        progress: is told what is done, and how many seconds of how many.

    Raises:
        ModelError: the model has no separator.
        MediaError: the file cannot be read, or has no video or no audio.
        AvlearnError: a source that was asked for is not there.
        OutputError: the results cannot be written.
    """
    _check_separator(model)
    info, out_dir, stem = probe_both(path), Path(out_dir), Path(str(path)).stem
    checked, normalizer = check_sync(path, model), audio_normalizer(path)
    rate, channels, end = info.audio.sample_rate, info.audio.channels, info.duration
    say = progress or (lambda *_: None)
    with (
        single_threads() as workers,
        staged_folder(out_dir, stem, track_patterns(stem)) as part,
        closing(FeatureFile(part)) as features,
    ):
        found = maps_along(normalizer, model, features.append, lambda t: say("looking", t, end), workers, checked.delay)
        silent = not (found.levels >= SILENCE).any()
        chosen = [] if silent else chosen_sources(found, MAX_SOURCES if onscreen else sources, choices)
        weights = _weights(model, chosen, found, features)
        names = track_names(len(chosen), onscreen)
        wavs = [part / f"{stem}_{name}.wav" for name in names]
        stretches = separate_stretches(path, normalizer, model, features, weights, rate, workers, checked.delay)
        files = WavFiles(wavs, rate, channels, form, end)
        sums = write_tracks(stretches, files, len(chosen), onscreen, lambda n: say("separating", n / rate, end))
        videos = write_videos(path, wavs if onscreen else wavs[:-1], partial(say, "writing the videos"))
    tracks, confidences = _tracks(model, chosen, sums, onscreen, names, [out_dir / wav.name for wav in wavs], videos)
    verdict, reason = _verdict(silent, confidences, checked, model)
    return SeparateResult(
        str(path), round(sums.samples / rate, 3), rate, channels, form, model.calibrations.tracks is not None, tracks,
        verdict, reason, checked.in_distribution, round(checked.delay, 4), checked.notes,
        reason if checked.unlike else None,
    )  # fmt: skip


def _check_separator(model: AudioVisual) -> None:
    model.require_separator()
    if model.calibrations.tracks:
        check_calibration(TrackEvidence, model.calibrations.tracks)


def track_names(sources: int, onscreen: bool) -> list[str]:
    """Of the tracks, the one that holds what belongs to no other last."""
    return ["onscreen", "offscreen"] if onscreen else [*(f"source{k + 1}" for k in range(sources)), "residual"]


def _weights(
    model: AudioVisual, chosen: Sequence[SoundSource], found: FileMaps, features: FeatureFile
) -> SourceWeights:
    return source_weights(chosen, found, features.shape[1:], model.config.pool_scale, features.steps * model.step)


@dataclass
class TrackSums:
    """Over the stretches of a file.

    Attributes:
        similarity: of tracks and places.
        energy: ``[K]`` of the tracks that are written.
        input_energy: of the file's audio.
        samples: how many there are.
    """

    similarity: TrackSimilarity
    energy: np.ndarray
    input_energy: float = 0.0
    samples: int = 0

    def add(self, stretch: Stretch, onscreen: bool) -> np.ndarray:
        """Add a stretch; its tracks ``[K, C, S]``, all sources in one where ``onscreen``, and what they leave."""
        given = stretch.tracks.sum(0, keepdims=True) if onscreen else stretch.tracks
        tracks = np.concatenate([given, stretch.audio[None] - given.sum(0, keepdims=True)])
        self.similarity += stretch.similarity
        self.energy += np.square(tracks, dtype=np.float64).sum((1, 2))
        self.input_energy += float(np.square(stretch.audio, dtype=np.float64).sum())
        self.samples += stretch.audio.shape[1]
        return tracks


def write_tracks(
    stretches: Generator[Stretch, None, None],
    files: WavFiles,
    sources: int,
    onscreen: bool,
    progress: Callable[[int], None],
) -> TrackSums:
    """Write all stretches, and add them up; ``progress`` is told how many samples are written.

    What gives the stretches is closed, and so are the files.
    """
    sums = TrackSums(TrackSimilarity.none(sources), np.zeros(len(files.paths)))
    with files, closing(stretches):
        for stretch in stretches:
            files.write(sums.add(stretch, onscreen))
            progress(sums.samples)
    return sums


def _tracks(
    model: AudioVisual,
    chosen: Sequence[SoundSource],
    sums: TrackSums,
    onscreen: bool,
    names: Sequence[str],
    wavs: Sequence[Path],
    videos: Sequence[Path],
) -> tuple[list[Track], list[float]]:
    """The tracks that were written, and the confidence of each source."""
    evidence = sums.similarity.evidence()
    confidences = [round(track_confidence(model, each), 4) for each in evidence]
    shares = sums.energy / max(sums.input_energy, 1e-12)
    tracks = []
    for k, (name, wav, video) in enumerate(zip_longest(names, wavs, videos)):
        facts: dict[str, Any] = {}
        if onscreen and not k:
            facts = {"confidence": max(confidences, default=0.0)}
        elif not onscreen and k < len(chosen):
            facts = {"id": chosen[k].id or None, "confidence": confidences[k], "evidence": evidence[k]}
            facts |= _place(chosen[k])
        shown = None if video is None else str(wav.with_name(video.name))
        tracks.append(Track(name, str(wav), shown, round(float(shares[k]), 4), **facts))
    return tracks, confidences


def _verdict(
    silent: bool, confidences: Sequence[float], checked: SyncCheck, model: AudioVisual
) -> tuple[str, str | None]:
    """The verdict, and the reason where it is not ``separated``."""
    if silent:
        return "silent", SILENT
    why = checked.undecided_reason(model, model.calibrations.tracks is not None)
    if not checked.unlike and max(confidences, default=0.0) >= _EXPLAINS:
        return "separated", None
    if why:
        what = "which track is whose" if confidences else "whether anything on screen makes the sound"
        return CANNOT_TELL, f"{CANNOT_TELL} {what}: {why}; {ADVICE}"
    if not confidences:
        return NOTHING_ON_SCREEN, "nothing in the video stands out as a source of the sound"
    return NOTHING_ON_SCREEN, "nothing on screen seems to explain the sound"


def _place(source: SoundSource) -> dict[str, Any]:
    """Median centre of a source, and the share of the time for which it is there."""
    x0, y0, x1, y1 = (float(edge) for edge in np.nanmedian(source.boxes, 0))
    present = float(np.isfinite(source.boxes[:, 0]).mean())
    return {"place": (round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3)), "present": round(present, 3)}
