"""The command embed."""

from contextlib import ExitStack
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
    Models,
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
    from avlearn.apply.feature_folder import FeatureFolder
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.data.cluster import Cluster
    from avlearn.media.source import Source


@app.command()
def embed(
    files: Files,
    model: Models = None,
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="NPZ|PARQUET|FOLDER",
            help="A folder goes on where it was stopped; with --overwrite, it begins anew.",
        ),
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

    By several, each file decoded once; to features/default/ and features/vjepa2_1_b/:
    avlearn embed clips.parquet --model default --model vjepa2_1_b -o features/
    """
    first, *others = model or ["default"]
    everything = gathered(files, first, *others)
    sources = list(part.among(everything)) if part else everything
    from avlearn.apply.embed import SUFFIXES
    from avlearn.apply.run_many import InferenceOptions

    by = who_works(workers, engine, address, device)
    inference = InferenceOptions(first, device, precision, track, channel, tuple(others))
    if out.suffix.lower() not in SUFFIXES and (not out.suffix or out.is_dir()):
        if part and overwrite:
            raise AvlearnError(f"--part {part} --overwrite: it would remove what others wrote, give another folder")
        _into_folder(out, sources, inference, by, part, overwrite, json_path)
    if others:
        raise AvlearnError(f"-o {out}: features by several models go to a folder, one for each in it: -o features/")
    if part:
        raise AvlearnError(f"--part {part}: all parts write to one place, give a folder: -o features/")
    check_output(out, SUFFIXES, [file for file in files if isinstance(file, Path)], overwrite)
    _into_file(out, sources, inference, by, json_path)


def _into_file(
    out: Path,
    sources: "list[Source]",
    inference: "InferenceOptions",
    workers: "int | Cluster | None",
    json_path: str | None,
) -> NoReturn:
    """Features in one file, written when all are there."""
    from avlearn.apply.embed import write_features
    from avlearn.apply.run_many import Failure
    from avlearn.apply.tools import EMBED

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


def _into_folder(
    out: Path,
    sources: "list[Source]",
    inference: "InferenceOptions",
    workers: "int | Cluster | None",
    part: Part | None,
    overwrite: bool,
    json_path: str | None,
) -> NoReturn:
    """Features in parts, by each model; what is done is written whatever happens."""
    from avlearn.apply.feature_folder import embed_into, missing_in
    from avlearn.apply.features_by_model import EmbedResults

    with ExitStack() as stack:
        device = inference.device if isinstance(workers, int | None) else "cpu"  # a head of a cluster has no GPU
        folders = _opened(out, inference, device, part, overwrite, stack)
        lacking, stopped = missing_in(folders, sources), 0
        for number, folder in enumerate(folders):
            there = len(sources) - sum(number in numbers for numbers in lacking.values())
            if there:
                remark(f"{there} of {len(sources)} files are in {folder.folder} already")
        with progress_line("embedding") as progress:
            try:
                failed = embed_into(folders, lacking, inference, workers, progress)
            except STOPPED as error:
                stopped, failed = exit_code(error), []
        if stopped:
            done = min(folder.files for folder in folders)
            typer.echo(f"avlearn: stopped with {done} files done: the same command goes on from there", err=True)
        else:
            results = [folder.result(them) for folder, them in zip(folders, failed, strict=True)]
            tell(EmbedResults(results) if inference.others else results[0], json_path, part)
    raise typer.Exit(stopped or (2 if any(failed) else 0))


def _opened(
    out: Path, inference: "InferenceOptions", device: str, part: Part | None, overwrite: bool, stack: ExitStack
) -> "list[FeatureFolder]":
    """The folders of each model's features, which the stack closes."""
    from avlearn.apply.encoder_alone import load_features
    from avlearn.apply.feature_folder import FeatureFolder, about
    from avlearn.apply.features_by_model import folders_within

    models = (inference.model, *inference.others)
    places = folders_within(out, models) if inference.others else [out]
    folders = []
    for name, place in zip(models, places, strict=True):
        what = about(load_features(name, device), name, inference.precision)
        # One model finds the best track for all.
        by = f"best by {inference.model}" if inference.track == "best" and name != inference.model else inference.track
        folders.append(FeatureFolder(place, what, (by, inference.channel), part, overwrite))
        stack.callback(folders[-1].close)
    return folders
