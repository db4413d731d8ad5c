"""Memory banks: what they keep, what agreement finds in them, and that they teach."""

from dataclasses import replace

import pytest
import torch
from planted import SPEC, learn, planted, vectors
from torch.nn import functional as F

from avlearn.objectives.memory import AVID, clip_means


def avid(clips: int, *, dim: int = 16, negatives: int = 32, positives: int = 3, agreement_from: float = 1.0) -> AVID:
    options = AVID.Options(negatives=negatives, positives=positives, agreement_from=agreement_from)
    return AVID(options, replace(SPEC, clips=clips, dim=dim))


def batch(clip: list[int], dim: int = 16):
    torch.manual_seed(1)
    return vectors(torch.randn(len(clip), dim), torch.randn(len(clip), dim), torch.tensor(clip))


def test_a_bank_moves_half_way_to_the_clips_that_were_seen():
    objective, pair = avid(8), batch([5, 2])
    before = objective.audio_bank.clone()
    objective(pair)
    changed = (objective.audio_bank != before).any(1)
    assert changed.tolist() == [i in (2, 5) for i in range(8)]
    expected = F.normalize((before[[5, 2]] + pair.audio[:, :, 0]) / 2, dim=1)
    assert torch.allclose(objective.audio_bank[[5, 2]], expected, atol=1e-6)
    assert torch.allclose(objective.video_bank.norm(dim=1), torch.ones(8), atol=1e-6)


def test_a_clip_that_comes_twice_counts_once_with_its_mean():
    rows = torch.tensor([[1.0], [2.0], [6.0]])
    numbers, means = clip_means(torch.tensor([4, 1, 4]), rows)
    assert numbers.tolist() == [1, 4]
    assert means.tolist() == [[2.0], [3.5]]


def test_evaluation_leaves_the_banks_alone_and_knows_no_clip():
    objective, pair = avid(8).eval(), batch([100, 200, 300])
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    logits = pair.video[:, :, 0, 0, 0] @ pair.audio[:, :, 0].T / 0.07
    own = torch.arange(3)
    expected = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
    assert torch.isclose(objective(pair).loss, expected)
    after = objective.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "log_partition")
    assert after["log_partition"].isnan()


def test_agreement_is_that_of_a_brute_force_search():
    objective = avid(30, positives=4)
    found = objective.agreement(torch.tensor([7, 19]))
    for clip, others in zip((7, 19), found, strict=True):
        scores = {}
        for other in set(range(30)) - {clip}:
            seen = float(objective.video_bank[clip] @ objective.video_bank[other])
            heard = float(objective.audio_bank[clip] @ objective.audio_bank[other])
            scores[other] = min(seen, heard)
        assert others.tolist() == sorted(scores, key=scores.get, reverse=True)[:4]


def test_negatives_are_all_other_clips_and_equally_likely():
    objective = avid(10, negatives=6000)
    drawn = objective.draw(torch.tensor([[3, 9, 0], [8, 2, 1]]))
    for row, excluded in zip(drawn, ({0, 3, 9}, {1, 2, 8}), strict=True):
        counts = row.bincount(minlength=10)
        assert {i for i in range(10) if not counts[i]} == excluded
        assert counts[counts > 0].min() > 700  # of 857 expected, with a standard deviation of 27
        assert counts.max() < 1000


def test_the_loss_is_noise_contrastive_with_a_partition_held_from_the_first_batch():
    objective, pair = avid(3, negatives=4), batch([0])
    video, audio = pair.video[:, :, 0, 0, 0], pair.audio[:, :, 0]
    objective.draw = lambda excluded: torch.tensor([[1, 2, 2, 1]])
    for step in range(2):
        banks = objective.audio_bank.clone(), objective.video_bank.clone()
        expected = 0.0
        for query, bank in zip((video, audio), banks, strict=True):
            density = (query @ bank.T / 0.07).exp()[0]
            if step == 0 and query is video:
                partition = density[[1, 2, 2, 1]].mean()
            model = density / (density + 4 * partition)
            expected -= model[0].log() + (1 - model[[1, 2, 2, 1]]).log().sum()
        assert torch.isclose(objective(pair).loss, expected, rtol=1e-4)


def test_agreement_begins_when_it_is_told_to():
    objective, pair = avid(12, agreement_from=0.5), batch([0, 1])
    logs = {}
    for objective.progress in (0.49, 0.5):
        logs[objective.progress] = objective(pair).logs
    assert [("agreement" in logs[progress]) for progress in (0.49, 0.5)] == [False, True]


def test_all_of_the_audio_is_the_clips_where_it_shall_be():
    pair = planted(5, dim=16)
    objective = avid(4)
    found = {}
    for whole in (False, True):
        objective.options = replace(objective.options, whole_sound=whole)
        objective.log_partition.fill_(0.0)
        objective.audio_bank.zero_()
        objective(pair)
        found[whole] = objective.audio_bank.clone()
    for whole, audio in ((False, pair.audio[:, :, 5:15]), (True, pair.audio)):
        assert torch.allclose(found[whole], F.normalize(audio.mean(2), dim=1), atol=1e-5)


@pytest.mark.parametrize("agreement_from", [0.5, 1.0])
def test_pairs_teach_and_shuffled_pairs_do_not(agreement_from):
    torch.manual_seed(2)
    causes = torch.randn(256, 6)
    taught, shuffled = (learn(avid(128, agreement_from=agreement_from), causes, s) for s in (False, True))
    assert taught["retrieval"] > 0.2  # of 128 clips: chance is 0.008
    assert shuffled["retrieval"] < 0.04


def test_agreement_leaves_a_negative():
    objective, pair = avid(4, positives=32, agreement_from=0.0), batch([0, 3])
    assert objective.positives == 2
    assert objective(pair).loss.isfinite()
    assert avid(8, positives=3).positives == 3
