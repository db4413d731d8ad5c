"""Attention bottlenecks: MBT (Nagrani et al., NeurIPS 2021).

Two transformers, of tubelets of the video and of patches of the spectrogram. From one layer on each sees, beside its
own tokens, a few that both share: what they learn of each other goes through these.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.config import Spectrogram
from avlearn.errors import ModelError
from avlearn.models.fusion.network import FusionNetwork
from avlearn.models.fusion.registry import FusionSpec, register
from avlearn.models.inputs import extended
from avlearn.models.video.vit import Attention, Block, LayerNorm, Tubelets, drop_rates, resize_positions
from avlearn.signal import FrontEnd

_PATCH, _FRAMES = 16, 2  # pixels, and bins and frames of a spectrogram; frames of a tubelet
_HOP = 0.01  # seconds of a frame of the spectrogram


class MBT(FusionNetwork):
    """Two ViTs that meet in bottleneck tokens.

    Clips of other sizes than positions were learned for are taken, too: positions are interpolated.

    Args:
        dim, depth, heads: of both transformers.
        fusion_layer: the first one with bottleneck tokens, from 0; ``depth``: none, late fusion.
        bottlenecks: tokens that are shared.
        pool: what is classified: ``mean`` of all tokens of both, as in the released recipe; or ``token``: the mean of
            the scores of a class token of each, as in the paper; there is then one bottleneck token more.
        frames, size: of the video that positions are learned for; frames are of 1 / 12.5 s.
        seconds, bins: of the audio that positions are learned for.
        drop_path: of the last layer.
        sample_rate: of the audio.
    """

    def __init__(
        self,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        fusion_layer: int = 8,
        bottlenecks: int = 4,
        pool: Literal["mean", "token"] = "mean",
        frames: int = 32,
        size: int = 224,
        seconds: float = 8.0,
        bins: int = 128,
        drop_path: float = 0.3,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if not 0 <= fusion_layer <= depth:
            raise ValueError(f"fusion_layer is 0 to {depth}, not {fusion_layer}")
        if pool not in ("mean", "token"):
            raise ValueError(f"pool is mean or token, not {pool}")
        self.num_features, self.sample_rate, self.pool = dim, sample_rate, pool
        self.depth, self.fusion_layer = depth, fusion_layer
        self.spectrogram = FrontEnd(sample_rate, Spectrogram(n_fft=1024, mels=bins, hop=_HOP))
        self.video_grid = (frames // _FRAMES, size // _PATCH, size // _PATCH)
        self.audio_grid = (1, bins // _PATCH, round(seconds / _HOP) // _PATCH)
        self.video_embed = Tubelets(3, dim, _FRAMES, _PATCH)
        self.audio_embed = nn.Conv2d(1, dim, _PATCH, _PATCH)
        self.positions = nn.ParameterDict(
            {name: torch.zeros(1, _count(grid), dim) for name, grid in self._grids().items()}
        )
        self.layers = nn.ModuleDict({name: _blocks(dim, depth, heads, drop_path) for name in self.inputs})
        tokens = pool == "token"
        self.cls_tokens = nn.ParameterDict({name: torch.zeros(1, 1, dim) for name in self.inputs if tokens})
        self.bottleneck = nn.Parameter(torch.zeros(1, bottlenecks + tokens, dim)) if fusion_layer < depth else None
        self.norm = LayerNorm(dim)
        self.classifier: nn.Module = nn.Identity()
        for weight in (*self.positions.values(), self.bottleneck):
            if weight is not None:
                nn.init.normal_(weight, std=0.02)

    def _grids(self) -> dict[str, tuple[int, int, int]]:
        return {"video": self.video_grid, "audio": self.audio_grid}

    def reset_classifier(self, num_classes: int | None) -> None:
        """Put a new linear classifier on top, which begins with zeros as published, or take it off (None or 0)."""
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        for parameter in self.classifier.parameters():
            nn.init.zeros_(parameter)

    def embed(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Tokens ``[B, N, D]`` with their positions, after the class token where there is one."""
        frames = -(-video.shape[2] // _FRAMES) * _FRAMES
        patches = self.video_embed(2 * extended(video, frames) - 1)
        least = _PATCH * self.spectrogram.kind.hop_samples
        heard = self.spectrogram(F.pad(audio, (0, max(least - audio.shape[1], 0))))
        grids = {"video": patches, "audio": self.audio_embed(heard).movedim(1, -1)[:, None]}
        found = {}
        for name, grid in grids.items():
            sides = (grid.shape[1], grid.shape[2], grid.shape[3])
            tokens = grid.flatten(1, 3) + resize_positions(self.positions[name], self._grids()[name], sides)
            if self.pool == "token":
                tokens = torch.cat([self.cls_tokens[name].expand(len(tokens), -1, -1), tokens], 1)
            found[name] = tokens
        return found

    def features(self, video: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Of each, ``[B, D]``: its class token; or its share in the mean of all tokens."""
        tokens = self.embed(video, audio)
        shared = None if self.bottleneck is None else self.bottleneck.expand(len(video), -1, -1)
        for number in range(self.depth):
            blocks = {name: self.layers[name].get_submodule(str(number)) for name in self.inputs}
            if shared is None or number < self.fusion_layer:
                tokens = {name: blocks[name](tokens[name]) for name in self.inputs}
                continue
            passed = {name: blocks[name](torch.cat([tokens[name], shared], 1)) for name in self.inputs}
            count = shared.shape[1]
            tokens = {name: passed[name][:, :-count] for name in self.inputs}
            shared = (passed["video"][:, -count:] + passed["audio"][:, -count:]) / 2
        normed = {name: self.norm(tokens[name]) for name in self.inputs}
        if self.pool == "token":
            return {name: normed[name][:, 0] / 2 for name in self.inputs}
        total = sum(tokens[name].shape[1] for name in self.inputs)
        return {name: normed[name].sum(1) / total for name in self.inputs}

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        return self.classifier(features["video"] + features["audio"])

    def contributions(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Shares of the last layer: what each has learned of the other is in its own."""
        if not isinstance(self.classifier, nn.Linear):
            raise ModelError("without a classifier there are no scores")
        half = self.classifier.bias / 2
        return {name: F.linear(features[name], self.classifier.weight, half) for name in self.inputs}


def _count(grid: Sequence[int]) -> int:
    frames, rows, columns = grid
    return frames * rows * columns


def _blocks(dim: int, depth: int, heads: int, drop_path: float) -> nn.ModuleList:
    return nn.ModuleList(Block(dim, Attention(dim, heads), rate, "tanh") for rate in drop_rates(drop_path, depth))


@register(
    FusionSpec(
        "Nagrani et al., NeurIPS 2021",
        174_612_239,
        527,
        (32, 224, 224),
        8.0,
        488.779,
        "MBT-B, as the recipe for AudioSet has it: 32 frames of 2.56 s beside 8 s of audio; spectrograms have one "
        "channel, where the authors repeat it three times",
    )
)
def mbt_b(
    fusion_layer: int = 8,
    bottlenecks: int = 4,
    pool: Literal["mean", "token"] = "mean",
    drop_path: float = 0.3,
    sample_rate: int = 16000,
) -> MBT:
    """ViT-B of tubelets and of spectrogram patches; four bottleneck tokens from the ninth layer on."""
    return MBT(
        fusion_layer=fusion_layer, bottlenecks=bottlenecks, pool=pool, drop_path=drop_path, sample_rate=sample_rate
    )
