"""Temporal binding networks: EPIC-Fusion (Kazakos et al., ICCV 2019).

A video is cut into segments of equal length. Of each, frames, their optical flow and the audio around are encoded,
taken from places that need not be the same, and fused by a linear layer; the segments' scores are averaged.
"""

import torch
from torch import Tensor, nn

from avlearn.models.encoder import Encoder, pooled
from avlearn.models.fusion.network import FusionNetwork, front_end_of, tower
from avlearn.models.fusion.registry import FusionSpec, register
from avlearn.models.inputs import audio_input, encoder_input, extended

_SPREAD = 0.001  # of the weights at first


class TBN(FusionNetwork):
    """Mid-level fusion within segments.

    While training, each input's places are drawn for themselves, and those of flow and audio in any order of the
    segments, so that what is bound together lies anywhere within the clip, as in the released code; else all are in the
    middle of each segment.

    Args:
        video: name of the encoder of frames.
        flow: of that of optical flow; None for none.
        audio: of that of audio.
        segments: of a clip, K.
        frames: of a segment that the encoder of frames sees, one or as many more as it takes.
        seconds: of the audio around a place.
        hidden: channels after fusion.
        dropout: before the classifier.
        sample_rate: of the audio.
    """

    def __init__(
        self,
        video: str = "spatial_bn_inception",
        flow: str | None = "temporal_bn_inception",
        audio: str = "bn_inception",
        segments: int = 3,
        frames: int = 1,
        seconds: float = 1.28,
        hidden: int = 512,
        dropout: float = 0.5,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if segments < 1:
            raise ValueError(f"segments are 1 or more, not {segments}")
        self.sample_rate, self.segments, self.num_features = sample_rate, segments, hidden
        self.samples = round(seconds * sample_rate)
        self.video, self.audio = tower(video, "video"), tower(audio, "audio")
        self.flow = tower(flow, "video") if flow else None
        if self.flow is not None and self.flow.takes != "flow":
            raise ValueError(f"{flow} sees {self.flow.takes}, not flow")
        self.inputs = ("video", "flow", "audio") if flow else ("video", "audio")
        self.frames = self.video.frames_for(frames)
        self.spectrogram = front_end_of(audio, sample_rate)
        encoders = (self.video, self.audio) if self.flow is None else (self.video, self.flow, self.audio)
        channels = sum(encoder.num_features for encoder in encoders)
        self.fuse = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.classifier: nn.Module = nn.Identity()
        _small(self.fuse[0])

    def reset_classifier(self, num_classes: int | None) -> None:
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        _small(self.classifier)

    def places(self, device: torch.device, bound: bool = False) -> Tensor:
        """One place in each segment ``[K]``, in shares of the clip; while training anywhere in it.

        Args:
            device: of the result.
            bound: in any order of the segments.
        """
        order = torch.arange(self.segments, device=device)
        if not self.training:
            return (order + 0.5) / self.segments
        found = (order + torch.rand(self.segments, device=device)) / self.segments
        return found[torch.randperm(self.segments, device=device)] if bound else found

    def _encoded(self, encoder: Encoder, windows: Tensor) -> Tensor:
        """``[B, K, ...]``, as an encoder takes it, to ``[B, D, K]``."""
        return pooled(encoder.forward_features(windows.flatten(0, 1))).unflatten(0, windows.shape[:2]).transpose(1, 2)

    def _clips(self, video: Tensor, frames: int, bound: bool = False) -> Tensor:
        """``[B, 3, T, H, W]`` to ``[B, K, 3, frames, H, W]`` around one place in each segment."""
        video = extended(video, frames)
        starts = _starts(self.places(video.device, bound), video.shape[2], frames)
        at = starts[:, None] + torch.arange(frames, device=video.device)
        return video[:, :, at].movedim(2, 1)

    def _flows(self, encoder: Encoder, video: Tensor) -> Tensor:
        """Flow of each segment: ``[B, K, C, L, H, W]``."""
        length = encoder.frames_for(1)
        # One frame more, so that the last one has a flow of its own.
        clips = self._clips(video, length + 1, bound=True)
        flows = encoder_input(encoder, clips.flatten(0, 1))[:, :, :length]
        return flows.unflatten(0, clips.shape[:2])

    def _sounds(self, audio: Tensor) -> Tensor:
        """``[B, S]`` to ``[B, K, samples]`` around one place in each segment."""
        audio = nn.functional.pad(audio, (0, max(self.samples - audio.shape[1], 0)))
        starts = _starts(self.places(audio.device, bound=True), audio.shape[1], self.samples)
        return audio[:, starts[:, None] + torch.arange(self.samples, device=audio.device)]

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """``[B, D, K]`` of ``video``, ``flow`` (where it has it) and ``audio``."""
        clips = self._clips(video, self.frames)
        found = {
            "video": self._encoded(
                self.video, encoder_input(self.video, clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
            )
        }
        if self.flow is not None:
            found["flow"] = self._encoded(self.flow, self._flows(self.flow, video))
        sounds = self._sounds(audio)
        spectrograms = audio_input(self.audio, self.spectrogram, sounds.flatten(0, 1)).unflatten(0, sounds.shape[:2])
        return found | {"audio": self._encoded(self.audio, spectrograms)}

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        fused = self.fuse(torch.cat([features[name] for name in self.inputs], 1).transpose(1, 2))
        return self.classifier(fused).mean(1)


def _starts(places: Tensor, count: int, window: int) -> Tensor:
    """First of so many in a row around each place, all of them within ``count``."""
    return (places * count - window / 2).round().long().clamp(0, count - window)


def _small(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=_SPREAD)
        nn.init.zeros_(layer.bias)


@register(
    FusionSpec(
        "Kazakos et al., ICCV 2019",
        32_463_901,
        125,
        (90, 224, 224),
        3.0,
        20.741,
        "125 verbs of EPIC-KITCHENS-55; the authors' audio has 24 kHz; encoders by name take any of ours",
    )
)
def tbn(
    video: str = "spatial_bn_inception",
    flow: str | None = "temporal_bn_inception",
    audio: str = "bn_inception",
    segments: int = 3,
    frames: int = 1,
    seconds: float = 1.28,
    dropout: float = 0.5,
    sample_rate: int = 16000,
) -> TBN:
    """Frames, flow and audio of three segments, by BN-Inception; fused by a linear layer of 512."""
    return TBN(video, flow, audio, segments, frames, seconds, dropout=dropout, sample_rate=sample_rate)
