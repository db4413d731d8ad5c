"""The command line: each command parses, calls, prints. What is heavy is imported inside."""

import json
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from avlearn.errors import AvlearnError
from avlearn.files import check_folder, check_output, is_file, write_text
from avlearn.interrupts import STOPPED, arrived, exit_code, heed
from avlearn.terminal import progress_bars, progress_line, terminal

if TYPE_CHECKING:
    from avlearn.media import Selected

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")
app.add_typer(recipe_app, name="recipe")
weights_app = typer.Typer(no_args_is_help=True, help="Weights that were released for the encoders.")
app.add_typer(weights_app, name="weights")


def _local(name: str) -> Path:
    """A name on this machine: `Path` would make ``http:/`` of an address's ``http://``."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        raise AvlearnError(f"{name} is not a local file: fetch it first, and give the file's name")
    return Path(name)


def _there(name: str) -> Path:
    """The name of something to read (``-``: standard input). Looked for now: what reads it takes seconds to load."""
    path = _local(name)
    if not _exists(path):
        raise AvlearnError(f"{name} does not exist")
    return path


def _exists(path: Path) -> bool:
    return str(path) == "-" or os.path.exists(path)


def _json_target(name: str | None) -> str | None:
    """Where a result is to go as JSON. Nothing else that is read or written has such a name."""
    if name not in (None, "-"):
        check_output(name, (".json",), overwrite=True)
    return name


File = Annotated[Path, typer.Argument(metavar="FILE", help="A video file.", parser=_there)]
ModelName = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|PATH", help="A model folder, or a model of the wheel.")
]  # fmt: skip
Track = Annotated[
    str | None,
    typer.Option("--audio-track", metavar="N|LANG|best", help="Which audio track; best: the one most in sync."),
]  # fmt: skip
Channel = Annotated[
    str | None, typer.Option(metavar="N|left|right|mix", help="One channel of it, or the mean; else all.")
]  # fmt: skip
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON ('-': to stdout).", callback=_json_target),
]
Data = Annotated[
    list[Path],
    typer.Option("--data", metavar="MANIFEST", help="A manifest; may be given several times.", parser=_there),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes, e.g. trainer.max_steps=100.")
]  # fmt: skip


def _tell(result: object, json_path: str | None) -> None:
    """Print a result for people, or as JSON where that was asked for."""
    if json_path is None:
        typer.echo(result.text())
        return
    text = json.dumps(result.to_dict(), indent=1)
    if json_path == "-":
        typer.echo(text)
        return
    typer.echo(result.text())
    write_text(json_path, text + "\n")


def _listened(file: Path, track: str | None, channel: str | None, model: str | None = None) -> "Selected":
    """A file with the audio track and channel that were asked for; says which of several it is."""
    from avlearn.media.selection import audio_tracks, select_audio, track_number

    if track == "best":
        if model is None:
            raise AvlearnError("--audio-track best goes with a model: it is the track most in sync")
        from avlearn.apply.best_track import best_track
        from avlearn.models.audiovisual import load

        track = str(best_track(file, load(model)))
    selected = select_audio(file, track, channel)
    tracks = audio_tracks(file)
    if len(tracks) > 1 and (number := track_number(selected)) is not None:
        typer.echo(f"listening to audio track {tracks[number - 1]} of {len(tracks)}; --audio-track chooses", err=True)
    return selected


@app.callback()
def options(
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin", metavar="MODULE", help="Import a module that adds tasks, encoders, objectives, corpora."
        ),
    ] = None,
) -> None:
    """Learns from the fact that things which move make sound. Start with: avlearn quickstart"""
    from avlearn.plugins import use_plugins

    if plugin:
        use_plugins(plugin)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--output", "-o", help="The run's folder.")] = Path("runs/quickstart"),
    minutes: Annotated[float, typer.Option(min=0.5, help="Time to take.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a world, train on it, measure, use the four tools, and write a report.

    Takes the time that is given: on a slower or busier machine there are fewer clips and steps. After Ctrl-C, or a
    kill, the same command goes on where it was.

    Example: avlearn quickstart --minutes 5
    """
    from avlearn.quickstart import quickstart as run

    with _resumable("quickstart"):
        page = run(out, minutes, seed)
    typer.echo(f"open {page}")


