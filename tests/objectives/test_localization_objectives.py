"""Objectives of localization: the authors' values, and pointing at what sounds where something else is seen as well."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.objectives import OBJECTIVES, EmbeddedBatch, FeatureSpec, Objective
from avlearn.objectives.localization import foreground_mask
from avlearn.objectives.objective import aligned_audio
from avlearn.objectives.similarity import heatmap
from avlearn.tasks import load_recipe

NAMES = ("mil_infonce", "fnac", "trimap", "slavc", "correspondence")
STEPS, AUDIO_STEPS, CLIPS = 3, 7, 768


def objective_of(name: str, dim: int) -> Objective:
    options = load_recipe("sync_world", [f"objective={name}"]).objective
    return OBJECTIVES[name](options, FeatureSpec(0.08, STEPS, 5, dim, dim, dim, 6))


def paired(seen: Tensor, heard: Tensor, offset: Tensor | None = None) -> EmbeddedBatch:
    """``[B, D, T, Y, X]`` and ``[B, D, U]``, of any length over D."""
    offset = torch.zeros(len(seen), dtype=torch.long) if offset is None else offset
    return EmbeddedBatch(
        F.normalize(seen, dim=1), F.normalize(heard, dim=1), offset, torch.arange(len(seen)), seen, heard
    )


def one_frame() -> EmbeddedBatch:
    """Six clips of a single step; one of 3 x 4 places carries the audio, amid noise."""
    g = torch.Generator().manual_seed(0)
    seen, heard = torch.randn(6, 16, 1, 3, 4, generator=g), torch.randn(6, 16, 1, generator=g)
    seen[:, :, 0, 1, 2] += heard[:, :, 0]
    pair = paired(seen.double(), heard.double())
    # A copy of the towers that came less far: with more noise.
    noise = [torch.randn(x.shape, generator=g).double() / 2 for x in (seen, heard)]
    return replace(pair, target=paired(seen + noise[0], heard + noise[1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mil_infonce", 0.1547073), ("fnac", 35.8595947), ("trimap", 0.1854043), ("slavc", 4.8637183)],
)  # by the authors' code, on the same features
def test_losses_are_those_of_the_authors(name, value):
    assert float(objective_of(name, 16)(one_frame()).loss) == pytest.approx(value, abs=1e-6)


def test_correspondence_is_binary_at_the_best_place(monkeypatch):
    objective, pair = objective_of("correspondence", 16), one_frame()
    with torch.no_grad():
        objective.bias.fill_(-3.0)
    monkeypatch.setattr(torch, "randint", lambda low, high, size, device: torch.tensor([1, 5, 2, 3, 1, 4]))
    expected = 0.0
    for i, other in enumerate((1, 0, 4, 0, 5, 3)):
        for heard, right in ((i, 1.0), (other, 0.0)):
            best = max(float(place @ pair.audio[heard, :, 0]) for place in pair.video[i, :, 0].flatten(1).T)
            says = 1 / (1 + math.exp(3.0 - 10 * best))
            expected -= math.log(says if right else 1 - says) / 12
    assert float(objective(pair).loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_clip_has_a_loss(name):
    pair = one_frame()
    target, alone = (EmbeddedBatch(*(x[:1] for x in list(vars(one).values())[:6])) for one in (pair.target, pair))
    assert objective_of(name, 16)(replace(alone, target=target)).loss.isfinite()


@pytest.mark.parametrize("name", NAMES)
def test_only_the_audio_that_goes_with_the_video_counts(name):
    torch.manual_seed(0)
    seen, heard = torch.randn(6, 16, STEPS, 3, 4), torch.randn(6, 16, AUDIO_STEPS)
    offset = torch.tensor([0, 1, 2, 3, 4, 2])
    losses = []
    for audio, start in ((heard, offset), (aligned_audio(heard, offset, STEPS), torch.zeros_like(offset))):
        torch.manual_seed(1)
        pair = paired(seen, audio, start)
        losses.append(objective_of(name, 16)(replace(pair, target=pair)).loss)
    assert torch.isclose(*losses)


def test_the_trimap_leaves_out_places_in_between():
    """A place as like the audio as 0.52 is neither; one at 0.3 is a negative, one at 0.75 a positive."""
    objective, moved = objective_of("trimap", 3), {}
    for likeness in (0.3, 0.52, 0.75):
        places = torch.tensor([[0.9, 0.0, likeness]]).expand(2, 3).double().requires_grad_()
        seen = torch.stack([places, (1 - places.square()).sqrt(), torch.zeros(2, 3)], 1)  # of unit length
        heard = torch.eye(3)[[0, 2], :, None].double()
        objective(paired(seen[:, :, None, None], heard)).loss.backward()
        moved[likeness] = float(places.grad[0, 2])
    assert moved[0.3] > 5 * abs(moved[0.52])
    assert moved[0.75] < -5 * abs(moved[0.52])


def test_what_sounds_is_sought_above_a_share_of_the_map():
    likeness = torch.tensor([[-0.5, 0.3, 0.5, 0.9]])  # of the way up: 0, 0.57, 0.71, 1
    places = torch.stack([likeness, (1 - likeness.square()).sqrt()], 1)
    assert foreground_mask(places, torch.tensor([[1.0, 0.0]])).tolist() == [[False, False, True, True]]


class Towers(nn.Module):
    """A linear map of what is seen at each place, and one of what is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.video, self.audio = nn.Conv3d(16, 16, 1), nn.Conv1d(16, 16, 1)

    def forward(self, video: Tensor, audio: Tensor, offset: Tensor) -> EmbeddedBatch:
        """``[B, 16, T, 3, 3]`` and ``[B, 16, U]`` to what objectives take."""
        return paired(self.video(video), self.audio(audio), offset)


