"""The command flow."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Device, Files, Json, Overwrite, Workers
from avlearn.cli.tools import Given, look_at, output_files, output_folder, use_tool

_Out = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="MP4|FOLDER", help="Else NAME_flow[.mp4].")
]  # fmt: skip
_Arrays = Annotated[
    Path | None, typer.Option(metavar="NPZ|FOLDER", help="Write the vectors too, as float16, in pixels.")
]  # fmt: skip
_Method = Annotated[
    str,
    typer.Option(
        metavar="NAME[:WEIGHTS]",
        help="lucas_kanade, tv_l1, farneback, dis; or a network with a file of its weights: raft_large:FILE, "
        "raft_small:FILE, flownet_s:FILE, flownet_c:FILE.",
    ),
]
_Size = Annotated[
    int | None, typer.Option(min=16, metavar="PX", help="Scale the shorter side to this first: the less, the faster.")
]  # fmt: skip
_Track = Annotated[
    str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track is kept.")
]  # fmt: skip
_Longest = Annotated[
    float | None,
    typer.Option(min=0.01, metavar="PX", help="Motion that has the full colour; else 2 % of the diagonal."),
]  # fmt: skip


@app.command()
def flow(
    files: Files,
    method: _Method = "lucas_kanade",
    device: Device = "auto",
    out: _Out = None,
    arrays: _Arrays = None,
    size: _Size = None,
    longest: _Longest = None,
    track: _Track = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """How does everything move? Writes the motion from each frame to the next as colours.

    The hue is the direction: right is red, down yellow, left cyan, up blue. The stronger the colour, the faster; white
    does not move. Across a cut there is no motion: that frame is black, and NaN in the arrays.

    lucas_kanade and tv_l1 run on the GPU where there is one; tv_l1 keeps sharp edges and takes longer; dis is the
    fastest on a processor, and erred least on real pairs with known flow.

    Of many files each has its NAME_flow.mp4 in a folder, lying there as the files lie, and a row of the table, what
    cannot be read too. The audio is kept; none is needed.

    Exit code: 0 done, 2 error, of one of the files too.

    Example: avlearn flow street.mp4 -o street_flow.mp4

    Example: avlearn flow videos/ -o flow/ --arrays flow/ --size 256

    With a network: avlearn flow street.mp4 --method raft_large:raft-things.pth
    """
    given = look_at(files)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import FLOW

    each = _outputs(given, out, arrays, overwrite)
    _, code = use_tool(
        FLOW, given, InferenceOptions(method, device, track=track),
        options={"size": size, "longest": longest}, each=each,
        outputs=[path for own in each for path in own.values()], workers=workers, json_path=json_path,
    )  # fmt: skip
    raise typer.Exit(code)


def _outputs(given: Given, out: Path | None, arrays: Path | None, overwrite: bool) -> list[dict[str, Path]]:
    """The video and the arrays of each file, checked."""
    source, files = given.source, given.files
    if files is None:
        from avlearn.apply.flow.video import check_flow_outputs

        video = out or Path(f"{Path(source).stem}_flow.mp4")
        check_flow_outputs(source, video, arrays, overwrite=overwrite)
        return [{"out": video, **({"arrays": arrays} if arrays else {})}]
    from avlearn.media.writer import VIDEO_SUFFIXES

    folder = output_folder(out, given, "flow")
    videos = output_files(folder, given, lambda _: "_flow.mp4", VIDEO_SUFFIXES, overwrite)
    if arrays is None:
        return [{"out": video} for video in videos]
    beside = output_files(arrays, given, lambda _: "_flow.npz", (".npz",), overwrite)
    return [{"out": video, "arrays": values} for video, values in zip(videos, beside, strict=True)]
