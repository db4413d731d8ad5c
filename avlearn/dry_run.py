"""What a user wants to know before a long run, from a batch of clips and one step."""

import resource

import torch
from lightning import LightningDataModule

from avlearn.build import Experiment
from avlearn.data.world import WorldConfig
from avlearn.models.audiovisual import frames_to_input
from avlearn.recipe import Recipe


def sample_sizes(recipe: Recipe) -> tuple[int, int]:
    """Clips for training and validation that are enough to make a batch of each."""
    batch, least = recipe.trainer.batch_size * recipe.trainer.processes, recipe.trainer.processes
    if recipe.task == "separate":
        least = max(least, recipe.separator.sources)
    few = 8 if _takes_a_part(recipe) else 1
    return few * batch, few * least


def _takes_a_part(recipe: Recipe) -> bool:
    """Whether not all clips of the recipe's world are mixed: one source alone must be heard in each."""
    if recipe.task != "separate" or recipe.separator.places > 1 or recipe.data.train is not None:
        return False
    world = WorldConfig.preset(recipe.data.world.preset)
    return world.sources != (1, 1) or world.offscreen_share > 0


def describe(recipe: Recipe, experiment: Experiment, loaders: LightningDataModule) -> None:
    """One batch forth and back; prints shapes, parameters, the loss and the memory.

    Args:
        recipe: what is to be trained.
        experiment: built of it, or of a sample of its clips.
        loaders: of the experiment.
    """
    task, trainer = experiment.task, recipe.trainer
    batch = next(iter(loaders.train_dataloader()))
    model = task.model
    parameters = list(task.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    print(f"task        {recipe.task}: {loaders.steps} steps of {trainer.batch_size} clips")
    about = "about " if _takes_a_part(recipe) else ""
    print(f"clips       {about}{experiment.clips[0]} for training, {about}{experiment.clips[1]} for validation")
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            print(f"batch       {name} {list(value.shape)} {str(value.dtype)[6:]}")
    print(f"parameters  {trained:,} trained, {sum(p.numel() for p in parameters):,} in all")
    # Minutes, of a large batch on a processor: nobody should take it for a command that does not end.
    print(f"step        {trainer.batch_size} clips forth and back", flush=True)
    if recipe.task == "pretrain":
        video, audio = frames_to_input(batch["video"]), batch["audio"]
        features = [list(x.shape) for x in model(video, audio)]
        print(f"features    video {features[0]}, audio {features[1]}")
        loss = task.output(video, audio, batch).loss
    else:
        loss = task.training_loss(batch)
    loss.backward()
    print(f"loss        {float(loss.detach()):.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory      {peak:.2f} GiB at most")
