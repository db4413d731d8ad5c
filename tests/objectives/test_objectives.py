"""What objectives reward: the truth, and not what looks like it."""

from dataclasses import replace

import pytest
import torch
from planted import SPEC, planted, spread
from torch.nn import functional as F

from avlearn.objectives import OBJECTIVES, Dense, Margin, ShiftSchedule
from avlearn.objectives.similarity import pair_scores


def dense() -> Dense:
    return Dense(spec=SPEC)


def contrastive(name: str):
    options = {"segments": {"seconds": 0.4}, "margin": {"hard_share": 0.5, "hard_from": 0.0}}
    kind = OBJECTIVES[name]
    return kind(kind.Options(**options.get(name, {})), SPEC)


def test_the_dense_loss_falls_with_the_planted_truth_and_not_with_another():
    pair = planted(7)
    right = dense()(pair).loss
    wrong = dense()(replace(pair, offset=torch.full((4,), 15))).loss
    assert right < 0.5 * wrong
    assert right.isfinite()


def test_offsets_nearer_than_the_schedule_allows_are_not_negatives():
    pair = planted(7)
    before = dense()(pair).logs["video_to_audio"]
    audio = pair.audio.clone()
    audio[:, :, 17] = -audio[:, :, 17]  # heard only at offsets from 8 on
    assert torch.isclose(before, dense()(replace(pair, audio=audio)).logs["video_to_audio"], atol=0.02)
    # Audio that fits as well two steps later: wrong, until the schedule begins at half a second.
    twice = pair.audio.clone()
    twice[:, :, 9:19] = twice[:, :, 7:17].clone()
    pair = replace(planted(7), audio=twice)
    far = Dense(Dense.Options(shift=ShiftSchedule(0.5, 0.16, 0.5)), SPEC)
    losses = []
    for far.progress in (0.0, 1.0):
        losses.append(float(far(pair).logs["video_to_audio"]))
    assert losses[0] < losses[1] - 0.1


@pytest.mark.parametrize("nearest", [1, 2, 3])
def test_the_dense_loss_is_its_definition_both_ways(nearest):
    """In plain loops: a video among all audio at all offsets but those too near, audio among all videos."""
    torch.manual_seed(3)
    pair = replace(planted(7), video=F.normalize(planted(7).video + 0.3 * torch.randn(4, 64, 10, 4, 5), dim=1))
    shift = nearest * SPEC.step
    objective = Dense(Dense.Options(shift=ShiftSchedule(shift, shift)), SPEC)
    scores = pair_scores(pair.video, pair.audio, 20.0) / 0.05  # [B, C, O]
    count, offset, losses = len(scores), 7, []
    for b in range(count):
        audios = [
            scores[b, c, o]
            for c in range(count)
            for o in range(scores.shape[2])
            if c != b or o == offset or abs(o - offset) >= nearest
        ]
        videos = scores[:, b, offset]
        losses.append(
            (
                torch.stack(audios).logsumexp(0) - scores[b, b, offset],
                videos.logsumexp(0) - scores[b, b, offset],
            )
        )
    to_audio, to_video = (torch.stack(way).mean() for way in zip(*losses, strict=True))
    found = objective(pair)
    torch.testing.assert_close(found.loss, to_audio + to_video, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.logs["video_to_audio"], to_audio, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.logs["audio_to_video"], to_video, rtol=1e-5, atol=1e-6)
    assert min(float(to_audio), float(to_video)) > 1e-4


def test_dense_logs_how_near_the_best_offset_is_and_whose_audio_is_best():
    pair = replace(planted(7), offset=torch.tensor([7, 8, 9, 6]))
    logs = dense()(pair).logs
    assert float(logs["offset_within_1"]) == 0.75
    assert float(dense()(planted(7)).logs["retrieval"]) == 1
    exchanged = replace(planted(7), video=planted(7).video[[1, 0, 2, 3]])
    assert float(dense()(exchanged).logs["retrieval"]) == 0.5
    assert float(logs["scale"]) == pytest.approx(20)


def test_the_schedule_goes_from_far_to_near_evenly_in_ratio():
    schedule = ShiftSchedule(1.6, 0.1, 0.5)
    assert [schedule(done) for done in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.6, 0.4, 0.1, 0.1])
    assert ShiftSchedule(0.2, 0.2, 0.0)(0.0) == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["infonce", "gdt", "segments", "margin"])
def test_contrastive_losses_are_least_for_the_truth(name):
    torch.manual_seed(1)
    objective, pair = contrastive(name), spread(7)
    right = sum(float(objective(pair).loss) for _ in range(5))
    other_clips = replace(pair, video=pair.video.roll(1, 0))
    assert right < 0.5 * sum(float(objective(other_clips).loss) for _ in range(5))


@pytest.mark.parametrize(("name", "tells"), [("infonce", False), ("gdt", True), ("margin", True)])
def test_which_losses_know_when(name, tells):
    """Audio that is the same at all times: whose it is can be told, when it was not."""
    torch.manual_seed(1)
    objective, pair = contrastive(name), spread(7)
    still = pair.audio[:, :, 7:8].expand_as(pair.audio)
    still = replace(pair, audio=still, video=still[:, :, :10, None, None].expand_as(pair.video))
    before = sum(float(objective(pair).loss) for _ in range(20))
    after = sum(float(objective(still).loss) for _ in range(20))
    assert (after > before + 1.0) == tells


def test_gdt_sees_every_clip_backwards():
    objective = contrastive("gdt")
    video, audio = torch.rand(2, 3, 4, 8, 8), torch.rand(2, 100)
    seen, heard, offset = objective.transform(video, audio, torch.tensor([0, 3]))
    assert torch.equal(seen[2:], video.flip(2))
    assert torch.equal(heard[2:], audio.flip(1))
    assert offset.tolist() == [0, 3, 20, 17]


def test_what_is_not_asked_for_is_not_done():
    """A copy of the towers, features that are dropped, towers that stay: each is for an objective to ask for."""
    for name, kind in OBJECTIVES.items():
        assert (kind.momentum, kind.dropout, kind.frozen) == (None, 0.0, False), name
    assert (Margin().scale, Margin().pool_scale) == (20.0, 20.0)


def test_wrong_offsets_are_far_enough_and_none_is_left_out():
    pair = planted(7)
    objective = Dense(Dense.Options(shift=ShiftSchedule(0.4, 0.4)), SPEC)
    drawn = {int(o) for _ in range(200) for o in objective.wrong_offsets(pair)}
    assert drawn == {0, 1, 2, *range(12, 21)}


def test_scores_of_shifts_are_highest_at_the_truth():
    pair = replace(planted(7), offset=torch.tensor([7, 7, 7, 7]))
    scores = dense().offset_scores(pair, torch.arange(-5, 6))
    assert scores.shape == (4, 11)
    assert scores.argmax(1).tolist() == [5] * 4
