"""Pseudo-labels: how they are made, whom they are for, and that they teach."""

from dataclasses import replace

import pytest
import torch
from planted import SPEC, learn, vectors
from torch.nn import functional as F

from avlearn.errors import RecipeError
from avlearn.objectives.clusters import Clusters, sinkhorn


def clusters(clips: int, assign: str, *, count: int = 4, every: int = 1, dim: int = 16) -> Clusters:
    torch.manual_seed(0)
    spec = replace(SPEC, clips=clips, dim=dim, video_channels=dim, audio_channels=dim)
    return Clusters(Clusters.Options(assign=assign, clusters=count, every=every), spec)


def groups(clip: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Features of clips in four groups, far apart: ``[B, 16]``; ``shift`` numbers the groups otherwise."""
    return 5 * F.one_hot((clip + shift) % 4, 16).float() + 0.1 * torch.randn(len(clip), 16)


def alike(labels: torch.Tensor, truth: torch.Tensor) -> bool:
    """Whether two labellings make the same groups."""
    return torch.equal(labels[:, None] == labels, truth[:, None] == truth)


def test_sinkhorn_has_the_marginals_that_it_promises():
    torch.manual_seed(0)
    scores = 10 * (torch.randn(60, 5) + torch.tensor([4.0, 0, 0, 0, 0])).log_softmax(1)
    assert (scores.argmax(1) == 0).float().mean() > 0.9
    plan = sinkhorn(scores)
    assert torch.allclose(plan.sum(1), torch.full((60,), 1 / 60, dtype=torch.float64), rtol=1e-9)
    assert torch.allclose(plan.sum(0), torch.full((5,), 1 / 5, dtype=torch.float64), rtol=1e-3)
    assert plan.argmax(1).bincount(minlength=5).tolist() == pytest.approx([12] * 5, abs=2)


def test_random_labels_are_balanced_and_fixed_by_the_clip():
    first, again = clusters(40, "kmeans").video_labels, clusters(40, "kmeans").video_labels
    assert first.bincount().tolist() == [10] * 4
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.arange(40) % 4)


def test_each_modality_is_told_the_clusters_of_the_other():
    objective, clip = clusters(24, "kmeans"), torch.arange(24)
    looks, noises = clip // 6, clip % 4
    video, audio = 5 * F.one_hot(looks, 16).float(), 5 * F.one_hot(noises, 16).float()
    for _ in range(2):  # labels come from clips that were seen before
        objective(vectors(video + 0.1 * torch.randn(24, 16), audio + 0.1 * torch.randn(24, 16), clip))
    assert alike(objective.video_labels, noises)
    assert alike(objective.audio_labels, looks)


def test_clusters_keep_their_numbers():
    objective, clip = clusters(24, "kmeans"), torch.arange(24)
    labels = []
    for _ in range(4):
        objective(vectors(groups(clip), groups(clip, 1), clip))
        labels.append(objective.video_labels.clone())
    assert not torch.equal(labels[0], labels[1])
    assert torch.equal(labels[1], labels[2])
    assert torch.equal(labels[1], labels[3])


def test_one_equal_labelling_for_both_by_sinkhorn():
    objective, clip = clusters(64, "sinkhorn"), torch.arange(64)
    objective.video_head.bias.data[0] = 5  # alone it would put all clips into one cluster
    video, audio = torch.randn(64, 16), torch.randn(64, 16)
    assert (objective.video_head(video).argmax(1) == 0).all()
    for _ in range(2):
        objective(vectors(video, audio, clip))
    assert torch.equal(objective.video_labels, objective.audio_labels)
    assert objective.video_labels.bincount(minlength=4).tolist() == pytest.approx([16] * 4, abs=2)


@pytest.mark.parametrize("assign", ["kmeans", "sinkhorn"])
def test_labels_change_at_their_time_and_only_for_clips_that_were_seen(assign):
    objective, clip = clusters(40, assign, every=3), torch.arange(16)
    first = objective.video_labels.clone()
    for step in range(4):
        objective(vectors(groups(clip), groups(clip), clip))
        changed = objective.video_labels != first
        assert changed.any() == (step == 3)
    assert not changed[16:].any()
    assert objective.seen.tolist() == [i < 16 for i in range(40)]


def test_banks_hold_what_was_seen_last_and_evaluation_changes_nothing():
    objective, clip = clusters(8, "kmeans"), torch.tensor([5, 2])
    for _ in range(2):
        video, audio = torch.randn(2, 16), torch.randn(2, 16)
        objective(vectors(video, audio, clip))
    assert torch.equal(objective.video_bank[clip], video)
    assert torch.equal(objective.audio_bank[clip], audio)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.eval()(vectors(-video, -audio, torch.tensor([100, 200])))
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())


@pytest.mark.parametrize("assign", ["kmeans", "sinkhorn"])
def test_evaluation_asks_the_other_modality(assign):
    objective, clip = clusters(24, assign), torch.arange(24)
    for _ in range(2):
        objective(vectors(groups(clip), groups(clip, 1), clip))
    objective.eval()
    video, audio = groups(clip), groups(clip, 1)
    for_videos, for_audio = objective.predicted_labels(video, audio)
    if assign == "kmeans":
        assert torch.equal(for_videos, objective.video_labels)
        assert torch.equal(for_audio, objective.audio_labels)
    else:
        assert torch.equal(for_videos, objective.audio_head(audio).argmax(1))
        assert torch.equal(for_audio, objective.video_head(video).argmax(1))
    expected = F.cross_entropy(objective.video_head(video), for_videos)
    expected = expected + F.cross_entropy(objective.audio_head(audio), for_audio)
    assert torch.isclose(objective(vectors(video, audio, clip + 100)).loss, expected)


def test_more_clusters_than_clips_are_refused():
    with pytest.raises(RecipeError, match=r"objective\.clusters: 4 clusters of 3 clips"):
        clusters(3, "kmeans")


@pytest.mark.parametrize("assign", ["kmeans", "sinkhorn"])
def test_pairs_teach_and_shuffled_pairs_do_not(assign):
    torch.manual_seed(2)
    causes = 2 * F.one_hot(torch.randint(4, (256,)), 4).float()
    taught, shuffled = (learn(clusters(128, assign, every=20), causes, s) for s in (False, True))
    for name in ("video_accuracy", "audio_accuracy"):
        assert taught[name] > 0.85  # of four: chance is 0.25
        assert shuffled[name] < 0.6


def test_labels_depend_on_directions_alone_and_are_the_same_again():
    found = []
    torch.manual_seed(4)
    features = torch.randn(2, 24, 16)
    for _ in range(2):
        objective = clusters(24, "kmeans")
        objective.seen.fill_(True)
        objective.video_bank.copy_(features[0])
        objective.audio_bank.copy_(features[1])
        objective.make_labels()
        found.append((objective.video_labels.clone(), objective.audio_labels.clone()))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    near, far = (objective.predicted_labels(0.01 * features[0], scale * features[1]) for scale in (0.01, 100.0))
    assert torch.equal(near[0], objective.video_labels) and torch.equal(near[1], objective.audio_labels)
    assert torch.equal(far[0], near[0])