@app.command()
def world(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    preset: Annotated[str, typer.Option(help="standard, hard, solo, muted, twins or duets.")] = "standard",
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
    manifest = make_world(out, clips, seed, config, workers=workers, split=split, progress=progress_line("rendering"))
    typer.echo(f"wrote {clips} clips and {manifest}")


@contextmanager
def _resumable(label: str):
    """Progress of work that the same command goes on with after Ctrl-C."""
    done, of = 0, 0
    say = progress_line(label)

    def note(count: int, total: int) -> None:
        nonlocal done, of
        done, of = count, total
        say(count, total)

    try:
        yield note
    except STOPPED as error:
        reached = f" with {done} of {of} done" if of else ""
        line_end = "\n" if of and sys.stderr.isatty() else ""
        print(f"{line_end}avlearn: stopped{reached}: the same command goes on from there", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from None


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Videos, as [SPLIT/]CLASS/FILE.", parser=_there)],
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="PARQUET|CSV", help="The manifest.")
    ] = Path("manifest.parquet"),
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take labels, splits and events from the corpus' lists.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where those lists are, if not in FOLDER.", parser=_there)
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Which split, where the corpus has several.")] = None,
    min_duration: Annotated[float, typer.Option(min=0, help="Seconds below which a clip is short.")] = 1.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into every video of a folder, and write the manifest: what is there, and what is wrong with it.

    A clip gets flags: missing, undecodable, no-video, no-audio, silent, static, short, variable-fps, start-offset,
    duplicate. One that cannot be used stays in the manifest, with the reason. After Ctrl-C, or a kill, the same
    command goes on where it was.

    Example: avlearn scan videos/ -o videos.parquet

    A published corpus: avlearn scan ucf101/ --corpus ucf101 --fold 1 -o ucf101.parquet
    """
    from avlearn.data.scan import Found, ScanSummary, find_videos
    from avlearn.data.scan import scan as run

    if corpus is None and (annotations, fold) != (None, None):
        raise AvlearnError("--annotations and --fold go with --corpus NAME")
    if corpus is None:
        found = find_videos(folder)
    else:
        from avlearn.data.corpora import read_corpus

        found = Found(read_corpus(corpus, folder, annotations, **({} if fold is None else {"fold": fold})), {})
    with _resumable("scanning") as progress:
        rows = run(found.entries, out, min_duration=min_duration, workers=workers, progress=progress)
    _tell(ScanSummary(out, rows, found.passed_over), json_path)


@app.command()
def prepare(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What avlearn scan wrote.", parser=_there)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one to go on with.")],
    short_side: Annotated[
        int, typer.Option(min=16, help="Pixels, at most: 160 for crops of 112, 256 for crops of 224.")
    ] = 160,
    sample_rate: Annotated[int, typer.Option(help="Audio samples a second.")] = 16000,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Quality: 0 is best; 23 does for 256 pixels.")] = 20,
    shards: Annotated[
        int, typer.Option(min=0, help="Pack the clips into so many tar files, which WebDataset reads too.")
    ] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Transcode the clips of a manifest once, to files that are cheap to read at random.

    Clips come out upright, with square pixels and mono sound in step with the picture, all frames kept. OUT gets
    a manifest.parquet of them. Clips that cannot be decoded are passed over, and listed with the reason. After
    Ctrl-C, or a kill, the same command goes on where it was; when all is done, it does nothing.

    Example: avlearn prepare videos.parquet prepared/ --short-side 160
    """
    from avlearn.data.prepare import prepare as run

    with _resumable("preparing") as progress:
        result = run(
            manifest, out, short_side=short_side, sample_rate=sample_rate, crf=crf, shards=shards,
            workers=workers, progress=progress,
        )  # fmt: skip
    _tell(result, json_path)


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", "-o", help="runs/NAME by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build all, run one batch, describe it, stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:  # fmt: skip
    """Train what a recipe says, and export the best model.

    Example: avlearn pretrain sync_world model.video=slowfast_tiny trainer.max_epochs=5
    """
    from avlearn.tasks import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from avlearn.training.run import pretrain as run

    folder = run(loaded, run_dir or Path("runs") / loaded.name, dry_run=dry_run, resume=resume)
    if not dry_run:
        typer.echo(f"wrote {folder}")


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Like 'slowfast*', or the word show.")] = "*",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="After show: whose stages to draw.")] = None,
    clip: Annotated[str | None, typer.Option(metavar="TxHxW", help="Of the stages' sizes.")] = None,
    json_path: Json = None,
) -> None:
    """List the encoders: what each costs, and who published it; or draw the stages of one.

    Example: avlearn models 'slowfast*'

    Example: avlearn models show slowfast_r50_8x8 --clip 32x256x256
    """
    if pattern != "show" and (name, clip) != (None, None):
        raise AvlearnError("to draw the stages of a network: avlearn models show NAME [--clip TxHxW]")
    if pattern == "show":
        from avlearn.models.anatomy import anatomy

        if name is None:
            raise AvlearnError("whose stages? avlearn models show NAME")
        sides = clip.split("x") if clip else None
        if sides and not all(side.isdigit() for side in sides):
            raise AvlearnError(f"'{clip}' is no clip: give frames, rows and columns, like 16x112x112")
        typer.echo(anatomy(name, [int(side) for side in sides] if sides else None).text())
        return
    from avlearn.models.listing import model_list

    _tell(model_list(pattern), json_path)


