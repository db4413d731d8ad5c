"""A recognizer's folder: ``model.safetensors``, ``config.json`` and the card ``README.md``."""

import json
from pathlib import Path

from avlearn.config import RecognizerConfig
from avlearn.device import choose_device, choose_precision
from avlearn.errors import ModelError
from avlearn.files import write_text
from avlearn.models import in_distribution
from avlearn.models.by_address import by_address
from avlearn.models.recognizer import Recognizer
from avlearn.models.weights.checkpoint import load_whole, write_tensors
from avlearn.validation import read_object, validated

FORMAT = "avlearn.recognizer/1"


def save_recognizer(model: Recognizer, folder: Path, card: str) -> None:
    """Write the folder.

    Raises:
        OutputError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(model.state_dict(), folder / "model.safetensors")
    config = {"format": FORMAT, **model.config.model_dump(mode="json")}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "README.md", card)
    in_distribution.save(model.in_distribution, folder)


@by_address
def recognizer_folder(name_or_path: str | Path) -> Path | None:
    """The folder of a recognizer, or of the run that trained it; None where there is none."""
    for folder in (Path(name_or_path), Path(name_or_path) / "model"):
        try:
            read_object(folder / "config.json", FORMAT)
        except ModelError:
            continue
        return folder
    return None


@by_address
def load_recognizer(name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> Recognizer:
    """Open a recognizer's folder, or that of its run; arguments as of `avlearn.load`.

    Returns:
        The network in evaluation mode.

    Raises:
        ModelError: there is none, or it is damaged.
        AvlearnError: there is no such device or precision here.
    """
    folder = recognizer_folder(name_or_path)
    if folder is None:
        raise ModelError(f"{name_or_path} is no folder of a recognizer: avlearn finetune writes one")
    place = choose_device(device)
    number_format = choose_precision(precision, place)
    path = folder / "config.json"
    config = validated(RecognizerConfig, read_object(path, FORMAT), path)
    try:
        model = load_whole(lambda: Recognizer(config), folder / "model.safetensors")
        model.in_distribution = in_distribution.load(folder, model)
    except ModelError as error:
        raise ModelError(f"{folder} is not a readable folder of a recognizer: {error}") from error
    model.precision, model.folder = number_format, folder
    return model.eval().to(place)
