"""A model's folder: ``model.safetensors``, ``config.json``, the card ``README.md``, and what was measured of it."""

import json
from pathlib import Path

from avlearn.config import ModelConfig
from avlearn.device import choose_device, choose_precision
from avlearn.errors import ModelError
from avlearn.files import write_text
from avlearn.models import in_distribution
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.by_address import by_address
from avlearn.models.calibration import read_calibrations, remove_calibrations
from avlearn.models.named import model_folder
from avlearn.models.recognizer_folder import recognizer_folder
from avlearn.models.weights.checkpoint import load_whole, write_tensors
from avlearn.models.weights.source import is_encoder_folder
from avlearn.validation import read_object, validated

FORMAT = "avlearn.model/1"
# Of the objective that trained the model, where that scores offsets itself (see `avlearn.tasks.synchronize`).
OBJECTIVE, OBJECTIVE_WEIGHTS = "objective.json", "objective.safetensors"


def save(model: AudioVisual, folder: Path, card: str) -> None:
    """Write a model folder as `write_model` does.

    Calibrations that lie there are of the weights that are replaced, and are removed.
    """
    write_model(model, folder, card)
    remove_calibrations(folder)


def write_model(model: AudioVisual, folder: Path, card: str) -> None:
    """Write weights, in-distribution statistics, ``config.json`` and the card ``README.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(model.state_dict(), folder / "model.safetensors")
    config = {"format": FORMAT, **model.config.model_dump(mode="json")}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "README.md", card)
    in_distribution.save(model.in_distribution, folder)


@by_address
def load(name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> AudioVisual:
    """Open a model, as `model_folder` finds it.

    Args:
        name_or_path: of the model.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto``: the accelerator, where there is one.
        precision: of the encoders: ``32``, ``bf16`` or ``16``. Spectrograms, similarities and masks stay in 32 bits.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: there is no such model, or the folder is not one.
        AvlearnError: there is no such device or precision here.
    """
    place = choose_device(device)
    number_format = choose_precision(precision, place)
    folder = model_folder(name_or_path)
    if is_encoder_folder(folder):
        raise ModelError(
            f"{folder} holds an encoder alone: `avlearn embed`, `linear-probe` and `evaluate` take it, and a training "
            "starts from it (model.video_weights, model.audio_weights); this needs a model of video and audio"
        )
    if recognizer_folder(folder) is not None:
        raise ModelError(
            f"{folder} holds a recognizer: `avlearn classify`, `evaluate`, `embed` and `linear-probe` take it, and "
            "finetune goes on from it (model.base); this needs a model of video and audio in sync"
        )
    path = folder / "config.json"
    config = validated(ModelConfig, read_object(path, FORMAT), path)
    try:
        model = load_whole(lambda: AudioVisual(config), folder / "model.safetensors", in_distribution.FORMER_PREFIX)
        model.in_distribution = in_distribution.load(folder, model)
    except ModelError as error:
        raise ModelError(f"{folder} is not a readable model folder: {error}") from error
    model.calibrations = read_calibrations(folder)
    model.precision = number_format
    return model.eval().to(place)
