"""Commands on files of one's own: synchronize, localize, separate, classify, embed, probe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avlearn.cli.app import app
from avlearn.cli.many import listed, many, output_folder, refuse
from avlearn.cli.options import (
    Channel,
    Device,
    Files,
    Json,
    ModelName,
    Overwrite,
    Precision,
    Track,
    Workers,
    anywhere,
    exists,
    readable,
    tell,
    there,
    with_chosen_audio,
)
from avlearn.errors import AvlearnError
from avlearn.files import check_folder, check_output
from avlearn.terminal import progress_bars, remark

if TYPE_CHECKING:
    from avlearn.media.source import Selected


@app.command()
def sync(
    source: Files,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    fix: Annotated[Path | None, typer.Option(metavar="OUT", help="Also write the file, its audio put right.")] = None,
    drift: Annotated[bool, typer.Option("--drift", help="With --fix: mend a drift, by resampling the audio.")] = False,
    track: Track = None,
    channel: Channel = None,
    max_offset: Annotated[
        float | None, typer.Option(min=0.2, max=10, help="Seconds searched on each side; else by the length.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=10, help="Seconds that count as in sync.")] = 0.04,
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="PNG", help="Also draw the curve.")] = None,
    released: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="WEIGHTS",
            help="Also ask SyncNet v2, Synchformer or SparseSync: their file.",
            parser=there,
        ),
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Where SyncNet's face is, in pixels: no face is detected.")
    ] = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Is the file in sync? Offset in ms, drift, and edits; offsets are positive when the audio leads.

    Of many files (those of a folder, a manifest, or a list: a .txt or, as '-', standard input, with a path a line
    from the list's folder on, where lines that begin with # are passed over) each is a row, what is wrong with it too.

    A fix is the whole file, only its audio moved; it is measured again before it gets its name.

    Exit code: 0 in sync within the tolerance, 1 out of sync, 3 undecidable, 2 error; of many files, the worst in this
    order. With --fix: 0 fixed, 2 not fixed, for whatever reason.

    Example: avlearn sync talk.mp4 --fix talk_fixed.mp4

    Example: avlearn sync videos/ --json report.json

    LSE-D, LSE-C and DeSync: avlearn sync face.mp4 --with syncnet_v2.model --with synchformer_state_dict.pth
    """
    files = listed(source)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.sync_and_ask import load_network, sync_and_ask
    from avlearn.apply.tools import SYNC
    from avlearn.media.source import opened
    from avlearn.models.folder import load

    if drift and not fix:
        raise AvlearnError("--drift goes with --fix OUT")
    face = _box(crop) if crop else None
    if face and not released:
        raise AvlearnError("--crop goes with --with WEIGHTS of SyncNet")
    options: dict[str, Any] = {
        "max_offset": max_offset,
        "tolerance": tolerance,
        "released": tuple(released or ()),
        "crop": face,
    }
    for weights in released or ():
        load_network(weights)
    if files is not None:
        refuse({"--fix": fix, "--output": out})
        inference = InferenceOptions(model, device, precision, track, channel)
        table, stopped = many(SYNC, files, inference, options=options, workers=workers)
        tell(table, json_path)
        raise typer.Exit(stopped or table.exit_code)
    _check_sync_outputs(source, fix, out, overwrite)
    loaded = load(model, device, precision)
    with opened(source) as file:
        chosen = with_chosen_audio(file, track, channel, loaded)
        result = sync_and_ask(chosen, loaded, **options)
        tell(result, json_path)
        if result.status == "undecidable":
            _tell_of_other_tracks(file)
        if out:
            from avlearn.report.plots import offset_curve, write_png

            write_png(out, offset_curve(result.offsets, result.scores, result.offset))
        if fix:
            from avlearn.apply.fix import fix_file

            typer.echo(fix_file(result, fix, source=chosen, model=loaded, resample=drift).text(), err=json_path == "-")
    raise typer.Exit(0 if fix else SYNC.exit_code(result))


def _check_sync_outputs(source: Path | str, fix: Path | None, curve: Path | None, overwrite: bool) -> None:
    from avlearn.media.containers import CONTAINERS

    if fix:
        check_output(fix, CONTAINERS, [source], overwrite)
    if curve:
        check_output(curve, (".png",), [source], overwrite)


def _tell_of_other_tracks(file: "Selected") -> None:
    from avlearn.media.selection import audio_tracks

    tracks = audio_tracks(file)
    if len(tracks) > 1:
        remark(f"note: the file has audio tracks {', '.join(tracks)}: try --audio-track N, or best")


