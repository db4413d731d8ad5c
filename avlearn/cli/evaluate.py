"""The command evaluate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from avlearn.cli.app import app
from avlearn.cli.options import Data, Device, Json, Precision, tell, there
from avlearn.errors import AvlearnError
from avlearn.terminal import progress_line, remark

Models = Annotated[
    list[str],
    typer.Option(
        "--model", "-m", metavar="NAME|PATH",
        help="A model folder; default: the one in the package. Recognizers: one of each fold, to average.",
    ),
]  # fmt: skip
Tasks = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK", help="sync, localization, separation or recognition; else all that can be."),
]
Released = Annotated[
    list[Path] | None,
    typer.Option(
        "--with", metavar="WEIGHTS", help="Also a released localizer, on clips with boxes: its file.", parser=there
    ),
]
Objects = Annotated[
    Path | None,
    typer.Option(metavar="WEIGHTS", help="Also maps refined by objects: an ImageNet ResNet-18.", parser=there),
]
Baseline = Annotated[
    str | None, typer.Option(metavar="NAME|PATH", help="Also a separator that sees nothing (conditioning=none).")
]
Views = Annotated[
    str | None,
    typer.Option(
        metavar="[RULE:]KxC",
        help="Recognizers: clips x crops of a file: 10x3, pyslowfast:10x3, uniform:2x3, dense:x3; 10x1 by default.",
    ),
]
Average = Annotated[
    str | None,
    typer.Option(metavar="probabilities|logits", help="Recognizers: what is averaged; probabilities by default."),
]
Report = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Recognizers: write a page of classes, confusions, hard clips.")
]

Budget = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Recognizers: look at N windows of a file, that avlearn preview picks."),
]


@app.command()
def evaluate(
    data: Data,
    model: Models = ["default"],  # noqa: B006  # typer's defaults are lists
    device: Device = "auto",
    precision: Precision = "32",
    task: Tasks = None,
    released: Released = None,
    objects: Objects = None,
    baseline: Baseline = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    views: Views = None,
    average: Average = None,
    page: Report = None,
    budget: Budget = None,
    json_path: Json = None,
) -> None:
    """Measure a model on held-out clips, each figure beside chance, a trivial prior, and the oracle.

    A recognizer is measured on the test split of the fold that it was trained on, else on the validation split; where
    there are no splits, on all clips. Those of the split train are never tested on.

    Example: avlearn evaluate --model runs/sync_world --data test/manifest.parquet

    Example: avlearn evaluate --data test/manifest.parquet --task sync --json figures.json

    Example: avlearn evaluate --model runs/ucf101_finetune --data ucf101.parquet --views 10x3 --page report

    Long files: avlearn evaluate --model runs/world --data films.parquet --budget 4

    LVS, EZ-VSL, SLAVC, FNAC, SSLalignment: avlearn evaluate --data vggss.parquet --task localization --with ezvsl.pth
    """
    from avlearn.models.recognizer_folder import recognizer_folder

    if recognizer_folder(model[0]) is not None:
        if released or objects or baseline or task or seed:
            raise AvlearnError("--task, --with, --objects, --baseline and --seed are not for recognizers")
        if budget is not None:
            if len(model) > 1 or views or average or page:
                raise AvlearnError("--budget: takes one --model, no --views, --average or --page")
            _on_a_budget(model[0], data, (device, precision), budget, json_path)
            return
        _recognizers(model, data, (device, precision), views, average or "probabilities", page, json_path)
    elif len(model) > 1 or views or average or page or budget:
        from avlearn.models.named import check_name

        check_name(model[0])
        raise AvlearnError(
            f"several --model, --views, --average, --page and --budget are for recognizers: {model[0]} is none"
        )
    else:
        _model(model[0], data, (device, precision), task or (), released or (), objects, baseline, seed, json_path)


def _model(
    name: str,
    data: Sequence[Path],
    where: tuple[str, str],
    tasks: Sequence[str],
    released: Sequence[Path],
    objects: Path | None,
    baseline: str | None,
    seed: int,
    json_path: str | None,
) -> None:
    """Measure a model of video and audio, or an encoder."""
    from avlearn.apply.encoder_alone import EncoderAlone, load_embedder
    from avlearn.evaluation import evaluate as run
    from avlearn.evaluation.encoder import evaluate_encoder
    from avlearn.models.folder import load
    from avlearn.models.named import model_folder
    from avlearn.models.recognizer import Recognizer
    from avlearn.models.released.localizers import load_localizer, load_object_map
    from avlearn.tasks.synchronize.objective_folder import load_objective

    measured = load_embedder(name, *where)
    assert not isinstance(measured, Recognizer)  # its folder says so
    if isinstance(measured, EncoderAlone):
        if released or objects or baseline:
            raise AvlearnError(
                "--with, --objects and --baseline go with a model of video and audio, not with an encoder"
            )
        tell(evaluate_encoder(measured, data, tasks), json_path)
        return
    result = run(
        measured, data, seed, tasks=tasks, objective=load_objective(model_folder(name)),
        released=[load_localizer(path) for path in released],
        objects=load_object_map(objects) if objects else None,
        baseline=load(baseline, *where) if baseline else None,
    )  # fmt: skip
    tell(result, json_path)


def _on_a_budget(name: str, data: Sequence[Path], where: tuple[str, str], budget: int, json_path: str | None) -> None:
    """Measure a recognizer that looks at a few windows of each file."""
    from avlearn.evaluation.budget import evaluate_budget
    from avlearn.models.preview import load_preview
    from avlearn.models.recognizer_folder import load_recognizer

    network = load_recognizer(name, *where)
    preview = load_preview(network)
    with progress_line("testing") as progress:
        tell(evaluate_budget(network, preview, data, budget, progress=progress), json_path)


def _recognizers(
    names: Sequence[str],
    data: Sequence[Path],
    where: tuple[str, str],
    views: str | None,
    average: str,
    page: Path | None,
    json_path: str | None,
) -> None:
    """Measure a recognizer, or those of several folds."""
    from avlearn.data.views import parse_views
    from avlearn.evaluation.recognizer import evaluate_recognizer
    from avlearn.evaluation.recognizer_result import FoldsResult
    from avlearn.models.recognizer_folder import load_recognizer

    if average not in ("probabilities", "logits"):
        raise AvlearnError(f"--average {average}: it is probabilities or logits")
    if len(names) > 1 and page:
        raise AvlearnError("--page is for one model")
    networks = [load_recognizer(name, *where) for name in names]
    folds = [network.config.fold for network in networks]
    if len(folds) > 1 and (None in folds or len(set(folds)) < len(folds)):
        raise AvlearnError(f"several --model are one of each fold, and these are of folds {', '.join(map(str, folds))}")
    results = []
    for network in networks:
        of_fold = network.config.fold
        chosen = parse_views(views, bool(network.config.segments))
        with progress_line("testing" if of_fold is None else f"testing fold {of_fold}") as progress:
            results.append(
                evaluate_recognizer(
                    network, data, chosen, average="logits" if average == "logits" else "probabilities",
                    progress=progress,
                )
            )  # fmt: skip
    if page is not None:
        from avlearn.evaluation.recognizer_page import write_recognizer_page

        remark(f"wrote {write_recognizer_page(page, results[0], names[0])}")
    tell(results[0] if len(results) == 1 else FoldsResult(results), json_path)
