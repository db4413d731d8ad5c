"""Aligned or shifted, by early fusion: learned where there is something to learn, and found in its place."""

from dataclasses import replace

import pytest
import torch
from planted import SPEC, planted
from windows import train, windows

from avlearn.objectives import ShiftSchedule
from avlearn.objectives.fusion import ShiftBCE, cam
from avlearn.objectives.similarity import strongest_place

SMALL = replace(SPEC, video_channels=4, audio_channels=4, dim=4)
NEAR = ShiftSchedule(0.16, 0.16, 0.0)


def pool():
    return planted(20, clips=1024, audio_steps=50, dim=4)


def objective(schedule: ShiftSchedule = NEAR, slow_until: float = 0.0) -> ShiftBCE:
    return ShiftBCE(ShiftBCE.Options(shift=schedule, width=16, slow_until=slow_until), SMALL)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    found = objective()
    output = train(found, pool(), 30, 500, 5e-3)
    return found, output, windows(pool(), torch.arange(768, 1024), 30)


def test_new_clips_are_told_apart(trained):
    _, output, _ = trained
    assert output.logs["accuracy"] > 0.9


def test_shuffled_pairs_stay_at_chance():
    found = train(objective(), pool(), 30, 500, 5e-3, right=False)
    assert abs(found.logs["accuracy"] - 0.5) < 0.1


@torch.no_grad()
def test_the_map_points_at_the_planted_place_and_averages_to_the_logit(trained):
    found, _, pair = trained
    maps = found.cam(pair)
    planted_at = torch.stack([pair.clip % 4, (pair.clip + 1) % 5], 1)
    assert (strongest_place(maps) == planted_at).all(1).float().mean() > 0.3  # chance: 0.05
    logits = found.offset_scores(pair, torch.tensor([0]))[:, 0]
    assert torch.allclose(maps.mean((1, 2)), logits, atol=1e-5)


class AsIs:
    """Towers whose features are what they are given."""

    def video_features(self, video: torch.Tensor) -> torch.Tensor:
        return video

    audio_features = project_video = project_audio = video_features


@torch.no_grad()
def test_the_map_of_a_model_is_that_of_its_features_at_an_offset(trained):
    found, _, pair = trained
    mirrored = pair.video_features.flip(-1)
    for offset in (0, 7):
        at = torch.full_like(pair.offset, offset)
        maps = cam(found, AsIs(), pair.video_features, pair.audio_features, offset)
        both = found.cam(replace(pair, offset=at)), found.cam(replace(pair, offset=at, video_features=mirrored))
        assert torch.allclose(maps, (both[0] + both[1].flip(-1)) / 2)
    one = cam(found, AsIs(), pair.video_features[:1], pair.audio_features[:3], 7)  # a video under several tracks
    assert one.shape == (3, 4, 5)
    assert torch.allclose(one[0], maps[0], atol=1e-5)
    assert not torch.allclose(one[0], one[1], atol=1e-2)


@torch.no_grad()
def test_scores_of_shifts_are_highest_at_the_truth_and_unknown_without_audio(trained):
    found, _, pair = trained
    shifts = torch.arange(-20, 21)
    scores = found.offset_scores(pair, shifts)
    at = pair.offset[:, None] + shifts
    assert torch.equal(scores.isnan(), (at < 0) | (at > 20))
    assert (scores.nan_to_num(-torch.inf).argmax(1) == 20).float().mean() > 0.9  # chance: 1 / 21


def test_every_fourth_frame_is_shown_until_the_schedule_is_over():
    slow = objective(slow_until=0.3)
    video, audio, offset = torch.rand(2, 3, 10, 8, 8), torch.rand(2, 100), torch.tensor([0, 3])
    for slow.progress in (0.0, 0.29):
        seen, heard, at = slow.transform(video, audio, offset)
        assert torch.equal(seen, video[:, :, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]])
        assert heard is audio
        assert at is offset
    slow.progress = 0.3
    assert torch.equal(slow.transform(video, audio, offset)[0], video)


def test_wrong_offsets_keep_to_the_schedule_and_are_as_likely_as_right_ones():
    pair = replace(planted(0, clips=21, dim=4), offset=torch.arange(21))
    falling = objective(ShiftSchedule(0.8, 0.16, 1.0))
    for falling.progress, nearest in ((0.0, 10), (1.0, 2)):
        drawn = torch.stack([falling.wrong_offsets(pair) for _ in range(1000)])
        assert (drawn - pair.offset).abs().min() == nearest
        assert (drawn.flatten().bincount(minlength=21) / 1000 - 1).abs().max() < 0.2
    far = objective(ShiftSchedule(1.6, 1.6, 0.0))  # all of the context: no offset is that far from all others
    assert ((far.wrong_offsets(pair) - pair.offset).abs() >= 10).all()


def test_gradients_reach_both_towers():
    pair = planted(7, dim=4)
    seen, heard = pair.video.clone().requires_grad_(), pair.audio.clone().requires_grad_()
    objective()(replace(pair, video_features=seen, audio_features=heard)).loss.backward()
    assert seen.grad.abs().sum() > 0
    assert heard.grad.abs().sum() > 0
