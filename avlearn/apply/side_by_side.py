"""Windows of a file for several models: they go on side by side, so that it is decoded once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from avlearn.apply.run_many import Failure
from avlearn.errors import AvlearnError, ModelError, OutputError
from avlearn.files import reason_of
from avlearn.media import SharedDecoding
from avlearn.media.probe import probe
from avlearn.media.source import Source

_MOST = 2**29  # bytes of frames that are held for the model that is behind

Begin = Callable[[SharedDecoding | None], Iterator[tuple[Any, ...]]]


def side_by_side(path: Source, begin: Sequence[Begin], seconds: Sequence[float]) -> Iterator[tuple[int, Any]]:
    """What each of several finds in the windows of a file.

    The file is decoded once; once for each where its frames are so large that those of a window cannot be held.

    Args:
        path: the file, held open.
        begin: gives an iterator over tuples with the start of a window before all else.
        seconds: how long the windows of each are.

    Yields:
        Number of one of them and a tuple, or a `Failure`: a file may have what one takes, and lack what another does.
    """
    shared = len(begin) > 1 and _held(path, max(seconds)) <= _MOST
    with SharedDecoding() if shared else nullcontext() as decoded:
        running = {number: one(decoded) for number, one in enumerate(begin)}
        reached = dict.fromkeys(running, -1.0)  # seconds of the file that each has seen
        while running:
            number = min(running, key=reached.__getitem__)
            try:
                found: Any = next(running[number], None)
            except (ModelError, OutputError):  # wrong for all files
                raise
            except AvlearnError as error:
                found = Failure(str(path), reason_of(error, path))
            if found is None or isinstance(found, Failure):
                del running[number]
            else:
                reached[number] = found[0] + seconds[number]
            if decoded and all(at >= 0 for number, at in reached.items() if number in running):
                decoded.begun()
            if found is not None:
                yield number, found


def _held(path: Source, seconds: float) -> float:
    """Bytes of the frames of so many seconds, at most."""
    video = probe(path).video
    return video.width * video.height * 1.5 * video.fps * seconds if video else 0.0
