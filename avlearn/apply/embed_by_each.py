"""Features of a file by several models: it is decoded once."""

from collections.abc import Sequence
from contextlib import nullcontext

from avlearn.apply.embed import FileFeatures, WindowRows, window_rows
from avlearn.apply.encoder_alone import EncoderAlone, FeatureModel
from avlearn.apply.run_many import Failure
from avlearn.errors import AvlearnError, ModelError, OutputError
from avlearn.files import reason_of
from avlearn.media import SharedDecoding
from avlearn.media.probe import probe
from avlearn.media.source import Source, opened_once

_MOST = 2**29  # bytes of frames that are held for the model that is behind


@opened_once
def features_by_each(
    path: Source, *models: FeatureModel, wanted: Sequence[int] | None = None
) -> list[FileFeatures | Failure]:
    """What `avlearn.apply.embed.file_features` gives by each model.

    The file is decoded once; once a model where its frames are so large that those of a window cannot be held.

    Args:
        path: the file.
        models: what describes it.
        wanted: numbers of those that do; all by default.

    Returns:
        Of each of these, features, or why there are none: a file may have what one model takes, and lack what another
        does.
    """
    chosen = models if wanted is None else [models[k] for k in wanted]
    with SharedDecoding() if len(chosen) > 1 and _held(path, chosen) <= _MOST else nullcontext() as decoded:
        running = [_Running(path, model, decoded) for model in chosen]
        for each in running:
            each.step()
        if decoded:
            decoded.begun()
        while not all(each.ended for each in running):
            min((each for each in running if not each.ended), key=lambda each: each.reached).step()
    return [each.result() for each in running]


class _Running:
    """Features of a file by one model, as far as they are there.

    Attributes:
        reached: seconds of the file that the model has seen.
        ended: whether there are no more.
    """

    def __init__(self, path: Source, model: FeatureModel, decoded: SharedDecoding | None):
        self.reached, self.ended = 0.0, False
        self._path, self._seconds = path, _seconds(model)
        self._windows, self._rows = window_rows(path, model, decoded=decoded), WindowRows()
        self._failure: Failure | None = None

    def step(self) -> None:
        """Another window."""
        try:
            row = next(self._windows, None)
        except (ModelError, OutputError):  # wrong for all files
            raise
        except AvlearnError as error:
            row, self._failure = None, Failure(str(self._path), reason_of(error, self._path))
        if row is None:
            self.ended = True
            return
        self._rows.add(row)
        self.reached = row[0] + self._seconds

    def result(self) -> FileFeatures | Failure:
        """What came of it, at the end."""
        return self._failure or FileFeatures(str(self._path), *self._rows.arrays())


def _held(path: Source, models: Sequence[FeatureModel]) -> float:
    """Bytes of frames that the model that is behind may have to be shown yet, at most."""
    video = probe(path).video
    return video.width * video.height * 1.5 * video.fps * max(map(_seconds, models)) if video else 0.0


def _seconds(model: FeatureModel) -> float:
    return model.seconds if isinstance(model, EncoderAlone) else model.config.seconds
