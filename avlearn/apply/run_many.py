"""A tool on many files, in parallel processes: what cannot be read is a row of the table, not the end."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from avlearn.apply.audio_choice import choose_audio
from avlearn.data.cluster import Cluster
from avlearn.data.pool import Died
from avlearn.data.processes import is_worker
from avlearn.data.workers import Workers, in_workers
from avlearn.errors import AvlearnError, ModelError, OutputError
from avlearn.files import printable, reason_of
from avlearn.media.open_file import Slice
from avlearn.media.source import Source, opened
from avlearn.media.unchanged import unchanged
from avlearn.terminal import aligned

ERROR = 2  # exit code of a file that cannot be worked on
_PATIENCE, _FILM = 3600, 100_000_000  # seconds that a file may take, and as many again for so many bytes of it
WORSE = (0, 1, 3, ERROR)  # exit codes: of many files a command has the last that occurs


@dataclass(frozen=True)
class Tool:
    """A tool as it is used on many files.

    Attributes:
        schema: of its results as JSON, and of failures beside them.
        function: ``module:name`` of what is called with a file, the model where it takes one, and options.
        loader: ``module:name`` of what opens its model by name, device and precision; "" where it takes none.
        status: of a result, in a word or a few.
        exit_code: of a result.
        cells: of a result, by the headings of the table.
        tells_progress: whether the function takes ``progress``.
    """

    schema: str
    function: str
    loader: str
    status: Callable[[Any], str]
    exit_code: Callable[[Any], int]
    cells: Callable[[Any], dict[str, str]]
    tells_progress: bool = False


@dataclass(frozen=True)
class Failure:
    """A file that could not be worked on: its path, and why."""

    path: str
    reason: str
    schema: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"schema": self.schema, "path": self.path, "status": "error", "reason": self.reason}

    def text(self) -> str:
        """Human-readable text."""
        return f"{printable(self.path)}: error: {self.reason}"


@dataclass(frozen=True)
class ResultTable:
    """Results of a tool for many files, in their order."""

    tool: Tool
    results: list[Any]

    @property
    def exit_code(self) -> int:
        """The worst of the files', in the order 0, 1, 3, 2."""
        return max(map(self._code, self.results), key=WORSE.index, default=0)

    def to_dict(self) -> list[dict[str, Any]]:
        """A list of what each file's ``to_dict`` gives."""
        return [result.to_dict() for result in self.results]

    def text(self) -> str:
        """A row a file with what others say below it, how many there are of each status, and what may help."""
        cells = [{} if isinstance(result, Failure) else self.tool.cells(result) for result in self.results]
        headings = list(dict.fromkeys(heading for row in cells for heading in row))
        rows = [
            (self._status(result), *(row.get(heading, "") for heading in headings), _named(result))
            for result, row in zip(self.results, cells, strict=True)
        ]
        head, rule, *lines = aligned(("status", *headings, "file"), rows).splitlines()
        said = [[f"  {line}" for line in getattr(result, "details", ())] for result in self.results]
        lines = [line for row, details in zip(lines, said, strict=True) for line in (row, *details)]
        advice = dict.fromkeys(clause for result in self.results for clause in getattr(result, "advice", ()))
        return "\n".join([head, rule, *lines, self._counted(), *(f"note: {clause}" for clause in advice)])

    def _counted(self) -> str:
        ranks = {self._status(result): WORSE.index(self._code(result)) for result in self.results}
        counts = {status: 0 for status in sorted(ranks, key=ranks.__getitem__)}
        for result in self.results:
            counts[self._status(result)] += 1
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    def _status(self, result: Any) -> str:
        return "error" if isinstance(result, Failure) else self.tool.status(result)

    def _code(self, result: Any) -> int:
        return ERROR if isinstance(result, Failure) else self.tool.exit_code(result)


def in_a_line(tool: Tool, result: Any) -> str:
    """A result while others are under way."""
    if isinstance(result, Failure):
        return result.text()
    cells = [f"{heading} {cell}" for heading, cell in tool.cells(result).items() if cell]
    return f"{printable(result.path)}: {', '.join([tool.status(result), *cells])}"


def _named(result: Any) -> str:
    reason = getattr(result, "reason", "")
    return printable(result.path) + (f" ({reason})" if reason else "")


@dataclass(frozen=True)
class InferenceOptions:
    """With which model, and to which audio of each file.

    Attributes:
        model, device, precision: as for `avlearn.load`.
        others: models beside it, for a tool that takes several.
        track, channel: as for `avlearn.apply.audio_choice.choose_audio`.
    """

    model: str = "default"
    device: str = "cpu"
    precision: str = "32"
    track: str | None = None
    channel: str | None = None
    others: tuple[str, ...] = ()


