"""The two-tower model, the separator and the classifiers that stand on it, and its folder on disk."""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.device import choose_device, choose_precision
from avlearn.errors import ModelError
from avlearn.models.familiarity import Familiarity, describe_audio, describe_video
from avlearn.models.registry import create_encoder
from avlearn.models.unet import MaskUNet, SeparatorConfig
from avlearn.models.weights.checkpoint import load_whole, write_tensors
from avlearn.models.weights.source import is_encoder_folder
from avlearn.signal import FrontEnd, Spectrogram, Stft
from avlearn.signal.clock import to_steps
from avlearn.validation import STRICT, Line, read_object, validated

FORMAT = "avlearn.model/1"
_MOST_PIXELS = 2**25  # that are looked at at once, in all frames: 10 s of 25 a second, 366 x 366
# Beside config.json: see avlearn.apply.confidence, avlearn.apply.audible and avlearn.apply.agreement.
CALIBRATION, ON_SCREEN_CALIBRATION, TRACK_CALIBRATION = "sync.json", "localize.json", "separate.json"
CALIBRATION_FORMAT = "avlearn.confidence/1"
_ZOO = Path(__file__).resolve().parent / "zoo"


Mean = Annotated[float, Field(ge=-10, le=10)]
Deviation = Annotated[float, Field(ge=1e-6, le=1e6)]
Seconds = Annotated[float, Field(ge=0.001, le=600)]
Scale = Annotated[float, Field(gt=0, le=1e6)]


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build the model without the recipe that trained it.

    ``AudioVisual`` holds it to its annotations, and so does `load` the ``config.json`` of a folder.
    """

    __pydantic_config__ = STRICT

    video: Annotated[str, Field(max_length=64)] = "dsconv_tiny"
    audio: Annotated[str, Field(max_length=64)] = "conv2d_tiny"
    video_options: dict[str, object] = field(default_factory=dict)
    audio_options: dict[str, object] = field(default_factory=dict)
    video_mean: tuple[Mean, Mean, Mean] | tuple[()] = ()  # of the colours; empty: the encoder's own
    video_std: tuple[Deviation, Deviation, Deviation] | tuple[()] = ()
    dim: Annotated[int, Field(ge=1, le=65536)] = 128
    fps: Annotated[float, Field(ge=0.1, le=1000)] = 25.0
    size: Annotated[int, Field(ge=8, le=1024)] = 64  # short side of the input, pixels
    sample_rate: Annotated[int, Field(ge=1000, le=192_000)] = 16000
    seconds: Seconds = 2.0  # the video window it was trained on
    pool_scale: Scale = 20.0
    spectrogram: Spectrogram = field(default_factory=Spectrogram)
    resample: bool = False  # the sound's features to the picture's steps, where theirs last otherwise
    segment: Seconds | None = None  # seconds that the encoders see at once; None: all
    separator: SeparatorConfig | None = None
    labels: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()  # of the classifiers; empty where there are none
    trained_on: Line = ""  # one line, for the message about files unlike it
    score_scale: Scale = 20.0  # one over the temperature that training ended with
    common_space: bool = True  # whether its objective taught the towers to meet there


@dataclass(frozen=True)
class Calibration:
    """What `avlearn.apply.confidence.calibrate` stores."""

    __pydantic_config__ = STRICT

    weights: dict[Annotated[str, Field(max_length=64)], Annotated[float, Field(ge=-1e6, le=1e6)]]
    bias: Annotated[float, Field(ge=-1e6, le=1e6)]


class AudioVisual(nn.Module):
    """Video and audio encoders that meet in one space, on one clock: that of the picture.

    Where ``config.segment`` is set, encoders see segments of so many seconds, each alone; the last is filled up, with
    its last frame and with silence. So is what is shorter than an encoder takes, or no multiple of what it takes; only
    whole steps are kept, but one at least.

    Raises:
        ModelError: the encoders' steps do not last equally long, and are not to be resampled, or to steps that are no
            whole number of samples; a window or a segment is shorter than a step or has too many pixels, or a segment
            is no whole number of steps; the spectrogram or the separator cannot be made; an option is none of the
            encoder's architecture; or a number is out of its bounds.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        # What could not be read back is not made.
        validated(ModelConfig, asdict(config), "model")
        self.config = config
        self.video = create_encoder(config.video, config.video_options, "video").as_tower()
        self.audio = create_encoder(config.audio, config.audio_options, "audio").as_tower()
        if config.video_mean:
            self.video.mean, self.video.std = torch.tensor(config.video_mean), torch.tensor(config.video_std)
        try:
            self.spectrogram = FrontEnd(config.sample_rate, config.spectrogram)
        except ValueError as error:
            raise ModelError(f"model.spectrogram: {error}") from error
        stride = self.video.feature_info.stride[0]
        self.step = stride / config.fps  # seconds
        _check_window(config, self.step)
        self.audio_step = self.audio.feature_info.stride[0] * self.spectrogram.hop
        if self.audio_step_differs and not config.resample:
            raise ModelError(
                f"the encoders are on different clocks: a step of {config.video} lasts "
                f"{self.step * 1000:g} ms, one of {config.audio} {self.audio_step * 1000:g} ms; "
                "change clip.fps, the hop or the strides, or set model.resample"
            )
        samples = self.step * config.sample_rate
        if self.audio_step_differs and abs(samples - round(samples)) > 1e-6:
            raise ModelError(f"model.resample: a step lasts {samples:.2f} samples; change clip.fps or clip.sample_rate")
        self.segment_frames = None if config.segment is None else round(config.segment * config.fps)
        if self.segment_frames is not None and (
            self.segment_frames % stride or abs(self.segment_frames / config.fps - config.segment) > 1e-6
        ):
            raise ModelError(f"model.segment: {config.segment:g} s is no whole number of steps of {self.step:g} s")
        self.video_head = nn.Linear(self.video.num_features, config.dim)
        self.audio_head = nn.Linear(self.audio.num_features, config.dim)
        # What the encoders compute in; None: in the precision of their weights, or as the training's context says.
        self.precision: torch.dtype | None = None
        self.separator = None
        if config.separator:
            try:
                bin_hz = Stft(config.sample_rate, config.separator.window, config.separator.hop).bin_hz
                self.separator = MaskUNet(self.video.num_features, config.separator, config.sample_rate / 2, bin_hz)
            except ValueError as error:
                raise ModelError(f"model.separator: {error}") from error
        self.familiar = nn.ModuleDict(
            {
                "video": Familiarity.of_video(self.video.num_features),
                "audio": Familiarity.of_audio(self.audio.num_features),
            }
        )
        # Of the confidence in an offset, that a sound's source is on screen, and in a track, where they were measured.
        self.sync_calibration: dict | None = None
        self.on_screen_calibration: dict | None = None
        self.track_calibration: dict | None = None
        self.classifiers = nn.ModuleDict()
        if config.labels:
            sizes = {"video": 3 * self.video.num_features, "audio": 3 * self.audio.num_features}
            sizes["both"] = sizes["video"] + sizes["audio"]
            for name, size in sizes.items():
                self.classifiers[name] = nn.Linear(size, len(config.labels))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.video_head.weight.device

    @property
    def audio_step_differs(self) -> bool:
        """Whether the sound's features lie on another clock than the picture's."""
        return abs(self.step - self.audio_step) > 1e-6

    def video_features(self, video: Tensor) -> Tensor:
        """Frames ``[B, 3, T, H, W]`` in [0, 1] to features ``[B, D', T', Y, X]``."""
        frames, stride = video.shape[2], self.video.feature_info.stride[0]
        if self.segment_frames is None:
            return self._seen(video)[:, :, : max(frames // stride, 1)]
        whole = _filled(video, -(-frames // self.segment_frames) * self.segment_frames)
        segments = whole.unflatten(2, (-1, self.segment_frames)).transpose(1, 2)
        features = self._seen(segments.flatten(0, 1)).unflatten(0, segments.shape[:2])
        return features.transpose(1, 2).flatten(2, 3)[:, :, : -(-frames // stride)]

    def _seen(self, video: Tensor) -> Tensor:
        """Features of ``[B, 3, T, H, W]``, filled up to what the encoder takes."""
        with self._precisely():
            features = self.video.forward_features(_filled(video, self.video.frames_for(video.shape[2])))
        return features if self.precision is None else features.float()

    def _precisely(self) -> AbstractContextManager:
        """The encoders' precision."""
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, self.precision)

    def audio_features(self, audio: Tensor) -> Tensor:
        """Waveforms ``[B, S]`` to features ``[B, D', U]``."""
        if self.segment_frames is None:
            return self._on_clock(audio)
        samples = round(self.config.segment * self.config.sample_rate)
        segments = F.pad(audio, (0, -audio.shape[1] % samples)).unflatten(1, (-1, samples))
        features = self._on_clock(segments.flatten(0, 1)).unflatten(0, segments.shape[:2])
        return features.transpose(1, 2).flatten(2, 3)[:, :, : self._steps(audio)]

    def _steps(self, audio: Tensor) -> int:
        """Whole steps of ``[B, S]``, and one at least."""
        return max(int(audio.shape[1] / self.config.sample_rate / self.step + 1e-6), 1)

    def _on_clock(self, audio: Tensor) -> Tensor:
        """Features of ``[B, S]`` as the encoder gives them, by the picture's steps."""
        steps = self._steps(audio)
        frames = self.spectrogram.frames(audio.shape[1])
        missing = self.audio.frames_for(frames) - frames
        audio = F.pad(audio, (0, missing * self.spectrogram.kind.hop_samples)) if missing else audio
        spectrogram = self.spectrogram(audio)
        with self._precisely():
            features = self.audio.forward_features(spectrogram)
        features = features if self.precision is None else features.float()
        if self.audio_step_differs:
            return to_steps(features, self.audio_step, steps, self.step)
        return features[:, :, :steps]

    def place(self, features: Tensor) -> Tensor:
        """Video features into the common space: ``[B, dim, T', Y, X]``, unit length."""
        head = self.video_head
        mapped = torch.einsum("bctyx,dc->bdtyx", features, head.weight)
        return F.normalize(mapped + head.bias[:, None, None, None], dim=1)

    def hear(self, features: Tensor) -> Tensor:
        """Audio features into the common space: ``[B, dim, U]``, unit length."""
        return F.normalize(self.audio_head(features.transpose(1, 2)), dim=2).transpose(1, 2)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Both towers: ``[B, 3, T, H, W]`` and ``[B, S]`` to ``V [B, dim, T', Y, X]`` and ``A [B, dim, U]``."""
        return self.place(self.video_features(video)), self.hear(self.audio_features(audio))


def _check_window(config: ModelConfig, step: float) -> None:
    """Raise ModelError where what the encoders see at once is less than a step, or more than can be looked at."""
    if config.seconds < step - 1e-6:
        raise ModelError(
            f"model.seconds: {config.seconds:g} s is shorter than a step of {config.video}, {step:g} s at "
            f"{config.fps:g} frames a second: take longer windows, or another encoder"
        )
    for key in ("seconds", "segment"):
        seconds = getattr(config, key) or 0
        pixels = seconds * config.fps * config.size**2
        if pixels > _MOST_PIXELS:
            raise ModelError(
                f"model.{key}: {seconds:g} s at {config.fps:g} frames a second of {config.size} x {config.size} "
                f"have {pixels / 1e6:.0f} million pixels, and no more than {_MOST_PIXELS / 1e6:.0f} million are looked "
                f"at at once: lower {key}, fps or size"
            )


def _filled(video: Tensor, frames: int) -> Tensor:
    """``[B, C, T, H, W]`` with its last frame repeated, to so many."""
    missing = frames - video.shape[2]
    return video if missing <= 0 else torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)


def frames_to_input(frames: Tensor) -> Tensor:
    """uint8 ``[..., T, H, W, 3]`` to float ``[..., 3, T, H, W]`` in [0, 1]."""
    return frames.movedim(-1, -4).float().div_(255)


@torch.inference_mode()
def meet(model: AudioVisual, windows: Iterable[tuple[int, Tensor, Tensor]]) -> None:
    """Learn from windows of held-out clips what familiar pictures and sounds are like.

    Args:
        model: the towers, in evaluation mode.
        windows: the number of the clip, uint8 ``[1, T, H, W, 3]`` and ``[1, S]``; sound may be longer than the picture.
    """
    clips, seen, heard = [], [], []
    samples = round(model.config.seconds * model.config.sample_rate)
    for clip, frames, audio in windows:
        frames, audio = frames.to(model.device), audio[:, :samples].to(model.device)
        clips.append(clip)
        seen.append(describe_video(model.video_features(frames_to_input(frames)), frames).cpu())
        heard.append(describe_audio(model.audio_features(audio)).cpu())
    if clips:
        model.familiar["video"].fit(torch.cat(seen), torch.tensor(clips))
        model.familiar["audio"].fit(torch.cat(heard), torch.tensor(clips))


def save(model: AudioVisual, folder: Path, card: str) -> None:
    """Write a model folder: weights, ``config.json`` and the card ``README.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(model, folder / "model.safetensors")
    config = {"format": FORMAT, **asdict(model.config)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "README.md").write_text(card)
    # A calibration that lies there is of the weights that were just replaced.
    for stale in (CALIBRATION, ON_SCREEN_CALIBRATION, TRACK_CALIBRATION):
        (folder / stale).unlink(missing_ok=True)


def model_folder(name_or_path: str | Path) -> Path:
    """Where a model lies: a name in the wheel (``default``) or the path of a model or run folder.

    Raises:
        ModelError: there is no such model.
    """
    folder = Path(name_or_path)
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    elif not folder.is_dir():
        folder = _ZOO / str(name_or_path)
    if not (folder / "config.json").is_file():
        names = ", ".join(sorted(p.parent.name for p in _ZOO.glob("*/config.json"))) or "none"
        raise ModelError(f"no model '{name_or_path}': neither a folder with a config.json nor one of: {names}")
    return folder


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
            f"{folder} holds an encoder alone: `avlearn embed` and `avlearn linear-probe` take it, and a training "
            "starts from it (model.video_weights); this needs a model of video and audio"
        )
    path = folder / "config.json"
    config = validated(ModelConfig, read_object(path, FORMAT), path)
    try:
        model = load_whole(lambda: AudioVisual(config), folder / "model.safetensors", Familiarity.outdated)
    except ModelError as error:
        raise ModelError(f"{folder} is not a readable model folder: {error}") from error
    model.sync_calibration = _calibration(folder / CALIBRATION)
    model.on_screen_calibration = _calibration(folder / ON_SCREEN_CALIBRATION)
    model.track_calibration = _calibration(folder / TRACK_CALIBRATION)
    model.precision = number_format
    return model.eval().to(place)


def _calibration(path: Path) -> dict | None:
    """A calibration beside a model; None where there is none."""
    if not path.is_file():
        return None
    values = validated(Calibration, read_object(path, CALIBRATION_FORMAT), path)
    return {"format": CALIBRATION_FORMAT, **asdict(values)}
