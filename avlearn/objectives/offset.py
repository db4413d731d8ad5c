"""By how much are picture and sound apart, and can that be told at all? The second stage of Synchformer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.objective import Objective, ObjectiveOutput, Pair, Setting, ShiftSchedule


class OffsetClassifier(Objective):
    """Which of all offsets? A transformer reads picture and sound as one sequence and classifies.

    The second stage of Synchformer (Iashin et al., ICASSP 2024): ``[OFF] picture [MOD] sound``, each place with a
    learned position, of the picture a token a step (the mean over space), of the sound the whole context. What it makes
    of [OFF] goes to two heads: one for the offset, whose wrong classes are all the others, and one for whether picture
    and sound can be synchronized, whose negatives are the sounds of other clips of the batch. In the paper the second
    head is trained afterwards, on negatives from a far part of the same recording.

    Args:
        schedule, setting: see `Objective`; the schedule has no part in this.
        dim, layers, heads: of the transformer.
        frozen: features get no gradient; for towers that are trained already.
        sync_weight: of the second head's loss.

    Raises:
        RecipeError: ``dim`` is no multiple of ``heads``.
    """

    common_space = False

    def __init__(
        self,
        schedule: ShiftSchedule,
        setting: Setting,
        dim: int,
        layers: int,
        heads: int,
        frozen: bool,
        sync_weight: float,
    ) -> None:
        super().__init__(schedule, setting)
        if dim % heads:
            raise RecipeError(f"objective.dim: {dim} is no multiple of {heads} heads")
        self.frozen, self.sync_weight = frozen, sync_weight
        sound_steps = setting.steps + setting.offsets - 1
        self.video_tokens = nn.Sequential(nn.Linear(setting.video_channels, dim), nn.LayerNorm(dim))
        self.audio_tokens = nn.Sequential(nn.Linear(setting.audio_channels, dim), nn.LayerNorm(dim))
        self.off_token, self.mod_token = (nn.Parameter(torch.randn(1, 1, dim)) for _ in range(2))
        self.positions = nn.Parameter(torch.randn(1, 2 + setting.steps + sound_steps, dim))
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.1, "gelu", batch_first=True, norm_first=True)
              for _ in range(layers)),
            nn.LayerNorm(dim),
        )  # fmt: skip
        self.offset_head = nn.Linear(dim, setting.offsets)
        self.sync_head = nn.Linear(dim, 1)

    def forward(self, pair: Pair) -> ObjectiveOutput:
        video, audio = self._tokens(pair)
        state = self._read(video, audio)
        logits = self.offset_head(state)
        which = F.cross_entropy(logits, pair.offset)

        other = pair.clip[:, None] != pair.clip
        some = other.any(1)  # windows of one and the same clip have no negatives
        partner = other[some].float().multinomial(1)[:, 0] if some.any() else some.nonzero()[:, 0]
        wrong = self._read(video[some], audio[partner])
        sync_logits = self.sync_head(torch.cat([state, wrong]))[:, 0]
        synchronizable = (torch.arange(len(sync_logits), device=logits.device) < len(state)).to(sync_logits)
        whether = F.binary_cross_entropy_with_logits(sync_logits, synchronizable)

        loss = which + self.sync_weight * whether
        if not self.frozen:
            # The common space takes no part, but processes that average gradients want one for every parameter.
            loss = loss + 0.0 * (pair.video.sum() + pair.audio.sum())
        logs = {
            "offset_loss": which.detach(),
            "sync_loss": whether.detach(),
            "offset_within_1": ((logits.argmax(1) - pair.offset).abs() <= 1).float().mean(),
            "sync_right": ((sync_logits > 0) == synchronizable.bool()).float().mean(),
        }
        return ObjectiveOutput(loss, logs)

    def offset_scores(self, pair: Pair, offsets: Tensor) -> Tensor:
        """The logarithm of the probability of each shifted offset.

        Args:
            pair: of one process.
            offsets: ``[O]``, steps from the true offset: 0 is the truth.

        Returns:
            ``[B, O]``; NaN where the offset is not among the classes.
        """
        scores = self.offset_head(self._read(*self._tokens(pair))).log_softmax(1)
        at = pair.offset[:, None] + offsets
        last = self.setting.offsets - 1
        return scores.gather(1, at.clamp(0, last)).masked_fill((at < 0) | (at > last), float("nan"))

    def synchronizable(self, pair: Pair) -> Tensor:
        """The probability that picture and sound can be synchronized: ``[B]``."""
        return self.sync_head(self._read(*self._tokens(pair)))[:, 0].sigmoid()

    def _tokens(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """``[B, T, dim]`` of the picture and ``[B, U, dim]`` of the sound."""
        video, audio = pair.video_features.mean((3, 4)), pair.audio_features
        if self.frozen:
            video, audio = video.detach(), audio.detach()
        return self.video_tokens(video.transpose(1, 2)), self.audio_tokens(audio.transpose(1, 2))

    def _read(self, video: Tensor, audio: Tensor) -> Tensor:
        """`_tokens` to the state of [OFF]: ``[B, dim]``."""
        off, mod = (token.expand(len(video), -1, -1) for token in (self.off_token, self.mod_token))
        return self.blocks(torch.cat([off, video, mod, audio], 1) + self.positions)[:, 0]
