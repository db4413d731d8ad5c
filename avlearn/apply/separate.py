"""The sound of each thing that is seen, by itself."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from glob import escape
from itertools import zip_longest
from math import ceil, floor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.confidence import check_calibration
from avlearn.apply.feature_file import FeatureFile
from avlearn.apply.file_maps import maps_along
from avlearn.apply.masks import CONTEXT, separate_window, stretch_grid
from avlearn.apply.normalize_audio import AudioNormalizer, audio_normalizer
from avlearn.apply.parallel import in_order, single_threads
from avlearn.apply.source_choice import MAX_SOURCES, Choice, chosen_sources
from avlearn.apply.source_weights import SourceWeights, source_weights
from avlearn.apply.sources import SoundSource
from avlearn.apply.sync_check import SyncCheck, check_sync
from avlearn.apply.track_confidence import TrackEvidence, TrackSimilarity, track_confidence, track_similarity
from avlearn.apply.tracks import Format, WavFiles, staged_folder, write_videos
from avlearn.apply.verdict import ADVICE, CANNOT_TELL, NOTHING_ON_SCREEN, SILENT
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.errors import ModelError
from avlearn.files import printable
from avlearn.media import stream
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual

_STRETCH = 10.0  # seconds that are separated at a time, at least
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
        """For people; ``calibrated``: whether the confidence is."""
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

    @property
    def sources(self) -> list[Track]:
        """All but the last."""
        return self.tracks[:-1]

    @property
    def residual(self) -> Track:
        """What belongs to no source."""
        return self.tracks[-1]

    def to_dict(self) -> dict:
        """JSON types."""
        return {"schema": "avlearn.separate/2", **asdict(self)}

    def text(self) -> str:
        """For people."""
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
    if model.separator is None:
        raise ModelError("this model has no separator: train one with a recipe of the task 'separate'")
    if model.calibrations.tracks:
        check_calibration(TrackEvidence, model.calibrations.tracks)
    info, out_dir, stem = probe_both(path), Path(out_dir), Path(path).stem
    first, normalizer = check_sync(path, model), audio_normalizer(path)
    say = progress or (lambda *_: None)
    stale = track_patterns(stem)
    rate, channels = info.audio.sample_rate, info.audio.channels
    with single_threads() as workers, staged_folder(out_dir, stem, stale) as part, closing(FeatureFile(part)) as seen:
        found = maps_along(
            normalizer, model, seen.append, lambda done: say("looking", done, info.duration), workers, first.delay
        )
        silent = not (found.levels >= SILENCE).any()
        chosen = [] if silent else chosen_sources(found, MAX_SOURCES if onscreen else sources, choices)
        weights = source_weights(chosen, found, seen.shape[1:], model.config.pool_scale, seen.steps * model.step)
        names = ["onscreen", "offscreen"] if onscreen else [f"source{k + 1}" for k in range(len(chosen))] + ["residual"]
        wavs = [part / f"{stem}_{name}.wav" for name in names]
        similarity = TrackSimilarity.none(len(chosen))
        energy, total, samples = np.zeros(len(names)), 0.0, 0
        with (
            WavFiles(wavs, rate, channels, form, info.duration) as files,
            closing(_separated(path, normalizer, model, seen, weights, rate, workers, first.delay)) as stretches,
        ):
            for audio, estimates, similarity_there in stretches:
                given = estimates.sum(0, keepdims=True) if onscreen else estimates
                tracks = np.concatenate([given, audio[None] - given.sum(0, keepdims=True)])
                files.write(tracks)
                similarity += similarity_there
                energy += np.square(tracks, dtype=np.float64).sum((1, 2))
                total += float(np.square(audio, dtype=np.float64).sum())
                samples += audio.shape[1]
                say("separating", samples / rate, info.duration)
        say("writing the videos", 0, 1)
        videos = write_videos(path, wavs if onscreen else wavs[:-1])
        say("writing the videos", 1, 1)
    evidence = similarity.evidence()
    confidences = [round(track_confidence(model, each), 4) for each in evidence]
    shares = energy / max(total, 1e-12)
    verdict, reason = _verdict(silent, confidences, first, model)
    tracks = []
    for k, (name, wav, video) in enumerate(zip_longest(names, wavs, videos)):
        facts = {}
        if onscreen and not k:
            facts = {"confidence": max(confidences, default=0.0)}
        elif not onscreen and k < len(chosen):
            facts = {"id": chosen[k].id or None, "confidence": confidences[k], "evidence": evidence[k]}
            facts |= _place(chosen[k])
        where = [None if file is None else str(out_dir / file.name) for file in (wav, video)]
        tracks.append(Track(name, *where, round(float(shares[k]), 4), **facts))
    return SeparateResult(
        path=str(path),
        duration=round(samples / rate, 3),
        sample_rate=rate,
        channels=channels,
        format=form,
        calibrated=model.calibrations.tracks is not None,
        tracks=tracks,
        verdict=verdict,
        reason=reason,
        in_distribution=first.in_distribution,
        delay=round(first.delay, 4),
        notes=first.notes,
        notice=reason if first.unlike else None,
    )


def _verdict(
    silent: bool, confidences: Sequence[float], first: SyncCheck, model: AudioVisual
) -> tuple[str, str | None]:
    """The verdict, and the reason where it is not ``separated``."""
    if silent:
        return "silent", SILENT
    why = first.why_not(model, model.calibrations.tracks is not None)
    if not first.unlike and max(confidences, default=0.0) >= _EXPLAINS:
        return "separated", None
    if why:
        what = "which track is whose" if confidences else "whether anything on screen makes the sound"
        return CANNOT_TELL, f"{CANNOT_TELL} {what}: {why}; {ADVICE}"
    if not confidences:
        return NOTHING_ON_SCREEN, "nothing in the video stands out as a source of the sound"
    return NOTHING_ON_SCREEN, "nothing on screen seems to explain the sound"


def _place(source: SoundSource) -> dict:
    """Median centre of a source, and the share of the time for which it is there."""
    x0, y0, x1, y1 = (float(edge) for edge in np.nanmedian(source.boxes, 0))
    present = float(np.isfinite(source.boxes[:, 0]).mean())
    return {"place": (round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3)), "present": round(present, 3)}


def _separated(
    path: Source,
    normalizer: AudioNormalizer,
    model: AudioVisual,
    seen: FeatureFile,
    places: SourceWeights,
    rate: int,
    workers: int,
    delay: float,
) -> Generator[tuple[np.ndarray, np.ndarray, TrackSimilarity], None, None]:
    """The file's whole audio, that of each place, and how well they agree: ``[C, S]`` and ``[K, C, S]`` at a time.

    Stretches begin where the transform, the U-Net and the video's steps begin alike. What their masks are made from
    on both sides is there and thrown away: the file in one piece would give the same. Masks that are led by half a
    step too early or too late hold little of the audio: where it is moved by ``delay``, it meets the video to the
    sample, on a grid that begins less than a step of the video before it.
    """
    step, grid = model.step, stretch_grid(model, rate)
    size, margin = ceil(_STRETCH * rate / grid) * grid, round(CONTEXT * rate)
    shift = round(delay * rate)
    before = floor(shift / rate / step + 1e-9)  # steps of the video
    lead = shift - round(before * step * rate)  # samples of the audio

    def stretches() -> Iterator[tuple[np.ndarray, int, slice, Tensor]]:
        clips = stream(path, (size + 2 * margin) / rate, size / rate, video=False, audio_delay=lead / rate)
        for number, clip in enumerate(clips):
            count = clip.audio.shape[1]
            kept = slice(margin if number else lead, count if count < size + 2 * margin else size + margin)
            begin = round(before * step * rate) + number * size
            features = seen.read(round(begin / rate / step), ceil(count / rate / step) + 1)
            yield clip.audio, begin, kept, features

    @torch.inference_mode()
    def separated(stretch: tuple[np.ndarray, int, slice, Tensor]) -> tuple[np.ndarray, np.ndarray, TrackSimilarity]:
        audio, begin, kept, features = stretch
        if not len(places.weights):
            return audio[:, kept], np.zeros((0, *audio[:, kept].shape), np.float32), TrackSimilarity.none(0)
        shown = begin / rate  # when the video of this audio is seen
        weights = places.weights_at(shown + np.arange(features.shape[2]) * step)
        queries = torch.einsum("bdtyx,ktyx->bkdt", features, weights).to(model.device)
        mixed = normalizer(normalizer.downmix(audio))
        given, heard = (torch.from_numpy(part).to(model.device) for part in (audio, mixed))
        tracks = separate_window(model, given, rate, queries, heard).cpu().numpy()
        tracks *= places.presence_at(shown + np.arange(audio.shape[1]) / rate)[:, None]
        steps = slice(round(kept.start / rate / step), round(kept.stop / rate / step))
        return (
            audio[:, kept],
            tracks[:, :, kept],
            track_similarity(
                model, mixed, normalizer.downmix(tracks) * normalizer.gain, rate, features, weights, steps
            ),
        )

    with closing(in_order(separated, stretches(), workers)) as found:
        yield from found
