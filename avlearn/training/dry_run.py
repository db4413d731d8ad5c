"""A dry run: a batch of clips and one step, described."""

import resource
from typing import Any

import torch

from avlearn.recipe import Recipe
from avlearn.tasks import Experiment
from avlearn.training.loaders import Loaders


def describe(recipe: Recipe, experiment: Experiment[Any], loaders: Loaders) -> None:
    """One batch forth and back; prints shapes, parameters, the loss and the memory.

    Args:
        recipe: what is to be trained.
        experiment: built of it, or of a sample of its clips.
        loaders: of the experiment.
    """
    module, trainer = experiment.module, recipe.trainer
    batch = next(iter(loaders.train_dataloader()))
    parameters = list(module.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    print(f"task        {recipe.task}: {loaders.steps} steps of {trainer.batch_size} clips")
    train, val = (f"about {count}" if experiment.estimated else str(count) for count in experiment.clips)
    print(f"clips       {train} for training, {val} for validation")
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            print(f"batch       {name} {list(value.shape)} {str(value.dtype)[6:]}")
    print(f"parameters  {trained:,} trained, {sum(p.numel() for p in parameters):,} in all")
    # Minutes, of a large batch on a processor: nobody should take it for a command that does not end.
    print(f"step        {trainer.batch_size} clips forth and back, {trainer.precision}", flush=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16-mixed"):
        loss, shapes = module.try_batch(batch)
    if shapes:
        print(f"features    {', '.join(f'{name} {shape}' for name, shape in shapes.items())}")
    loss.backward()
    print(f"loss        {float(loss.detach()):.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory      {peak:.2f} GiB at most")
