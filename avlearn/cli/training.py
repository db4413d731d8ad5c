"""Commands that train a model and measure it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avlearn.cli.app import app, recipe_app
from avlearn.cli.options import Data, Device, Json, ModelName, Overrides, Precision, resumable, tell, there
from avlearn.errors import AvlearnError
from avlearn.terminal import remark

if TYPE_CHECKING:
    from avlearn.recipe import Recipe

_FINETUNES = "recognize"  # the task whose recipes `finetune` takes


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--output", "-o", help="The run's folder.")] = Path("runs/quickstart"),
    minutes: Annotated[float, typer.Option(min=0.5, help="Time to take.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a world, train on it, measure, use the four tools, and write a report.

    Takes the time that is given: on a slower or busier machine there are fewer clips and steps. After Ctrl-C, or a
    kill, the same command goes on where it was.

    Example: avlearn quickstart --minutes 5
    """
    from avlearn.quickstart import quickstart as run

    with resumable("quickstart"):
        page = run(out, minutes, seed)
    typer.echo(f"open {page}")


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", "-o", help="runs/NAME by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build all, run one batch, describe it, stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:  # fmt: skip
    """Train what a recipe says, and export the best model.

    Example: avlearn pretrain sync_world model.video=slowfast_tiny trainer.max_epochs=5
    """
    from avlearn.tasks import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if loaded.model.base and loaded.data.train and not loaded.data.val and loaded.task != _FINETUNES:
        remark(
            f"note: avlearn adapt {loaded.data.train} -o MODEL goes on from a model in minutes, and tells if it helped"
        )
    _train(loaded, run_dir, dry_run, resume)


@app.command()
def finetune(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or YAML file.")],
    overrides: Overrides = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", "-o", help="runs/NAME by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build all, run one batch, describe it, stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:  # fmt: skip
    """Train a network to name what clips show, from nothing or from a trained one, and export the best.

    Starts from a model of avlearn (model.base=MODEL), from released weights (model.video_weights=FILE|NAME), or from
    nothing. The clips need labels: a folder CLASS/*.mp4, or a manifest. Then: avlearn classify, avlearn evaluate.

    Example: avlearn finetune ucf101_finetune data.train=ucf101.parquet model.base=runs/sync_kinetics

    Example: avlearn finetune recognize_world recognize.inputs=audio
    """
    from avlearn.tasks import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if loaded.task != _FINETUNES:
        raise AvlearnError(f"{loaded.name} is a recipe of the task '{loaded.task}': avlearn pretrain trains it")
    _train(loaded, run_dir, dry_run, resume)


def _train(recipe: "Recipe", run_dir: Path | None, dry_run: bool, resume: bool) -> None:
    """Train a recipe, and say where the model is."""
    from avlearn.training.launch import environment, global_rank
    from avlearn.training.run import pretrain as run

    folder = run(recipe, run_dir or Path("runs") / recipe.name, dry_run=dry_run, resume=resume)
    settings = recipe.trainer
    if dry_run or global_rank(environment(settings.devices, settings.nodes), settings.devices) > 0:
        return  # of several processes, the first one writes the model
    typer.echo(f"wrote {folder}")


@app.command()
def evaluate(
    data: Data,
    model: ModelName = "default",
    device: Device = "auto",
    precision: Precision = "32",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="sync, localization, separation or recognition; else all that can be."),
    ] = None,
    released: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="WEIGHTS", help="Also a released localizer, on clips with boxes: its file.", parser=there
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(metavar="WEIGHTS", help="Also maps refined by objects: an ImageNet ResNet-18.", parser=there),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Also a separator that sees nothing (conditioning=none).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_path: Json = None,
) -> None:  # fmt: skip
    """Measure a model on held-out clips, each figure beside chance, a trivial prior, and the oracle.

    Example: avlearn evaluate --model runs/sync_world --data test/manifest.parquet

    Example: avlearn evaluate --data test/manifest.parquet --task sync --json figures.json

    LVS, EZ-VSL, SLAVC, FNAC, SSLalignment: avlearn evaluate --data vggss.parquet --task localization --with ezvsl.pth
    """
    from avlearn.apply.encoder_alone import EncoderAlone, load_features
    from avlearn.evaluation import evaluate as run
    from avlearn.evaluation.encoder import evaluate_encoder
    from avlearn.models.folder import load, model_folder
    from avlearn.models.recognizer import Recognizer
    from avlearn.models.released.localizers import load_localizer, load_object_map
    from avlearn.tasks.synchronize.objective_folder import load_objective

    measured = load_features(model, device, precision)
    if isinstance(measured, Recognizer):
        raise AvlearnError(f"{model} is a recognizer: avlearn linear-probe measures its features")
    if isinstance(measured, EncoderAlone):
        if released or objects or baseline:
            raise AvlearnError(
                "--with, --objects and --baseline go with a model of video and audio, not with an encoder"
            )
        tell(evaluate_encoder(measured, data, task or ()), json_path)
        return
    result = run(
        measured, data, seed, tasks=task or (), objective=load_objective(model_folder(model)),
        released=[load_localizer(path) for path in released or ()],
        objects=load_object_map(objects) if objects else None,
        baseline=load(baseline, device, precision) if baseline else None,
    )  # fmt: skip
    tell(result, json_path)


@recipe_app.command("show")
def recipe_show(recipe: Annotated[str, typer.Argument(metavar="RECIPE")], overrides: Overrides = None) -> None:
    """Print a recipe as composed, every default spelled out.

    Keys and the kinds of their values are checked; avlearn pretrain RECIPE --dry-run checks the encoders and the data.

    Example: avlearn recipe show sync_world model.video=x3d_s
    """
    from avlearn.tasks import load_recipe

    typer.echo(load_recipe(recipe, overrides or []).to_yaml().rstrip())


@recipe_app.command("list")
def recipe_list() -> None:
    """The recipes that come with avlearn, and what each is for."""
    from avlearn.recipe import list_recipes, summary
    from avlearn.terminal import aligned

    typer.echo(aligned(("recipe", "what it trains"), [(name, summary(name)) for name in list_recipes()], width=100))
