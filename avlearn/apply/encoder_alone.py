"""An imported video encoder used alone: features, and labels over time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.windows import check_finite
from avlearn.device import choose_device, choose_precision, computing_in
from avlearn.errors import ModelError, NoVideoError
from avlearn.media import stream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load
from avlearn.models.inputs import encoder_input
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer, recognizer_folder
from avlearn.models.registry import create_from, create_model
from avlearn.models.weights.encoder_folder import load_encoder
from avlearn.models.weights.preprocessing import Preprocessing, preprocessing_of
from avlearn.models.weights.released import Released, released_weights
from avlearn.models.weights.source import is_encoder_folder

_FPS = 30  # of the videos that a clip's stride counts the frames of


@dataclass(frozen=True)
class EncoderAlone:
    """A video encoder and how it sees; there is no audio to it, so it tells of no offset, place or source."""

    encoder: Encoder
    preprocessing: Preprocessing
    precision: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.encoder.parameters()).device

    def untrained(self) -> "EncoderAlone":
        """The same network before training, which is given the same colours."""
        config, own = self.encoder.config, self.encoder
        encoder = create_from(config["name"], config["options"])
        encoder.mean, encoder.std = own.mean, own.std
        return replace(self, encoder=encoder.eval().to(self.device))

    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """Features ``[1, D, T', Y, X]`` of all frames of a clip, uint8 ``[T, H, W, 3]``."""
        clip = replace(self.preprocessing, stride=1)(frames)[None].to(self.device)
        seen = encoder_input(self.encoder, clip)
        with computing_in(self.precision, self.device):
            return check_finite(self.encoder.forward_features(seen).float(), "the video")


FeatureModel = AudioVisual | EncoderAlone | Recognizer  # gives features of files


def load_features(name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> FeatureModel:
    """A model, or an encoder, for what needs features alone.

    Args:
        name_or_path: as for `avlearn.load`; or an encoder's folder as ``avlearn weights import`` writes it; or what
            ``avlearn finetune`` wrote; or an encoder whose weights are fetched by name: ``r2plus1d_18``, or
            ``r2plus1d_18/torchvision`` where there are several.
        device, precision: as for `avlearn.load`.

    Raises:
        ModelError: there is neither, or the encoder is none of video.
        AvlearnError: there is no such device or precision here.
    """
    folder = Path(name_or_path)
    if recognizer_folder(folder) is not None:
        return load_recognizer(folder, device, precision)
    released = None if folder.is_dir() else _released(str(name_or_path))
    if released is None and not is_encoder_folder(folder):
        return load(name_or_path, device, precision)
    place = choose_device(device)
    number_format = choose_precision(precision, place)
    if released is None:
        encoder, preprocessing = load_encoder(folder)
    else:
        encoder = create_model(released.encoder, weights=released.name).eval()
        preprocessing = preprocessing_of(released.encoder)
    if preprocessing is None:
        raise ModelError(f"{name_or_path} is an encoder alone, which says of no video how it is to be seen")
    return EncoderAlone(encoder.to(place), preprocessing, number_format)


def _released(name: str) -> Released | None:
    """Weights by the name of their encoder, the first that are known, or by ``ENCODER/NAME``."""
    encoder, _, which = name.partition("/")
    known = [released for released in released_weights() if released.encoder == encoder]
    return next((released for released in known if which in ("", released.name)), None)


@torch.inference_mode()
def encoder_windows(path: Source, model: EncoderAlone) -> Iterator[tuple[float, torch.Tensor]]:
    """Clips of a file, one after the other: start in seconds, and features ``[1, D, T', Y, X]``.

    Raises:
        MediaError: the file cannot be read, or has no video.
    """
    frames = model.preprocessing.frames
    fps = _FPS / model.preprocessing.stride
    seconds = frames / fps
    first = None
    for clip in stream(path, seconds, seconds, fps=fps, audio=False):
        if first is not None and len(clip.video) < frames / 2:
            continue
        first = clip.start if first is None else first
        yield clip.start - first, model.features(torch.from_numpy(clip.video))
    if first is None:
        raise NoVideoError(f"{path} has no video")


def embed_frames(path: Source, model: EncoderAlone) -> tuple[np.ndarray, np.ndarray]:
    """Means of the features of each clip of a file: starts ``[N]`` in seconds, and ``[N, D]``.

    Raises:
        MediaError: the file cannot be read, or has no video.
    """
    starts, means = [], []
    for start, features in encoder_windows(path, model):
        starts.append(start)
        means.append(features.mean((2, 3, 4))[0].cpu().numpy())
    return np.array(starts, np.float32), np.stack(means)
