"""Two towers: encoders of video and audio, on one clock and in one space."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.config import ModelConfig
from avlearn.device import computing_in
from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder
from avlearn.models.inputs import audio_input, extended, video_input
from avlearn.models.registry import create_encoder, model_spec
from avlearn.signal import FrontEnd
from avlearn.signal.clock import to_steps
from avlearn.validation import validated

MOST_PIXELS = 2**25  # of one input, in all frames: 10 s of 25 a second, 366 x 366


class TwoTower(nn.Module):
    """Video and audio encoders, whose features are projected into one space, on the clock of the video.

    Where ``config.segment`` is set, encoders see segments of so many seconds, each alone; the last is filled up, with
    its last frame and with silence. So is what is shorter than an encoder takes, or no multiple of what it takes; only
    whole steps are kept, but one at least.

    Attributes:
        step: seconds of a step of the features.
        audio_step: seconds of a step of the audio encoder, before its features are brought to those of the video.
        precision: what the encoders compute in; None: in that of their weights, or as the training's context says.

    Raises:
        ModelError: the encoders' steps do not last equally long, and are not to be resampled, or to steps that are no
            whole number of samples; a window or a segment is shorter than a step or has too many pixels, or a segment
            is no whole number of steps; the spectrogram cannot be made, or is none that the audio encoder takes; an
            option is none of the encoder's architecture; or a number is out of its bounds.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        validated(ModelConfig, config.model_dump(), "model")  # what could not be read back is not made
        self.config = config
        self.video = create_encoder(config.video, config.video_options, "video").as_tower()
        self.audio = create_encoder(config.audio, config.audio_options, "audio").as_tower()
        if config.video_mean:
            self.video.mean, self.video.std = torch.tensor(config.video_mean), torch.tensor(config.video_std)
        try:
            self.spectrogram = FrontEnd(config.sample_rate, config.spectrogram)
        except ValueError as error:
            raise ModelError(f"model.spectrogram: {error}") from error
        _check_front_end(config, self.audio, self.spectrogram)
        stride = self.video.feature_info.stride[0]
        self.step = stride / config.fps
        _check_window(config, self.step)
        self.audio_step = self.audio.feature_info.stride[0] * self.spectrogram.hop
        _check_clocks(config, self.step, self.audio_step)
        self.segment_frames: int | None = None
        if config.segment is not None:
            self.segment_frames = round(config.segment * config.fps)
            if self.segment_frames % stride or abs(self.segment_frames / config.fps - config.segment) > 1e-6:
                raise ModelError(f"model.segment: {config.segment:g} s is no whole number of steps of {self.step:g} s")
        self.video_head = nn.Linear(self.video.num_features, config.dim)
        self.audio_head = nn.Linear(self.audio.num_features, config.dim)
        self.precision: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.video_head.weight.device

    @property
    def audio_step_differs(self) -> bool:
        """Whether the audio encoder's steps last otherwise than those of the video."""
        return not _same(self.step, self.audio_step)

    def video_features(self, video: Tensor) -> Tensor:
        """Frames ``[B, 3, T, H, W]`` in [0, 1] to features ``[B, D', T', Y, X]``."""
        frames, stride = video.shape[2], self.video.feature_info.stride[0]
        if self.segment_frames is None:
            return self._encode_video(video)[:, :, : max(frames // stride, 1)]
        whole = extended(video, -(-frames // self.segment_frames) * self.segment_frames)
        segments = whole.unflatten(2, (-1, self.segment_frames)).transpose(1, 2)
        features = self._encode_video(segments.flatten(0, 1)).unflatten(0, segments.shape[:2])
        return features.transpose(1, 2).flatten(2, 3)[:, :, : -(-frames // stride)]

    def _encode_video(self, video: Tensor) -> Tensor:
        """Features of ``[B, 3, T, H, W]``, extended to what the encoder takes."""
        seen = video_input(self.video, video)
        with computing_in(self.precision, self.device):
            features = self.video.forward_features(seen)
        return features if self.precision is None else features.float()

    def audio_features(self, audio: Tensor) -> Tensor:
        """Waveforms ``[B, S]`` to features ``[B, D', U]``."""
        if self.config.segment is None:
            return self._encode_audio(audio)
        samples = round(self.config.segment * self.config.sample_rate)
        segments = F.pad(audio, (0, -audio.shape[1] % samples)).unflatten(1, (-1, samples))
        features = self._encode_audio(segments.flatten(0, 1)).unflatten(0, segments.shape[:2])
        return features.transpose(1, 2).flatten(2, 3)[:, :, : self._steps(audio)]

    def _steps(self, audio: Tensor) -> int:
        """Whole steps of ``[B, S]``, and one at least."""
        return max(int(audio.shape[1] / self.config.sample_rate / self.step + 1e-6), 1)

    def _encode_audio(self, audio: Tensor) -> Tensor:
        """Features of ``[B, S]``, extended to what the encoder takes, by the steps of the video."""
        steps = self._steps(audio)
        spectrogram = audio_input(self.audio, self.spectrogram, audio)
        with computing_in(self.precision, self.device):
            features = self.audio.forward_features(spectrogram)
        features = features if self.precision is None else features.float()
        if self.audio_step_differs:
            return to_steps(features, self.audio_step, steps, self.step)
        return features[:, :, :steps]

    def project_video(self, features: Tensor) -> Tensor:
        """Video features into the common space: ``[B, dim, T', Y, X]``, unit length."""
        return F.normalize(self.video_head(features.movedim(1, -1)), dim=-1).movedim(-1, 1)

    def project_audio(self, features: Tensor) -> Tensor:
        """Audio features into the common space: ``[B, dim, U]``, unit length."""
        return F.normalize(self.audio_head(features.transpose(1, 2)), dim=2).transpose(1, 2)

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Both towers: ``[B, 3, T, H, W]`` and ``[B, S]`` to ``V [B, dim, T', Y, X]`` and ``A [B, dim, U]``."""
        return self.project_video(self.video_features(video)), self.project_audio(self.audio_features(audio))


def _same(step: float, other: float) -> bool:
    return abs(step - other) <= 1e-6


def _check_front_end(config: ModelConfig, audio: Encoder, front_end: FrontEnd) -> None:
    """Raise ModelError where the front end gives what the audio encoder does not take."""
    frames = audio.frames_for(front_end.frames(round(config.seconds * config.sample_rate)))
    try:
        audio.check(torch.empty(1, *front_end.shape(frames), device="meta"))
    except ModelError as error:
        needs = ", ".join(f"{key}: {value}" for key, value in model_spec(config.audio).front_end.items())
        raise ModelError(
            f"model.spectrogram: {error}; {config.audio} takes {needs or 'the spectrogram by default'}"
        ) from error


def _check_clocks(config: ModelConfig, step: float, audio_step: float) -> None:
    """Raise ModelError where the encoders' steps cannot be brought together."""
    if _same(step, audio_step):
        return
    if not config.resample:
        raise ModelError(
            f"the encoders are on different clocks: a step of {config.video} lasts {step * 1000:g} ms, one of "
            f"{config.audio} {audio_step * 1000:g} ms; change clip.fps, the hop or the strides, or set model.resample"
        )
    samples = step * config.sample_rate
    if not _same(samples, round(samples)):
        raise ModelError(f"model.resample: a step lasts {samples:.2f} samples; change clip.fps or clip.sample_rate")


def _check_window(config: ModelConfig, step: float) -> None:
    """Raise ModelError where what the encoders see at once is less than a step, or too much."""
    if config.seconds < step - 1e-6:
        raise ModelError(
            f"model.seconds: {config.seconds:g} s is shorter than a step of {config.video}, {step:g} s at "
            f"{config.fps:g} frames a second: take longer windows, or another encoder"
        )
    for key in ("seconds", "segment"):
        seconds = getattr(config, key) or 0
        pixels = seconds * config.fps * config.size**2
        if pixels > MOST_PIXELS:
            raise ModelError(
                f"model.{key}: {seconds:g} s at {config.fps:g} frames a second of {config.size} x {config.size} "
                f"have {pixels / 1e6:.0f} million pixels, and no more than {MOST_PIXELS / 1e6:.0f} million are looked "
                f"at at once: lower {key}, fps or size"
            )


def frames_to_input(frames: Tensor) -> Tensor:
    """uint8 ``[..., T, H, W, 3]`` to float ``[..., 3, T, H, W]`` in [0, 1]."""
    return frames.movedim(-1, -4).float().div_(255)
