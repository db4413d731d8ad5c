"""The sound of each thing that is seen, by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from avlearn.apply.windows import Notice, probe_both, windows
from avlearn.errors import ModelError, NoVideoError, OutputError
from avlearn.media import Clip, remux, stream
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.models.unet import at_frames
from avlearn.objectives.similarity import heatmap, peak_weights
from avlearn.signal import Stft


@dataclass(frozen=True)
class SeparateResult:
    """Tracks that add up to the input.

    Attributes:
        path: the file.
        sources: one dict a source: ``audio`` (WAV), ``video`` (MP4), ``place`` (x, y as fractions), ``share``
            of the input's energy.
        residual: the WAV of what belongs to no source.
        notice: a line where the file is unlike the training data, else None.
    """

    path: str
    sources: list[dict]
    residual: str
    notice: str | None

    def to_dict(self) -> dict:
        """JSON types."""
        return {"schema": "avlearn.separate/1", **self.__dict__}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.path}: {len(self.sources)} sources"]
        for source in self.sources:
            x, y = source["place"]
            lines.append(f"  {source['audio']}  at {x:.0%} across, {y:.0%} down, {source['share']:.0%} of the energy")
        lines.append(f"  {self.residual}  the rest")
        return "\n".join(lines + ([f"note: {self.notice}"] if self.notice else []))


def find_sources(heat: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Places that stand out of a map, strongest first.

    Args:
        heat: ``[Y, X]``.
        most: places at most.

    Returns:
        Rows and columns at least two cells apart, each at least half as far above the map's median as the
        strongest.
    """
    left = heat.astype(np.float64).copy()
    base, top = float(np.median(heat)), float(heat.max())
    found: list[tuple[int, int]] = []
    while len(found) < most:
        row, column = np.unravel_index(left.argmax(), left.shape)
        if found and left[row, column] - base < 0.5 * (top - base):
            break
        found.append((int(row), int(column)))
        left[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = -np.inf
        if not np.isfinite(left).any():
            break
    return found


@torch.inference_mode()
def place_features(features: Tensor, heat: Tensor, places: list[tuple[int, int]], scale: float):
    """Features over time at each place: ``[1, D, T, Y, X]`` and ``[Y, X]`` to ``[1, K, D, T]``."""
    found = []
    for place in places:
        weights = peak_weights(heat[None], torch.tensor([place], device=heat.device), scale)
        found.append(torch.einsum("bdtyx,byx->bdt", features, weights))
    return torch.stack(found, 1)


@torch.inference_mode()
def separate_window(model: AudioVisual, audio: Tensor, rate: int, queries: Tensor) -> Tensor:
    """One stretch of sound into what each query explains.

    Args:
        model: with a separator.
        audio: ``[C, S]`` at any rate; all channels share the masks.
        rate: samples a second.
        queries: ``[1, K, D, T]`` features of the sources over the same seconds.

    Returns:
        ``[K, C, S]``; masks of all sources add up to at most one.
    """
    settings = model.config.separator
    stft = Stft(rate, settings.window, settings.hop).to(audio.device)
    spectrum = stft(audio)
    # The same sound at a higher rate has more samples in a window: bring its level to the training's.
    magnitude = stft(audio.mean(0, keepdim=True)).abs() * (model.config.sample_rate / rate)
    hop = stft.hop_samples / rate
    features = at_frames(queries, model.step, hop, magnitude.shape[-1])
    logits = model.separator(model.separator.bands(magnitude, stft.bin_hz), features)
    masks = model.separator.masks(logits, spectrum.shape[-2], stft.bin_hz)[0]
    masks = masks / masks.sum(0, keepdim=True).clamp(min=1)
    return stft.inverse(masks[:, None] * spectrum, audio.shape[-1])


def _ramp(samples: int, overlap: int, first: bool, last: bool) -> np.ndarray:
    """Cross-fade weights ``[samples]`` that add up to one over windows that overlap."""
    weights = np.ones(samples, np.float32)
    fade = ((np.arange(overlap) + 0.5) / overlap).astype(np.float32)
    if not first:
        weights[:overlap] = fade[: min(overlap, samples)]
    if not last:
        weights[samples - overlap :] = fade[::-1]
    return weights


class _Tracks:
    """WAV files written piece by piece, renamed when all are whole, removed otherwise."""

    def __init__(self, paths: list[Path], rate: int, channels: int):
        self.paths = paths
        self.parts = [path.with_name(f".{path.name}.part") for path in paths]
        try:
            self.files = [
                soundfile.SoundFile(str(part), "w", rate, channels, "FLOAT", format="RF64") for part in self.parts
            ]
        except (OSError, soundfile.SoundFileError) as error:
            raise OutputError(f"cannot write {paths[0].parent}: {error}") from error

    def __enter__(self) -> "_Tracks":
        return self

    def write(self, tracks: np.ndarray) -> None:
        """Append ``[K, C, S]``."""
        for file, track in zip(self.files, tracks, strict=True):
            try:
                file.write(track.T)
            except soundfile.SoundFileError as error:
                raise OutputError(f"cannot write {self.paths[0].parent}: {error}") from error

    def __exit__(self, kind, error, trace) -> None:
        for file in self.files:
            file.close()
        for part, path in zip(self.parts, self.paths, strict=True):
            if kind is None:
                part.replace(path)
            else:
                part.unlink(missing_ok=True)


def separate_file(path: str | Path, model: AudioVisual, out_dir: str | Path, *, sources: int = 2) -> SeparateResult:
    """Split a file's sound by what is seen to make it.

    Places that stand out of the file's mean heatmap are the sources; the features there, over time, ask the
    U-Net for their masks. Tracks and residual add up to the input at its own rate, length and channels.

    Args:
        path: any file with picture and sound.
        model: from `avlearn.load`, with a separator.
        out_dir: gets ``NAME_source1.wav``, ``NAME_source1.mp4``, ..., ``NAME_residual.wav``.
        sources: how many to look for at most.

    Raises:
        ModelError: the model has no separator.
        MediaError: the file cannot be read, or has no picture or no sound.
        OutputError: the results cannot be written.
    """
    if model.separator is None:
        raise ModelError("this model has no separator: train one with a recipe of the task 'separate'")
    info = probe_both(path)
    out_dir = Path(out_dir)
    notice = Notice(model)
    mean = _mean_map(path, model, notice)
    places = find_sources(mean, sources)
    stem = Path(path).stem
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out_dir}: {error.strerror}") from error
    names = [f"{stem}_source{k + 1}" for k in range(len(places))] + [f"{stem}_residual"]
    wavs = [out_dir / f"{name}.wav" for name in names]
    rate = info.audio.sample_rate
    energy = np.zeros(len(wavs))
    total = 0.0
    with _Tracks(wavs, rate, info.audio.channels) as tracks:
        for tail in _separated(path, model, places, torch.from_numpy(mean), rate):
            tracks.write(tail)
            energy += np.square(tail, dtype=np.float64).sum((1, 2))
            total += float(np.square(tail.sum(0), dtype=np.float64).sum())
    found = []
    for k, (row, column) in enumerate(places):
        video = out_dir / f"{names[k]}.mp4"
        try:
            remux(path, video, replace_audio=wavs[k])
        except OutputError:
            video = video.with_suffix(".mkv")  # holds the codecs that MP4 does not
            remux(path, video, replace_audio=wavs[k])
        place = ((column + 0.5) / mean.shape[1], (row + 0.5) / mean.shape[0])
        found.append(
            {
                "audio": str(wavs[k]),
                "video": str(video),
                "place": tuple(round(v, 3) for v in place),
                "share": round(float(energy[k] / max(total, 1e-12)), 4),
            }
        )
    return SeparateResult(str(path), found, str(wavs[-1]), notice.text())


