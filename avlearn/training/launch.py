"""Processes that train together: how they find each other, and what becomes of the others when one ends."""

import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from avlearn.errors import RecipeError

PATIENCE = timedelta(minutes=10)  # that a process waits for the others
_FOLLOWS = "follows its starter"
ENDED = "another training process ended, or does not answer: --resume goes on from the last checkpoint"


def environment(devices: int, nodes: int) -> ClusterEnvironment:
    """Who started this process: torchrun, SLURM (``srun``), or nobody, so that Lightning starts the others of the node.

    Args:
        devices: processes on a node.
        nodes: their number.

    Raises:
        RecipeError: as many processes were not started.
    """
    found: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        found, starter = TorchElasticEnvironment(), "torchrun"
    elif SLURMEnvironment.detect():
        try:
            # What was requeued would have to say --resume.
            found, starter = SLURMEnvironment(auto_requeue=False), "SLURM"
        except RuntimeError as error:
            raise RecipeError(str(error)) from error
    else:
        return LightningEnvironment()
    if found.world_size() != devices * nodes:
        raise RecipeError(
            f"{starter} started {found.world_size()} processes, the recipe has trainer.devices {devices} and "
            f"trainer.nodes {nodes}: their product must be the same"
        )
    return found


def global_rank(found: ClusterEnvironment, devices: int) -> int:
    """This process' number among all."""
    if isinstance(found, LightningEnvironment):  # knows it only once a trainer has told it
        return found.node_rank() * devices + found.local_rank()
    return found.global_rank()


def follow_starter(found: ClusterEnvironment) -> None:
    """End this process soon after the one that started it: the command that it is a copy of, or torchrun.

    What srun starts is ended by it.
    """
    started = isinstance(found, TorchElasticEnvironment) or (
        isinstance(found, LightningEnvironment) and found.local_rank() > 0
    )
    if not started:
        return
    if not any(thread.name == _FOLLOWS for thread in threading.enumerate()):
        threading.Thread(target=_follow, args=[os.getppid()], name=_FOLLOWS, daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    time.sleep(5)  # to notice a lost connection by itself, and say so
    os._exit(2)


def data_parallel(module: lightning.LightningModule) -> DDPStrategy:
    """Each process has all weights and a part of the batch.

    Objectives compute what they remember of all processes' clips, the same in each: banks of all clips are not sent
    around in every step. Everything else is, that is batch norm's running statistics: those of the first process count.
    """
    banks = [name for name, _ in module.named_buffers() if name.startswith("objective.")]
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, banks)
    return DDPStrategy(timeout=PATIENCE)


def sharded(processes: int) -> ModelParallelStrategy:
    """Each process has a part of the towers' weights, gradients and optimizer state, and a part of the batch.

    Fully sharded data parallelism (Zhao et al., VLDB 2023), the second implementation of PyTorch; the task calls
    `avlearn.distributed.shard`. Batch norm's running statistics are each process' own, and the first one's are saved.
    """
    return ModelParallelStrategy(processes, 1, save_distributed_checkpoint=False, timeout=PATIENCE)


def of_lost_process(error: RuntimeError) -> bool:
    """Whether an error means that another process is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


class Watch(Callback):
    """Ends this process when one that it started is gone; `follow_starter` is the inverse.

    A lost connection tells that by itself, where processes talk over gloo; over NCCL they would wait. Processes that
    torchrun or SLURM started are watched by these.
    """

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Begin."""
        started = getattr(trainer.strategy.launcher, "procs", None)
        if started:
            threading.Thread(target=self._children, args=[list(started)], daemon=True).start()
            # Lightning's own watch kills this process without a word: with nobody to watch it stands down.
            started.clear()

    def _children(self, children: list[Any]) -> None:
        while not any(child.poll() for child in children):
            time.sleep(0.2)
        time.sleep(5)  # to notice by itself
        print(f"avlearn: error: {ENDED}", file=sys.stderr, flush=True)
        for child in children:
            child.kill()
        os._exit(2)
