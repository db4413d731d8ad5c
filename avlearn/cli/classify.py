"""The command classify."""

from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Channel, Device, Files, Json, ModelName, Precision, Track, Workers
from avlearn.cli.tools import look_at, use_tool


@app.command()
def classify(
    files: Files,
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

    Of a file unlike the model's training data, the kind of sound is named where it is sure: speech, music, impacts,
    engine, animal, cry or cough, water or fire.

    Exit code: 0 labelled, 3 neither the model nor the kind of sound can tell, 2 error; of many files, the worst in this
    order.

    Example: avlearn classify clip.mp4 --json -

    Example: avlearn classify videos/ --json labels.json
    """
    given = look_at(files, model)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import CLASSIFY

    inference = InferenceOptions(model, device, precision, track, channel)
    _, code = use_tool(
        CLASSIFY, given, inference, options={"top": top}, workers=workers, json_path=json_path
    )  # fmt: skip
    raise typer.Exit(code)