def _mean_map(path: str | Path, model: AudioVisual, notice: Notice) -> np.ndarray:
    """The file's mean heatmap ``[Y, X]``, as the separator knew it in training: not mirrored."""
    total, count = None, 0
    for window in windows(path, model, model.config.seconds / 2):
        notice.add_video(window.features)
        notice.add_audio(window.audio_features)
        with torch.inference_mode():
            heat = heatmap(model.place(window.features), model.hear(window.audio_features))[0]
        total = heat if total is None else total + heat
        count += 1
    if total is None:
        raise NoVideoError(f"{path}: picture and sound overlap for less than a step of the model")
    return (total / count).cpu().numpy()


def _pairs(path, model: AudioVisual, hop: float) -> Iterator[tuple[Clip | None, Clip, bool]]:
    """Windows of the whole sound with the picture of the same seconds (None past its end)."""
    config = model.config
    pictures = stream(path, config.seconds, hop, fps=config.fps, size=config.size, audio=False)
    sounds = stream(path, config.seconds, hop, video=False)
    pending = None
    for picture, sound in zip_longest(pictures, sounds):
        if sound is None:
            break
        if pending:
            yield (*pending, False)
        pending = (picture, sound)
    if pending:
        yield (*pending, True)


def _separated(
    path, model: AudioVisual, places: list[tuple[int, int]], mean: Tensor, rate: int
) -> Iterator[np.ndarray]:
    """Tracks and residual, ``[K + 1, C, S]`` at a time, whole file in order."""
    config = model.config
    hop = config.seconds / 2
    overlap = round(config.seconds * rate) - round(hop * rate)
    carry = None
    first = True
    for picture, sound, last in _pairs(path, model, hop):
        audio = sound.audio
        samples = audio.shape[1]
        count = len(places)
        estimate = np.zeros((count, *audio.shape), np.float32)
        step_frames = round(model.step * config.fps)
        if picture is not None and len(picture.video) >= step_frames and samples > rate // 10:
            frames = torch.from_numpy(picture.video)[None].to(model.device)
            with torch.inference_mode():
                features = model.video_features(frames_to_input(frames))
                queries = place_features(features, mean.to(model.device), places, config.pool_scale)
                estimate = separate_window(
                    model, torch.from_numpy(audio).to(model.device), rate, queries
                ).cpu().numpy()  # fmt: skip
        faded = estimate * _ramp(samples, min(overlap, samples), first, last)
        if carry is not None:
            shared = min(carry.shape[2], samples)
            faded[:, :, :shared] += carry[:, :, :shared]
        done = samples if last else round(hop * rate)
        ready, given = faded[:, :, :done], audio[:, :done]
        residual = given - ready.sum(0)
        yield np.concatenate([ready, residual[None]])
        carry = faded[:, :, done:]
        first = False
