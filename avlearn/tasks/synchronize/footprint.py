"""The memory that a training step takes, told from shapes before any of it is taken."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from avlearn.errors import RecipeError
from avlearn.models.audiovisual import AudioVisual
from avlearn.tasks.synchronize.build import kept_options
from avlearn.tasks.synchronize.recipe import SynchronizeRecipe
from avlearn.tasks.towers import model_config

_COPIES = {"adamw": 4, "sgd": 3}  # of the weights: themselves, gradients, and what the optimizer remembers


@dataclass(frozen=True)
class Footprint:
    """Bytes that a process needs for a step on the towers, about.

    Attributes:
        weights: of weights, gradients and optimizer.
        activations: that are kept for the backward pass; None where they are computed again.
        memory: of the machine, or of its GPU, for each process.
    """

    weights: int
    activations: int | None
    memory: int

    @property
    def fits(self) -> bool:
        """Whether there is as much."""
        return self.weights + (self.activations or 0) <= self.memory

    def text(self) -> str:
        """Human-readable text."""
        kept = "computed again" if self.activations is None else f"{self.activations / 2**30:.2f} GiB"
        return (
            f"{self.weights / 2**30:.2f} GiB of weights, gradients and optimizer; activations {kept}; "
            f"there are {self.memory / 2**30:.1f} GiB"
        )


def footprint(recipe: SynchronizeRecipe) -> Footprint:
    """Estimate of a recipe's training of towers; nothing is computed.

    Raises:
        ModelError: the towers cannot be built.
    """
    clip, settings = recipe.clip, recipe.trainer
    with torch.device("meta"):
        model = AudioVisual(model_config(recipe, "", kept_options(recipe)))
    model.to("meta")
    batch = max(settings.batch_size // settings.accumulate, 1)
    seconds = clip.seconds + 2 * clip.context
    video = torch.empty(batch, 3, round(clip.seconds * clip.fps), clip.size, clip.size, device="meta")
    audio = torch.empty(batch, round(seconds * clip.sample_rate), device="meta")
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) * _COPIES[recipe.optimizer.name]
    activations = None if settings.checkpoint_activations else kept_bytes(model, video, audio)
    if activations is not None and settings.precision in ("bf16-mixed", "16-mixed"):
        activations //= 2
    return Footprint(weights, activations, _memory(settings.accelerator) // settings.devices)


def kept_bytes(model: AudioVisual, video: Tensor, audio: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward one, besides the parameters."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            sizes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = model(video, audio)  # while it lives, so do the storages: none is counted for another
    del held
    return sum(sizes.values())


def check_footprint(recipe: SynchronizeRecipe) -> Footprint:
    """`footprint`, refused where the machine has less.

    Raises:
        RecipeError: it has.
        ModelError: as `footprint`.
    """
    found = footprint(recipe)
    if not found.fits:
        raise RecipeError(
            f"trainer.batch_size: a step of {recipe.trainer.batch_size} clips takes more than the memory: "
            f"{found.text()}; lower trainer.batch_size or clip.size, raise trainer.accumulate, or set "
            "trainer.checkpoint_activations"
        )
    return found


def _memory(accelerator: str) -> int:
    """Bytes of the machine, or of its GPU where that trains."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
