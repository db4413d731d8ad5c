"""A command on many files: what each gives as it gets done, then all of them in one table."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avlearn.errors import AvlearnError
from avlearn.files import check_folder, drop_unfinished
from avlearn.interrupts import STOPPED, exit_code
from avlearn.terminal import remark

if TYPE_CHECKING:
    from avlearn.apply.run_many import InferenceOptions, ResultTable, Tool
    from avlearn.media.source import Source


def listed(source: Path | str) -> "list[Source] | None":
    """Files of a folder, a list or a manifest; None for a single file, or the address of one.

    A single file is looked into, before what works on it is loaded, which takes seconds.

    Raises:
        MediaError: it is no media file.
    """
    from avlearn.data.lists import listed_sources
    from avlearn.media.source import open_media, opened

    files = None if isinstance(source, str) else listed_sources(source)
    if isinstance(source, Path) and files is None:
        with opened(source) as file, open_media(file, look=True):
            pass
    return files


def refuse(given: Mapping[str, object]) -> None:
    """Raise AvlearnError where an option that goes with one file was given with many."""
    if any(given.values()):
        names = list(given)
        listed = f"{', '.join(names[:-1])} and {names[-1]} take" if len(names) > 1 else f"{names[0]} takes"
        raise AvlearnError(f"{listed} one FILE")


def many(
    tool: "Tool",
    files: "Sequence[Source]",
    inference: "InferenceOptions",
    *,
    options: Mapping[str, object] | None = None,
    each: Sequence[Mapping[str, object]] | None = None,
    outputs: Sequence[Path] = (),
    workers: int | None = None,
) -> "tuple[ResultTable, int]":
    """Use a tool on many files; the results in order, and the exit code of an order to stop, else 0.

    Args:
        tool, files, inference, options, each, workers: as for `avlearn.apply.run_many.run_many`.
        outputs: what is written: nothing that a process had begun is left of it.
    """
    from avlearn.apply.run_many import ResultTable, in_a_line, run_many

    done, stopped = {}, 0
    results = run_many(tool, files, inference, options=options, each=each, workers=workers)
    try:
        with closing(results):
            try:
                for number, result in results:
                    done[number] = result
                    remark(f"[{len(done)}/{len(files)}] {in_a_line(tool, result)}")
            except STOPPED as error:
                stopped = exit_code(error)
    finally:
        for path in outputs:
            drop_unfinished(path)
    if stopped:
        typer.echo(f"avlearn: stopped with {len(done)} of {len(files)} done", err=True)
    return ResultTable(tool, [done[number] for number in sorted(done)]), stopped


def output_folder(out: Path | None, source: Path | str, made: str) -> Path:
    """The folder for results of many files; by default one in the current folder, named after the source."""
    return check_folder(out or Path(f"{Path(source).stem.strip('-') or 'files'}_{made}"))
