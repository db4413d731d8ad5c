"""The base of the audio encoders: whole steps of the input through stages, and the bins together at the end."""

from torch import Tensor

from avlearn.models.encoder import Encoder


class AudioEncoder(Encoder):
    """``[B, 1, F, N]`` to ``[B, D, U]``; outputs of the stages are ``[B, D', F', N']``, bins before frames.

    Subclasses give `stages`, and override what is otherwise there.
    """

    axes: tuple[str, ...] = ("C", "F", "N")
    in_chans = 1

    def frames_for(self, count: int) -> int:
        """One step, and all that there is beyond."""
        return super().frames_for(max(count, self.feature_info.stride[0]))

    def prepared(self, x: Tensor) -> Tensor:
        """The input as the first stage takes it: frames beyond the last whole step are cut off."""
        step = self.feature_info.stride[0]
        x = super().prepared(x)
        return x[..., : x.shape[-1] // step * step]

    def on_grid(self, x: Tensor, batch: int) -> Tensor:
        """A stage's output, of a batch of that size, to ``[batch, D', F', N']``."""
        return x

    def over_bins(self, x: Tensor) -> Tensor:
        """``[B, D, F', U]`` to ``[B, D, U]``."""
        return x.mean(2)

    def forward_stages(self, x: Tensor) -> dict[str, Tensor]:
        stages = super().forward_stages(x)
        return {name: self.on_grid(found, len(x)) for name, found in stages.items()}

    def forward_features(self, x: Tensor) -> Tensor:
        last = super().forward_features(x)
        return self.over_bins(self.on_grid(last, len(x)))
