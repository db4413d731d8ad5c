"""The command embed."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Address,
    Channel,
    Device,
    Engine,
    Files,
    Json,
    ModelOrSystem,
    Overwrite,
    PartOption,
    Precision,
    Track,
    Workers,
    tell,
    who_works,
)
from avlearn.cli.tools import gathered, many
from avlearn.data.part import Part
from avlearn.errors import AvlearnError
from avlearn.files import check_output
from avlearn.interrupts import STOPPED, exit_code
from avlearn.terminal import progress_line, remark

if TYPE_CHECKING:
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.data.cluster import Cluster
    from avlearn.media.source import Source


@app.command()
def embed(
    files: Files,
    model: ModelOrSystem = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="NPZ|PARQUET|FOLDER", help="A folder goes on where it was stopped."),
    ] = Path("features.npz"),
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    engine: Engine = "processes",
    address: Address = None,
    part: PartOption = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Features of video and audio for every window of the files.

    A file that cannot be read is listed with the reason, and the others are done; the exit code is then 2.
    After Ctrl-C the features of those that are done are written.

    Example: avlearn embed a.mp4 b.mp4 -o features.parquet

    Example: avlearn embed prepared/manifest.parquet -o features.npz

    Of very many files, a folder from which the same command goes on: avlearn embed clips.parquet -o features/
    On several machines, each does a part of them: avlearn embed clips.parquet -o features/ --part 3/10

    By a released encoder (see avlearn weights list): avlearn embed a.mp4 --model vjepa2_1_b
    """
    everything = gathered(files, model)
    sources = list(part.among(everything)) if part else everything
    from avlearn.apply.embed import SUFFIXES, write_features
    from avlearn.apply.run_many import Failure, InferenceOptions
    from avlearn.apply.tools import EMBED

    by = who_works(workers, engine, address, device)
    inference = InferenceOptions(model, device, precision, track, channel)
    if out.suffix.lower() not in SUFFIXES and (not out.suffix or out.is_dir()):
        _into_folder(out, sources, inference, by, part, json_path)
    if part:
        raise AvlearnError(f"--part {part}: all parts write to one place, give a folder: -o features/")
    check_output(out, SUFFIXES, [file for file in files if isinstance(file, Path)], overwrite)
    table, stopped = many(EMBED, sources, inference, workers=by)
    failed = [(result.path, result.reason) for result in table.results if isinstance(result, Failure)]
    found = [result for result in table.results if not isinstance(result, Failure)]
    if stopped and not found:
        raise typer.Exit(stopped)
    result = write_features(out, found, failed)
    if len(sources) > 1:
        typer.echo(table.text(), err=json_path == "-")
    tell(result, json_path)
    raise typer.Exit(stopped or (2 if result.failed else 0))


def _into_folder(
    out: Path,
    sources: "list[Source]",
    inference: "InferenceOptions",
    workers: "int | Cluster | None",
    part: Part | None,
    json_path: str | None,
) -> NoReturn:
    """Features in parts; what is done is written whatever happens."""
    from avlearn.apply.encoder_alone import load_features
    from avlearn.apply.feature_folder import FeatureFolder, about, embed_into

    here = inference.device if isinstance(workers, int | None) else "cpu"  # a head of a cluster has no GPU
    what = about(load_features(inference.model, here), inference.model, inference.precision)
    with closing(FeatureFolder(out, what, (inference.track, inference.channel), part)) as folder:
        left, stopped = folder.missing(sources), 0
        if len(left) < len(sources):
            remark(f"{len(sources) - len(left)} of {len(sources)} files are in {out} already")
        with progress_line("embedding") as progress:
            try:
                failed = embed_into(folder, left, inference, workers, progress)
            except STOPPED as error:
                stopped, failed = exit_code(error), []
        if stopped:
            typer.echo(
                f"avlearn: stopped with {folder.files} files done: the same command goes on from there", err=True
            )
        else:
            tell(folder.result(failed), json_path)
    raise typer.Exit(stopped or (2 if failed else 0))
