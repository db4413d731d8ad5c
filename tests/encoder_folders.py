"""Folders of encoders alone, as ``avlearn weights import`` writes them."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from avlearn.models import create_model
from avlearn.models.weights.checkpoint import write_tensors
from avlearn.models.weights.preprocessing import preprocessing_of
from avlearn.models.weights.source import FORMAT


def x3d_folder(path: Path) -> Path:
    """That of a video encoder that sees 4 frames of 160 x 160 in 1.6 s, with random weights of a seed of its own."""
    path.mkdir()
    torch.manual_seed(1)
    model = create_model("x3d_xs", num_classes=4)
    write_tensors(model.state_dict(), path / "model.safetensors")
    seen = asdict(preprocessing_of("x3d_xs"))
    config = {"format": FORMAT, **model.config, "mean": [0.4] * 3, "std": [0.2] * 3, "preprocessing": seen}
    (path / "config.json").write_text(json.dumps(config))
    return path
