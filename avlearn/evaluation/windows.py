"""Which clips all readouts use, and the windows that they cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError
from avlearn.files import printable
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.objectives import Objective

BATCH = 16
_SHOWN = 10  # reasons that people are told
OFFSETS = 21  # steps among which an offset is sought: 0.8 s on each side, where a step is 80 ms


def held_out(manifests: Sequence[str | Path]) -> list[Row]:
    """All clips; of a manifest with a test split, that alone."""
    rows: list[Row] = []
    for manifest in manifests:
        found = read_manifest(manifest)
        tests = [row for row in found if row.split == "test"]
        rows += tests or found
    return rows


def search_room(model: AudioVisual, objective: Objective | None) -> float:
    """Seconds of sound that the search for an offset takes beyond the picture's."""
    room = (OFFSETS - 1) * model.step
    if objective is not None:
        room = max(room, (objective.setting.offsets - 1) * objective.setting.step)
    return room + 1 / model.config.fps


def usable_rows(model: AudioVisual, manifests: Sequence[str | Path], objective: Objective | None) -> list[Row]:
    """Clips that last as long as the search for an offset needs; of a manifest with a test split, that alone.

    Raises:
        DataError: there is none.
    """
    room = search_room(model, objective)
    rows = long_enough(held_out(manifests), model, room)
    if not rows:
        raise DataError(f"no clip lasts the {model.config.seconds + room:.2f} s that the evaluation needs")
    return rows


def long_enough(rows: Sequence[Row], model: AudioVisual, room: float) -> list[Row]:
    """Those that can be used, and hold a window of the model and ``room`` more seconds of sound."""
    return [row for row in rows if not row.reason and row.duration >= model.config.seconds + room - 1e-3]


def readable(model: AudioVisual, rows: list[Row], folder: Path) -> tuple[list[Row], list[tuple[str, str]]]:
    """Rows whose clips can be decoded, and path and reason of the others.

    Args:
        model: says to what clips are decoded.
        rows: any, also none.
        folder: keeps the decoded clips: `decode_once` of the same ones finds them there.

    Raises:
        DataError: none of the clips can be decoded.
    """
    if not rows:
        return [], []
    config = model.config
    cache = decode_once(rows, folder, config.fps, config.size, config.sample_rate, 4, bad_files="skip")
    return (
        [row for number, row in enumerate(rows) if number not in cache.bad],
        [(str(rows[number].source), reason) for number, reason in cache.bad.items()],
    )


def told(skipped: Sequence[tuple[str, str]]) -> str:
    """Lines about clips that were left out; "" for none."""
    lines = [f"\n{len(skipped)} clips could not be read, and are left out:"] if skipped else []
    lines += [f"\n  {printable(path)}: {reason}" for path, reason in skipped[:_SHOWN]]
    return "".join(lines + [f"\n  and {len(skipped) - _SHOWN} more"] * (len(skipped) > _SHOWN))


@dataclass(frozen=True)
class Cut:
    """Where windows begin, and whose sound is heard.

    Attributes:
        picture, sound: ``[N]`` seconds from the start of each clip; pictures begin with a frame.
        seconds: of the sound.
        voices: ``[N]``, the clip that the sound is of; each clip's own by default.
    """

    picture: np.ndarray
    sound: np.ndarray
    seconds: float
    voices: np.ndarray | None = None


def on_grid(model: AudioVisual, lead: np.ndarray, room: float) -> Cut:
    """Pictures that begin ``lead [N]`` seconds, whole steps, into sound that is ``room`` seconds longer than they are.

    Odd clips start a frame later than even ones: on and off the grid of the steps.
    """
    start = (np.arange(len(lead)) % 2) / model.config.fps
    return Cut(start + lead, start, model.config.seconds + room)


def off_grid(model: AudioVisual, lead: np.ndarray, room: float) -> Cut:
    """Pictures that begin ``lead [N]`` seconds, any number, into such sound."""
    fps = model.config.fps
    picture = np.ceil(lead * fps - 1e-6) / fps
    return Cut(picture, picture - lead, model.config.seconds + room)


def cut_windows(model: AudioVisual, cache: ClipCache, cut: Cut) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pictures ``[B, 3, T, H, W]`` in [0, 1] and sounds ``[B, S]``, in the clips' order."""
    for first in range(0, len(cache.video), BATCH):
        index = np.arange(first, min(first + BATCH, len(cache.video)))
        voices = index if cut.voices is None else cut.voices[index]
        yield (
            picture_windows(cache, index, cut.picture[index], model.config.seconds),
            sound_windows(cache, voices, cut.sound[index], cut.seconds),
        )


def sound_windows(cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float) -> Tensor:
    """``[B, S]`` of clips ``index [B]``, from ``starts [B]`` seconds on."""
    count = round(seconds * cache.sample_rate)
    first = np.round(starts * cache.sample_rate).astype(int)
    return torch.from_numpy(np.stack([cache.audio[i, s : s + count] for i, s in zip(index, first, strict=True)]))


def picture_windows(cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float) -> Tensor:
    """``[B, 3, T, H, W]`` in [0, 1] likewise."""
    count = round(seconds * cache.fps)
    first = np.round(starts * cache.fps).astype(int)
    frames = [cache.video[i, s : s + count] for i, s in zip(index, first, strict=True)]
    return frames_to_input(torch.from_numpy(np.stack(frames)))
