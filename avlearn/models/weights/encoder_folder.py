"""An encoder's folder: its weights, what built it and what it expects of a video, in three files."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from avlearn.errors import ModelError, OutputError
from avlearn.files import printable, write_text
from avlearn.models.encoder import Encoder
from avlearn.models.registry import create_from, create_model, model_spec
from avlearn.models.weights.checkpoint import load_whole, write_tensors
from avlearn.models.weights.importers import Report, classes_of
from avlearn.models.weights.preprocessing import AudioPreprocessing, Preprocessing, preprocessing_of
from avlearn.models.weights.source import FORMAT, open_weights, read_config
from avlearn.validation import validated

_CARD = """# {name}

{paper}. Weights from {source} (names of {layout}), {classes}.

Input: {preprocessing}.

```python
from avlearn.models.weights.encoder_folder import load_encoder

encoder, preprocessing = load_encoder("{folder}")
scores = encoder(preprocessing({takes})[None])  # {takes}: {shape}
```
"""


@dataclass(frozen=True)
class Imported:
    """The result of `import_weights`."""

    folder: Path
    name: str
    classes: int | None
    preprocessing: Preprocessing | AudioPreprocessing | None
    report: Report

    def text(self) -> str:
        """Human-readable text."""
        left = f"; left out: {', '.join(self.report.left[:4])}" if self.report.left else ""
        more = f" and {len(self.report.left) - 4} more" if len(self.report.left) > 4 else ""
        lines = [f"{self.name}: {self.report.taken} tensors by the names of {self.report.layout}{left}{more}"]
        lines.append(f"{self.classes} classes" if self.classes else "no classifier")
        if self.preprocessing:
            lines.append(f"input: {self.preprocessing.text()}")
        return "\n".join([*lines, f"wrote {printable(self.folder)}"])


def import_weights(source: str | Path, name: str, folder: Path) -> Imported:
    """Write the folder of an encoder from weights as they were released.

    Args:
        source: whatever `open_weights` takes.
        name: of the encoder whose weights they are.
        folder: a new one, or one to replace the files of.

    Raises:
        ModelError: the weights cannot be had, or are not that encoder's.
        OutputError: the folder cannot be written.
    """
    weights = open_weights(source, name)
    with torch.device("meta"):
        classes = classes_of(create_model(name), weights.tensors, weights.layout)
    encoder = create_model(name, weights=weights, num_classes=classes)
    assert encoder.loaded is not None  # for weights were given
    preprocessing = preprocessing_of(name)
    config = {
        "format": FORMAT,
        **encoder.config,
        "mean": [] if encoder.mean is None else encoder.mean.tolist(),
        "std": [] if encoder.std is None else encoder.std.tolist(),
        "preprocessing": asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else None,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(encoder.state_dict(), folder / "model.safetensors")
        write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
        card = _CARD.format(
            name=name,
            paper=model_spec(name).paper,
            source=weights.source,
            layout=encoder.loaded.layout,
            classes=f"{classes} classes" if classes else "no classifier",
            preprocessing=preprocessing.text() if preprocessing else "not known of these weights",
            takes="audio" if isinstance(preprocessing, AudioPreprocessing) else "frames",
            shape="[S] in [-1, 1]" if isinstance(preprocessing, AudioPreprocessing) else "uint8 [T, H, W, 3]",
            folder=folder,
        )
        write_text(folder / "README.md", card)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    return Imported(folder, name, classes, preprocessing, encoder.loaded)


def load_encoder(folder: str | Path) -> tuple[Encoder, Preprocessing | AudioPreprocessing | None]:
    """An encoder from its folder, in evaluation mode on the CPU, and what it expects of a video, or of audio.

    Raises:
        ModelError: there is no encoder in that folder, or what is there is damaged or does not fit.
    """
    path = Path(folder)
    config = read_config(path)
    preprocessing: Preprocessing | AudioPreprocessing | None = None
    if model_spec(config.name).kind == "audio":
        preprocessing = preprocessing_of(config.name)
    elif config.preprocessing is not None:
        preprocessing = validated(Preprocessing, config.preprocessing, f"{path / 'config.json'}: preprocessing")

    def build() -> Encoder:
        if "num_classes" in config.options or "weights" in config.options:
            raise ModelError(f"{path / 'config.json'}: options: weights and num_classes are no options of a network")
        return create_from(config.name, config.options, num_classes=config.num_classes)

    encoder = load_whole(build, path / "model.safetensors")
    if config.mean and encoder.mean is not None:
        if len(config.mean) != len(encoder.mean):
            raise ModelError(f"{path / 'config.json'}: mean: {config.name} has {len(encoder.mean)} channels")
        encoder.mean, encoder.std = torch.tensor(config.mean), torch.tensor(config.std)
    return encoder.eval(), preprocessing
