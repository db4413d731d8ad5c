"""An objective in a model folder, beside the model that it trained: one that scores offsets by a network of its own."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from avlearn.errors import AvlearnError, ModelError, OutputError
from avlearn.files import write_text
from avlearn.models.folder import OBJECTIVE, OBJECTIVE_WEIGHTS
from avlearn.models.weights.checkpoint import load_whole
from avlearn.objectives import FeatureSpec, Objective, find_objective
from avlearn.validation import read_object, validated

FORMAT = "avlearn.objective/1"


def save_objective(objective: Objective[Any], folder: Path) -> None:
    """Write ``objective.safetensors`` and ``objective.json`` into a model folder.

    Objectives that score offsets by the common space alone leave nothing: the model has all of that.

    Args:
        objective: as it was trained.
        folder: of the model; files of an earlier objective are replaced, or removed.

    Raises:
        OutputError: the files cannot be written.
    """
    config, weights = folder / OBJECTIVE, folder / OBJECTIVE_WEIGHTS
    config.unlink(missing_ok=True)
    weights.unlink(missing_ok=True)
    if type(objective).offset_scores is Objective.offset_scores:
        return
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.state_dict().items()}
    values = {"format": FORMAT, **asdict(objective.options), "features": asdict(objective.spec)}
    try:
        save_file(tensors, weights)
        weights.chmod(0o644)  # safetensors writes files for the owner alone
        write_text(config, json.dumps(values, indent=1) + "\n")  # last: without it there is no objective
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {weights}: {error}") from error


def load_objective(folder: Path) -> Objective[Any] | None:
    """The objective of a model folder, in evaluation mode; None where the folder has none.

    Raises:
        ModelError: its files cannot be read, or do not fit each other.
    """
    config = folder / OBJECTIVE
    if not config.is_file():
        return None
    values = read_object(config, FORMAT)
    try:
        kind = find_objective(str(values.get("name"))[:100])
    except ValueError as error:
        raise ModelError(f"{config}: name: {error}") from error
    features = values.pop("setting" if "setting" in values else "features", None)  # as files of before have it
    spec = validated(FeatureSpec, features, f"{config}: features")
    missing = [key for key in asdict(spec) if key not in features]
    if missing:  # a default would put offsets on another clock
        raise ModelError(f"{config}: features: {missing[0]}: Field required")
    options = validated(kind.Options, values, config)
    try:
        objective = load_whole(lambda: kind(options, spec), folder / OBJECTIVE_WEIGHTS)
    except (AvlearnError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{folder} holds no objective that can be read: {said}") from error
    return objective.eval()
