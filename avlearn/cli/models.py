"""Commands that list encoders and take over released weights."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app, weights_app
from avlearn.cli.options import Json, tell
from avlearn.errors import AvlearnError


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

    tell(model_list(pattern), json_path)


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

    tell(weight_list(pattern), json_path)