def _box(text: str) -> tuple[int, int, int, int]:
    """Left, top, width and height."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts) or not all(map(int, parts[2:])):
        raise AvlearnError(f"'{text}' is no box: give left, top, width and height in pixels, like 400,80,224,224")
    left, top, width, height = map(int, parts)
    return left, top, width, height


@app.command()
def localize(
    source: Files,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="MP4|FOLDER", help="Else NAME_localized[.mp4].")
    ] = None,
    sources: Annotated[bool, typer.Option("--sources", help="List the sources too, and draw their boxes.")] = False,
    maps: Annotated[Path | None, typer.Option(metavar="NPZ", help="The maps; else beside the video.")] = None,
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Where does the sound come from? Writes the heatmap over the video, and the maps as .npz.

    The heatmap is the fainter, the less anything on screen explains the sound. An offset is corrected to measure.

    Of many files each has its NAME_localized.mp4 in a folder, lying there as the files lie, and a row of the table,
    what cannot be read too.

    Exit code: 0 answered, 3 the model cannot tell (the files are written all the same), 2 error; of many files, the
    worst in this order.

    Example: avlearn localize street.mp4 -o street_heat.mp4

    Example: avlearn localize videos/ -o heat/

    Example: avlearn localize street.mp4 --sources --json street.json
    """
    files = listed(source)
    from avlearn.apply.localize import check_outputs, localize_file
    from avlearn.apply.run_many import InferenceOptions, output_names
    from avlearn.apply.tools import LOCALIZE
    from avlearn.media.source import opened
    from avlearn.models.folder import load

    if files is not None:
        refuse({"--maps": maps})
        folder = output_folder(out, source, "localized")
        targets = [folder / f"{name}_localized.mp4" for name in output_names(files)]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        for path, target in zip(files, targets, strict=True):
            check_outputs(path, target, None, overwrite=overwrite)
        table, stopped = many(
            LOCALIZE, files, InferenceOptions(model, device, precision, track, channel), options={"sources": sources},
            each=[{"out": target} for target in targets], workers=workers,
            outputs=[part for target in targets for part in (target, target.with_suffix(".npz"))],
        )  # fmt: skip
        tell(table, json_path)
        raise typer.Exit(stopped or table.exit_code)
    target = out or Path(f"{Path(source).stem}_localized.mp4")
    check_outputs(source, target, maps, overwrite=overwrite)
    loaded = load(model, device, precision)
    with opened(source) as file, progress_bars() as progress:
        chosen = with_chosen_audio(file, track, channel, loaded)
        result = localize_file(chosen, loaded, target, maps=maps, sources=sources, progress=progress)
    tell(result, json_path)
    raise typer.Exit(LOCALIZE.exit_code(result))


