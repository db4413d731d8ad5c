"""Commands that list encoders and take over released weights."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import models_app, weights_app
from avlearn.cli.options import Json, tell
from avlearn.errors import AvlearnError


@models_app.command("list")
def models_list(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Like 'slowfast*'.")] = "*", json_path: Json = None
) -> None:
    """List the encoders: what each costs, and who published it. The word list may be left out.

    Example: avlearn models 'slowfast*'
    """
    from avlearn.models.listing import model_list

    tell(model_list(pattern), json_path)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    clip: Annotated[str | None, typer.Option(metavar="TxHxW", help="Of the stages' sizes.")] = None,
) -> None:
    """Draw the stages of an encoder, with the size of what comes out of each.

    Example: avlearn models show slowfast_r50_8x8 --clip 32x256x256
    """
    sides = clip.split("x") if clip else None
    if sides and not all(side.isdigit() for side in sides):
        raise AvlearnError(f"'{clip}' is no clip: give frames, rows and columns, like 16x112x112")
    from avlearn.models.anatomy import anatomy

    typer.echo(anatomy(name, [int(side) for side in sides] if sides else None).text())


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
    from avlearn.models.weights.download import require_source
    from avlearn.models.weights.released import released_weights

    require_source(source, encoder, [found.name for found in released_weights() if found.encoder == encoder])
    from avlearn.models.weights.encoder_folder import import_weights

    typer.echo(import_weights(source, encoder, out).text())


@weights_app.command("list")
def weights_list(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Of names, like 'slowfast*'.")] = "*",
    json_path: Json = None,
) -> None:
    """List what can be had by name: whole systems (for sync, localize, separate --model), and encoders' weights.

    Of one encoder with the addresses.

    Example: avlearn weights list 'slowfast*'

    Example: avlearn weights list r2plus1d_18
    """
    from avlearn.models.listing import weight_list

    tell(weight_list(pattern), json_path)
