"""Commands that make and look into data for a training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Address,
    Data,
    Device,
    Engine,
    Json,
    ModelName,
    PartOption,
    Precision,
    Workers,
    reachable,
    resumable,
    tell,
    there,
    who_works,
)
from avlearn.data.part import Part
from avlearn.errors import AvlearnError
from avlearn.terminal import progress_line

_AFTER_PARTS = "the same command without --part writes the manifest when all parts are done"
if TYPE_CHECKING:
    from avlearn.data.transcode import FlowSettings


@app.command()
def world(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    preset: Annotated[
        str, typer.Option(help="standard, hard, solo, muted, twins, duets, night, moments or motions.")
    ] = "standard",
    classes: Annotated[str | None, typer.Option(help="Class names with commas between.")] = None,
    sources: Annotated[tuple[int, int] | None, typer.Option(help="Fewest and most sounding things.")] = None,
    muted_share: Annotated[float | None, typer.Option(help="Share of scenes with a silent thing.")] = None,
    twin_share: Annotated[float | None, typer.Option(help="Share with a pair of one class.")] = None,
    twin: Annotated[str | None, typer.Option(help="The second of the pair: muted or sounding.")] = None,
    offscreen_share: Annotated[float | None, typer.Option(help="Share with a sound from off screen.")] = None,
    offscreen_db: Annotated[tuple[float, float] | None, typer.Option(help="Its lowest and highest level.")] = None,
    duration: Annotated[float | None, typer.Option(help="Seconds a clip.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels a side.")] = None,
    rate: Annotated[int | None, typer.Option(help="Audio samples a second.")] = None,
    split: Annotated[str, typer.Option(help="Written into the manifest.")] = "train",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
) -> None:  # fmt: skip
    """Render a synthetic world: videos whose motion causes their sound, with exact ground truth.

    Example: avlearn world worlds/test --clips 200 --seed 7 --preset hard
    """
    from avlearn.data.world import WorldConfig, make_world

    changes = {
        "classes": tuple(classes.split(",")) if classes else None, "sources": sources,
        "muted_share": muted_share, "twin_share": twin_share, "twin": twin,
        "offscreen_share": offscreen_share, "offscreen_db": offscreen_db, "duration": duration,
        "fps": fps, "size": size, "sample_rate": rate,
    }  # fmt: skip
    config = WorldConfig.preset(preset, **{k: v for k, v in changes.items() if v is not None})
    with progress_line("rendering") as progress:
        manifest = make_world(out, clips, seed, config, workers=workers, split=split, progress=progress)
    typer.echo(f"wrote {clips} clips and {manifest}")


@app.command()
def scan(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Videos, as [SPLIT/]CLASS/FILE, or its address.", parser=reachable),
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="PARQUET|CSV", help="The manifest.")
    ] = Path("manifest.parquet"),
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take labels, splits and events from the corpus' lists.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where those lists are, if not in FOLDER.", parser=there)
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Which split, where the corpus has several.")] = None,
    min_duration: Annotated[float, typer.Option(min=0, help="Seconds below which a clip is short.")] = 1.0,
    workers: Workers = None,
    engine: Engine = "processes",
    address: Address = None,
    part: PartOption = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into every video of a folder, and write the manifest: what is there, and what is wrong with it.

    A clip gets flags: missing, undecodable, no-video, no-audio, silent, static, short, variable-fps, start-offset,
    duplicate. One that cannot be used stays in the manifest, with the reason. After Ctrl-C, or a kill, the same
    command goes on where it was.

    Example: avlearn scan videos/ -o videos.parquet

    Of many files on several machines, each looks into a part: avlearn scan videos/ -o videos.parquet --part 3/10
    When all parts are done, the same command without --part writes the manifest.

    A published corpus: avlearn scan ucf101/ --corpus ucf101 --fold 1 -o ucf101.parquet
    """
    from avlearn.data.scan import Found, ScanSummary, find_videos, scan_part
    from avlearn.data.scan import scan as run

    if corpus is None and (annotations, fold) != (None, None):
        raise AvlearnError("--annotations and --fold go with --corpus NAME")
    if corpus is None:
        found = find_videos(folder)
    else:
        there(str(folder))
        from avlearn.data.corpora import read_corpus

        found = Found(read_corpus(corpus, folder, annotations, **({} if fold is None else {"fold": fold})), {})
    by = who_works(workers, engine, address)
    _check_part(part, json_path)
    if part:
        with resumable("scanning") as progress:
            count = scan_part(found.entries, out, part, workers=by, progress=progress)
        typer.echo(f"{count} of {len(found.entries)} files are looked into, {_AFTER_PARTS}")
        return
    with resumable("scanning") as progress:
        rows = run(found.entries, out, min_duration=min_duration, workers=by, progress=progress)
    tell(ScanSummary(out, rows, found.passed_over), json_path)


