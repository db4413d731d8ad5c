"""Audio-adaptive recognition across domains (Zhang et al., CVPR 2022): audio guides what is made of video.

Sounds of activities differ less than their looks from one domain to another. Three parts, none of which sends
gradients into another, as where the authors train one after the other:

- an encoder of audio, with a classifier of its own;
- the audio-adaptive encoder: a transformer over the audio's maps says which channels of the video's maps count
  before the last stage, which learns, as all of the video's encoder does, by a classifier of its own;
- the audio-infused recognizer: one vector an activity stands for its sound; their mean, weighted by what is heard and
  then by what is heard and seen, is the class token of a transformer over clips.

Of clips without labels, from the domain that it is to work in, it learns which activities are absent, by audio, and
pseudo-labels.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder, pooled
from avlearn.models.fusion.network import FusionNetwork, front_end_of, tower
from avlearn.models.fusion.registry import FusionSpec, register
from avlearn.models.inputs import audio_input, extended, video_input
from avlearn.models.video.slowfast import SlowFast
from avlearn.models.video.vit import attend

_DROPOUT, _TOKEN_DROPOUT = 0.15, 0.1
_SEEN = 64  # channels of a clip beside those of its sound, where both say what is heard
# Losses, as published: of what is heard, of what is heard and seen, and of absent activities.
_HEARD_LOSS, _HEARD_AND_SEEN_LOSS, _ABSENT_LOSS = 0.1, 0.02, 0.01
_ABSENT = 3 / 8  # of the classes: those that the audio has the lowest probability for


class AudioAdaptive(FusionNetwork):
    """Video features adapted and recognized by audio.

    Args:
        video: name of the encoder of frames; its last stage begins with convolutions.
        audio: of that of audio; the maps of its last but one stage are attended to.
        segments: clips of equal length that a video is cut into.
        dim, heads, inner: of the transformers: channels, heads, and channels of the hidden layers.
        depth, recognizer_depth: layers of the one that attends to audio, and of the recognizer.
        sounds: channels of an activity's sound.
        sample_rate: of the audio.
    """

    learns_unlabelled = True

    def __init__(
        self,
        video: str = "slowfast_r101_8x8",
        audio: str = "resnet18",
        segments: int = 5,
        dim: int = 256,
        heads: int = 8,
        inner: int = 512,
        depth: int = 8,
        recognizer_depth: int = 3,
        sounds: int = 512,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if segments < 1:
            raise ValueError(f"segments are 1 or more, not {segments}")
        self.sample_rate, self.segments = sample_rate, segments
        self.video, self.audio = tower(video, "video"), tower(audio, "audio")
        self.spectrogram = front_end_of(audio, sample_rate)
        self.num_features = 2 * self.video.num_features + self.audio.num_features
        self._sizes = {"dim": dim, "heads": heads, "inner": inner, "depth": recognizer_depth, "sounds": sounds}
        heard = self.audio.stage_info[-2].channels
        self.attention = AudioAttention(heard, _channels(self.video, video), dim, heads, inner, depth)
        self.video_head: nn.Module = nn.Identity()
        self.audio_head: nn.Module = nn.Identity()
        self.recognizer: InfusedRecognizer | None = None

    def reset_classifier(self, num_classes: int | None) -> None:
        seen, heard = self.video.num_features, self.audio.num_features
        self.video_head = nn.Linear(seen, num_classes) if num_classes else nn.Identity()
        self.audio_head = nn.Linear(heard, num_classes) if num_classes else nn.Identity()
        self.recognizer = InfusedRecognizer(seen, heard, num_classes, **self._sizes) if num_classes else None

    def _clips(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` to what the encoder takes of K clips, one after the other: ``[B K, C, T / K, H, W]``."""
        video = extended(video, self.segments)
        length = video.shape[2] // self.segments
        parts = video[:, :, : self.segments * length].unflatten(2, (self.segments, length))
        return video_input(self.video, parts.movedim(2, 1).flatten(0, 1))

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """``video``: of K clips, adapted by audio, the largest values and the means, ``[B, 2 D, K]``; ``audio``: means,
        ``[B, D]``."""
        maps = self.audio.forward_stages(audio_input(self.audio, self.spectrogram, audio))
        before, last = (maps[info.name] for info in self.audio.stage_info[-2:])
        gates = self.attention(before.detach())
        with multiplied(last_stages(self.video), [gate.repeat_interleave(self.segments, 0) for gate in gates]):
            seen = self.video.forward_features(self._clips(video)).flatten(2).unflatten(0, (-1, self.segments))
        return {"video": torch.cat([seen.amax(3), seen.mean(3)], 2).transpose(1, 2), "audio": pooled(last)}

    def _encoder_scores(self, features: dict[str, Tensor]) -> Tensor:
        """Of the audio-adaptive encoder alone."""
        _, means = features["video"].transpose(1, 2).chunk(2, 2)
        return self.video_head(self.video.dropout(means)).mean(1)

    def _recognized(self, features: dict[str, Tensor], new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.recognizer is None:
            raise ModelError("without a classifier there are no scores")
        largest, _ = features["video"].detach().transpose(1, 2).chunk(2, 2)
        found: tuple[Tensor, Tensor, Tensor] = self.recognizer(largest, features["audio"].detach(), new)
        return found

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        """Scores of the recognizer. Clips are taken for those of the new domain, if it learned from such, in use."""
        if self.recognizer is None:
            return torch.cat([pooled(features["video"]), features["audio"]], 1)
        known = self.recognizer.knows_new
        return self._recognized(features, torch.zeros_like(known) if self.training else known)[0]

    def further_scores(self, features: dict[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Of the encoders' own classifiers, of what is heard, and of what is heard and seen."""
        assert self.recognizer is not None
        _, heard, seen = self._recognized(features, torch.zeros_like(self.recognizer.knows_new))
        return {
            "encoder": (1.0, self._encoder_scores(features)),
            "audio": (1.0, self.audio_head(features["audio"])),
            "heard": (_HEARD_LOSS, heard),
            "heard_and_seen": (_HEARD_AND_SEEN_LOSS, seen),
        }

    def unlabelled_loss(self, features: dict[str, Tensor], rows: Tensor) -> Tensor:
        """Absent activities, by audio, that the encoder must not name; its answers, which the recognizer learns.

        An answer counts as much as its probability: the authors' come of an encoder that is trained already.
        """
        assert self.recognizer is not None
        new = self.recognizer.knows_new.fill_(1)
        encoder = self._encoder_scores(features)[rows].softmax(1)
        heard = self.audio_head(features["audio"].detach())[rows]
        least = heard.topk(max(round(_ABSENT * heard.shape[1]), 1), 1, largest=False).indices
        absent = -(1 - encoder.gather(1, least) + 1e-7).log().sum(1).mean()
        sure, answers = encoder.detach().max(1)
        each = F.cross_entropy(self._recognized(features, new)[0][rows], answers, reduction="none")
        return _ABSENT_LOSS * absent + (sure * each).mean()


class AudioAttention(nn.Module):
    """A transformer over an audio encoder's maps ``[B, C, F, U]`` to what channels are multiplied by, in (0, 1).

    Args:
        heard: channels of the maps.
        channels: of each result ``[B, C]``.
        dim, heads, inner, depth: of the transformer.
    """

    def __init__(self, heard: int, channels: Sequence[int], dim: int, heads: int, inner: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(heard, dim)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.blocks = _transformer(dim, heads, inner, depth)
        self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, count)) for count in channels)

    def forward(self, maps: Tensor) -> list[Tensor]:
        tokens = self.embed(maps.flatten(2).transpose(1, 2))
        found = self.blocks(torch.cat([self.token.expand(len(maps), -1, -1), tokens], 1))[:, 0]
        return [head(found).sigmoid() for head in self.heads]


class InfusedRecognizer(nn.Module):
    """A transformer over clips whose class token is a vector of their sound.

    Args:
        seen, heard: channels of clips and of audio.
        classes: activities.
        dim, heads, inner, depth: of the transformer.
        sounds: channels of an activity's sound.
    """

    knows_new: Tensor  # 1: it learned from clips of a new domain; else 0

    def __init__(
        self, seen: int, heard: int, classes: int, *, dim: int, heads: int, inner: int, depth: int, sounds: int
    ) -> None:
        super().__init__()
        self.sounds = nn.Parameter(torch.randn(classes, sounds))
        self.hear = _hidden(heard, sounds, classes)
        self.see = nn.Sequential(nn.Linear(seen, _SEEN), nn.LayerNorm(_SEEN), nn.ReLU())
        self.hear_and_see = _hidden(sounds + _SEEN, sounds, classes)
        self.audio_embed, self.video_embed = nn.Linear(sounds, dim), nn.Linear(seen, dim)
        self.domains = nn.Parameter(torch.randn(1, 2, dim))  # that with labels, and the new one
        self.blocks = _transformer(dim, heads, inner, depth)
        self.classifier = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))
        self.register_buffer("knows_new", torch.zeros((), dtype=torch.long))

    def forward(self, clips: Tensor, audio: Tensor, new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``[B, classes]``, those of what is heard, and of what is heard and seen.

        Args:
            clips: ``[B, K, seen]``.
            audio: ``[B, heard]``.
            new: 1 of the domain without labels, else 0.
        """
        heard = self.hear(audio)
        vector = heard.softmax(1) @ self.sounds
        both = torch.cat([vector[:, None].expand(-1, clips.shape[1], -1), self.see(clips)], 2)
        seen = self.hear_and_see(both.flatten(0, 1)).unflatten(0, clips.shape[:2])
        token = (seen.softmax(2) @ self.sounds).mean(1, keepdim=True)
        tokens = self.video_embed(clips) + self.domains.index_select(1, new.view(1))
        found = self.blocks(torch.cat([self.audio_embed(token), tokens], 1))[:, 0]
        return self.classifier(found), heard, seen.mean(1)


class _Block(nn.Module):
    """A pre-norm transformer block whose heads have 64 channels, whatever it has: ``[B, N, D]`` to the same."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, width = heads, 64 * heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * width, bias=False), nn.Linear(width, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(inner, dim), nn.Dropout(_DROPOUT)
        )
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.dropout(self.proj(attend(query, key, value, self.heads)))
        return x + self.mlp(self.norm2(x))


