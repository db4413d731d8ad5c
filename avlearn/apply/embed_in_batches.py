"""Features of many files by models on a GPU: processes decode, and windows of several files are encoded at once."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from avlearn.apply.audio_choice import choose_audio
from avlearn.apply.embed import FileFeatures, Row, WindowRows
from avlearn.apply.encoder_alone import FeatureModel
from avlearn.apply.run_many import Failure, longest, take_one_thread
from avlearn.apply.side_by_side import side_by_side
from avlearn.apply.taken_windows import TakenWindow, WindowCutter, encode
from avlearn.data.pool import Died, Piece
from avlearn.data.processes import in_processes
from avlearn.errors import AvlearnError
from avlearn.files import reason_of
from avlearn.media.source import Source, opened
from avlearn.media.unchanged import staying

_WINDOWS, _BYTES = 32, 2**28  # in a batch, at most
_WAITING = 256  # windows of all shapes that wait for others to be encoded with

Item = tuple[Source, Sequence[int]]  # a file, and numbers of the models that describe it


def embed_in_batches(
    items: Sequence[Item],
    models: Sequence[FeatureModel],
    track: str | None = None,
    channel: str | None = None,
    workers: int | None = None,
) -> Generator[tuple[int, list[FileFeatures | Failure]], None, None]:
    """Features of files, up to the rounding of batches those that `avlearn.apply.embed.file_features` gives.

    Args:
        items: files and models.
        models: on a device of their own.
        track, channel: as for `avlearn.media.selection.select_audio`.
        workers: processes that decode; all cores by default.

    Raises:
        ModelError: features are not finite.

    Yields:
        Number of an item and, of each of its models, features or why there are none; as they get done.
    """
    cut = _Cut(side_by_side, tuple(map(WindowCutter.of, models)), track, channel)
    batches = _Batches(models)
    files: dict[int, _File] = {}
    with closing(in_processes(cut, items, workers, lambda item: longest(item[0]))) as pieces:
        for number, piece in pieces:
            if not isinstance(piece, Piece):
                files.setdefault(number, _File(items[number])).end(piece)
            elif piece.value is None:  # the first, and of a file that is done again, too
                files[number] = _File(items[number])
            else:
                place, found = piece.value
                files[number].add(place, found, batches)
            for number in [number for number, file in files.items() if file.done]:
                yield number, files.pop(number).result()
    batches.encode_all()
    for number, file in files.items():
        yield number, file.result()


@dataclass(frozen=True)
class _Cut:
    """What a process does with each of its files; ``func`` names the module that the processes' server imports."""

    func: Callable[..., Any]
    cutters: tuple[WindowCutter, ...]
    track: str | None
    channel: str | None

    def __call__(self, item: Item) -> Generator[tuple[int, Any] | None, None, Failure | None]:
        """None, then pairs: the place of a model among those of the item, and a window for it, or a failure."""
        path, cutters = item[0], [self.cutters[k] for k in item[1]]
        take_one_thread()
        yield None
        try:
            with staying(path), opened(path) as file:
                chosen = choose_audio(file, self.track, self.channel)
                begin = [partial(cutter.windows, chosen) for cutter in cutters]
                yield from side_by_side(chosen, begin, [cutter.seconds for cutter in cutters])
        except AvlearnError as error:
            return Failure(str(path), reason_of(error, path))
        return None


class _File:
    """What is known of a file, whose windows come and are encoded."""

    def __init__(self, item: Item):
        self.path, self.models = str(item[0]), item[1]
        self.rows: list[list[Row]] = [[] for _ in self.models]
        self.waiting, self._ended = 0, False
        self._failed: dict[int, Failure] = {}

    @property
    def done(self) -> bool:
        """Whether all of its windows came and were encoded."""
        return self._ended and not self.waiting

    def add(self, place: int, found: TakenWindow | Failure, batches: "_Batches") -> None:
        """A window for one of its models, or why there are no more."""
        if isinstance(found, Failure):
            self._failed[place] = found
            return
        self.waiting += 1
        batches.add(self.models[place], found, self, self.rows[place])

    def end(self, result: Failure | Died | None) -> None:
        """There are no more."""
        self._ended = True
        if result is not None:
            failure = result if isinstance(result, Failure) else Failure(self.path, result.reason)
            self._failed = dict.fromkeys(range(len(self.models)), failure)

    def result(self) -> list[FileFeatures | Failure]:
        """Of each of its models."""
        found: list[FileFeatures | Failure] = []
        for place, rows in enumerate(self.rows):
            joined = WindowRows()
            for row in sorted(rows, key=lambda row: row[0]):  # windows of other shapes were encoded apart
                joined.add(row)
            found.append(self._failed.get(place) or FileFeatures(self.path, *joined.arrays()))
        return found


@dataclass
class _Batch:
    """Windows of one shape for one model, each with its file and where its features go."""

    windows: list[TakenWindow] = field(default_factory=list)
    places: list[tuple[_File, list[Row]]] = field(default_factory=list)


class _Batches:
    """Windows that wait to be encoded."""

    def __init__(self, models: Sequence[FeatureModel]):
        self._models, self._waiting = models, dict[Any, _Batch]()

    def add(self, model: int, window: TakenWindow, file: _File, rows: list[Row]) -> None:
        """Add one; what is enough for a batch is encoded."""
        key = model, window.shapes
        batch = self._waiting.setdefault(key, _Batch())
        batch.windows.append(window)
        batch.places.append((file, rows))
        if len(batch.windows) >= _WINDOWS or len(batch.windows) * window.bytes >= _BYTES:
            self._encode(key)
        elif sum(len(batch.windows) for batch in self._waiting.values()) > _WAITING:
            self._encode(max(self._waiting, key=lambda key: len(self._waiting[key].windows)))

    def encode_all(self) -> None:
        """Encode those that are left."""
        for key in [*self._waiting]:
            self._encode(key)

    def _encode(self, key: Any) -> None:
        batch = self._waiting.pop(key)
        for row, (file, rows) in zip(encode(self._models[key[0]], batch.windows), batch.places, strict=True):
            rows.append(row)
            file.waiting -= 1
