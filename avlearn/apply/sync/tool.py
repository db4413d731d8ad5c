"""All that `avlearn sync` does with a file: measure it, ask released networks, draw the curve, write the fix."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avlearn.apply.sync.by_model import SyncResult
from avlearn.apply.sync.file import sync_file
from avlearn.apply.sync.fix import fix_file
from avlearn.errors import MediaError, OutputError, SyncError
from avlearn.files import printable
from avlearn.media.selection import audio_tracks
from avlearn.media.source import Source, opened_once
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.sync.by_system import SyncSystem
    from avlearn.apply.sync.released import Network
    from avlearn.apply.sync.released_syncnet import Crop


@opened_once
def sync_tool(
    path: Source,
    model: "AudioVisual | SyncSystem",
    *,
    max_offset: float | None = None,
    tolerance: float = 0.04,
    released: Sequence[Path] = (),
    crop: "Crop | None" = None,
    curve: Path | None = None,
    fix: Path | None = None,
    resample: bool = False,
) -> SyncResult:
    """`sync_file`, with the answers of released networks, a drawing and a fix where they are asked for.

    Args:
        path, max_offset, tolerance: as for `sync_file`.
        model: from `avlearn.load`, or a released system.
        released: weight files of the networks to ask (see `avlearn.apply.sync.released.load_released`), on the device
            of the model and in its precision.
        crop: as for `avlearn.apply.sync.released.sync_with_released`; of the system, too.
        curve: the PNG to draw the curve to.
        fix: the file to write with its audio put right; why that cannot be is said in the result.
        resample: as for `avlearn.apply.sync.fix.fix_file`.

    Raises:
        ModelError: a file holds no such network.
        MediaError: the media file cannot be read, or has no video or no audio.
        OutputError: the curve cannot be written.
    """
    networks = [load_network(file) for file in released]
    if crop and not isinstance(model, AudioVisual):
        model = replace(model, crop=crop)
    result = sync_file(path, model, max_offset=max_offset, tolerance=tolerance)
    if networks:
        from avlearn.apply.sync.released import sync_with_released

        result = replace(result, others=sync_with_released(path, networks, crop, model.device, model.precision))
    if result.status == "undecidable" and len(tracks := audio_tracks(path)) > 1:
        others = f"of audio tracks {', '.join(tracks)} another may fit: --audio-track N, or best"
        result = replace(result, advice=(*result.advice, others))
    if curve:
        from avlearn.report.plots import offset_curve, write_png

        write_png(curve, offset_curve(result.offsets, result.scores, result.offset))
    return _fixed(result, path, model, fix, resample) if fix else result


def _fixed(
    result: SyncResult, path: Source, model: "AudioVisual | SyncSystem", out: Path, resample: bool
) -> SyncResult:
    """The result, with what became of the fix."""
    if result.offset is None:  # the result has the reason
        return replace(result, not_fixed=f"{printable(result.path)} is not fixed: no offset is named")
    try:
        return replace(result, fixed=fix_file(result, out, source=path, model=model, resample=resample))
    except (SyncError, MediaError, OutputError) as error:
        return replace(result, not_fixed=str(error))


@cache
def load_network(path: Path) -> "Network":
    """A released network, read once in each process."""
    from avlearn.apply.sync.released import load_released

    return load_released(path)