@app.command()
def separate(
    origin: Files,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Else NAME_separated.")] = None,
    sources: Annotated[int, typer.Option(min=1, max=8, help="Sources to look for, at most.")] = 2,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHICH",
            help="A source to take instead: left, right, x,y or x0,y0,x1,y1 in fractions of the frame, or a number "
            "that avlearn localize --sources prints. May be given several times.",
        ),
    ] = None,
    onscreen: Annotated[bool, typer.Option("--onscreen", help="Two tracks: what is on screen, and the rest.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="float|24", help="Of the WAV files.")] = "float",
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Give each visible source its own track; tracks and residual add up to the input.

    Of many files each has a folder of its own, lying as the files lie, and a row of the table, what cannot be read too.

    Exit code: 0 answered, 3 the model cannot tell which track is whose (they are written all the same), 2 error; of
    many files, the worst in this order.

    Example: avlearn separate duet.mp4 --sources 2 -o duet/

    Example: avlearn separate duets/ -o tracks/

    Example: avlearn separate interview.mp4 --source left --source right --format 24
    """
    files = listed(origin)
    from avlearn.apply.run_many import InferenceOptions, output_names
    from avlearn.apply.separate import separate_file, track_patterns
    from avlearn.apply.source_choice import parse_choice
    from avlearn.apply.tools import SEPARATE
    from avlearn.media.source import opened
    from avlearn.models.folder import load

    if form not in ("float", "24"):
        raise AvlearnError(f"'{form}' is no format: give float or 24")
    if onscreen and source:
        raise AvlearnError("--onscreen takes all sources together: leave out --source")
    choices = [parse_choice(text) for text in source or ()]
    options: dict[str, Any] = {"sources": sources, "choices": choices, "onscreen": onscreen, "form": form}
    if files is not None:
        folder = output_folder(out, origin, "separated")
        targets = [folder / name for name in output_names(files)]
        stems = [Path(str(path)).stem for path in files]
        for target, stem in zip(targets, stems, strict=True):
            check_folder(target, track_patterns(stem), overwrite)
        table, stopped = many(
            SEPARATE, files, InferenceOptions(model, device, precision, track, channel), options=options,
            each=[{"out_dir": target} for target in targets], workers=workers,
            outputs=[target / stem for target, stem in zip(targets, stems, strict=True)],
        )  # fmt: skip
        tell(table, json_path)
        raise typer.Exit(stopped or table.exit_code)
    stem = Path(origin).stem
    target = check_folder(out or Path(f"{stem}_separated"), track_patterns(stem), overwrite)
    loaded = load(model, device, precision)
    with opened(origin) as file, progress_bars() as progress:
        chosen = with_chosen_audio(file, track, channel, loaded)
        result = separate_file(chosen, loaded, target, progress=progress, **options)
    tell(result, json_path)
    raise typer.Exit(SEPARATE.exit_code(result))


@app.command()
def classify(
    source: Files,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    top: Annotated[int, typer.Option(min=1, help="Labels shown.")] = 3,
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    json_path: Json = None,
) -> None:
    """What is happening? Labels from video, audio, and both.

    Exit code: 0 labelled, 3 the model cannot tell because the file is unlike its training data, 2 error; of many
    files, the worst in this order.

    Example: avlearn classify clip.mp4 --json -

    Example: avlearn classify videos/ --json labels.json
    """
    files = listed(source)
    from avlearn.apply.classify import classify_file
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import CLASSIFY
    from avlearn.media.source import opened
    from avlearn.models.folder import load

    if files is not None:
        inference = InferenceOptions(model, device, precision, track, channel)
        table, stopped = many(CLASSIFY, files, inference, options={"top": top}, workers=workers)
        tell(table, json_path)
        raise typer.Exit(stopped or table.exit_code)
    loaded = load(model, device, precision)
    with opened(source) as file:
        result = classify_file(with_chosen_audio(file, track, channel, loaded), loaded, top=top)
    tell(result, json_path)
    raise typer.Exit(CLASSIFY.exit_code(result))


@app.command()
def embed(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST...", help="As for avlearn sync.", parser=anywhere),
    ],
    model: ModelName = "default",
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

    Example: avlearn embed a.mp4 b.mp4 -o features.parquet

    Example: avlearn embed prepared/manifest.parquet -o features.npz
    """
    if not any(map(exists, files)):
        others = f", nor do the {len(files) - 1} others" if len(files) > 1 else ""
        raise AvlearnError(f"{files[0]} does not exist{others}")
    from avlearn.apply.embed import SUFFIXES, write_features
    from avlearn.apply.run_many import Failure, InferenceOptions
    from avlearn.apply.tools import EMBED

    check_output(out, SUFFIXES, [file for file in files if isinstance(file, Path)], overwrite)
    sources = [found for file in files for found in listed(file) or [file]]
    inference = InferenceOptions(model, device, precision, track, channel)
    table, stopped = many(EMBED, sources, inference, workers=workers)
    if stopped:
        raise typer.Exit(stopped)
    failed = [(result.path, result.reason) for result in table.results if isinstance(result, Failure)]
    found = [result for result in table.results if not isinstance(result, Failure)]
    result = write_features(out, found, failed)
    if len(sources) > 1:
        typer.echo(table.text(), err=json_path == "-")
    tell(result, json_path)
    raise typer.Exit(2 if result.failed else 0)


@app.command()
def probe(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST", help="A media file, or several.", parser=readable),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", hidden=True)] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", hidden=True, parser=there)] = None,
    track: Annotated[
        str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track of FILE.")
    ] = None,
    channel: Channel = None,
    workers: Workers = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into a media file: streams, sizes, rates, durations, and which tracks are used.

    Of many files each is a row, what is wrong with it too; the exit code is then 2.

    Example: avlearn probe clip.mp4

    Example: avlearn probe videos/ --json streams.json
    """
    if source is not None and not data and model is None:
        _probe(source, track, channel, workers, json_path)
    elif source is None and data and model is not None:
        from avlearn.evaluation.linear_probe import probe_manifests

        remark("note: avlearn linear-probe is the name of this command now")
        tell(probe_manifests(model, data), json_path)
    else:
        raise AvlearnError("probe takes a FILE; a linear probe of a model is: avlearn linear-probe --data MANIFEST")


def _probe(
    source: Path | str, track: str | None, channel: str | None, workers: int | None, json_path: str | None
) -> None:  # fmt: skip
    files = listed(source)
    from avlearn.media import probe as look
    from avlearn.media.source import opened

    if files is not None:
        from avlearn.apply.run_many import InferenceOptions
        from avlearn.apply.tools import PROBE

        table, stopped = many(PROBE, files, InferenceOptions(track=track, channel=channel), workers=workers)
        tell(table, json_path)
        raise typer.Exit(stopped or table.exit_code)
    with opened(source) as file:
        tell(look(with_chosen_audio(file, track, channel)), json_path)
