"""What several commands take, and how they tell their results."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from avlearn.data.part import Part
from avlearn.errors import AvlearnError
from avlearn.files import check_output, write_text
from avlearn.interrupts import STOPPED, exit_code
from avlearn.remote.address import is_address
from avlearn.terminal import progress_line

if TYPE_CHECKING:
    from avlearn.data.cluster import Cluster

_SHORT = 100  # letters of JSON that stay on one line


def anywhere(name: str) -> Path | str:
    """The name of a file here, or an address that fsspec opens: `Path` would make ``http:/`` of its ``http://``."""
    return name if is_address(name) else Path(name)


def there(name: str) -> Path:
    """The name of something here to read (``-``: standard input).

    It is looked for now: what reads it takes seconds to load.
    """
    path = anywhere(name)
    if isinstance(path, str):
        raise AvlearnError(f"{name} is not a local file: fetch it first, and give the file's name")
    if not exists(path):
        raise AvlearnError(f"{name} does not exist")
    return path


def reachable(name: str) -> Path | str:
    """The name of something to read that is here, or an address, which whoever reads it finds."""
    return name if is_address(name) else there(name)


def exists(path: Path | str) -> bool:
    """Whether there is something to read; standard input always is, and whoever reads an address finds out."""
    return isinstance(path, str) or str(path) == "-" or os.path.exists(path)


def json_target(name: str | None) -> str | None:
    """Where a result is to go as JSON. Nothing else that is read or written has such a name."""
    if name not in (None, "-"):
        check_output(name, (".json",), overwrite=True)
    return name


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE|FOLDER|LIST|MANIFEST",
        help="Video files or their addresses, folders, manifests, or lists: a .txt, or - for standard input, with a "
        "path a line.",
        parser=anywhere,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes for many files; all cores by default, or all CPUs or GPUs of the cluster."),
]
Engine = Annotated[
    str, typer.Option(metavar="processes|ray", help="Who works on many files: processes here, or a Ray cluster.")
]  # fmt: skip
Address = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT|ray://HOST:PORT",
        help="Of the Ray cluster; auto: the one that this machine is a node of.",
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="NAME|PATH",
        help="A model folder, or its address; default: the one in the package.",
    ),
]  # fmt: skip
ModelOrSystem = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="NAME|PATH",
        help="A model folder or its address, or a released network's name (avlearn weights list); default: the one in "
        "the package.",
    ),
]  # fmt: skip
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="NAME|PATH",
        help="A model folder or its address, or an encoder's name (avlearn weights list); default: the one in the "
        "package. May be given several times: each file is decoded once, and -o FOLDER gets a folder for each.",
    ),
]  # fmt: skip
Track = Annotated[
    str | None,
    typer.Option("--audio-track", metavar="N|LANG|best", help="Which audio track; best: the one most in sync."),
]  # fmt: skip
Channel = Annotated[
    str | None, typer.Option(metavar="N|left|right|mix", help="One channel of it, or the mean; else all.")
]  # fmt: skip
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where the model runs; auto: the GPU, if there is one.")
]  # fmt: skip
Precision = Annotated[str, typer.Option(metavar="32|bf16|16", help="What its encoders compute in.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON ('-': to stdout).", callback=json_target),
]
Data = Annotated[
    list[Path],
    typer.Option(
        "--data", metavar="MANIFEST", help="A manifest, or its address; may be given several times.", parser=reachable
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes, e.g. trainer.max_steps=100.")
]  # fmt: skip


Results = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Of very many files: write results there as they get done (Parquet); the same command goes on.",
    ),
]
PartOption = Annotated[
    Part | None,
    typer.Option(
        "--part", metavar="I/N", parser=Part.parse,
        help="Only every Nth of the files, from the Ith on: a job array does N parts, each on a machine of its own.",
    ),
]  # fmt: skip


def who_works(workers: int | None, engine: str, address: str | None, device: str = "cpu") -> "int | Cluster | None":
    """Who works on many files, by the options above.

    Raises:
        AvlearnError: there is no such engine, or what is given does not go with it.
    """
    if engine == "processes":
        if address is not None:
            raise AvlearnError(f"--address {address} goes with --engine ray")
        return workers
    if engine != "ray":
        raise AvlearnError(f"--engine {engine}: give processes or ray")
    from avlearn.data.cluster import Cluster

    if device not in ("auto", "cpu", "cuda"):
        raise AvlearnError(f"--device {device}: on a cluster it is auto, cpu, or cuda for a GPU a worker")
    return Cluster(address or "auto", workers, device)


class Result(Protocol):
    """What a command has to tell."""

    def text(self) -> str:
        """Human-readable text."""

    def to_dict(self) -> object:
        """JSON types."""


def tell(result: Result, json_path: str | None, part: Part | None = None) -> None:
    """Print a result for people, or as JSON where that was asked for; a part writes a file of its own."""
    if json_path is None:
        typer.echo(result.text())
        return
    text = _json(result.to_dict())
    if json_path == "-":
        typer.echo(text)
        return
    typer.echo(result.text())
    write_text(part.of_its_own(Path(json_path)) if part else json_path, text + "\n")


def _json(value: object, margin: str = "") -> str:
    """JSON with a line a key and a line an item; what is short is on one line, and so is an array of numbers."""
    whole, inner = json.dumps(value), margin + " "
    if isinstance(value, dict) and len(whole) > _SHORT:
        lines = [f"{inner}{json.dumps(key)}: {_json(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        lines = [inner + _json(item, inner) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{margin}]"
    return whole


@contextmanager
def resumable(label: str) -> Iterator[Callable[[int, int], None]]:
    """Progress of work that the same command goes on with after Ctrl-C."""
    done, of = 0, 0
    try:
        with progress_line(label) as say:

            def note(count: int, total: int) -> None:
                nonlocal done, of
                done, of = count, total
                say(count, total)

            yield note
    except STOPPED as error:
        reached = f" with {done} of {of} done" if of else ""
        print(f"avlearn: stopped{reached}: the same command goes on from there", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from None
