"""What a file is asked where a source is chosen by its face, or by when it sounds."""

from math import ceil, floor

import numpy as np
import torch

from avlearn.apply.feature_file import FileSteps
from avlearn.apply.source_choice import When
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual


@torch.inference_mode()
def span_map(when: When, model: AudioVisual, steps: FileSteps, delay: float = 0.0) -> np.ndarray | None:
    """How well each place fits the audio of some spans, the mean similarity over their steps by the level.

    Args:
        when: the spans.
        model: the towers.
        steps: of the whole file.
        delay: seconds by which the audio was moved later against the video.

    Returns:
        ``[Y, X]``; None where nothing sounds in the spans.
    """
    heat, total, loudest = torch.zeros(steps.video.shape[1:]), 0.0, 0.0
    for begin, end in when.spans:
        first = floor((begin + delay) / model.step + 1e-6)
        count = max(ceil((end + delay) / model.step - 1e-6) - first, 1)
        heard, levels = steps.read_audio(first, count)
        placed = model.project_video(steps.video.read(first, count).to(model.device)).cpu()
        heat += torch.einsum("bdtyx,bdt,t->yx", placed, heard, levels)
        total, loudest = total + float(levels.sum()), max(loudest, float(levels.max()))
    return None if loudest < SILENCE else (heat / total).numpy()


def face_boxes(path: Source, times: np.ndarray, device: torch.device) -> dict[int, np.ndarray]:
    """Boxes of each face of a file at times, as fractions of the frame: ``[N, 4]``, NaN where it is not there.

    Raises:
        MissingExtraError: the detector is not installed; says how.
    """
    from avlearn.apply.faces import MOUTH, face_tracks
    from avlearn.apply.faces.tracks import FPS

    video = probe_both(path).video
    sides = np.tile([video.width, video.height], 2)
    found: dict[int, np.ndarray] = {}
    for track in face_tracks(path, MOUTH, device):
        frames = np.round((times - track.start) * FPS).astype(int)
        there = (frames >= 0) & (frames < len(track.boxes))
        boxes = found.setdefault(track.person, np.full((len(times), 4), np.nan, np.float32))
        boxes[there] = track.boxes[frames[there]] / sides
    return found