def run_many(
    tool: Tool,
    paths: Sequence[Source],
    inference: InferenceOptions,
    *,
    options: Mapping[str, object] | None = None,
    each: Sequence[Mapping[str, object]] | None = None,
    workers: Workers = None,
) -> Generator[tuple[int, Any], None, None]:
    """A tool on many files; close the generator to end the processes at once.

    Args:
        tool: one of `avlearn.apply.tools`.
        paths: the files.
        inference: the model, and the audio of each file.
        options: of the tool, for all files.
        each: more of them for each file, as where its results go.
        workers: processes of one thread each, all cores by default, and one where an accelerator does the work; or a
            cluster. One file alone is worked on in this process, if not on a cluster.

    Raises:
        ModelError: there is no such model, or it is none for this tool.
        OutputError: a result cannot be written.

    Yields:
        Number of a file and its result, or its `Failure`, as they get done.
    """
    if not paths:
        return
    # What is wrong with a model is wrong for all files.
    if isinstance(workers, Cluster):
        open_model(tool, replace(inference, device="cpu", precision="32"))  # what workers have is theirs
        workers = workers.with_device()
        inference = replace(inference, device=workers.device)
    elif any(model.device.type != "cpu" for model in open_model(tool, inference)):
        workers = workers or 1
    work = work_on(tool, inference, options)
    items = list(zip(paths, each or [{}] * len(paths), strict=True))
    alone = len(items) == 1 and not isinstance(workers, Cluster)
    found = enumerate(map(work, items)) if alone else in_workers(work, items, workers, lambda item: longest(item[0]))
    for number, result in found:
        if isinstance(result, Died):
            result = Failure(str(paths[number]), result.reason, tool.schema)
        yield number, result


def work_on(
    tool: Tool, inference: InferenceOptions, options: Mapping[str, object] | None = None
) -> Callable[[tuple[Source, Mapping[str, object]]], Any]:
    """What `run_many` does with each file and its own options: it can be pickled, and keeps the model it opens.

    Args:
        tool, inference, options: as for `run_many`.

    Returns:
        A function that gives the tool's result, or its `Failure`.
    """
    return _Work(imported(tool.function), tool.loader, inference, dict(options or {}), tool.schema)


@dataclass(frozen=True)
class _Work:
    """What a process does with each of its files; ``func`` names the module that the processes' server imports."""

    func: Callable[..., Any]
    loader: str
    inference: InferenceOptions
    options: dict[str, object] = field(default_factory=dict)
    schema: str = ""

    def __call__(self, item: tuple[Source, Mapping[str, object]]) -> Any:
        path, own = item
        take_one_thread()
        model = _opened_model(self.loader, self.inference)
        try:
            return unchanged(self._use)(path, model, own)
        except (ModelError, OutputError):  # wrong for all files
            raise
        except AvlearnError as error:
            return Failure(str(path), reason_of(error, path), self.schema)

    def _use(self, path: Source, model: tuple[Any, ...], own: Mapping[str, object]) -> Any:
        with opened(path) as file:
            chosen = choose_audio(file, self.inference.track, self.inference.channel, *model[:1])
            return self.func(chosen, *model, **self.options, **own)


def longest(source: Source) -> float:
    """Seconds that a file may take: hours where it may be a film; what hangs ends."""
    try:
        size = source.bytes if isinstance(source, Slice) else os.stat(str(source)).st_size
    except (OSError, ValueError):  # an address, or a name that no file could have
        size = _FILM
    return _PATIENCE * (1 + size / _FILM)


def open_model(tool: Tool, inference: InferenceOptions) -> tuple[Any, ...]:
    """The models that a tool's function takes after the file: none, one, or the others as well.

    Raises:
        ModelError: there is no such model, or it is none for this tool.
    """
    return _opened_model(tool.loader, inference)


def _opened_model(loader: str, inference: InferenceOptions) -> tuple[Any, ...]:
    names = (inference.model, *inference.others) if loader else ()
    return _loaded(loader, names, inference.device, inference.precision)


@lru_cache(maxsize=1)
def _loaded(loader: str, names: tuple[str, ...], device: str, precision: str) -> tuple[Any, ...]:
    return tuple(imported(loader)(name, device, precision) for name in names)


def take_one_thread() -> None:
    """Have a worker compute in one thread: all cores have a process each."""
    if is_worker() and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def imported(name: str) -> Callable[..., Any]:
    """The function that ``module:name`` names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def output_names(paths: Sequence[Source]) -> list[Path]:
    """A name for what is made of each file, without a suffix: as the files lie below the folder common to all.

    Where files differ in their suffix alone, it is a part of the name.

    Raises:
        OutputError: a file is named twice: one result would replace the other.
    """
    files = [Path(str(path).partition("://")[2] or str(path)).absolute() for path in paths]
    common = Path(os.path.commonpath([file.parent for file in files]))
    plain = Counter(str(file.with_suffix("")).casefold() for file in files)
    names = [
        file.with_suffix("") if plain[str(file.with_suffix("")).casefold()] == 1 else _suffix_within(file)
        for file in files
    ]
    taken = Counter(str(name).casefold() for name in names)
    for path, name in zip(paths, names, strict=True):
        if taken[str(name).casefold()] > 1:
            raise OutputError(f"{path} is named twice, or another has its name: what is made of it has one name alone")
    return [name.relative_to(common) for name in names]


def _suffix_within(file: Path) -> Path:
    return file.with_name(file.name.replace(".", "_"))
