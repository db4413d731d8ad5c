"""What an imported encoder can do without a model of both: features of what is seen, and labels over time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.windows import finite
from avlearn.errors import ModelError, NoVideoError
from avlearn.media import stream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual, load
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load_encoder
from avlearn.models.preprocessing import Preprocessing
from avlearn.models.registry import create_model
from avlearn.models.weights import is_encoder_folder

_FPS = 30  # of the videos that a clip's stride counts the frames of


@dataclass(frozen=True)
class EncoderAlone:
    """A video encoder and how it sees; there is no sound to it, so it tells of no offset, place or source."""

    encoder: Encoder
    preprocessing: Preprocessing

    def untrained(self) -> "EncoderAlone":
        """The same network before training."""
        config = self.encoder.config
        return replace(self, encoder=create_model(config["name"], **config["options"]).eval())


def load_features(name_or_path: str | Path) -> AudioVisual | EncoderAlone:
    """A model, or an encoder's folder as ``avlearn weights import`` writes it, for what needs features alone.

    Raises:
        ModelError: there is neither, or the encoder is none of video.
    """
    folder = Path(name_or_path)
    if not is_encoder_folder(folder):
        return load(name_or_path)
    encoder, preprocessing = load_encoder(folder)
    if preprocessing is None:
        raise ModelError(f"{folder} holds an encoder alone, which says of no video how it is to be seen")
    return EncoderAlone(encoder, preprocessing)


@torch.inference_mode()
def embed_frames(path: Source, model: EncoderAlone) -> tuple[np.ndarray, np.ndarray]:
    """Features of each clip of a file, one after the other: starts ``[N]`` in seconds, and means ``[N, D]``.

    Raises:
        MediaError: the file cannot be read, or has no picture.
    """
    see = replace(model.preprocessing, stride=1)
    fps = _FPS / model.preprocessing.stride
    seconds = see.frames / fps
    starts, means = [], []
    for clip in stream(path, seconds, seconds, fps=fps, audio=False):
        if starts and len(clip.video) < see.frames / 2:
            continue
        features = finite(model.encoder.forward_features(see(torch.from_numpy(clip.video))[None]), "the picture")
        starts.append(clip.start)
        means.append(features.mean((2, 3, 4))[0].numpy())
    if not starts:
        raise NoVideoError(f"{path} has no picture")
    return np.array(starts, np.float32) - starts[0], np.stack(means)
