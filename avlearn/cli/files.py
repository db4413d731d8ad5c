"""Commands on files of one's own: in sync, where a sound is from, what it is, apart from others."""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Channel,
    Device,
    File,
    Json,
    ModelName,
    Overwrite,
    Precision,
    Track,
    exists,
    listened,
    local,
    tell,
    there,
)
from avlearn.errors import AvlearnError
from avlearn.files import check_folder, check_output
from avlearn.interrupts import STOPPED, exit_code
from avlearn.terminal import progress_bars, remark

if TYPE_CHECKING:
    from avlearn.apply.released_sync import Network


@app.command()
def sync(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST", help="LIST: a .txt with a path a line.", parser=there),
    ],
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    fix: Annotated[Path | None, typer.Option(metavar="OUT", help="Also write the file, its sound put right.")] = None,
    drift: Annotated[bool, typer.Option("--drift", help="With --fix: mend a drift, by resampling the sound.")] = False,
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
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for many files; all cores by default.")] = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Is the file in sync? Offset in ms, drift, and edits; offsets are positive when the audio leads.

    Of many files (those of a folder, a manifest, or a list: a .txt or, as '-', standard input, with a path a line
    from the list's folder on, where lines that begin with # are passed over) each is a row, what is wrong with it too.

    A fix is the whole file, only its sound moved; it is measured again before it gets its name.

    Exit code: 0 in sync within the tolerance, 1 out of sync, 3 undecidable, 2 error; of many files, the worst in this
    order. With --fix: 0 fixed, 2 not fixed, for whatever reason.

    Example: avlearn sync talk.mp4 --fix talk_fixed.mp4

    Example: avlearn sync videos/ --json report.json

    LSE-D, LSE-C and DeSync: avlearn sync face.mp4 --with syncnet_v2.model --with synchformer_state_dict.pth
    """
    from dataclasses import replace

    from avlearn.apply.sync import sync_file
    from avlearn.apply.sync_files import EXIT_CODES, sync_files
    from avlearn.data.lists import listed_sources
    from avlearn.models.folder import load

    if drift and not fix:
        raise AvlearnError("--drift goes with --fix OUT")
    face = _box(crop) if crop else None
    if face and not released:
        raise AvlearnError("--crop goes with --with WEIGHTS of SyncNet")
    files = listed_sources(source)
    if files is not None:
        if fix or out or track or channel:
            raise AvlearnError("--fix, --output, --audio-track and --channel take one FILE")
        results = sync_files(
            files, model, max_offset=max_offset, tolerance=tolerance, released=released or (), crop=face,
            workers=workers, device=device, precision=precision,
        )  # fmt: skip
        raise typer.Exit(_sync_many(results, len(files), json_path))
    _check_sync_outputs(source, fix, out, overwrite)
    networks = _load_networks(released) if released else []
    loaded = load(model, device, precision)
    heard = listened(source, track, channel, loaded)
    result = sync_file(heard, loaded, max_offset=max_offset, tolerance=tolerance)
    if networks:
        from avlearn.apply.released_sync import sync_with_released

        result = replace(result, others=sync_with_released(heard, networks, face))
    tell(result, json_path)
    if result.status == "undecidable":
        _tell_of_other_tracks(source)
    if out:
        from avlearn.report.plots import offset_curve, write_png

        write_png(out, offset_curve(result.offsets, result.scores, result.offset))
    if fix:
        from avlearn.apply.fix import fix_file

        typer.echo(fix_file(result, fix, source=heard, model=loaded, resample=drift).text(), err=json_path == "-")
    raise typer.Exit(0 if fix else EXIT_CODES[result.status])


def _load_networks(paths: list[Path]) -> "list[Network]":
    from avlearn.apply.released_sync import load_released

    return [load_released(path) for path in paths]


def _check_sync_outputs(source: Path, fix: Path | None, curve: Path | None, overwrite: bool) -> None:
    from avlearn.media.containers import CONTAINERS

    if fix:
        check_output(fix, CONTAINERS, [source], overwrite)
    if curve:
        check_output(curve, (".png",), [source], overwrite)


def _tell_of_other_tracks(file: Path) -> None:
    from avlearn.media.selection import audio_tracks

    tracks = audio_tracks(file)
    if len(tracks) > 1:
        remark(f"note: the file has audio tracks {', '.join(tracks)}: try --audio-track N, or best")


def _box(text: str) -> tuple[int, int, int, int]:
    """Left, top, width and height."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts) or not all(map(int, parts[2:])):
        raise AvlearnError(f"'{text}' is no box: give left, top, width and height in pixels, like 400,80,224,224")
    return tuple(map(int, parts))


def _sync_many(results: Generator, count: int, json_path: str | None) -> int:
    """A line a file as it gets done, then all of them in order; the exit code."""
    from contextlib import closing

    from avlearn.apply.sync_files import EXIT_CODES, SyncTable

    done = {}
    stopped = 0
    with closing(results):
        try:
            for number, result in results:
                done[number] = result
                remark(f"[{len(done)}/{count}] {result.text(advice=False)}")
        except STOPPED as error:
            stopped = exit_code(error)
    table = SyncTable([done[number] for number in sorted(done)])
    tell(table, json_path)
    if stopped:
        typer.echo(f"avlearn: stopped with {len(done)} of {count} done", err=True)
    return stopped or EXIT_CODES[table.worst]


@app.command()
def localize(
    file: File,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="MP4", help="Else NAME_localized.mp4.")] = None,
    sources: Annotated[bool, typer.Option("--sources", help="List the sources too, and draw their boxes.")] = False,
    maps: Annotated[Path | None, typer.Option(metavar="NPZ", help="The maps; else beside the video.")] = None,
    track: Track = None,
    channel: Channel = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Where does the sound come from? Writes the heatmap over the video, and the maps as .npz.

    The heatmap is the fainter, the less anything on screen explains the sound. An offset is corrected to measure.

    Exit code: 0 answered, 3 the model cannot tell (the files are written all the same), 2 error.

    Example: avlearn localize street.mp4 -o street_heat.mp4

    Example: avlearn localize street.mp4 --sources --json street.json
    """
    from avlearn.apply.localize import check_outputs, localize_file
    from avlearn.apply.verdict import undecided
    from avlearn.models.folder import load

    target = out or Path(f"{file.stem}_localized.mp4")
    check_outputs(file, target, maps, overwrite=overwrite)
    loaded = load(model, device, precision)
    heard = listened(file, track, channel, loaded)
    with progress_bars() as progress:
        result = localize_file(heard, loaded, target, maps=maps, sources=sources, progress=progress)
    tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def separate(
    file: File,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Else NAME_separated.")] = None,
    sources: Annotated[int, typer.Option(min=1, max=8, help="Sources to look for, at most.")] = 2,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHICH",
            help="A source to take instead: left, right, x,y or x0,y0,x1,y1 in fractions of the picture, or a number "
            "that avlearn localize --sources prints. May be given several times.",
        ),
    ] = None,
    onscreen: Annotated[bool, typer.Option("--onscreen", help="Two tracks: what is on screen, and the rest.")] = False,
    form: Annotated[str, typer.Option("--format", metavar="float|24", help="Of the WAV files.")] = "float",
    track: Track = None,
    channel: Channel = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Give each visible source its own track; tracks and residual add up to the input.

    Exit code: 0 answered, 3 the model cannot tell which track is whose (they are written all the same), 2 error.

    Example: avlearn separate duet.mp4 --sources 2 -o duet/

    Example: avlearn separate interview.mp4 --source left --source right --format 24
    """
    from avlearn.apply.separate import separate_file, track_patterns
    from avlearn.apply.source_choice import parse_choice
    from avlearn.apply.verdict import undecided
    from avlearn.models.folder import load

    if form not in ("float", "24"):
        raise AvlearnError(f"'{form}' is no format: give float or 24")
    if onscreen and source:
        raise AvlearnError("--onscreen takes all sources together: leave out --source")
    choices = [parse_choice(text) for text in source or ()]
    target = check_folder(out or Path(f"{file.stem}_separated"), track_patterns(file.stem), overwrite)
    loaded = load(model, device, precision)
    heard = listened(file, track, channel, loaded)
    with progress_bars() as progress:
        result = separate_file(
            heard, loaded, target, sources=sources, choices=choices, onscreen=onscreen, form=form,
            progress=progress,
        )  # fmt: skip
    tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def classify(
    file: File,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    top: Annotated[int, typer.Option(min=1, help="Labels shown.")] = 3,
    track: Track = None,
    channel: Channel = None,
    json_path: Json = None,
) -> None:
    """What is happening? Labels from picture, sound, and both.

    Exit code: 0 labelled, 3 the model cannot tell because the file is unlike its training data, 2 error.

    Example: avlearn classify clip.mp4 --json -
    """
    from avlearn.apply.classify import classify_file
    from avlearn.apply.verdict import undecided
    from avlearn.models.folder import load

    loaded = load(model, device, precision)
    result = classify_file(listened(file, track, channel, loaded), loaded, top=top)
    tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def embed(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST...", help="LIST: a .txt with a path a line.", parser=local),
    ],
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: Annotated[Path, typer.Option("--output", "-o", metavar="NPZ|PARQUET")] = Path("features.npz"),
    track: Annotated[
        str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track of each file.")
    ] = None,
    channel: Channel = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Features of picture and sound for every window of the files.

    A file that cannot be read is listed with the reason, and the others are done; the exit code is then 2.

    Example: avlearn embed a.mp4 b.mp4 -o features.parquet

    Example: avlearn embed prepared/manifest.parquet -o features.npz
    """
    if not any(map(exists, files)):
        others = f", nor do the {len(files) - 1} others" if len(files) > 1 else ""
        raise AvlearnError(f"{files[0]} does not exist{others}")
    from avlearn.apply.embed import SUFFIXES, embed_files
    from avlearn.apply.encoder_alone import load_features
    from avlearn.data.lists import listed_sources

    check_output(out, SUFFIXES, files, overwrite)
    sources = [found for file in files for found in listed_sources(file) or [file]]
    result = embed_files(
        sources, load_features(model, device, precision), out, track=track, channel=channel, overwrite=overwrite
    )
    tell(result, json_path)
    raise typer.Exit(2 if result.failed else 0)


@app.command()
def probe(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A media file to look into.", parser=there)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", hidden=True)] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", hidden=True, parser=there)] = None,
    track: Annotated[
        str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track of FILE.")
    ] = None,
    channel: Channel = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into a media file: streams, sizes, rates, durations, and which tracks are used.

    Example: avlearn probe clip.mp4
    """
    if file is not None and not data and model is None:
        from avlearn.media import probe as look

        tell(look(listened(file, track, channel)), json_path)
    elif file is None and data and model is not None:
        from avlearn.evaluation.linear_probe import probe_manifests

        remark("note: avlearn linear-probe is the name of this command now")
        tell(probe_manifests(model, data), json_path)
    else:
        raise AvlearnError("probe takes a FILE; a linear probe of a model is: avlearn linear-probe --data MANIFEST")
