"""An imported encoder, of video or of audio, used alone: features of files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.windows import check_finite
from avlearn.device import choose_device, choose_precision, computing_in
from avlearn.errors import ModelError, NoAudioError, NoVideoError
from avlearn.media import SharedDecoding, stream
from avlearn.media.source import Source
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.by_address import by_address
from avlearn.models.encoder import Encoder
from avlearn.models.folder import load
from avlearn.models.fuse import fuse_for_cpu, fuse_recognizer
from avlearn.models.inputs import encoder_input
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import load_recognizer, recognizer_folder
from avlearn.models.registry import create_from, create_model
from avlearn.models.weights.encoder_folder import load_encoder
from avlearn.models.weights.preprocessing import AudioPreprocessing, Preprocessing, preprocessing_of
from avlearn.models.weights.released import Released, released_weights
from avlearn.models.weights.source import is_encoder_folder

_FPS = 30  # of the videos that a clip's stride counts the frames of


@dataclass(frozen=True)
class EncoderAlone:
    """An encoder and the clips that it takes, of video or of audio: it tells of no offset, place or source."""

    encoder: Encoder
    preprocessing: Preprocessing | AudioPreprocessing
    precision: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.encoder.parameters()).device

    @property
    def seconds(self) -> float:
        """Of a clip."""
        how = self.preprocessing
        return how.frames * how.stride / _FPS if isinstance(how, Preprocessing) else how.samples / how.sample_rate

    @property
    def fps(self) -> float | None:
        """Frames a second of a clip; None of audio."""
        return _FPS / self.preprocessing.stride if isinstance(self.preprocessing, Preprocessing) else None

    @property
    def sees(self) -> bool:
        """Whether it takes video; else audio."""
        return isinstance(self.preprocessing, Preprocessing)

    def untrained(self) -> "EncoderAlone":
        """The same network before training, which is given the same colours."""
        config, own = self.encoder.config, self.encoder
        encoder = create_from(config["name"], config["options"])
        encoder.mean, encoder.std = own.mean, own.std
        return replace(self, encoder=encoder.eval().to(self.device))

    def noise(self) -> torch.Tensor:
        """A clip as `given` takes it, of chance."""
        how, chance = self.preprocessing, torch.Generator().manual_seed(0)
        if isinstance(how, Preprocessing):
            return torch.randint(256, (how.frames, *how.crop, 3), generator=chance, dtype=torch.uint8)
        return torch.rand(how.samples, generator=chance) - 0.5

    def given(self, clip: torch.Tensor) -> torch.Tensor:
        """What the encoder takes, ``[1, ...]``, of all frames uint8 ``[T, H, W, 3]``, or of samples ``[S]``."""
        return self.taken(preprocessed(clip, self.preprocessing)[None])

    def taken(self, clips: torch.Tensor) -> torch.Tensor:
        """What the encoder takes of clips ``[B, ...]`` that are `preprocessed`."""
        clips = clips.to(self.device)
        if self.sees:
            return encoder_input(self.encoder, clips)
        # An encoder of stereo samples gets the one channel as both.
        return clips.expand(-1, self.encoder.in_chans or 1, *clips.shape[2:])

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features ``[1, D, T', Y, X]`` of all frames uint8 ``[T, H, W, 3]``, or ``[1, D, U]`` of samples ``[S]``."""
        return self.encoded(self.given(clip))

    def encoded(self, given: torch.Tensor) -> torch.Tensor:
        """Features of what the encoder takes, ``[B, ...]``.

        Raises:
            ModelError: they are not finite.
        """
        with computing_in(self.precision, self.device):
            features = self.encoder.forward_features(given).float()
        return check_finite(features, "the video" if self.sees else "the audio")


def preprocessed(clip: torch.Tensor, how: Preprocessing | AudioPreprocessing) -> torch.Tensor:
    """All frames of a clip, uint8 ``[T, H, W, 3]``, or its samples ``[S]``, as the encoder was trained on them."""
    return (replace(how, stride=1) if isinstance(how, Preprocessing) else how)(clip)