@weights_app.command("import")
def weights_import(
    source: Annotated[str, typer.Argument(metavar="FILE|ADDRESS|NAME", help="A weight file, or what to fetch.")],
    encoder: Annotated[str, typer.Option("--as", metavar="ENCODER", help="Whose weights they are.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The encoder's folder.")],
) -> None:
    """Take over released weights: check that they fit, and write them with what they expect of a video.

    Reads the files of PySlowFast, pytorchvideo, torchvision, VMZ, mmaction2, Hugging Face, timm and of many papers'
    authors. Nothing that is pickled in them is executed.

    Example: avlearn weights import SLOWFAST_8x8_R50.pyth --as slowfast_r50_8x8 -o models/slowfast

    Example: avlearn weights import torchvision --as r2plus1d_18 -o models/r2plus1d
    """
    from avlearn.models.weights.encoder_folder import import_weights

    typer.echo(import_weights(source, encoder, out).text())


@weights_app.command("list")
def weights_list(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Of encoders' names, like 'slowfast*'.")] = "*",
    json_path: Json = None,
) -> None:
    """List the weights that are fetched by name, in the networks' order.

    Example: avlearn weights list 'slowfast*'
    """
    from avlearn.models.listing import weight_list

    _tell(weight_list(pattern), json_path)


@recipe_app.command("show")
def recipe_show(recipe: Annotated[str, typer.Argument(metavar="RECIPE")], overrides: Overrides = None) -> None:
    """Print a recipe as composed, every default spelled out.

    Keys and the kinds of their values are checked; avlearn pretrain RECIPE --dry-run checks the encoders and the data.

    Example: avlearn recipe show sync_world model.video=x3d_s
    """
    from avlearn.tasks import load_recipe

    typer.echo(load_recipe(recipe, overrides or []).to_yaml().rstrip())


@recipe_app.command("list")
def recipe_list() -> None:
    """Names of the recipes that come with avlearn."""
    from avlearn.recipe import list_recipes

    typer.echo("\n".join(list_recipes()))


