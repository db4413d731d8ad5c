"""The offset of a file by whatever model measures it: ours, or a released system."""

from typing import TYPE_CHECKING

from avlearn.apply.sync import SyncResult, sync_file
from avlearn.errors import AvlearnError
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.sync_by_system import SyncSystem


def measure_sync(
    path: Source, model: "AudioVisual | SyncSystem", *, max_offset: float | None = None, tolerance: float = 0.04
) -> SyncResult:
    """`sync_file`, or `avlearn.apply.sync_by_system.sync_by_system`.

    Raises:
        AvlearnError: a search range is asked for of a released system, which knows its own offsets alone.
        MediaError: the file cannot be read, or has no video or no audio.
    """
    if isinstance(model, AudioVisual):
        return sync_file(path, model, max_offset=max_offset, tolerance=tolerance)
    from avlearn.apply.sync_by_system import sync_by_system

    if max_offset is not None:
        raise AvlearnError(f"--max-offset goes with a model folder: {model.title} knows its own offsets alone")
    return sync_by_system(path, model, tolerance=tolerance)
