"""The command separate."""

from pathlib import Path
from typing import Annotated, Any

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
    Results,
    Track,
    Workers,
    who_works,
)
from avlearn.cli.tools import Given, look_at, output_folder, use_tool
from avlearn.errors import AvlearnError
from avlearn.files import check_folder

_Out = Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Else NAME_separated.")]
_Sources = Annotated[int, typer.Option(min=1, max=8, help="Sources to look for, at most.")]
_Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHICH",
        help="A source to take instead: left, right, x,y or x0,y0,x1,y1 in fractions of the frame, its number in an "
        'earlier result, or "face N". May be given several times.',
    ),
]
_When = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPANS",
        help="The source that sounds from one second to another, as 6.3-7, or in several spans, as 6.3-7,9-9.5. May "
        "be given several times.",
    ),
]
_OnScreen = Annotated[bool, typer.Option("--onscreen", help="Two tracks: what is on screen, and the rest.")]
_Form = Annotated[str, typer.Option("--format", metavar="float|24", help="Of the WAV files.")]


@app.command()
def separate(
    files: Files,
    model: ModelOrSystem = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: _Out = None,
    sources: _Sources = 2,
    source: _Source = None,
    when: _When = None,
    onscreen: _OnScreen = False,
    form: _Form = "float",
    track: Track = None,
    channel: Channel = None,
    workers: Workers = None,
    engine: Engine = "processes",
    address: Address = None,
    part: PartOption = None,
    results: Results = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Give each visible source its own track; tracks and residual add up to the input.

    Sources are found within each shot of a film. One that the film comes back to keeps its track. Of people who talk
    each face gets its voice, by its lips: where the model cannot tell, or with --model voices (needs avlearn[faces]).

    Of many files each has a folder of its own, lying as the files lie, and a row of the table, what cannot be read too.

    Exit code: 0 answered, 3 the model cannot tell which track is whose (they are written all the same), 2 error; of
    many files, the worst in this order.

    Example: avlearn separate duet.mp4 --sources 2 -o duet/

    Example: avlearn separate duets/ -o tracks/

    Example: avlearn separate interview.mp4 --source left --source right --format 24

    What barks between 6.3 s and 7 s, all through the film: avlearn separate dog.mp4 --when 6.3-7

    The second face: avlearn separate interview.mp4 --source "face 2" --model voices

    By a released network (see avlearn weights list): avlearn separate duet.mp4 --model sound_of_pixels
    """
    given = look_at(files, model, part)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import SEPARATE

    if form not in ("float", "24"):
        raise AvlearnError(f"'{form}' is no format: give float or 24")
    choices = _choices(source or [], when or [], onscreen)
    options: dict[str, Any] = {"sources": sources, "choices": choices, "onscreen": onscreen, "form": form}
    inference = InferenceOptions(model, device, precision, track, channel)
    given = given.kept_in(results, SEPARATE, inference, options)
    targets = _outputs(given, out, overwrite)
    _, code = use_tool(
        SEPARATE, given, inference, options=options,
        each=[{"out_dir": folder} for folder, _ in targets], outputs=[folder / stem for folder, stem in targets],
        workers=who_works(workers, engine, address, device), json_path=json_path,
    )  # fmt: skip
    raise typer.Exit(code)


def _choices(source: list[str], when: list[str], onscreen: bool) -> list[Any]:
    """The sources that are asked for, one by one."""
    from avlearn.apply.source_choice import parse_choice, parse_when

    if onscreen and (source or when):
        raise AvlearnError(f"--onscreen takes all sources together: leave out {'--source' if source else '--when'}")
    return [*map(parse_choice, source), *map(parse_when, when)]


def _outputs(given: Given, out: Path | None, overwrite: bool) -> list[tuple[Path, str]]:
    """The folder for each file's tracks, checked, and the stem of their names."""
    from avlearn.apply.separate.file import track_patterns

    origin, files = given.source, given.files
    if files is None:
        stem = Path(origin).stem
        targets = [(out or Path(f"{stem}_separated"), stem)]
    else:
        folder = output_folder(out, given, "separated")
        own = zip(given.output_names(), files, strict=True)
        targets = [(folder / name, Path(str(path)).stem) for name, path in own]
    for target, stem in targets:
        check_folder(target, track_patterns(stem), overwrite or given.goes_on)
    return targets
