"""The offset of a file by whatever model measures it: ours, or a released system."""

from typing import TYPE_CHECKING

from avlearn.apply.sync.by_model import SyncResult
from avlearn.apply.sync.experts import sync_with_experts
from avlearn.errors import AvlearnError
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual

if TYPE_CHECKING:  # the networks load slowly, and few ask them
    from avlearn.apply.sync.by_system import SyncSystem


def sync_file(
    path: Source, model: "AudioVisual | SyncSystem", *, max_offset: float | None = None, tolerance: float = 0.04
) -> SyncResult:
    """Find the offset between a file's audio and its video, and whether it changes.

    Where the model cannot tell, as on footage unlike its training data, experts are asked: of talking faces, by their
    lips (`avlearn.apply.sync.speech`). The first that is sure stands for the result, which says so.

    Args:
        path: any file with video and audio.
        model: from `avlearn.load`, or a released system.
        max_offset: seconds searched on each side; by default by the length of the file.
        tolerance: seconds that count as in sync.

    Raises:
        AvlearnError: a search range is asked for of a released system, which knows its own offsets alone.
        MediaError: the file cannot be read, or has no video or no audio.
    """
    if isinstance(model, AudioVisual):
        return sync_with_experts(path, model, max_offset=max_offset, tolerance=tolerance)
    from avlearn.apply.sync.by_system import sync_by_system

    if max_offset is not None:
        raise AvlearnError(f"--max-offset goes with a model folder: {model.title} knows its own offsets alone")
    return sync_by_system(path, model, tolerance=tolerance)
