"""The command classify."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Address,
    Channel,
    Device,
    Engine,
    Files,
    Json,
    ModelName,
    Overwrite,
    PartOption,
    Precision,
    Results,
    Track,
    Workers,
    who_works,
)
from avlearn.cli.tools import Given, look_at, output_files, use_tool
from avlearn.errors import AvlearnError

_Out = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="MP4|FOLDER",
        help="Also draw the labels over time; of many, NAME_classified.mp4 each.",
    ),
]  # fmt: skip


@app.command()
def classify(
    files: Files,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    top: Annotated[int, typer.Option(min=1, help="Labels shown.")] = 3,
    budget: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Recognizers: look at N windows of a file, that avlearn preview picks."),
    ] = None,
    out: _Out = None,
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
    """What is happening? Labels from video, audio, and both.

    Of a file unlike the model's training data, the kind of sound is named where it is sure: speech, music, impacts,
    engine, animal, cry or cough, water or fire.

    With -o, the video is written with a strip under it: a colour for each label along the time, a mark at the moment,
    and its label and probability. Grey is what is unlike the training data, or silent.

    Exit code: 0 labelled, 3 neither the model nor the kind of sound can tell, 2 error; of many files, the worst in this
    order.

    Example: avlearn classify clip.mp4 --json -

    Example: avlearn classify long.mp4 --model runs/world -o long_labels.mp4

    Example: avlearn classify videos/ --json labels.json

    Example: avlearn classify film.mp4 --model runs/world --budget 4
    """
    if budget is not None and out is not None:
        raise AvlearnError("--budget: not with -o, which draws the labels of all windows")
    given = look_at(files, model, part)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import CLASSIFY

    inference = InferenceOptions(model, device, precision, track, channel)
    options = {"top": top, "budget": budget}
    given = given.kept_in(results, CLASSIFY, inference, options)
    each = _outputs(given, out, overwrite)
    _, code = use_tool(
        CLASSIFY, given, inference, options=options, each=each,
        outputs=[path for own in each for path in own.values()],
        workers=who_works(workers, engine, address, device), json_path=json_path,
    )  # fmt: skip
    raise typer.Exit(code)


def _outputs(given: Given, out: Path | None, overwrite: bool) -> list[dict[str, Path]]:
    """The overlay of each file, checked, where they were asked for."""
    if given.files is None:
        if out is None:
            return [{}]
        from avlearn.apply.label_overlay import check_overlay

        check_overlay(given.file or given.source, out, overwrite=overwrite)
        return [{"out": out}]
    if out is None:
        return [{} for _ in given.files]
    from avlearn.media.writer import VIDEO_SUFFIXES

    videos = output_files(out, given, lambda _: "_classified.mp4", VIDEO_SUFFIXES, overwrite)
    return [{"out": video} for video in videos]
