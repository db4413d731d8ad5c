"""The command embed."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Channel,
    Device,
    Files,
    Json,
    ModelOrSystem,
    Overwrite,
    Precision,
    Track,
    Workers,
    tell,
)
from avlearn.cli.tools import gathered, many
from avlearn.files import check_output


@app.command()
def embed(
    files: Files,
    model: ModelOrSystem = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[Path, typer.Option("--output", "-o", metavar="NPZ|PARQUET")] = Path("features.npz"),
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Features of video and audio for every window of the files.

    A file that cannot be read is listed with the reason, and the others are done; the exit code is then 2.
    After Ctrl-C the features of those that are done are written.

    Example: avlearn embed a.mp4 b.mp4 -o features.parquet

    Example: avlearn embed prepared/manifest.parquet -o features.npz

    By a released encoder (see avlearn weights list): avlearn embed a.mp4 --model vjepa2_1_b
    """
    sources = gathered(files, model)
    from avlearn.apply.embed import SUFFIXES, write_features
    from avlearn.apply.run_many import Failure, InferenceOptions
    from avlearn.apply.tools import EMBED

    check_output(out, SUFFIXES, [file for file in files if isinstance(file, Path)], overwrite)
    inference = InferenceOptions(model, device, precision, track, channel)
    table, stopped = many(EMBED, sources, inference, workers=workers)
    failed = [(result.path, result.reason) for result in table.results if isinstance(result, Failure)]
    found = [result for result in table.results if not isinstance(result, Failure)]
    if stopped and not found:
        raise typer.Exit(stopped)
    result = write_features(out, found, failed)
    if len(sources) > 1:
        typer.echo(table.text(), err=json_path == "-")
    tell(result, json_path)
    raise typer.Exit(stopped or (2 if result.failed else 0))
