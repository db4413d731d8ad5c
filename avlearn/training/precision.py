"""The precision of a training that leaves it to the machine."""

from collections.abc import Mapping
from typing import Any

import torch

from avlearn.recipe import Recipe


def settled(recipe: Recipe, begun: Recipe | None = None) -> Recipe:
    """A recipe whose ``trainer.precision`` is no longer ``auto``.

    Args:
        recipe: completed.
        begun: that of the run that is resumed, which goes on as it began, on whatever machine.

    Returns:
        With ``bf16-mixed`` where what trains computes in bfloat16 itself, else with ``32-true``; as it is where it says
        one.
    """
    if recipe.trainer.precision != "auto":
        return recipe
    own = "bf16-mixed" if _computes_in_bfloat16(recipe.trainer.accelerator) else "32-true"
    trainer = recipe.trainer.model_copy(update={"precision": begun.trainer.precision if begun else own})
    return recipe.model_copy(update={"trainer": trainer})


def _computes_in_bfloat16(accelerator: str) -> bool:
    """Whether there are instructions for it: where it is emulated it is slower than single precision."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator != "cpu" and torch.backends.mps.is_available():
        return False
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in all versions that we take
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
