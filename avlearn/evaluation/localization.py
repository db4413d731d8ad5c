"""Where does the sound come from, of one thing that sounds and one that moves in silence?"""

import json

import numpy as np
import torch

from avlearn.data.cache import ClipCache
from avlearn.data.manifest import Row
from avlearn.evaluation.windows import cut_windows, on_grid
from avlearn.metrics import Figure
from avlearn.metrics.localization import control, localization
from avlearn.models.audiovisual import AudioVisual
from avlearn.objectives.similarity import heatmap

AROUND = 12  # steps of sound that a clip has to have on each side of the picture, for the control


def _boxes(rows: list[Row], start: np.ndarray, seconds: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean boxes over the windows of the sounding and of the silent thing, in pixels of the model's input."""
    found: dict[bool, list] = {True: [], False: []}
    for row, begin in zip(rows, start, strict=True):
        first = round(begin * row.fps)
        seen = set()
        for source in json.loads(row.truth.read_text())["sources"]:
            if source["onscreen"] and source["sounding"] not in seen:
                window = source["boxes"][first : first + round(seconds * row.fps)]
                seen.add(source["sounding"])
                mean = np.mean([box for box in window if box], 0)
                found[source["sounding"]].append(mean * size / row.width)
    return np.array(found[True]), np.array(found[False])


@torch.inference_mode()
def localization_figures(model: AudioVisual, cache: ClipCache, rows: list[Row], name: str) -> list[Figure]:
    """Figures of localization, and their control with shifted sound.

    Args:
        model: one with a common space.
        cache: decoded clips of a world, each with one sounding and one silent thing.
        rows: of the clips, with truth.
        name: what to add to the figures'.
    """
    cut = on_grid(model, np.full(len(rows), AROUND * model.step), 2 * AROUND * model.step)
    maps, late, early = [], [], []
    for frames, sound in cut_windows(model, cache, cut):
        video, audio = model(frames, sound)
        mirrored = model.place(model.video_features(frames.flip(-1)))
        steps = video.shape[2]
        for first, found in ((AROUND, maps), (0, late), (2 * AROUND, early)):
            # As `mirrored_heatmap` makes them.
            heard = audio[:, :, first : first + steps]
            found.append(((heatmap(video, heard) + heatmap(mirrored, heard).flip(-1)) / 2).numpy())
    aligned, shifted = np.concatenate(maps), np.concatenate([*late, *early])
    count = round(model.config.seconds * cache.fps)
    motion = []
    for i, s in enumerate(np.round(cut.picture * cache.fps).astype(int)):
        grey = cache.video[i, s : s + count].astype(np.float32).mean(-1)
        energy = np.abs(np.diff(grey, axis=0)).mean(0)
        cells = aligned.shape[1]
        side = energy.shape[0] // cells
        motion.append(energy.reshape(cells, side, cells, side).mean((1, 3)))
    size = model.config.size
    boxes, silent = _boxes(rows, cut.picture, model.config.seconds, size)
    return [
        *localization(aligned, np.stack(motion), boxes, silent, size, name=name),
        control(shifted, np.tile(boxes, (2, 1)), np.tile(silent, (2, 1)), size, name),
    ]
