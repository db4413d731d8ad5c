"""The command explain."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Device, Json, Overwrite, anywhere, tell

_Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="What finetune or weights import wrote, or an encoder whose weights are fetched by name; of other models "
        "the filters alone are shown.",
    ),
]
_File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="A video file, to show what it is named by.", parser=anywhere)
]
_Out = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Else FILE_explained or MODEL_explained.")
]  # fmt: skip
_Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="NAME", help="A class to show, may be given several times; else the file's three likeliest, "
        "or the first four.",
    ),
]  # fmt: skip
_Steps = Annotated[int, typer.Option(min=1, help="Of the drawing of each class: the fewer, the faster.")]


@app.command()
def explain(
    model: _Model,
    file: _File = None,
    out: _Out = None,
    labels: _Labels = None,
    steps: _Steps = 200,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """What has a network learned, and what does it look at? Writes a page, with its pictures and films beside it.

    First-layer filters, as little films. What each class would most like to see and hear, drawn from noise: slow, where
    change over time costs much, and fast, where it costs little. With a FILE, where in its frames, and where in its
    spectrogram, the features are that speak for a class (Grad-CAM).

    A map shows what raised a score. It does not say that the label is right, or that the network would name it
    otherwise without that.

    Example: avlearn explain runs/recognize/model

    Example: avlearn explain runs/recognize/model clip.mp4 --label drum -o drum/
    """
    given = None
    if file is not None:
        from avlearn.cli.tools import look_at

        given = look_at([file])
    from avlearn.errors import AvlearnError

    if given is not None and given.file is None:
        raise AvlearnError(f"{file} is no single file: explain takes one video file")
    folder = out or Path(f"{_name(model) if file is None else Path(str(file)).stem}_explained")
    from avlearn.apply.explain.explain import check_explain_output, explain
    from avlearn.apply.explain.network import open_network
    from avlearn.terminal import progress_bars

    check_explain_output(folder, overwrite)
    network = open_network(model, device)
    opened = nullcontext() if given is None or given.file is None else closing(given.file)
    with opened as source, progress_bars() as say:
        result = explain(network, folder, path=source, labels=labels or (), steps=steps, progress=say)
    tell(result, json_path)


def _name(model: str) -> str:
    """Of a model folder, or of the run that it lies in."""
    folder = Path(model).resolve()
    return folder.parent.name if folder.name == "model" else folder.name
