"""The training loop: Lightning's, with what a run of ours keeps, watches and says.

The loop is Lightning's Trainer, not one of our own on Fabric. Launch, strategies and precision would be the same on
Fabric; what a run needs besides would be ours to write: validation after so many steps, the state of the loop and of a
loader in mid-epoch in checkpoints, metrics averaged over processes, clipping by strategy, and calls for the callbacks
that checkpoint, count bad files, watch for divergence and follow the clock. What the Trainer has beyond that is turned
off in `_trainer`, in six lines.
"""

import logging
import sys
import warnings
from pathlib import Path
from signal import SIGTERM
from typing import Any

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import Strategy

from avlearn.errors import AvlearnError
from avlearn.interrupts import Terminated, handled_by
from avlearn.recipe import Recipe
from avlearn.tasks import Experiment
from avlearn.tasks.module import TaskModule
from avlearn.training.callbacks import Checkpoints, MetricsLog, ProgressLine, SkipBadFiles, Stop
from avlearn.training.checkpoints import CheckpointFiles
from avlearn.training.divergence import Divergence
from avlearn.training.launch import ENDED, Watch, data_parallel, of_lost_process, sharded
from avlearn.training.loaders import Loaders
from avlearn.training.run_folder import METRICS
from avlearn.training.time_limit import TimeLimit

READER_ENDED = "a process that reads clips was killed (out of memory?): --resume goes on from the last checkpoint"


def quiet() -> None:
    """Keep Lightning's advice and adverts out of our progress."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, as was asked for
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 kernels with channels last: they are copied


def _trainer(
    recipe: Recipe, where: ClusterEnvironment, module: TaskModule, steps: int, **options: Any
) -> lightning.Trainer:
    settings = recipe.trainer
    assert settings.precision != "auto"  # it is settled by now
    files: list[CheckpointFiles] = []
    strategy: str | Strategy
    if settings.strategy == "fsdp":
        strategy = sharded(settings.processes)
    else:
        strategy = "auto" if settings.processes == 1 and settings.strategy == "auto" else data_parallel(module)
        files.append(CheckpointFiles())
    return lightning.Trainer(
        max_steps=steps,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy,
        plugins=[where, *files],
        precision=settings.precision,
        gradient_clip_val=recipe.optimizer.grad_clip,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=None,
        **options,
    )


def fit(
    recipe: Recipe, where: ClusterEnvironment, run_dir: Path, experiment: Experiment[Any], loaders: Loaders,
    checkpoint: Path | None, divergence: Divergence, time_limit: TimeLimit,
) -> None:  # fmt: skip
    """Train to the end, or until the run is interrupted.

    Args:
        recipe: of the experiment.
        where: who started the processes.
        run_dir: gets checkpoints, metrics and events.
        experiment: whose module is trained.
        loaders: of its clips.
        checkpoint: to go on from; None for the beginning.
        divergence: what is done about a loss that is no number.
        time_limit: that the training may follow.

    Raises:
        KeyboardInterrupt, Terminated: after a checkpoint was saved.
        DivergedError: the loss, gradients or weights became infinite or no number.
        AvlearnError: a process that took part, or one that read clips, is gone.
    """
    settings, steps = recipe.trainer, loaders.steps
    metrics = MetricsLog(run_dir / METRICS, settings.log_every, recipe.data.max_bad, experiment.left_out)
    checkpoints = Checkpoints(run_dir / "checkpoints", settings.checkpoint_every, divergence)
    callbacks = [
        SkipBadFiles(metrics, recipe.data.bad_files == "skip"),
        metrics,
        divergence,
        checkpoints,
        time_limit,
        ProgressLine(settings.batch_size * settings.processes, settings.log_every),
        Watch(),
    ]
    trainer = _trainer(
        recipe, where, experiment.module, steps, callbacks=callbacks, log_every_n_steps=settings.log_every,
        val_check_interval=steps // max(round(steps / settings.val_every), 1),
        logger=TensorBoardLogger(run_dir, name="", version=""),
    )  # fmt: skip
    try:
        with handled_by(checkpoints.signalled):
            trainer.fit(experiment.module, loaders, ckpt_path=checkpoint, weights_only=True)
    except Stop:
        how = "--resume" if time_limit.seconds is None else "the same command"
        print(f"stopped after step {checkpoints.saved_at}: {how} goes on from there", file=sys.stderr)
        raise (Terminated if checkpoints.interrupted == SIGTERM else KeyboardInterrupt) from None
    except (RuntimeError, ConnectionError, EOFError) as error:
        if "DataLoader worker" in str(error) or not isinstance(error, RuntimeError):
            raise AvlearnError(READER_ENDED) from error
        if of_lost_process(error):
            raise AvlearnError(ENDED) from error
        raise
