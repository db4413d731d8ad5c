"""The command calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Device, Json, ModelName, Overwrite, Precision, Workers, reachable, tell
from avlearn.cli.tools import gathered, many
from avlearn.errors import DataError

_Clips = Annotated[
    list[Path],
    typer.Option(
        "--data", metavar="FOLDER|LIST|MANIFEST", help="Clips, or shards; may be given several times.", parser=reachable
    ),
]
_Out = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="The calibrated model; else NAME_calibrated.")
]  # fmt: skip


@app.command()
def calibrate(
    data: _Clips,
    model: ModelName = "default",
    out: _Out = None,
    device: Device = "auto",
    precision: Precision = "32",
    workers: Workers = None,
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:
    """Show a model clips like yours: which footage it knows, and how sure it may be of what it says there.

    The clips, 20 at least, have to be in sync, and their sound has to come from what is in view: that is taken as the
    truth. Of each, the first half minute is looked at. Weights stay as they are: to learn from clips, use pretrain.

    In-distribution: what the clips' video and audio are like. Held-out clips are counted beside noise.

    Confidence in an offset: the clips' audio is moved by known delays, or replaced by another clip's.

    Probability of a source on screen: own audio beside noise and another clip's. It is not used where less than 80 % of
    the own audio is recognized.

    Each figure is of clips that it was not fitted on, beside what the share of right ones gives alone. What the clips
    cannot tell is not calibrated any more: separated tracks always, because each source's own audio is not there.
    Classifiers keep to the clips that they were trained on.

    Exit code: 0 written, with clips that cannot be read listed; 2 error, such as too few clips, or a model that tells
    nothing of such clips: it is not said to know them.

    Example: avlearn calibrate --data clips/ -o models/mine

    Example: avlearn calibrate --model runs/sync_world --data clips/manifest.parquet --json figures.json

    Then: avlearn sync films/ --model models/mine
    """
    sources = gathered(data, model)
    names = ", ".join(map(str, data))
    from avlearn.apply.calibrate import LEAST, CalibrateResult, calibrated_on, clip_options
    from avlearn.apply.run_many import Failure, InferenceOptions, open_model
    from avlearn.apply.tools import CALIBRATE
    from avlearn.models.calibrated_folder import check_calibrated_folder, write_calibrated
    from avlearn.models.named import model_folder

    if len(sources) < LEAST:
        raise DataError(f"{names} holds {len(sources)} clips: a calibration stands on {LEAST} at least")
    folder, target = model_folder(model), out or Path(f"{Path(model).name}_calibrated")
    check_calibrated_folder(folder, target, overwrite)
    inference = InferenceOptions(model, device, precision)
    table, stopped = many(CALIBRATE, sources, inference, each=clip_options(sources), workers=workers)
    if stopped:  # what some of the clips tell is not what was asked for
        raise typer.Exit(stopped)
    found = [result for result in table.results if not isinstance(result, Failure)]
    failed = [(result.path, result.reason) for result in table.results if isinstance(result, Failure)]
    [opened] = open_model(CALIBRATE, inference)
    calibrated = calibrated_on(found, opened.in_distribution, labels=bool(opened.config.labels))
    write_calibrated(
        folder, target, calibrated.in_distribution, calibrated.calibrations, names, calibrated.lines()
    )  # fmt: skip
    tell(CalibrateResult(str(target), model, [str(given) for given in data], calibrated, failed), json_path)