FeatureModel = AudioVisual | EncoderAlone | Recognizer  # gives features of files


@by_address
def load_features(name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> FeatureModel:
    """A model, or an encoder, for what needs features alone.

    Args:
        name_or_path: as for `avlearn.load`; or an encoder's folder as ``avlearn weights import`` writes it; or what
            ``avlearn finetune`` wrote; or an encoder whose weights are fetched by name: ``r2plus1d_18``, or
            ``r2plus1d_18/torchvision`` where there are several.
        device, precision: as for `avlearn.load`.

    Raises:
        ModelError: there is neither, or nothing says which clips the encoder takes.
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
        raise ModelError(f"{name_or_path} is an encoder alone, and nothing says which clips it takes")
    return EncoderAlone(encoder.to(place), preprocessing, number_format)


def load_embedder(name_or_path: str | Path, device: str = "cpu", precision: str = "32") -> FeatureModel:
    """As `load_features`, for inference alone: on a CPU encoders are faster, with the same features (`fuse`)."""
    model = load_features(name_or_path, device, precision)
    if isinstance(model, Recognizer):
        return fuse_recognizer(model)
    if isinstance(model, EncoderAlone):
        return replace(model, encoder=fuse_for_cpu(model.encoder, model.device, model.given(model.noise())))
    return model


def _released(name: str) -> Released | None:
    """Weights by the name of their encoder, the first that are known, or by ``ENCODER/NAME``."""
    encoder, _, which = name.partition("/")
    known = [released for released in released_weights() if released.encoder == encoder]
    return next((released for released in known if which in ("", released.name)), None)


@torch.inference_mode()
def encoder_windows(
    path: Source, model: EncoderAlone, decoded: SharedDecoding | None = None
) -> Iterator[tuple[float, torch.Tensor]]:
    """Start in seconds, and features, of the clips of `encoder_clips`: ``[1, D, T', Y, X]``, of audio ``[1, D, U]``.

    Raises:
        MediaError: as there.
    """
    for start, clip in encoder_clips(path, model.preprocessing, decoded):
        yield start, model.features(clip)


def encoder_clips(
    path: Source, how: Preprocessing | AudioPreprocessing, decoded: SharedDecoding | None = None
) -> Iterator[tuple[float, torch.Tensor]]:
    """Clips of a file, one after the other; a last stretch shorter than half of one is left out, unless it is alone.

    Yields:
        Start in seconds, and frames uint8 ``[T, H, W, 3]``, or samples ``[S]``.

    Raises:
        MediaError: the file cannot be read, or has no video, or no audio, as the encoder takes it.
    """
    first = None
    for start, clip, length in _clips(path, how, decoded):
        if first is not None and len(clip) < length / 2:
            continue
        first = start if first is None else first
        yield start - first, torch.from_numpy(clip)
    if first is None:
        sees = isinstance(how, Preprocessing)
        raise NoVideoError(f"{path} has no video") if sees else NoAudioError(f"{path} has no audio track")


def _clips(
    path: Source, how: Preprocessing | AudioPreprocessing, decoded: SharedDecoding | None
) -> Iterator[tuple[float, np.ndarray, int]]:
    """Start, frames ``[T, H, W, 3]`` or samples ``[S]``, and how many a whole clip has."""
    if isinstance(how, Preprocessing):
        fps = _FPS / how.stride
        for clip in stream(path, how.frames / fps, how.frames / fps, fps=fps, audio=False, decoded=decoded):
            yield clip.start, clip.video, how.frames
    else:
        seconds = how.samples / how.sample_rate
        for clip in stream(
            path, seconds, seconds, sample_rate=how.sample_rate, mono=True, video=False, decoded=decoded
        ):
            yield clip.start, clip.audio[0], how.samples
