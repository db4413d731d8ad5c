"""The command preview."""

from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Data, Device, Json, Precision, tell
from avlearn.errors import AvlearnError
from avlearn.terminal import progress_line


@app.command()
def preview(
    data: Data,
    model: Annotated[str, typer.Option("--model", "-m", metavar="PATH", help="A recognizer of avlearn finetune.")],
    image: Annotated[
        str, typer.Option("--image-encoder", metavar="NAME", help="Of one frame: a video encoder.")
    ] = "dsconv_tiny",
    audio: Annotated[str, typer.Option("--audio-encoder", metavar="NAME", help="Of the audio.")] = "conv2d_tiny",
    epochs: Annotated[int, typer.Option(min=1, help="Of learning what the model says.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    precision: Precision = "32",
    json_path: Json = None,
) -> None:
    """Teach a recognizer which moments of a long file to look at, by its audio and one frame a window.

    The files need labels; of those with splits, the training files are taken. They are held in memory, by one frame
    and the audio of each window: 0.1 MB a window of 2 s. The preview is written into the model's folder.

    Example: avlearn preview --model runs/world --data films.parquet

    Then: avlearn classify film.mp4 --model runs/world --budget 4

    What it is worth: avlearn evaluate --model runs/world --data films.parquet --budget 4
    """
    from avlearn.models.recognizer_folder import load_recognizer, recognizer_folder

    if recognizer_folder(model) is None:
        raise AvlearnError(f"{model} is no recognizer: avlearn finetune trains one")
    from avlearn.evaluation.preview import preview_from

    network = load_recognizer(model, device, precision)
    with progress_line("reading") as reading, progress_line("learning") as learning:
        result = preview_from(
            network, data, image=image, audio=audio, epochs=epochs, seed=seed, reading=reading, learning=learning
        )
    tell(result, json_path)