@app.command()
def sync(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST", help="LIST: a .txt with a path a line.", parser=_there),
    ],
    model: ModelName = "default",
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
            parser=_there,
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

    from avlearn.apply.released_sync import ask, load_released
    from avlearn.apply.sync import sync_file
    from avlearn.apply.sync_files import EXIT_CODES, sync_files
    from avlearn.data.lists import listed_sources
    from avlearn.models.audiovisual import load

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
            workers=workers,
        )  # fmt: skip
        raise typer.Exit(_sync_many(results, len(files), json_path))
    _check_sync_outputs(source, fix, out, overwrite)
    networks = [load_released(path) for path in released or ()]
    listened, loaded = _listened(source, track, channel, model), load(model)
    result = sync_file(listened, loaded, max_offset=max_offset, tolerance=tolerance)
    result = replace(result, others=ask(listened, networks, face))
    _tell(result, json_path)
    if result.status == "undecidable":
        _tell_of_other_tracks(source)
    if out:
        from avlearn.report.plots import offset_curve, write_png

        write_png(out, offset_curve(result.offsets, result.scores, result.offset))
    if fix:
        from avlearn.apply.fix import fix_file

        typer.echo(fix_file(result, fix, source=listened, model=loaded, resample=drift).text(), err=json_path == "-")
    raise typer.Exit(0 if fix else EXIT_CODES[result.status])


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
        typer.echo(f"note: the file has audio tracks {', '.join(tracks)}: try --audio-track N, or best", err=True)


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
                typer.echo(f"[{len(done)}/{count}] {result.text(advice=False)}", err=True)
        except STOPPED as error:
            stopped = exit_code(error)
    table = SyncTable([done[number] for number in sorted(done)])
    _tell(table, json_path)
    if stopped:
        typer.echo(f"avlearn: stopped with {len(done)} of {count} done", err=True)
    return stopped or EXIT_CODES[table.worst]


