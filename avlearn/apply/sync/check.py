"""The check of a file before its audio is traced to places: its offset, and whether the model knows such files."""

from dataclasses import dataclass
from shlex import quote

import numpy as np

from avlearn.apply.sync.by_model import coarse_step_note, sync_by_model
from avlearn.apply.verdict import not_measured, unlike_training
from avlearn.files import printable
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual


@dataclass(frozen=True)
class SyncCheck:
    """The result of synchronization for a file, and whether the model knows such files.

    Attributes:
        in_distribution: whether ``video`` and ``audio`` are like the training data; None where that was not measured.
        delay: seconds by which the audio is moved later to be measured.
        notes: lines for people.
        starts, fresh: ``[W]`` seconds of its windows, and the share of each that is no repetition.
    """

    in_distribution: dict[str, bool | None]
    delay: float
    notes: tuple[str, ...]
    starts: np.ndarray
    fresh: np.ndarray

    @property
    def unlike(self) -> bool:
        """Whether the file is unlike the training data."""
        return False in self.in_distribution.values()

    def fresh_at(self, times: np.ndarray) -> np.ndarray:
        """`fresh` at other times: that of the nearest window."""
        if not len(self.starts):
            return np.ones(len(times))
        return self.fresh[np.abs(self.starts - times[:, None]).argmin(1)]

    def undecided_reason(self, model: AudioVisual, calibrated: bool) -> str | None:
        """Why the model cannot tell that nothing on screen makes the sound; None where it can.

        Args:
            model: what looked.
            calibrated: whether its probability for that was held to clips with known truth.
        """
        return unlike_training(self.in_distribution, model.config.trained_on) or not_measured(
            self.in_distribution, calibrated
        )


def check_sync(path: Source, model: AudioVisual) -> SyncCheck:
    """Look at a file's offset first: off by half a step of the model, video and audio do not meet.

    An offset is corrected where it is one for the whole file, its confidence is calibrated, and it is more than a
    quarter of a step; it is told where it is more than the tolerance of synchronization.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
    """
    found = sync_by_model(path, model)
    delay, notes = 0.0, [*found.notes, *coarse_step_note(model)]
    whole = None if found.steps or found.drift else found.offset  # the offset of the file, where it is one
    if whole is not None and found.calibrated and abs(whole) > model.step / 4:
        delay = whole
    if found.status == "out of sync":
        fix = f"avlearn sync {quote(printable(path))} --fix OUT"
        if whole is None:
            notes.append(f"{found.verdict}: measured as it is; mend the file first")
        elif found.calibrated:
            notes.append(f"{found.verdict}; measured at the corrected offset, fix with: {fix}")
        else:
            notes.append(f"{found.verdict} (not calibrated): measured as it is; if that is so, fix it first: {fix}")
    windows = found.windows
    return SyncCheck(
        found.in_distribution, delay, tuple(notes), np.array([w["start"] for w in windows]),
        np.array([w["fresh"] for w in windows]),
    )  # fmt: skip
