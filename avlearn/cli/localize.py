"""The command localize."""

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
    ModelOrSystem,
    Overwrite,
    PartOption,
    Precision,
    Results,
    Track,
    Workers,
    who_works,
)
from avlearn.cli.tools import Given, look_at, output_files, output_folder, use_tool

_Out = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="MP4|FOLDER", help="Else NAME_localized[.mp4].")
]  # fmt: skip
_Sources = Annotated[bool, typer.Option("--sources", help="List the sources too, and draw their boxes.")]
_Maps = Annotated[Path | None, typer.Option(metavar="NPZ|FOLDER", help="The maps; else beside the video.")]


@app.command()
def localize(
    files: Files,
    model: ModelOrSystem = "default",
    device: Device = "auto",
    precision: Precision = "32",
    out: _Out = None,
    sources: _Sources = False,
    maps: _Maps = None,
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
    """Where does the sound come from? Writes the heatmap over the video, and the maps as .npz.

    The heatmap is the fainter, the less anything on screen explains the sound. An offset is corrected to measure.

    Where the model cannot tell, the lips of faces are asked (extra faces); where they are not sure either, the map of
    what moves with the sound is drawn as a guess.

    Of many files each has its NAME_localized.mp4 in a folder, lying there as the files lie, and a row of the table,
    what cannot be read too.

    Exit code: 0 answered, 3 the model cannot tell (the files are written all the same), 2 error; of many files, the
    worst in this order.

    Example: avlearn localize street.mp4 -o street_heat.mp4

    Example: avlearn localize videos/ -o heat/ --maps maps/

    Example: avlearn localize street.mp4 --sources --json street.json

    By a released network (see avlearn weights list): avlearn localize street.mp4 --model ezvsl
    """
    given = look_at(files, model, part)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import LOCALIZE

    inference, options = InferenceOptions(model, device, precision, track, channel), {"sources": sources}
    given = given.kept_in(results, LOCALIZE, inference, options)
    each = _outputs(given, out, maps, overwrite)
    _, code = use_tool(
        LOCALIZE, given, inference, options=options, each=each, outputs=[path for own in each for path in own.values()],
        workers=who_works(workers, engine, address, device), json_path=json_path,
    )  # fmt: skip
    raise typer.Exit(code)


def _outputs(given: Given, out: Path | None, maps: Path | None, overwrite: bool) -> list[dict[str, Path]]:
    """The video and the maps of each file, checked."""
    source, files = given.source, given.files
    if files is None:
        from avlearn.apply.localize.file import check_outputs

        video = out or Path(f"{Path(source).stem}_localized.mp4")
        arrays = maps or video.with_suffix(".npz")
        check_outputs(source, video, arrays, overwrite=overwrite)
        return [{"out": video, "maps": arrays}]
    from avlearn.media.writer import VIDEO_SUFFIXES

    folder = output_folder(out, given, "localized")
    videos = output_files(folder, given, lambda _: "_localized.mp4", VIDEO_SUFFIXES, overwrite)
    beside = output_files(maps or folder, given, lambda _: "_localized.npz", (".npz",), overwrite)
    return [{"out": video, "maps": arrays} for video, arrays in zip(videos, beside, strict=True)]