def world(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Videos of two things, of which the first sounds while it is seen; audio; offsets; the places of the two."""
    g = torch.Generator().manual_seed(0)
    looks, noises = torch.randn(16, 16, generator=g), torch.randn(16, 16, generator=g)
    g.manual_seed(seed)
    things, heard = torch.randn(count, 2, 16, generator=g), torch.randn(count, AUDIO_STEPS, 16, generator=g)
    places = torch.rand(count, 9, generator=g).argsort(1)[:, :2]
    offset = torch.randint(AUDIO_STEPS - STEPS + 1, (count,), generator=g)
    heard[torch.arange(count)[:, None], offset[:, None] + torch.arange(STEPS)] = things[:, :1]
    video = torch.einsum("nkc,nkp->ncp", things @ looks, F.one_hot(places, 9).float()).view(count, 16, 1, 3, 3)
    video, audio = video.expand(-1, -1, STEPS, -1, -1), (heard @ noises).transpose(1, 2)
    video, audio = (x + 0.5 * torch.randn(x.shape, generator=g) for x in (video, audio))
    return video, audio, offset, places


def pointed(name: str, *, shuffled: bool, seed: int = 0) -> tuple[float, float]:
    """Shares of held-out clips, after a second of training: what sounds is above what is silent; is above all."""
    torch.manual_seed(seed)
    towers, objective = Towers(), objective_of(name, 16)
    video, audio, offset, _ = world(CLIPS, 1)
    if shuffled:
        order = torch.randperm(CLIPS)
        audio, offset = audio[order], offset[order]
    optimizer = torch.optim.AdamW([*towers.parameters(), *objective.parameters()], 1e-2)
    following = deepcopy(towers).requires_grad_(False)
    for _ in range(120 if objective.momentum is None else 400):  # what follows slowly teaches slowly
        chosen = torch.randperm(CLIPS)[:32]
        batch = (video[chosen], audio[chosen], offset[chosen])
        loss = objective(replace(towers(*batch), target=following(*batch))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for own, towards in zip(following.parameters(), towers.parameters(), strict=True):
                own.lerp_(towards, 0.1)
    video, audio, offset, places = world(512, 2)
    with torch.inference_mode():
        pair = towers(video, audio, offset)
        heat = heatmap(pair.video, aligned_audio(pair.audio, offset, STEPS)).flatten(1)
    sounding, silent = heat.gather(1, places).T
    top = heat.argmax(1) == places[:, 0]
    return float((sounding > silent).float().mean()), float(top.float().mean())


@pytest.mark.parametrize("name", NAMES)
def test_points_at_what_sounds_and_learns_nothing_from_shuffled_pairs(name):
    above, top = pointed(name, shuffled=False)
    assert above > 0.9
    assert top > 0.9
    # Several, for maps that have learned nothing favour one of the two things by chance.
    tries = [pointed(name, shuffled=True, seed=seed) for seed in range(6)]
    above, top = (sum(shares) / len(tries) for shares in zip(*tries, strict=True))
    assert abs(above - 0.5) < 0.1
    assert top < 0.5
