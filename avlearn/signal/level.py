"""How loud audio is, and noise that is as loud."""

import numpy as np
import torch
from torch import Tensor


def level(audio: Tensor) -> Tensor:
    """Root mean square of ``[B, S]``: ``[B]``."""
    return audio.square().mean(1).sqrt()


def noise_as_loud(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """White noise in place of ``[B, S]``, each as loud."""
    return torch.from_numpy(rng.standard_normal(audio.shape, np.float32)).to(audio) * level(audio)[:, None]
