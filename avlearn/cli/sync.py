"""The command sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    there,
    who_works,
)
from avlearn.cli.tools import Given, look_at, output_files, use_tool
from avlearn.errors import AvlearnError, SyncError
from avlearn.files import check_output

if TYPE_CHECKING:
    from avlearn.media.source import Source

_Fix = Annotated[
    Path | None,
    typer.Option(metavar="OUT|FOLDER", help="Also write the file, its audio put right; of many, NAME_fixed each."),
]
_Drift = Annotated[bool, typer.Option("--drift", help="With --fix: mend a drift, by resampling the audio.")]
_MaxOffset = Annotated[
    float | None, typer.Option(min=0.2, max=10, help="Seconds searched on each side; else by the length.")
]
_Tolerance = Annotated[float, typer.Option(min=0, max=10, help="Seconds that count as in sync.")]
_Curve = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PNG|FOLDER", help="Also draw the curve; of many, NAME_sync.png each."),
]
_Released = Annotated[
    list[Path] | None,
    typer.Option(
        "--with", metavar="WEIGHTS", help="Also ask SyncNet v2, Synchformer or SparseSync: their file.", parser=there
    ),
]
_Crop = Annotated[
    str | None,
    typer.Option(metavar="X,Y,W,H", help="The square that SyncNet takes for a face, in pixels; else each face found."),
]  # fmt: skip


@app.command()
def sync(
    sources: Files,
    model: ModelOrSystem = "default",
    device: Device = "auto",
    precision: Precision = "32",
    fix: _Fix = None,
    drift: _Drift = False,
    track: Track = None,
    channel: Channel = None,
    max_offset: _MaxOffset = None,
    tolerance: _Tolerance = 0.04,
    out: _Curve = None,
    released: _Released = None,
    crop: _Crop = None,
    workers: Workers = None,
    engine: Engine = "processes",
    address: Address = None,
    part: PartOption = None,
    results: Results = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Is the file in sync? Offset in ms, drift, and edits; offsets are positive when the audio leads.

    Of several files each is a row, what is wrong with it too. They may come from folders, manifests, and lists (a .txt
    or, as '-', standard input, with a path a line from the list's folder on; lines that begin with # are passed over).

    A fix is the whole file, only its audio moved; it is measured again before it gets its name.

    Exit code: 0 in sync within the tolerance, 1 out of sync, 3 undecidable, 2 error; of many files, the worst in this
    order. With --fix: 0 fixed, 2 not fixed, for whatever reason.

    Example: avlearn sync talk.mp4 --fix talk_fixed.mp4

    Example: avlearn sync *.mp4

    Example: avlearn sync videos/ --fix fixed/ --json report.json

    LSE-D and LSE-C of every speaker (faces: pip install 'avlearn[faces]'): avlearn sync talk.mp4 --model syncnet

    Beside our model's answer, from files of yours: avlearn sync talk.mp4 --with syncnet_v2.model

    By a released network, which is fetched once: avlearn sync talk.mp4 --model synchformer (or syncnet, sparsesync)
    """
    given = look_at(sources, model, part)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import SYNC

    options = {"max_offset": max_offset, "tolerance": tolerance, "resample": drift, **_asked(model, released, crop)}
    inference = InferenceOptions(model, device, precision, track, channel)
    given = given.kept_in(results, SYNC, inference, options)
    each = _outputs(given, fix, drift, out, overwrite)
    outputs, by = [path for own in each for path in own.values()], who_works(workers, engine, address, device)
    result, code = use_tool(
        SYNC, given, inference, options=options, each=each, outputs=outputs, workers=by, json_path=json_path
    )
    if given.files is None and result.not_fixed:
        raise SyncError(result.not_fixed)
    raise typer.Exit(code)


def _asked(model: str, released: list[Path] | None, crop: str | None) -> dict[str, Any]:
    """Which released networks are asked, and about which part of the frame."""
    if crop and not released:
        from avlearn.models.weights.systems import released_systems

        if model not in released_systems():
            raise AvlearnError("--crop goes with --model syncnet, or --with WEIGHTS of SyncNet")
    face = _box(crop) if crop else None
    for weights in released or ():
        from avlearn.apply.sync.tool import load_network

        load_network(weights)
    return {"released": tuple(released or ()), "crop": face}


def _box(text: str) -> tuple[int, int, int, int]:
    """Left, top, width and height."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts) or not all(map(int, parts[2:])):
        raise AvlearnError(f"'{text}' is no box: give left, top, width and height in pixels, like 400,80,224,224")
    left, top, width, height = map(int, parts)
    return left, top, width, height


def _outputs(given: Given, fix: Path | None, drift: bool, curve: Path | None, overwrite: bool) -> list[dict[str, Path]]:
    """What is written for each file, checked."""
    from avlearn.media.containers import CONTAINERS

    if drift and not fix:
        raise AvlearnError("--drift goes with --fix OUT")
    source, files = given.source, given.files
    if files is None:
        if fix:
            check_output(fix, CONTAINERS, [source], overwrite)
        if curve:
            check_output(curve, (".png",), [source], overwrite)
        return [{name: path for name, path in (("fix", fix), ("curve", curve)) if path}]
    each: list[dict[str, Path]] = [{} for _ in files]
    if fix:
        for own, path in zip(each, output_files(fix, given, _fixed_ending, CONTAINERS, overwrite), strict=True):
            own["fix"] = path
    if curve:
        drawn = output_files(curve, given, lambda _: "_sync.png", (".png",), overwrite)
        for own, path in zip(each, drawn, strict=True):
            own["curve"] = path
    return each


def _fixed_ending(file: "Source") -> str:
    """A file keeps its container where that can be written; Matroska holds what the others do."""
    from avlearn.media.containers import CONTAINERS

    suffix = Path(str(file)).suffix
    return f"_fixed{suffix if suffix.lower() in CONTAINERS else '.mkv'}"
