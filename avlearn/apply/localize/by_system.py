"""Maps along a file by a released localizer."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from avlearn.apply.localize.file_maps import FileMaps
from avlearn.apply.localize.localization import Localization
from avlearn.apply.verdict import CANNOT_TELL, SILENT
from avlearn.apply.windows import SILENCE, check_finite
from avlearn.errors import NoVideoError
from avlearn.media import Clip, stream
from avlearn.media.source import Source
from avlearn.models.released.systems import LocalizeSystem


def localize_by_system(path: Source, system: LocalizeSystem, progress: Callable[[float], None]) -> Localization:
    """Where a released localizer finds the sound, frame by frame; in memory that does not grow but for the maps.

    It finds a place for every sound and was never shown to know which come from elsewhere, so that it gives no
    probability, and its verdict is that it cannot tell.

    Args:
        path: any file with video and audio.
        system: the localizer.
        progress: is told how many seconds are done.

    Raises:
        NoVideoError: there is not one frame.
        ModelError: what it makes of the file is not finite.
    """
    times, maps, levels = [], [], []
    for time, frame, audio in _looks(path, system):
        heat = check_finite(system.localize_window(frame, torch.from_numpy(audio)), "the file")
        times.append(time)
        maps.append(heat.numpy().astype(np.float32))
        levels.append(float(np.sqrt(np.square(audio).mean())))
        progress(time)
    if not times:
        raise NoVideoError(f"{path}: video and audio do not overlap")
    found = FileMaps(np.array(times), np.stack(maps), np.array(levels), ())
    heard = found.levels >= SILENCE
    verdict, reason = "silent", SILENT
    if heard.any():
        verdict, reason = CANNOT_TELL, f"{system.title} says where, and not whether: it finds a place for every sound"
    return Localization(
        found=found,
        audible=None,
        drawn=heard.astype(float),
        calibrated=False,
        verdict=verdict,
        reason=reason,
        in_distribution={"video": None, "audio": None},
        system=system.title,
    )


def _looks(path: Source, system: LocalizeSystem) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """A frame every hop: its time in seconds from the first, pixels, and the audio of the window about it.

    Frames near the ends of the file, which lie in the middle of no window, are looked at with the first and the last.
    """
    count = round(system.seconds / system.hop)
    middle, held, begin = count // 2, None, 0.0
    for clip in stream(
        path, system.seconds, system.hop, fps=1 / system.hop, sample_rate=system.sample_rate, mono=True
    ):  # fmt: skip
        if held is None:
            begin = clip.start
        elif len(clip.video) < count or clip.audio.shape[1] < held.audio.shape[1]:
            break
        else:
            yield from _frames(held, begin, system.hop, 0 if held.start == begin else middle, middle + 1)
        held = clip
    if held is not None and held.audio.shape[1]:
        yield from _frames(held, begin, system.hop, 0 if held.start == begin else middle, len(held.video))


def _frames(
    clip: Clip, begin: float, hop: float, first: int, last: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    for number in range(first, min(last, len(clip.video))):
        yield clip.start - begin + number * hop, clip.video[number], clip.audio