@app.command()
def prepare(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="What avlearn scan wrote, or its address.", parser=reachable)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one to go on with.")],
    short_side: Annotated[
        int, typer.Option(min=16, help="Pixels, at most: 160 for crops of 112, 256 for crops of 224.")
    ] = 160,
    sample_rate: Annotated[int, typer.Option(help="Audio samples a second.")] = 16000,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Quality: 0 is best; 23 does for 256 pixels.")] = 20,
    shards: Annotated[
        int, typer.Option(min=0, help="Pack the clips into so many tar files, which WebDataset reads too.")
    ] = 0,
    flow: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD,FPS,SIZE",
            help="Compute optical flow once, too, for networks that see motion: lucas_kanade, tv_l1, farneback or dis, "
            "and clip.fps and clip.size of the training, like lucas_kanade,12.5,112.",
        ),
    ] = None,
    workers: Workers = None,
    engine: Engine = "processes",
    address: Address = None,
    part: PartOption = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Transcode the clips of a manifest once, to files that are cheap to read at random.

    Clips come out upright, with square pixels and mono audio in step with the video, all frames kept. OUT gets
    a manifest.parquet of them. Clips that cannot be decoded are passed over, and listed with the reason. After
    Ctrl-C, or a kill, the same command goes on where it was; when all is done, it does nothing. With another --flow
    it computes that flow of the clips that are there, and encodes none again.

    Of many clips on several machines, each does a part: avlearn prepare videos.parquet prepared/ --part 3/10
    When all parts are done, the same command without --part packs the shards and writes the manifest.

    Example: avlearn prepare videos.parquet prepared/ --short-side 160

    Example: avlearn prepare videos.parquet prepared/ --flow tv_l1,25,112
    """
    from avlearn.data.prepare import prepare as run
    from avlearn.data.prepare import prepare_part

    by = who_works(workers, engine, address)
    settings: dict[str, Any] = {"short_side": short_side, "sample_rate": sample_rate, "crf": crf}
    settings["flow"] = _flow_settings(flow)
    _check_part(part, json_path)
    if part:
        with resumable("preparing") as progress:
            count, failed = prepare_part(manifest, out, part, workers=by, progress=progress, **settings)
        lost = f", {len(failed)} of them cannot be prepared" if failed else ""
        typer.echo(f"{count} clips of part {part} are done{lost}, {_AFTER_PARTS}")
        return
    with resumable("preparing") as progress:
        result = run(manifest, out, shards=shards, workers=by, progress=progress, **settings)
    tell(result, json_path)


def _check_part(part: Part | None, json_path: str | None) -> None:
    if part and json_path is not None:
        raise AvlearnError(f"--json {json_path}: a part has no result, give it to the command without --part {part}")


def _flow_settings(text: str | None) -> "FlowSettings | None":
    """Method, frames a second and pixels."""
    from avlearn.data.transcode import FlowSettings

    if text is None:
        return None
    method, *numbers = text.split(",")
    try:
        fps, size = numbers
        return FlowSettings(method.strip(), float(fps), int(size))
    except ValueError:
        raise AvlearnError(
            f"--flow {text}: give the method, frames a second and pixels, like lucas_kanade,12.5,112"
        ) from None


@app.command()
def audit(
    data: Data,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_path: Json = None,
) -> None:
    """Do the clips give offsets away, by the audio alone or the video alone?

    Finds fades, clicks, leading silence, padding and traces of codecs that give an offset away. The model's own test is
    made too, with black frames and with another clip's audio.

    Exit code: 0 clean, 1 leak found, 2 error.

    Example: avlearn audit --data clips/manifest.parquet
    """
    from avlearn.evaluation.audit import audit as run
    from avlearn.models.folder import load
    from avlearn.models.named import model_folder
    from avlearn.tasks.synchronize.objective_folder import load_objective

    result = run(load(model, device, precision), data, seed, objective=load_objective(model_folder(model)))
    tell(result, json_path)
    raise typer.Exit(1 if result.leaks else 0)
