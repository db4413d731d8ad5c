"""The command adapt."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Device, Json, ModelName, Precision, Workers, resumable, tell, there
from avlearn.errors import DataError

_Footage = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER|FILE|LIST...", help="Your videos: folders, files, or lists of them.", parser=there),
]


@app.command()
def adapt(
    footage: _Footage,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The adaptation's folder.")],
    model: ModelName = "default",
    minutes: Annotated[float, typer.Option(min=0.1, help="Time to take.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    precision: Precision = "32",
    workers: Workers = None,
    json_path: Json = None,
) -> None:
    """Train a model on your own footage by itself, and tell by files that it had not seen whether that helped.

    No labels: that video and audio of a file belong together in time is what is learned. So files have to be in sync:
    where people who speak, or the file itself, tell that it is not, its audio is moved before the training, and a delay
    that all files share is found where enough of them tell. What nobody can tell is said.

    The files are dealt into two folds. Towers that learned from one judge the other, with delays put in, beside the
    model that it began with; a third training sees all, and its confidences and in-distribution statistics come from
    these two. Of fewer than eight files the folds are their halves. It takes 20 files, or 2 minutes of one.

    If it got no better, that is said, and FOLDER/model is the model that it began with. The separator and the
    classifiers are not kept: they know the towers of before.

    Takes the time that is given, on a laptop too. After Ctrl-C, or a kill, the same command goes on.

    Exit code: 0 better; 1 no better; 2 error, such as too few files.

    Example: avlearn adapt films/ -o models/mine

    Example: avlearn adapt a.mp4 b.mp4 -o models/two --minutes 20 --json figures.json

    Then: avlearn sync films/ --model models/mine
    """
    from avlearn.adapt.run import adapt as run
    from avlearn.cli.tools import listed
    from avlearn.data.manifest import Entry

    paths = dict.fromkeys(found for given in footage for found in listed(given) or [given])
    entries = [Entry(path) for path in paths if isinstance(path, Path)]
    if len(entries) < len(paths):
        raise DataError("adapt takes files of their own, no shards and no addresses")
    with resumable("adapting"):
        result = run(
            entries, out, base=model, minutes=minutes, seed=seed, device=device, precision=precision, workers=workers
        )
    tell(result, json_path)
    if not result.better:
        raise typer.Exit(1)
