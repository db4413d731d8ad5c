"""Output of the command line: control characters escaped, progress, and a stream that takes no more told in words."""

import errno
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import BinaryIO, TextIO

from avlearn.errors import OutputError
from avlearn.files import printable


class Terminal(io.TextIOBase):
    """A standard stream that passes on text and line ends, but no control characters: terminals would obey them.

    Where the stream takes no more, the command ends: with an OutputError on a full disk, in silence and with the code
    of SIGPIPE where its reader is gone. What standard error does not take is dropped: it is not what a command is for.
    """

    # What libraries ask for that print: any text is taken. What the stream itself cannot show is escaped.
    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, stream: TextIO, optional: bool = False):
        self._stream, self._optional = stream, optional
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=self.errors)

    @property
    def buffer(self) -> BinaryIO:
        """The stream's bytes."""
        return self._stream.buffer

    def fileno(self) -> int:
        """Number of the open file."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Write text, with its control characters escaped."""
        shown = "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
        if shown:  # libraries that print try a stream with nothing, and take no error seriously
            with self._told():
                self._stream.write(shown)
                self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._told():
            self._stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._drop()
            if self._optional:
                return
            if error.errno == errno.EPIPE:
                raise SystemExit(128 + signal.SIGPIPE) from None
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    def _drop(self) -> None:
        """Lead the stream nowhere, so that Python can flush it when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def terminal() -> Iterator[None]:
    """Print through a `Terminal`."""
    # Where it keeps its cache is nothing that a command was asked for, and a home that cannot be written is no fault.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    out, err = sys.stdout and Terminal(sys.stdout), sys.stderr and Terminal(sys.stderr, optional=True)
    with redirect_stdout(out), redirect_stderr(err):
        yield


_quiet = False  # whether neither progress nor remarks are shown


def be_quiet() -> None:
    """Show no progress and no remarks from here on."""
    global _quiet
    _quiet = True


_verbose = False  # whether errors are told with where they come from


def be_verbose() -> None:
    """Show what libraries log, and where an error comes from, from here on."""
    global _verbose
    _verbose = True
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def is_verbose() -> bool:
    """Whether errors are told with where they come from."""
    return _verbose


def remark(text: str) -> None:
    """Tell whoever looks on a line that is no part of the result."""
    if not _quiet and sys.stderr:
        sys.stderr.write(f"{text}\n")  # at once: Ctrl-C would part a line from its end
        sys.stderr.flush()


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Rows as aligned text below their headings.

    Not `rich.table`, which fits a table to the terminal: its cells would wrap or be cut where a program reads them.

    Args:
        headings: of the columns.
        rows: of one cell a heading; what is left out at a row's end is empty.
        width: letters of a line, to which the last column is cut; by default it is as wide as its cells, which
            programs read, too.
    """
    from rich.cells import cell_len, set_cell_size  # of wide letters, which take two places

    cells = [[*row, *[""] * (len(headings) - len(row))] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    if width is not None:
        widths[-1] = min(widths[-1], width - sum(widths[:-1]) - 2 * len(widths[:-1]))
        for row in cells:
            if cell_len(row[-1]) > widths[-1]:
                row[-1] = set_cell_size(row[-1], widths[-1] - 1).rstrip() + "…"
    return "\n".join(
        "  ".join(map(set_cell_size, row, widths)).rstrip()
        for row in (headings, ["-" * width for width in widths], *cells)
    )


@contextmanager
def progress_bars() -> Iterator[Callable[..., None]]:
    """A bar with the time left for each thing that is done, on a terminal alone.

    Yields:
        A function of what is done (a name for its bar), how much of it, of how much, and what to say beside the bar.
        The bars are there from its first call on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    disable = _quiet or not sys.stderr.isatty()
    bars = Progress(*columns, console=Console(file=sys.__stderr__), disable=disable)
    tasks: dict[str, TaskID] = {}

    def say(what: str, done: float, total: float, said: str = "") -> None:
        if not tasks:
            bars.start()
        if what not in tasks:
            tasks[what] = bars.add_task(what, said="")
        bars.update(tasks[what], completed=done, total=total, said=said)

    try:
        yield say
    finally:
        bars.stop()


def _lasting(seconds: float) -> str:
    """In the unit that tells it best."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


@contextmanager
def progress_line(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line every tenth elsewhere, for a function of how many are done, and of how many.

    Lines tell how many are done a second, from the first call on, and what is left.
    """
    began: list[tuple[float, int]] = []  # when this was first called, and with how many

    def rate(done: int, total: int) -> str:
        seconds, new = time.monotonic() - began[0][0], done - began[0][1]
        if seconds < 1 or not new:
            return ""
        left = f", {_lasting((total - done) * seconds / new)} left" if done < total else ""
        return f", {new / seconds:.3g}/s{left}"

    with progress_bars() as bar:

        def say(done: int, total: int) -> None:
            began[:1] = began[:1] or [(time.monotonic(), done)]
            bar(label, done, total, f"{done}/{total}")
            if not sys.stderr.isatty() and (done == total or done % max(total // 10, 1) == 0):
                remark(f"{label} {done}/{total}{rate(done, total)}")

        yield say
