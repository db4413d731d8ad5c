"""A tool used on one file or on many: what each gives is told, of many in one table."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from avlearn.cli.options import Result, exists, tell
from avlearn.data.part import Part
from avlearn.errors import AvlearnError, OutputError
from avlearn.files import check_folder, check_output, drop_unfinished
from avlearn.interrupts import STOPPED, exit_code
from avlearn.terminal import progress_bars, remark

if TYPE_CHECKING:
    from avlearn.apply.result_folder import ResultFolder, ResultSummary
    from avlearn.apply.run_many import InferenceOptions, ResultTable, Tool
    from avlearn.data.workers import Workers
    from avlearn.media.open_file import OpenFile
    from avlearn.media.source import Selected, Source

    Results = Generator[tuple[int, Any], None, None]  # of `run_many`


@dataclass(frozen=True)
class Given:
    """What a tool is to be used on.

    Attributes:
        source: as it was named; of several, the first.
        everything: all of them, with those of folders, lists and manifests; None for a single file.
        file: the single one, opened; None for several.
        name: for what is made of several files.
        part: of the files, where the others are done elsewhere.
        results: where those of many files go as they get done; what they have is not done again.
    """

    source: Path | str
    everything: "list[Source] | None"
    file: "OpenFile | None" = None
    name: str = "files"
    part: Part | None = None
    results: "ResultFolder | None" = None

    @cached_property
    def files(self) -> "list[Source] | None":
        """Those that are worked on here; None for a single file."""
        return None if self.everything is None else [self.everything[k] for k in self._chosen]

    @property
    def goes_on(self) -> bool:
        """Whether a command before this one began with the results: what it left of a file is written over."""
        return self.results is not None and self.results.begun

    def output_names(self) -> list[Path]:
        """A name for what is made of each file, whatever part is worked on (`avlearn.apply.run_many.output_names`)."""
        from avlearn.apply.run_many import output_names

        names = output_names(self.everything or [])
        return [names[k] for k in self._chosen]

    @cached_property
    def _chosen(self) -> Sequence[int]:
        """Places of these among all files."""
        everything = self.everything or []
        places: Sequence[int] = range(len(everything))
        own = self.part.among(places) if self.part else places
        if self.results is None:
            return own
        left = set(self.results.missing([everything[k] for k in own]))
        return [k for k in own if everything[k] in left]

    def kept_in(
        self, folder: Path | None, tool: "Tool", inference: "InferenceOptions", options: Mapping[str, object]
    ) -> "Given":
        """The same, whose results go to a folder, where one is given.

        Args:
            folder: made where it is not there.
            tool, inference, options: as for `avlearn.apply.run_many.run_many`.

        Raises:
            AvlearnError: there is a single file.
            OutputError: the folder holds something else, or cannot be written to.
        """
        if folder is None:
            return self
        if self.everything is None:
            raise AvlearnError(f"--results {folder} goes with many files, {self.source} is one")
        from avlearn.apply.result_folder import ResultFolder

        return replace(self, results=ResultFolder(folder, tool, inference, options, self.part))


def look_at(sources: Sequence[Path | str], model: str | None = None, part: Part | None = None) -> Given:
    """What a command was given.

    A single file is opened, and looked into before what works on it is loaded, which takes seconds. Of several, one
    that does not exist is a row of the table, as one of a list is.

    Args:
        sources: what was named.
        model: the name of the model that is to work on it, if one is.
        part: of many files, those that are worked on.

    Raises:
        ModelError: nothing has the model's name.
        AvlearnError: nothing of it exists, a part of a single file is asked for, or a folder, list or manifest cannot
            be read.
        MediaError: the single file cannot be opened, or is no media file.
    """
    source, *others = sources
    if others:
        return Given(source, gathered(sources, model), part=part)
    _check_there(sources, model)
    files = listed(source)
    if files is not None:
        return Given(source, files, name=Path(source).stem.strip("-") or "files", part=part)
    if part:
        raise AvlearnError(f"--part {part} goes with many files, {source} is one")
    from avlearn.media.open_file import OpenFile
    from avlearn.media.source import open_media

    file = OpenFile(source)
    if isinstance(source, Path):
        with open_media(file, look=True):
            pass
    return Given(source, None, file)


def gathered(sources: Sequence[Path | str], *models: str | None) -> "list[Source]":
    """Files that are named, and those of folders, lists and manifests; each once. As `look_at`.

    Raises:
        AvlearnError: nothing of it exists, or a folder, list or manifest cannot be read.
    """
    _check_there(sources, *models)
    return list(dict.fromkeys(file for source in sources for file in listed(source) or [source]))


def _check_there(sources: Sequence[Path | str], *models: str | None) -> None:
    """Refuse names of files that are all of nothing, or that of a model; what uses them takes seconds to load."""
    if not any(map(exists, sources)):
        others = ["", ", nor does the other", ", nor do the others"][min(len(sources), 3) - 1]
        raise AvlearnError(f"{sources[0]} does not exist{others}")
    for model in models:
        if model is not None:
            from avlearn.models.named import check_name

            check_name(model)


def listed(source: Path | str) -> "list[Source] | None":
    """Files of a folder, a list or a manifest; None for a single file."""
    from avlearn.data.lists import listed_sources

    return listed_sources(source)


def use_tool(
    tool: "Tool",
    given: Given,
    inference: "InferenceOptions",
    *,
    options: Mapping[str, object] | None = None,
    each: Sequence[Mapping[str, object]] | None = None,
    outputs: Sequence[Path] = (),
    workers: "Workers" = None,
    json_path: str | None = None,
) -> tuple[Any, int]:
    """Use a tool on a file, or on many, and tell what came of it: of many that were stopped, what is done, if anything.

    Args:
        tool, inference, options, each, workers: as for `avlearn.apply.run_many.run_many`.
        given: what the command was given.
        outputs: as for `many`.
        json_path: as for `avlearn.cli.options.tell`.

    Returns:
        The result, or the table of many, and the command's exit code.
    """
    if given.files is not None and given.results is not None:
        from avlearn.apply.run_many import run_many

        results = run_many(tool, given.files, inference, options=options, each=each, workers=workers)
        summary, stopped = _into_folder(given.results, tool, results, len(given.files), outputs)
        if not stopped:
            tell(summary, json_path, given.part)
        return summary, stopped or summary.exit_code
    if given.files is not None:
        table, stopped = many(
            tool, given.files, inference, options=options, each=each, outputs=outputs, workers=workers
        )
        if table.results or not stopped:
            tell(table, json_path, given.part)
        return table, stopped or table.exit_code
    assert given.file is not None  # there is one, or there are several
    if not isinstance(workers, int | None):
        raise AvlearnError(f"--engine ray goes with many files, {given.source} is one")
    result = _use_on_one(tool, given.file, inference, {**(options or {}), **(each[0] if each else {})})
    tell(result, json_path)
    return result, tool.exit_code(result)


def _into_folder(
    folder: "ResultFolder", tool: "Tool", results: "Results", count: int, outputs: Sequence[Path]
) -> "tuple[ResultSummary, int]":
    """Results of many files, written as they get done; what is there then, and as `many`."""
    if there := folder.files:
        remark(f"results of {there} files are in {folder.folder} already")
    with closing(folder):
        try:
            stopped = _take(tool, results, count, outputs, lambda _, result: folder.add(result))
        finally:
            folder.flush()
        return folder.summary(), stopped


def _use_on_one(
    tool: "Tool", file: "OpenFile", inference: "InferenceOptions", options: Mapping[str, object]
) -> Result:  # fmt: skip
    from avlearn.apply.run_many import imported, open_model
    from avlearn.media.source import Selected

    function, model = imported(tool.function), open_model(tool, inference)
    with closing(file), progress_bars() as progress:
        chosen = _with_chosen_audio(Selected(file), inference.track, inference.channel, *model)
        told: dict[str, object] = {"progress": progress} if tool.tells_progress else {}
        result: Result = function(chosen, *model, **options, **told)
    return result


def _with_chosen_audio(file: "Selected", track: str | None, channel: str | None, model: object = None) -> "Selected":
    """A file that is held open, with the audio track and channel that were asked for; says which of several it is."""
    from avlearn.apply.audio_choice import choose_audio
    from avlearn.media.selection import audio_tracks, track_number

    selected = choose_audio(file, track, channel, model)
    tracks = audio_tracks(file)
    if len(tracks) > 1 and (number := track_number(selected)) is not None:
        remark(f"listening to audio track {tracks[number - 1]} of {len(tracks)}; --audio-track chooses")
    return selected


def many(
    tool: "Tool",
    files: "Sequence[Source]",
    inference: "InferenceOptions",
    *,
    options: Mapping[str, object] | None = None,
    each: Sequence[Mapping[str, object]] | None = None,
    outputs: Sequence[Path] = (),
    workers: "Workers" = None,
) -> "tuple[ResultTable, int]":
    """Use a tool on many files; the results in order, and the exit code of an order to stop, else 0.

    Args:
        tool, files, inference, options, each, workers: as for `avlearn.apply.run_many.run_many`.
        outputs: what is written: nothing that a process had begun is left of it.
    """
    from avlearn.apply.run_many import ResultTable, run_many

    done: dict[int, Any] = {}
    results = run_many(tool, files, inference, options=options, each=each, workers=workers)
    stopped = _take(tool, results, len(files), outputs, done.__setitem__)
    return ResultTable(tool, [done[number] for number in sorted(done)]), stopped


def _take(
    tool: "Tool", results: "Results", count: int, outputs: Sequence[Path], take: Callable[[int, Any], None]
) -> int:
    """Take results of ``count`` files as they get done, and tell of each; the exit code of an order to stop, else 0."""
    from avlearn.apply.run_many import in_a_line

    done = stopped = 0
    try:
        with closing(results):
            try:
                for done, (number, result) in enumerate(results, 1):
                    take(number, result)
                    remark(f"[{done}/{count}] {in_a_line(tool, result)}")
            except STOPPED as error:
                stopped = exit_code(error)
    finally:
        for path in outputs:
            drop_unfinished(path)
    if stopped:
        typer.echo(f"avlearn: stopped with {done} of {count} done", err=True)
    return stopped


def output_folder(out: Path | None, given: Given, made: str) -> Path:
    """The folder for results of many files; by default one in the current folder, named after what was given."""
    return check_folder(out or Path(f"{given.name}_{made}"))


def output_files(
    folder: Path,
    given: Given,
    ending: Callable[["Source"], str],
    suffixes: Collection[str],
    overwrite: bool,
) -> list[Path]:
    """A file in a folder for what is made of each of many files, lying as the files lie; folders are made for them.

    Args:
        folder: made where it is not there.
        given: the files: none of them is written over, whatever ``overwrite`` says.
        ending: what a name ends in, by the file.
        suffixes, overwrite: as for `avlearn.files.check_output`.

    Raises:
        OutputError: one of them cannot be written, or is among the files; or the folder has the name of such a file.
    """
    files = given.files or []
    if folder.suffix.lower() in suffixes and not folder.is_dir():
        raise OutputError(f"{folder}: what is made of several files goes to a folder, give a folder's name")
    check_folder(folder)
    inputs = {_identity(Path(str(file))) for file in given.everything or []} - {None}
    targets = [folder / f"{name}{ending(file)}" for name, file in zip(given.output_names(), files, strict=True)]
    for target in targets:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {target.parent}: {error.strerror}") from error
        if _identity(target) in inputs:
            raise OutputError(f"{target} is among the files that are read: give another folder")
        check_output(target, suffixes, overwrite=overwrite or given.goes_on)
    return targets


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file that is there from all others, whatever its name."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # an address, or a name that no file could have
        return None
    return status.st_dev, status.st_ino
