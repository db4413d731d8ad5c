"""SLAVC: whose sound, and from where? Two maps, a question each, against a copy of the towers that moves slowly."""

import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.objectives.localization import maps, places_and_sound
from avlearn.objectives.objective import (
    Objective,
    ObjectiveOutput,
    Pair,
    Setting,
    ShiftSchedule,
    gather_with_gradient,
    own_rows,
)


class SLAVC(Objective):
    """Which sound, at the places that it comes from? Negatives: the sounds of other clips, over all processes.

    Simultaneous localization and audio-visual correspondence (Mo & Morgado, NeurIPS 2022). Each side has two
    projections, and so there are two maps: one is a softmax over the sounds at each place, the other over the places
    under each sound; what they agree on, summed over places, says whose sound it is. The pictures are compared with
    the sounds of a copy of the towers that follows them by ``momentum``, and its pictures with the sounds; both ways
    the sounds compete, as in the authors' code.

    The two projections are the halves of the common space, each of unit length. Whoever compares places with sounds in
    all of that space, as the readouts do, weighs the two maps by the lengths of the halves, where the authors take the
    mean.

    Args:
        schedule, setting: see `Objective`; ``setting.dim`` is even.
        temperature: of similarities; the authors' code has 0.03.
        momentum: in [0, 1); theirs is 0.999.
        dropout: of the picture's features, in [0, 1); theirs is 0.9, of 512 channels.
    """

    def __init__(
        self, schedule: ShiftSchedule, setting: Setting, temperature: float, momentum: float, dropout: float
    ) -> None:
        super().__init__(schedule, setting)
        self.scale = self.pool_scale = 1.0 / temperature
        self.momentum, self.dropout = momentum, dropout

    def forward(self, pair: Pair) -> ObjectiveOutput:
        places, sound = _halves(pair)
        target_places, target_sound = _halves(pair.target)
        to_target = self._log_agreement(places, gather_with_gradient(target_sound))
        of_target = self._log_agreement(target_places, gather_with_gradient(sound))
        own = own_rows(len(sound), sound.device)
        first, second = F.cross_entropy(to_target, own), F.cross_entropy(of_target, own)
        logs = {
            "picture_to_target": first.detach(),
            "target_to_sound": second.detach(),
            "retrieval": (to_target.argmax(1) == own).float().mean(),
        }
        return ObjectiveOutput(first + second, logs)

    def _log_agreement(self, places: Tensor, sounds: Tensor) -> Tensor:
        """Pictures ``[B, 2, D / 2, P]`` under sounds ``[C, 2, D / 2]``: ``[B, C]``."""
        whose, where = (maps(places[:, k], sounds[:, k]) * self.scale for k in range(2))
        return torch.logsumexp(whose.log_softmax(1) + where.log_softmax(2), 2)


def _halves(pair: Pair) -> tuple[Tensor, Tensor]:
    """Places ``[B, 2, D / 2, P]`` and sounds ``[B, 2, D / 2]`` by each of the projections, of unit length."""
    places, sound = places_and_sound(pair)
    return F.normalize(places.unflatten(1, (2, -1)), dim=2), F.normalize(sound.unflatten(1, (2, -1)), dim=2)
