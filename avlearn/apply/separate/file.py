"""`separate`: the audio of each thing that is seen, by itself."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from glob import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

from avlearn.apply.confidence import check_calibration
from avlearn.apply.feature_file import FeatureFile, FileSteps
from avlearn.apply.localize.file_maps import FileMaps, maps_along
from avlearn.apply.localize.shot_sources import TrackSources
from avlearn.apply.localize.source_weights import SourceWeights, source_weights
from avlearn.apply.localize.sources import SoundSource
from avlearn.apply.normalize_audio import audio_normalizer
from avlearn.apply.parallel import single_threads
from avlearn.apply.separate.chosen_sources import Looks, chosen_sources
from avlearn.apply.separate.file_looks import face_boxes, span_map
from avlearn.apply.separate.result import SeparateResult, Track
from avlearn.apply.separate.shot_tracks import place_of, presence_of, shot_tracks
from avlearn.apply.separate.stretches import separate_stretches
from avlearn.apply.separate.track_confidence import TrackEvidence, track_confidence
from avlearn.apply.separate.track_quality import track_quality
from avlearn.apply.separate.track_sums import TrackSums, write_tracks
from avlearn.apply.separate.tracks import Format, WavFiles, staged_folder, write_videos
from avlearn.apply.source_choice import MAX_SOURCES, Choice, check_choices
from avlearn.apply.sync.check import SyncCheck, check_sync
from avlearn.apply.verdict import ADVICE, CANNOT_TELL, NOTHING_ON_SCREEN, SILENT
from avlearn.apply.windows import probe_both
from avlearn.media.source import Source, opened_once
from avlearn.media.unchanged import unchanged
from avlearn.models.audiovisual import AudioVisual

_EXPLAINS = 0.5  # confidence that one track at least has where something on screen makes the sound

Progress = Callable[[str, float, float], None]


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

    The places that make sound are followed within each shot; what is seen there asks the U-Net for masks. Tracks and
    residual add up to the input at its own rate, length and channels, whatever its length in constant memory.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`, with a separator.
        out_dir: gets ``NAME_source1.wav``, ``NAME_source1.mp4``, ..., ``NAME_residual.wav``; or, with ``onscreen``,
            ``NAME_onscreen`` and ``NAME_offscreen``, both with video. An earlier call's files give way.
        sources: how many to look for at most.
        choices: which to take, instead of the strongest: see `avlearn.apply.separate.chosen_sources.chosen_sources`.
            Others are looked for all the same, up to ``sources`` in all, to keep their sound out of the tracks.
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
    check_choices(choices, info.duration)
    checked, normalizer = check_sync(path, model), audio_normalizer(path)
    rate, channels, end, say = info.audio.sample_rate, info.audio.channels, info.duration, progress or (lambda *_: None)
    with (
        single_threads() as workers,
        staged_folder(out_dir, stem, track_patterns(stem)) as part,
        closing(FileSteps(part)) as steps,
    ):
        found = maps_along(normalizer, model, steps.append, lambda t: say("looking", t, end), workers, checked.delay)
        chosen, heard = _choose(path, model, found, steps, checked.delay, MAX_SOURCES if onscreen else sources, choices)
        weights = _weights(model, heard, found, steps.video)
        wavs = [part / f"{stem}_{name}.wav" for name in track_names(len(chosen), onscreen)]
        stretches = separate_stretches(path, normalizer, model, steps.video, weights, rate, workers, checked.delay)
        files = WavFiles(wavs, rate, channels, form, end)
        sums = write_tracks(stretches, files, len(weights.there), onscreen, lambda n: say("separating", n / rate, end))
        videos = write_videos(path, wavs if onscreen else wavs[:-1], partial(say, "writing the videos"))
    tracks, confidences = _tracks(model, heard[: len(chosen)], sums, onscreen, out_dir, wavs, videos, checked)
    verdict, reason = _verdict(not found.heard, confidences, checked, model)
    return SeparateResult(
        str(path), round(sums.samples / rate, 3), rate, channels, form, model.calibrations.tracks is not None, tracks,
        verdict, reason, checked.in_distribution, round(checked.delay, 4), checked.notes,
        reason if checked.unlike else None, shot_tracks(found, chosen, track_names(len(chosen), onscreen)),
    )  # fmt: skip


def _check_separator(model: AudioVisual) -> None:
    model.require_separator()
    if model.calibrations.tracks:
        check_calibration(TrackEvidence, model.calibrations.tracks)


def track_names(sources: int, onscreen: bool) -> list[str]:
    """Of the tracks, the one that holds what belongs to no other last."""
    return ["onscreen", "offscreen"] if onscreen else [*(f"source{k + 1}" for k in range(sources)), "residual"]


def _choose(
    path: Source,
    model: AudioVisual,
    found: FileMaps,
    steps: FileSteps,
    delay: float,
    most: int,
    choices: Sequence[Choice],
) -> tuple[list[TrackSources], list[SoundSource]]:
    """The sources that have a track each; and along the whole file all that are told apart, these first."""
    looks = Looks(
        lambda when: span_map(when, model, steps, delay), cache(lambda: face_boxes(path, found.times, model.device))
    )
    chosen, others = chosen_sources(found, most, choices, looks)
    return chosen, [track.along(found) for track in (*chosen, *others)]


def _weights(
    model: AudioVisual, sources: Sequence[SoundSource], found: FileMaps, features: FeatureFile
) -> SourceWeights:
    return source_weights(sources, found, features.shape[1:], model.config.pool_scale, features.steps * model.step)


def _tracks(
    model: AudioVisual,
    sources: Sequence[SoundSource],
    sums: TrackSums,
    onscreen: bool,
    folder: Path,
    wavs: Sequence[Path],
    videos: Sequence[Path],
    checked: SyncCheck,
) -> tuple[list[Track], list[float]]:
    """The tracks that were written, as they lie in ``folder``, and the confidence of each source."""
    evidence, sharpness = sums.similarity.evidence()[: len(sources)], sums.masks.sharpness()
    confidences = [round(track_confidence(model, each), 4) for each in evidence]
    shares = sums.energy / max(sums.input_energy, 1e-12)
    tracks, names = [], track_names(len(sources), onscreen)
    for k, (name, wav, video) in enumerate(zip_longest(names, wavs, videos)):
        facts: dict[str, Any] = {}
        if onscreen and not k:
            facts = {"confidence": max(confidences, default=0.0)}
        elif not onscreen and k < len(sources):
            source = sources[k]
            facts = {"id": source.id or None, "confidence": confidences[k], "evidence": evidence[k]}
            facts |= {"place": place_of(source.boxes), "present": presence_of(source.boxes)}
            if not checked.unlike and confidences[k] >= _EXPLAINS:
                facts["quality"] = track_quality(sharpness[k], model.calibrations.quality)
        shown = None if video is None else str(folder / video.name)
        tracks.append(Track(name, str(folder / wav.name), shown, round(float(shares[k]), 4), **facts))
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
