"""Classification of the offset, and of whether there is one to be told: the second stage of Synchformer."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.objective import (
    EmbeddedBatch,
    FeatureSpec,
    Objective,
    ObjectiveOptions,
    ObjectiveOutput,
    TrainingSetup,
)
from avlearn.objectives.registry import register
from avlearn.validation import Seconds, Weight, Width


def offset_classification(
    logits: Tensor, offset: Tensor, own_logits: Tensor, other_logits: Tensor, sync_weight: float = 1.0
) -> ObjectiveOutput:
    """Cross-entropy over offsets, and binary cross-entropy of whether video and audio can be synchronized.

    As Synchformer's second stage (Iashin et al., ICASSP 2024). The wrong offsets are all the others.

    Args:
        logits: ``[B, O]`` of the offsets.
        offset: ``[B]``, the right ones.
        own_logits: ``[B]``, that videos can be synchronized with their own audio.
        other_logits: ``[N]``, that they can with the audio of other clips; N may be zero.
        sync_weight: of the binary loss.

    Returns:
        The loss; logs ``offset_loss``, ``sync_loss`` (the two parts), ``offset_within_1`` (share of clips whose best
        offset is at most one off) and ``sync_accuracy``.

    >>> logits = 5 * torch.eye(3)
    >>> loss, logs = offset_classification(logits, torch.tensor([0, 1, 2]), torch.ones(3), -torch.ones(3))
    >>> round(float(logs["offset_loss"]), 4), round(float(logs["sync_loss"]), 4), float(logs["sync_accuracy"])
    (0.0134, 0.3133, 1.0)
    """
    which = F.cross_entropy(logits, offset)
    sync_logits = torch.cat([own_logits, other_logits])
    own = (torch.arange(len(sync_logits), device=logits.device) < len(own_logits)).to(sync_logits)
    whether = F.binary_cross_entropy_with_logits(sync_logits, own)
    logs = {
        "offset_loss": which.detach(),
        "sync_loss": whether.detach(),
        "offset_within_1": ((logits.argmax(1) - offset).abs() <= 1).float().mean(),
        "sync_accuracy": ((sync_logits > 0) == own.bool()).float().mean(),
    }
    return ObjectiveOutput(which + sync_weight * whether, logs)


class _Layer(nn.Module):
    """Attention whose values also say how far off the other is (Shaw et al., NAACL 2018), and a perceptron.

    Queries and keys begin alike, so that steps attend to what is like them (as in Trockman & Kolter, ICML 2023): what
    they get is then by how much they are apart. From a usual start it takes many times as long to find that out.

    Args:
        dim, heads: of the attention.
        distances: how many there are.
    """

    def __init__(self, dim: int, heads: int, distances: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.distance = nn.Parameter(0.5 * torch.randn(distances, dim // heads))
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        nn.init.orthogonal_(self.query.weight)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)

    def forward(self, x: Tensor, apart: Tensor) -> Tensor:
        """``[B, N, dim]``, and which of the distances there is between each two, ``[N, N]``, to ``[B, N, dim]``."""
        normed = self.norm1(x)
        query, key, value = (
            each(normed).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(3)
        found = weights @ value + torch.einsum("bhnm,nmd->bhnd", weights, self.distance[apart])
        x = x + self.out(found.transpose(1, 2).flatten(2))
        after: Tensor = x + self.mlp(self.norm2(x))
        return after


@dataclass(frozen=True)
class OffsetOptions(ObjectiveOptions):
    """Options of `OffsetClassifier`; ``shift`` has no part in it.

    Attributes:
        dim, layers, heads: of the transformer.
        grid: seconds from one class to the next, and of the unit of a batch's ``offset``; None for a step.
        frozen: the encoders get no gradient; for those that are trained already.
        sync_weight: of the second head's loss.
    """

    name: Literal["offset"] = "offset"
    dim: Width = 64
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    heads: Annotated[int, Field(ge=1, le=256)] = 2
    grid: Seconds | None = None
    frozen: bool = False
    sync_weight: Weight = 1.0

    def offset_unit(self, step: float) -> float:
        return self.grid or step

    def check(self, setup: TrainingSetup) -> None:
        super().check(setup)
        if self.frozen and not setup.pretrained:
            raise ValueError("objective.frozen: towers that are not trained stay so; set model.base")


@register
class OffsetClassifier(Objective[OffsetOptions]):
    """`offset_classification` by a transformer that reads video and audio as one sequence.

    The second stage of Synchformer (Iashin et al., ICASSP 2024): ``[OFF] video audio``, of the video a token a step
    (the mean over places), of the audio the whole context, both in the common space that the first stage has taught,
    less what stays the same over time. What it makes of [OFF] goes to two heads: one for the offset, whose wrong
    classes are all the others, and one for whether video and audio can be synchronized, whose negatives are the audio
    of other clips of the batch. In the paper the second head is trained afterwards, on negatives from a far part
    of the same recording; and each place has a learned position, where here attention knows distances: with positions
    it learned little in the time in which it now learns nearly all (see `_Layer`).

    Raises:
        RecipeError: ``dim`` is no multiple of ``heads``; or all offsets span no whole number of ``grid``.
    """

    Options = OffsetOptions
    common_space = False
    former_names: ClassVar[dict[str, str]] = {"kind": "modality", "off": "offset_token"}
    distances: Tensor

    def __init__(self, options: OffsetOptions | None = None, spec: FeatureSpec | None = None) -> None:
        super().__init__(options, spec)
        spec, dim, heads, grid = self.spec, self.options.dim, self.options.heads, self.options.grid
        if dim % heads:
            raise RecipeError(f"objective.dim: {dim} is no multiple of {heads} heads")
        span = (spec.offsets - 1) * spec.step
        intervals = span / self.options.offset_unit(spec.step)
        if abs(intervals - round(intervals)) > 1e-6:
            raise RecipeError(f"objective.grid: {span:g} s (2 clip.context) is no multiple of {grid:g} s")
        self.frozen = self.options.frozen
        audio_steps = spec.steps + spec.offsets - 1
        self.tokens = nn.Linear(spec.dim, dim)
        self.offset_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.modality = nn.Parameter(0.02 * torch.randn(2, dim))  # of video and audio
        # Between a step of the video and one of the audio; the last is for all other pairs.
        distances = spec.steps + audio_steps
        apart = torch.full((1 + spec.steps + audio_steps,) * 2, distances - 1)
        later = torch.arange(spec.steps)[:, None] - torch.arange(audio_steps) + audio_steps - 1
        apart[1 : 1 + spec.steps, 1 + spec.steps :] = later
        apart[1 + spec.steps :, 1 : 1 + spec.steps] = later.T
        self.register_buffer("distances", apart, persistent=False)
        self.blocks = nn.ModuleList(_Layer(dim, heads, distances) for _ in range(self.options.layers))
        self.norm = nn.LayerNorm(dim)
        self.offset_head = nn.Linear(dim, self.offset_classes)
        self.sync_head = nn.Linear(dim, 1)

    def forward(self, batch: EmbeddedBatch) -> ObjectiveOutput:
        video, audio = self._tokens(batch)
        state = self._read(video, audio)
        other = batch.clip[:, None] != batch.clip
        some = other.any(1)  # windows of one and the same clip have no negatives
        partner = other[some].float().multinomial(1)[:, 0] if some.any() else some.nonzero()[:, 0]
        states = torch.cat([state, self._read(video[some], audio[partner])])
        own, others = self.sync_head(states)[:, 0].tensor_split([len(state)])
        return offset_classification(self.offset_head(state), batch.offset, own, others, self.options.sync_weight)

    def offset_scores(self, batch: EmbeddedBatch, offsets: Tensor) -> Tensor:
        """The logarithm of the probability of each shifted offset.

        Args:
            batch: of one process.
            offsets: ``[O]``, classes from the true offset: 0 is the truth.

        Returns:
            ``[B, O]``; NaN where the offset is not among the classes.
        """
        scores: Tensor = self.offset_head(self._read(*self._tokens(batch))).log_softmax(1)
        at = batch.offset[:, None] + offsets
        last = self.offset_classes - 1
        return scores.gather(1, at.clamp(0, last)).masked_fill((at < 0) | (at > last), float("nan"))

    def synchronizable(self, batch: EmbeddedBatch) -> Tensor:
        """Probability that video and audio can be synchronized: ``[B]``."""
        logits: Tensor = self.sync_head(self._read(*self._tokens(batch)))
        return logits[:, 0].sigmoid()

    def _tokens(self, batch: EmbeddedBatch) -> tuple[Tensor, Tensor]:
        """``[B, T, dim]`` of the video and ``[B, U, dim]`` of the audio."""
        both = []
        for x, modality in zip((batch.video.mean((3, 4)), batch.audio), self.modality, strict=True):
            x = x.detach() if self.frozen else x
            # Of unit length over D before: of about one in each channel after.
            changes = (x - x.mean(2, keepdim=True)) * x.shape[1] ** 0.5
            both.append(self.tokens(changes.transpose(1, 2)) + modality)
        return both[0], both[1]

    def _read(self, video: Tensor, audio: Tensor) -> Tensor:
        """`_tokens` to the state of [OFF]: ``[B, dim]``."""
        x = torch.cat([self.offset_token.expand(len(video), -1, -1), video, audio], 1)
        for block in self.blocks:
            x = block(x, self.distances)
        state: Tensor = self.norm(x[:, 0])
        return state
