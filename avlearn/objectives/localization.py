"""Objectives of sound-source localization: EZ-VSL, FNAC, LVS's tri-map, AVOL-Net.

They see a still picture and one sound: all steps of a clip are averaged before a place is compared with the sound.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives.objective import (
    Objective,
    ObjectiveOutput,
    Pair,
    Setting,
    ShiftSchedule,
    gather_with_gradient,
    own_rows,
    sound_at,
)


def places_and_sound(pair: Pair) -> tuple[Tensor, Tensor]:
    """Each place and the sound that goes with the picture, of unit length: ``[B, D, P]`` and ``[B, D]``."""
    sound = sound_at(pair.audio, pair.offset, pair.video.shape[2]).mean(2)
    return F.normalize(pair.video.mean(2).flatten(2), dim=1), F.normalize(sound, dim=1)


def maps(places: Tensor, sound: Tensor) -> Tensor:
    """Every picture under every sound: ``[B, D, P]`` and ``[C, D]`` to ``[B, C, P]`` in [-1, 1]."""
    return torch.einsum("bdp,cd->bcp", places, sound)


class MILInfoNCE(Objective):
    """Whose sound is it, by the place that fits best? Negatives: the other clips, over all processes; both directions.

    Multiple-instance contrastive learning: a picture is a bag of places (EZ-VSL: Mo & Morgado, ECCV 2022).

    Args:
        schedule, setting: see `Objective`.
        temperature: of similarities; the paper's is 0.03.
    """

    def __init__(self, schedule: ShiftSchedule, setting: Setting, temperature: float) -> None:
        super().__init__(schedule, setting)
        self.scale = self.pool_scale = 1.0 / temperature

    def forward(self, pair: Pair) -> ObjectiveOutput:
        places, sound = places_and_sound(pair)
        every_place, every_sound = gather_with_gradient(places), gather_with_gradient(sound)
        return self._both_ways(maps(places, every_sound).amax(2), maps(every_place, sound).amax(2).T)

    def _both_ways(self, to_sound: Tensor, to_picture: Tensor) -> ObjectiveOutput:
        """Similarities of pictures to all sounds, and of sounds to all pictures: ``[B, G]`` each."""
        own = own_rows(len(to_sound), to_sound.device)
        forward = F.cross_entropy(to_sound * self.scale, own)
        backward = F.cross_entropy(to_picture * self.scale, own)
        logs = {
            "picture_to_sound": forward.detach(),
            "sound_to_picture": backward.detach(),
            "retrieval": (to_sound.argmax(1) == own).float().mean(),
        }
        return ObjectiveOutput(forward + backward, logs)


class FNAC(MILInfoNCE):
    """`MILInfoNCE` that allows for negatives which are none, as clips that sound or look alike (Sun et al., CVPR 2023).

    False-negative suppression: over all clips, a picture is to fit the sounds as its own sound, and as the whole
    picture, fits those of its modality. True-negative enhancement: what sounds in the pictures is to be as alike as
    their sounds. Each by the mean absolute difference of softmaxes over the clips, which falls with their number: the
    authors' code has 128.

    Args:
        schedule, setting, temperature: see `MILInfoNCE`.
        suppression, enhancement: weights; the paper has 100 for each of the three terms.
        foreground: what sounds: places above this share of the way from the lowest to the highest similarity.
    """

    def __init__(
        self,
        schedule: ShiftSchedule,
        setting: Setting,
        temperature: float,
        suppression: float,
        enhancement: float,
        foreground: float,
    ) -> None:
        super().__init__(schedule, setting, temperature)
        self.suppression, self.enhancement, self.foreground = suppression, enhancement, foreground

    def forward(self, pair: Pair) -> ObjectiveOutput:
        places, sound = places_and_sound(pair)
        every_place, every_sound = gather_with_gradient(places), gather_with_gradient(sound)
        to_sound, to_picture = maps(places, every_sound).amax(2), maps(every_place, sound).amax(2).T
        whole, every_whole = places.mean(2), every_place.mean(2)
        sounding = (places * self._sounding(places, sound)[:, None]).mean(2)
        similarities = (
            to_sound,
            sound @ every_sound.T,
            whole @ every_whole.T,
            sounding @ gather_with_gradient(sounding).T,
        )
        fit, heard, seen, found = ((x * self.scale).softmax(1) for x in similarities)
        suppression = F.l1_loss(fit, heard) + F.l1_loss(fit, seen)
        enhancement = F.l1_loss(found, heard)
        output = self._both_ways(to_sound, to_picture)
        loss = output.loss + self.suppression * suppression + self.enhancement * enhancement
        logs = {"suppression": suppression.detach(), "enhancement": enhancement.detach()}
        return ObjectiveOutput(loss, {**output.logs, **logs})

    @torch.no_grad()
    def _sounding(self, places: Tensor, sound: Tensor) -> Tensor:
        """Which places sound: ``[B, P]``, boolean."""
        own = torch.einsum("bdp,bd->bp", places, sound) * self.scale
        low, high = own.aminmax(dim=1, keepdim=True)
        return (own - low) / (high - low + 1e-5) > self.foreground


class TriMap(Objective):
    """Which sound, by the places that it comes from? Negatives: the sounds of other clips, over all processes.

    Hard negatives, too: the places of the clip's own picture that the sound does not come from. Those in between are
    neither (LVS: Chen et al., CVPR 2021).

    Args:
        schedule, setting: see `Objective`.
        temperature: of the softmax over sounds; the authors' code has 0.07.
        positive, negative: similarity from which on, and up to which, a place sounds and does not; 0.65 and 0.4.
        sharpness: width of the sigmoids at the two, in similarity; the paper has 0.03.
    """

    def __init__(
        self,
        schedule: ShiftSchedule,
        setting: Setting,
        temperature: float,
        positive: float,
        negative: float,
        sharpness: float,
    ) -> None:
        super().__init__(schedule, setting)
        self.scale, self.pool_scale = 1.0 / temperature, 1.0 / sharpness
        self.positive, self.negative, self.sharpness = positive, negative, sharpness

    def forward(self, pair: Pair) -> ObjectiveOutput:
        places, sound = places_and_sound(pair)
        own = own_rows(len(sound), sound.device)
        every = maps(places, gather_with_gradient(sound))  # [B, G, P]
        sounding = self._mean_where(every, every - self.positive)
        right = every[torch.arange(len(own), device=own.device), own]
        silent = self._mean_where(right, self.negative - right)
        loss = F.cross_entropy(torch.cat([sounding, silent[:, None]], 1) * self.scale, own)
        return ObjectiveOutput(loss, {"retrieval": (sounding.argmax(1) == own).float().mean()})

    def _mean_where(self, similarity: Tensor, margin: Tensor) -> Tensor:
        """Over the places that have a margin above zero, softly: ``[..., P]`` each to ``[...]``."""
        # A softmax of logarithms: where no place has it, the sigmoids' sum is too small to divide by.
        weights = F.logsigmoid(margin / self.sharpness).softmax(-1)
        return (weights * similarity).sum(-1)


class Correspondence(Objective):
    """Is this the picture's sound, by the place that fits best? Negatives: the sound of one other clip, of any process.

    AVOL-Net (Arandjelovic & Zisserman, ECCV 2018), whose vectors have any length; here they have unit length, so that
    the learned scale has to start higher.

    Args:
        schedule, setting: see `Objective`.
        temperature: of similarities, at the start.
    """

    def __init__(self, schedule: ShiftSchedule, setting: Setting, temperature: float) -> None:
        super().__init__(schedule, setting)
        self.log_scale = nn.Parameter(torch.tensor(1.0 / temperature).log())
        self.bias = nn.Parameter(torch.tensor(0.0))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    def forward(self, pair: Pair) -> ObjectiveOutput:
        places, sound = places_and_sound(pair)
        sounds, own = gather_with_gradient(sound), own_rows(len(sound), sound.device)
        # A single clip, as validation may have, has no other: its own sound then counts as both.
        others = (own + torch.randint(1, max(len(sounds), 2), own.shape, device=own.device)) % len(sounds)
        right, wrong = (
            torch.einsum("bdp,bd->bp", places, heard).amax(1) * self.scale + self.bias
            for heard in (sound, sounds[others])
        )
        loss = (F.softplus(-right) + F.softplus(wrong)).mean() / 2
        logs = {"told_apart": (right > wrong).float().mean(), "scale": self.scale.detach()}
        return ObjectiveOutput(loss, logs)
