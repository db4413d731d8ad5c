"""The commands probe and linear-probe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import (
    Channel,
    Device,
    Json,
    ModelName,
    Overwrite,
    Precision,
    Workers,
    anywhere,
    reachable,
    tell,
    there,
)
from avlearn.cli.tools import look_at, use_tool
from avlearn.errors import AvlearnError
from avlearn.terminal import remark


@app.command()
def probe(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|FOLDER|LIST|MANIFEST", help="As for avlearn sync.", parser=anywhere),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", hidden=True)] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", hidden=True, parser=reachable)] = None,
    track: Annotated[
        str | None, typer.Option("--audio-track", metavar="N|LANG", help="Which audio track of FILE.")
    ] = None,
    channel: Channel = None,
    workers: Workers = None,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Look into a media file: streams, sizes, rates, durations, and which tracks are used.

    Of many files each is a row, what is wrong with it too; the exit code is then 2.

    Example: avlearn probe clip.mp4

    Example: avlearn probe videos/ --json streams.json
    """
    if sources and not data and model is None:
        _probe(sources, track, channel, workers, json_path)
    elif not sources and data and model is not None:
        from avlearn.evaluation.linear_probe import probe_manifests

        remark("note: avlearn linear-probe is the name of this command now")
        tell(probe_manifests(model, data, "auto"), json_path)
    else:
        raise AvlearnError("probe takes a FILE; a linear probe of a model is: avlearn linear-probe --data MANIFEST")


def _probe(
    sources: Sequence[Path | str], track: str | None, channel: str | None, workers: int | None, json_path: str | None
) -> None:  # fmt: skip
    given = look_at(sources)
    from avlearn.apply.run_many import InferenceOptions
    from avlearn.apply.tools import PROBE

    inference = InferenceOptions(track=track, channel=channel)
    _, code = use_tool(PROBE, given, inference, workers=workers, json_path=json_path)
    raise typer.Exit(code)


@app.command("linear-probe")
def linear_probe(
    data: Annotated[
        list[Path],
        typer.Option(
            "--data", metavar="MANIFEST", help="Labelled clips; may be given several times.", parser=reachable
        ),
    ],
    model: ModelName = "default",
    classifier: Annotated[str, typer.Option(metavar="NAME", help="logistic, svm, knn or attentive.")] = "logistic",
    shots: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Learn from K clips a class, by nearest centroids.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, help="Draws of so many shots.")] = 600,
    folds: Annotated[bool, typer.Option("--folds", help="Go through all folds of the manifest.")] = False,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features", metavar="NPZ|PARQUET|FOLDER", help="What avlearn embed wrote of them.", parser=there
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="A copy of the model, its labels these classifiers."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "32",
    overwrite: Overwrite = False,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Train a simple classifier on a model's frozen features of labelled clips, beside those of the untrained network.

    Clips may have video or audio alone: each kind is probed on the clips that have it. What a classifier cannot learn,
    like its regularisation, is chosen on validation clips.

    Example: avlearn linear-probe --model runs/sync_world --data clips/manifest.parquet

    All splits of a corpus (avlearn scan --corpus ucf101): avlearn linear-probe --data ucf101.parquet --folds

    Few clips a class, drawn 600 times: avlearn linear-probe --data clips/manifest.parquet --shots 5

    Labels of your own: avlearn linear-probe --data clips/manifest.parquet -o models/mine

    Then: avlearn classify films/ --model models/mine

    Nothing decoded again: avlearn linear-probe --features features.npz --data clips/manifest.parquet --classifier svm
    """
    from avlearn.evaluation.linear_probe import ProbeProtocol, probe_manifests, probe_table

    protocol = ProbeProtocol(classifier, shots, episodes, folds)
    if features is not None:
        if out is not None:
            raise AvlearnError("--output needs the clips themselves, to know others like them: leave out --features")
        tell(probe_table(features, data, protocol), json_path)
    elif out is not None:
        from avlearn.evaluation.labelled_model import probe_into

        tell(probe_into(out, model, data, protocol, device, precision, overwrite), json_path)
    else:
        tell(probe_manifests(model, data, device, precision, protocol), json_path)
