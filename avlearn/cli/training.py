"""Commands that train a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avlearn.cli.app import app, recipe_app
from avlearn.cli.options import Overrides, resumable
from avlearn.errors import AvlearnError
from avlearn.remote.address import is_address
from avlearn.terminal import remark

if TYPE_CHECKING:
    from avlearn.recipe import Recipe

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or YAML file.")]


def _run_folder(name: str) -> Path:
    """The name of a run's folder, which is here."""
    if is_address(name):
        raise AvlearnError(
            f"{name}: a run is written, and resumed, in a folder here: copy it, and give its folder; "
            f"model.base={name} starts another from its model"
        )
    return Path(name)


RunFolder = Annotated[Path | None, typer.Option("--run-dir", "-o", help="runs/NAME by default.", parser=_run_folder)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Build all, run one batch, describe it, stop.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]

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
    recipe: RecipeName,
    overrides: Overrides = None,
    run_dir: RunFolder = None,
    dry_run: DryRun = False,
    resume: Resume = False,
) -> None:
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
    recipe: RecipeName,
    overrides: Overrides = None,
    run_dir: RunFolder = None,
    dry_run: DryRun = False,
    resume: Resume = False,
) -> None:
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