def _transformer(dim: int, heads: int, inner: int, depth: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(_TOKEN_DROPOUT), *(_Block(dim, heads, inner) for _ in range(depth)))


def _hidden(inputs: int, inner: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, inner), nn.BatchNorm1d(inner), nn.ReLU(), nn.Linear(inner, outputs))


def last_stages(encoder: Encoder) -> list[nn.Module]:
    """The last stage of each pathway of a video encoder, as far as these are modules."""
    pathways = [encoder.slow, encoder.fast] if isinstance(encoder, SlowFast) else [encoder]
    modules = [dict(pathway.named_modules()).get(pathway.stage_info[-1].name) for pathway in pathways]
    return [module for module in modules if module is not None]


def _channels(encoder: Encoder, name: str) -> list[int]:
    """Channels that each of `last_stages` takes. Raises ValueError where they are no convolutions."""
    convolutions = [
        next((part for part in stage.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)), None)
        for stage in last_stages(encoder)
    ]
    found = [first.in_channels for first in convolutions if first is not None]
    if not found or len(found) < len(convolutions):
        raise ValueError(f"{name} has no last stage of convolutions, whose channels audio could weigh")
    return found


@contextmanager
def multiplied(stages: Sequence[nn.Module], gates: Sequence[Tensor]) -> Iterator[None]:
    """While it lasts, channels of what each stage takes are multiplied.

    Args:
        stages: that take ``[B, C, ...]``, or, where steps in time are a batch, ``[B T, C, ...]``.
        gates: ``[B, C]`` of each.
    """

    def times(x: Tensor, gate: Tensor) -> Tensor:
        rows = gate.repeat_interleave(len(x) // len(gate), 0)
        return x * rows.view(*rows.shape, *(1,) * (x.ndim - 2))

    with ExitStack() as hooks:
        for stage, gate in zip(stages, gates, strict=True):
            hook = stage.register_forward_pre_hook(lambda _, taken, gate=gate: (times(taken[0], gate), *taken[1:]))
            hooks.callback(hook.remove)
        yield


@register(
    FusionSpec(
        "Zhang et al., CVPR 2022",
        74_592_368,
        8,
        (160, 224, 224),
        10.0,
        420.876,
        "eight verbs of EPIC-KITCHENS, five clips of SlowFast-101 and ResNet-18 on audio; all is learned at once, "
        "where the authors train one part after the other",
    )
)
def audio_adaptive(
    video: str = "slowfast_r101_8x8",
    audio: str = "resnet18",
    segments: int = 5,
    dim: int = 256,
    heads: int = 8,
    inner: int = 512,
    depth: int = 8,
    recognizer_depth: int = 3,
    sounds: int = 512,
    sample_rate: int = 16000,
) -> AudioAdaptive:
    """Channels of video are weighted by audio, and activities' sounds are tokens of the recognizer."""
    return AudioAdaptive(video, audio, segments, dim, heads, inner, depth, recognizer_depth, sounds, sample_rate)
