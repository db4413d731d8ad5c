"""A file written again with its audio in sync, and measured again."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avlearn.apply.sync.by_model import SyncResult, milliseconds
from avlearn.apply.sync.file import sync_file
from avlearn.errors import SyncError
from avlearn.files import printable
from avlearn.media.remux import Remuxed, remux
from avlearn.media.source import Selected, Source
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.sync.by_system import SyncSystem


@dataclass(frozen=True)
class FixResult:
    """The file that was written.

    Attributes:
        out: the file.
        was, now: seconds by which the audio leads, measured before and after; ``now`` is None if it was not measured.
        drift: milliseconds a minute that were mended besides; None where there were none.
        notes: lines for people: what is not as it was.
    """

    out: str
    was: float
    now: float | None
    drift: float | None
    notes: tuple[str, ...]

    def text(self) -> str:
        """Human-readable text."""
        said = f"wrote {printable(self.out)}"
        if self.now is not None:
            was = milliseconds(self.was) + (f", drifting by {self.drift:+.0f} ms a minute" if self.drift else "")
            said += f": in sync now ({milliseconds(self.now)}; was {was})"
        return "\n".join([said, *(f"note: {note}" for note in self.notes)])


def fix_file(
    result: SyncResult,
    out: str | Path,
    *,
    source: Source | None = None,
    model: "AudioVisual | SyncSystem | None" = None,
    resample: bool = False,
) -> FixResult:
    """Write a file again with its audio where the video says it belongs.

    An offset alone is mended by copying packets. Frames and samples of what was written are held to those of the file
    (see `avlearn.media.remux`); with a model, its offset is measured too before it gets its name.

    Args:
        result: of the file.
        out: another file; its suffix names the container.
        source: the file, with an audio track selected; by default that of the result.
        model: what measures the offset of the written file.
        resample: mend a drift too; the audio is then resampled and encoded again.

    Raises:
        SyncError: the file cannot be synchronized, has an edit, drifts and may not be resampled, or is not in sync by
            the model after all.
        MediaError, OutputError: as `avlearn.media.remux`.
    """
    if result.offset is None:
        raise SyncError(f"{result.path} is not fixed: {'; '.join([result.reason, *result.advice])}")
    if result.steps:
        places = ", ".join(
            f"from {milliseconds(s['before'])} to {milliseconds(s['after'])} near {s['time']:.1f} s"
            for s in result.steps
        )
        raise SyncError(f"{result.path} is not fixed: its offset jumps {places}; cut it there and fix the pieces")
    if result.drift and not resample and result.status != "in sync":
        raise SyncError(
            f"{result.path} is not fixed: its audio drifts by {result.drift:+.0f} ms a minute; "
            "--drift mends that by resampling the audio"
        )
    source, offset = source or result.path, result.offset
    now: float | None = None

    def measure(model: "AudioVisual | SyncSystem", written: Path, copied: Remuxed) -> None:
        nonlocal now
        channel = source.channel if isinstance(source, Selected) else None
        measured = sync_file(Selected(written, copied.place, channel), model, tolerance=result.tolerance)
        now = measured.best
        if now is None or abs(now) > result.tolerance or (measured.drift and measured.status == "out of sync"):
            said = "no offset" if now is None else milliseconds(now)
            said += f" and a drift of {measured.drift:+.0f} ms a minute" if measured.drift else ""
            raise SyncError(
                f"{out} is not written: with the audio moved by {milliseconds(offset)} the model still measures {said}"
            )

    drift = (result.drift or 0.0) / 60_000 if resample else 0.0
    check = None if model is None else partial(measure, model)
    copied = remux(source, out, audio_delay=offset, audio_drift=drift, check=check)
    return FixResult(str(out), offset, now, result.drift if resample else None, tuple(copied.notes()))
