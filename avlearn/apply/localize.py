"""Where in the picture does the sound come from?"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import Notice, probe_both, windows
from avlearn.errors import NoVideoError, OutputError
from avlearn.media import stream, write_video
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.objectives.similarity import heatmap, offset_scores
from avlearn.report.plots import overlay


@dataclass(frozen=True)
class LocalizeResult:
    """Where the sound comes from, over time.

    Attributes:
        path, video, maps: the file, the overlay MP4, the ``.npz`` (``maps``: float32 ``[N, Y, X]`` mean
            similarity of place and sound in [-1, 1]; ``times``: ``[N]`` seconds, the windows' centres).
        on_screen: in [0, 1], how clearly the sound belongs to something in the picture: the
            probability of the true offset among others, averaged over windows.
        peak: ``(x, y)`` of the strongest place on average, as fractions of width and height.
        notice: a line where the file is unlike the training data, else None.
    """

    path: str
    video: str
    maps: str
    on_screen: float
    peak: tuple[float, float]
    notice: str | None

    def to_dict(self) -> dict:
        """JSON types."""
        return {"schema": "avlearn.localize/1", **self.__dict__}

    def text(self) -> str:
        """For people."""
        x, y = self.peak
        said = (
            f"{self.path}: the sound comes from {x:.0%} across, {y:.0%} down; "
            f"on screen {self.on_screen:.2f}\nwrote {self.video} and {self.maps}"
        )
        return said + (f"\nnote: {self.notice}" if self.notice else "")


@torch.inference_mode()
def file_maps(path: str | Path, model: AudioVisual, notice: Notice | None = None):
    """A heatmap a window, from `mirrored_heatmap`.

    Returns:
        Centres of the windows ``[N]`` in seconds, maps float32 ``[N, Y, X]``, on-screen scores ``[N]``.

    Raises:
        NoVideoError: the picture is shorter than a step.
    """
    config = model.config
    times, maps, scores = [], [], []
    offsets = torch.arange(-6, 7)
    for window in windows(path, model, config.seconds / 2):
        if notice:
            notice.add_video(window.features)
            notice.add_audio(window.audio_features)
        placed, heard = model.place(window.features), model.hear(window.audio_features)
        video = frames_to_input(torch.from_numpy(window.frames)[None].to(model.device))
        maps.append(mirrored_heatmap(model, video, placed, heard)[0].cpu().numpy())
        curve = offset_scores(placed, heard, config.pool_scale, 0, offsets)[0]
        chance = torch.softmax(curve.nan_to_num(-1) * config.score_scale, 0)
        scores.append(float(chance[5:8].sum()))
        times.append(window.start + placed.shape[2] * model.step / 2)
    if not maps:
        raise NoVideoError(f"{path}: picture and sound overlap for less than a step of the model")
    return np.array(times), np.stack(maps).astype(np.float32), np.array(scores)


def mirrored_heatmap(model: AudioVisual, video: Tensor, placed: Tensor, heard: Tensor) -> Tensor:
    """The mean of a picture's map and its mirror image's, mirrored back.

    Nothing in the training ties a cell to the middle of what it answers to; averaged over both views, a
    sideways drift cancels.

    Args:
        model: the towers.
        video: ``[B, 3, T, H, W]`` in [0, 1].
        placed: ``[B, D, T', Y, X]`` of the same video.
        heard: ``[B, D, T']``.

    Returns:
        ``[B, Y, X]`` in [-1, 1].
    """
    mirrored = model.place(model.video_features(video.flip(-1)))
    return (heatmap(placed, heard) + heatmap(mirrored, heard).flip(-1)) / 2


def map_at(times: np.ndarray, maps: np.ndarray, instant: float) -> np.ndarray:
    """The map at an instant, linear between the windows' centres: ``[Y, X]``."""
    after = int(np.searchsorted(times, instant))
    if after == 0 or after == len(times):
        return maps[min(after, len(times) - 1)]
    share = (instant - times[after - 1]) / (times[after] - times[after - 1])
    return maps[after - 1] * (1 - share) + maps[after] * share


def localize_file(
    path: str | Path, model: AudioVisual, out: str | Path, *, maps: str | Path | None = None
) -> LocalizeResult:
    """Draw the heatmap over a file's frames, with its sound kept.

    Args:
        path: any file with picture and sound.
        model: from `avlearn.load`.
        out: the MP4 to write.
        maps: the ``.npz`` to write; beside ``out`` by default.

    Raises:
        MediaError: the file cannot be read, or has no picture or no sound.
        OutputError: the results cannot be written.
    """
    info = probe_both(path)
    out = Path(out)
    maps_path = Path(maps) if maps else out.with_suffix(".npz")
    notice = Notice(model)
    times, heat, scores = file_maps(path, model, notice)
    low, high = float(np.quantile(heat, 0.05)), float(heat.max())
    fps = info.video.fps

    def frames() -> Iterator[np.ndarray]:
        count = 0
        for clip in stream(path, 1.0, 1.0, fps=fps, audio=False):
            for frame in clip.video:
                level = (map_at(times, heat, count / fps) - low) / max(high - low, 1e-6)
                yield overlay(frame, np.clip(level, 0, 1))
                count += 1

    def sound() -> Iterator[np.ndarray]:
        for clip in stream(path, 1.0, 1.0, video=False):
            yield clip.audio

    write_video(out, frames(), fps, audio=sound(), sample_rate=info.audio.sample_rate)
    part = maps_path.with_name(f".{maps_path.name}.part.npz")
    try:
        np.savez_compressed(part, maps=heat, times=times.astype(np.float32))
        part.replace(maps_path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {maps_path}: {error.strerror}") from error
    mean = heat.mean(0)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    peak = ((column + 0.5) / mean.shape[1], (row + 0.5) / mean.shape[0])
    return LocalizeResult(
        str(path), str(out), str(maps_path), round(float(scores.mean()), 4),
        (round(float(peak[0]), 3), round(float(peak[1]), 3)), notice.text(),
    )  # fmt: skip