@app.command()
def localize(
    file: File,
    model: ModelName = "default",
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
    from avlearn.models.audiovisual import load

    target = out or Path(f"{file.stem}_localized.mp4")
    check_outputs(file, target, maps, overwrite=overwrite)
    listened = _listened(file, track, channel, model)
    with progress_bars() as progress:
        result = localize_file(listened, load(model), target, maps=maps, sources=sources, progress=progress)
    _tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def separate(
    file: File,
    model: ModelName = "default",
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
    from avlearn.apply.places import parse_choice
    from avlearn.apply.separate import separate_file, track_patterns
    from avlearn.apply.verdict import undecided
    from avlearn.models.audiovisual import load

    if form not in ("float", "24"):
        raise AvlearnError(f"'{form}' is no format: give float or 24")
    if onscreen and source:
        raise AvlearnError("--onscreen takes all sources together: leave out --source")
    choices = [parse_choice(text) for text in source or ()]
    target = check_folder(out or Path(f"{file.stem}_separated"), track_patterns(file.stem), overwrite)
    listened = _listened(file, track, channel, model)
    with progress_bars() as progress:
        result = separate_file(
            listened, load(model), target, sources=sources, choices=choices, onscreen=onscreen, form=form,
            progress=progress,
        )  # fmt: skip
    _tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def classify(
    file: File,
    model: ModelName = "default",
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
    from avlearn.models.audiovisual import load

    result = classify_file(_listened(file, track, channel, model), load(model), top=top)
    _tell(result, json_path)
    raise typer.Exit(undecided(result.verdict))


@app.command()
def embed(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST...", help="LIST: a .txt with a path a line.", parser=_local),
    ],
    model: ModelName = "default",
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
    if not any(map(_exists, files)):
        others = f", nor do the {len(files) - 1} others" if len(files) > 1 else ""
        raise AvlearnError(f"{files[0]} does not exist{others}")
    from avlearn.apply.embed import SUFFIXES, embed_files
    from avlearn.apply.encoder_alone import load_features
    from avlearn.data.lists import listed_sources

    check_output(out, SUFFIXES, files, overwrite)
    sources = [found for file in files for found in listed_sources(file) or [file]]
    result = embed_files(sources, load_features(model), out, track=track, channel=channel, overwrite=overwrite)
    _tell(result, json_path)
    raise typer.Exit(2 if result.failed else 0)


@app.command()
def probe(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A media file to look into.", parser=_there)
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="With --data: probe this model.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", metavar="MANIFEST", help="Labelled clips.", parser=_there)
    ] = None,
    track: Annotated[
        str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track of FILE.")
    ] = None,
    channel: Channel = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into a media file; or, with --model and --data, train a linear classifier on frozen features.

    Examples: avlearn probe clip.mp4   avlearn probe --model runs/sync_world --data clips/manifest.parquet
    """
    if file is not None and not data and model is None:
        from avlearn.media import probe as look

        _tell(look(_listened(file, track, channel)), json_path)
    elif file is None and data and model is not None:
        from avlearn.linear_probe import probe_manifests

        _tell(probe_manifests(model, data), json_path)
    else:
        raise AvlearnError("probe takes either a FILE, or --model and --data")


@app.command()
def evaluate(
    data: Data,
    model: ModelName = "default",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="sync, localization, separation or recognition; else all that can be."),
    ] = None,
    released: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="WEIGHTS", help="Also a released localizer, on clips with boxes: its file.", parser=_there
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(metavar="WEIGHTS", help="Also maps refined by objects: an ImageNet ResNet-18.", parser=_there),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Also a separator that sees nothing (conditioning=none).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Measure a model on held-out clips, each figure beside chance, a trivial prior, and the oracle.

    Example: avlearn evaluate --model runs/sync_world --data test/manifest.parquet

    Example: avlearn evaluate --data test/manifest.parquet --task sync --json figures.json

    LVS, EZ-VSL, SLAVC, FNAC, SSLalignment: avlearn evaluate --data vggss.parquet --task localization --with ezvsl.pth
    """
    from avlearn.evaluation import evaluate as run
    from avlearn.models.audiovisual import load, model_folder
    from avlearn.models.released.localizers import load_localizer, load_object_map
    from avlearn.tasks.synchronize.objective_folder import load_objective

    result = run(
        load(model), data, seed, tasks=task or (), objective=load_objective(model_folder(model)),
        released=[load_localizer(path) for path in released or ()],
        objects=load_object_map(objects) if objects else None, baseline=load(baseline) if baseline else None,
    )  # fmt: skip
    _tell(result, json_path)


@app.command()
def audit(
    data: Data, model: ModelName = "default", seed: Annotated[int, typer.Option(min=0)] = 0, json_path: Json = None
) -> None:
    """Do the clips give offsets away, by the sound alone or the picture alone?

    Finds fades, clicks, leading silence, padding and traces of codecs that give an offset away. The model's own test is
    made too, with a black picture and with another clip's sound.

    Exit code: 0 clean, 1 leak found, 2 error.

    Example: avlearn audit --data clips/manifest.parquet
    """
    from avlearn.evaluation.audit import audit as run
    from avlearn.models.audiovisual import load, model_folder
    from avlearn.tasks.synchronize.objective_folder import load_objective

    result = run(load(model), data, seed, objective=load_objective(model_folder(model)))
    _tell(result, json_path)
    raise typer.Exit(1 if result.leaks else 0)


def _arguments(given: list[str]) -> list[str]:
    """The words of a command, where files whose names begin with a dash are no options."""
    options = given[: given.index("--")] if "--" in given else given
    meant = [f"./{word}" if word.startswith("-") and "." in word and is_file(word) else word for word in options]
    return meant + given[len(options) :]


def main() -> None:
    """Run; what the user can mend becomes one line and the error's exit code. SIGTERM acts as Ctrl-C."""
    heed()
    with terminal():
        try:
            app(_arguments(sys.argv[1:]))
        except AvlearnError as error:
            print(f"avlearn: error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except STOPPED as error:
            _end_stopped(error)
        except SystemExit as end:
            # Typer ends a Ctrl-C that no command took with code 130, and without a word.
            if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
                print("avlearn: stopped", file=sys.stderr)
            raise
        except Exception as error:  # whatever a module makes of an order to end that breaks its import off
            if (order := arrived()) is not None:
                _end_stopped(order)
            if isinstance(error, UnicodeError) and sys.getfilesystemencoding() != "utf-8":
                _end_unnamed(error)
            raise


def _end_stopped(order: BaseException) -> NoReturn:
    print("avlearn: stopped", file=sys.stderr)
    sys.exit(exit_code(order))


def _end_unnamed(error: UnicodeError) -> NoReturn:
    """End where the locale can hold few names: Python encodes them wherever a file is touched."""
    print(f"avlearn: error: names are {sys.getfilesystemencoding()} here ({error}): set PYTHONUTF8=1", file=sys.stderr)
    sys.exit(2)
