"""Feature banks: windows over a long video, and what is gathered from them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.feature_bank import FeatureBank, FeatureBankHead


def bank(count: int = 6, channels: int = 4) -> FeatureBank:
    """A feature a second, the first at second 0, whose first channel is its number from 1 on."""
    features = torch.randn(count, channels)
    features[:, 0] = torch.arange(count) + 1.0
    return FeatureBank(torch.arange(count, dtype=torch.float32), features)


def test_a_window_is_around_an_instant_or_before_it():
    at = torch.tensor([0.0, 2.5, 5.0])
    around, there = bank().window(at, 4)
    assert around[..., 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [5, 6, 0, 0]]
    assert torch.equal(there, around[..., 0] > 0)
    before, there = bank().window(at, 4, causal=True)
    assert before[..., 0].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [3, 4, 5, 6]]
    assert torch.equal(there, before[..., 0] > 0)
    assert not bank().window(torch.tensor([-1.0]), 3, causal=True)[1].any()


def test_what_is_no_bank_is_refused():
    with pytest.raises(ModelError, match=r"a bank has \[N\] times and \[N, D\] features, not \[3\] and \[2, 4\]"):
        FeatureBank(torch.arange(3.0), torch.zeros(2, 4))
    with pytest.raises(ModelError, match=r"not \[0\] and \[0, 4\]"):
        FeatureBank(torch.zeros(0), torch.zeros(0, 4))
    with pytest.raises(ModelError, match="times of a bank go back"):
        FeatureBank(torch.tensor([0.0, 2.0, 1.0]), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="operator is nl, max or avg, not sum"):
        FeatureBankHead(4, 4, 2, "sum")


@pytest.mark.parametrize("operator", ["nl", "max", "avg"])
def test_the_operator_is_that_of_the_paper_over_what_is_there(operator):
    torch.manual_seed(0)
    head = FeatureBankHead(5, 4, 3, operator, inner=8).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    clip, (known, there) = torch.randn(3, 5), bank().window(torch.tensor([0.0, 2.5, 5.0]), 4)
    wanted = []
    for asked, features, mask in zip(clip, known, there, strict=True):  # one by one, without what is not there
        features = features[mask]
        if operator == "nl":
            asked, features = head.reduce_clip(asked), head.reduce_bank(features)
            for layer in head.layers:
                weights = (layer.phi(features) @ layer.theta(asked) / 8**0.5).softmax(0)
                gathered = weights @ layer.g(features)
                gathered = (gathered - gathered.mean()) / (gathered.var(unbiased=False) + 1e-5).sqrt()
                asked = asked + layer.out(gathered.relu())
            wanted.append(asked)
        else:
            wanted.append(features.amax(0) if operator == "max" else features.mean(0))
    torch.testing.assert_close(head.gathered(clip, known, there), torch.stack(wanted), rtol=1e-4, atol=1e-5)
    scores = head.classifier(torch.cat([clip, torch.stack(wanted)], 1))
    torch.testing.assert_close(head(clip, known, there), scores, rtol=1e-4, atol=1e-5)


def test_an_empty_bank_tells_nothing():
    for operator in ("nl", "max", "avg"):
        head = FeatureBankHead(5, 4, 3, operator, inner=8).eval()
        for values in (torch.zeros(2, 4, 4), torch.randn(2, 4, 4)):
            found = head.gathered(torch.ones(2, 5), values, torch.zeros(2, 4, dtype=torch.bool))
            assert found.isfinite().all()
            torch.testing.assert_close(found, head.reduce_clip(torch.ones(2, 5)) if operator == "nl" else found * 0)


def test_parameters_are_those_of_the_published_head():
    """2048 channels of either, 512 within, two layers of four projections: 80 classes of AVA."""
    with torch.device("meta"):
        head = FeatureBankHead(2048, 2048, 80)
    within = 2 * (2048 * 512 + 512) + 2 * 4 * (512 * 512 + 512)
    assert sum(p.numel() for p in head.parameters()) == within + 2560 * 80 + 80 == 4_404_304


def learned(head: FeatureBankHead, videos: list[FeatureBank], labels: Tensor, causal: bool) -> float:
    """Accuracy at second 4 on the last third of the videos, after some steps on the others."""
    windows = [video.window(torch.tensor([4.0]), 6, causal) for video in videos]
    known, there = (torch.cat([window[k] for window in windows]) for k in (0, 1))
    clips = torch.stack([video.features[4] for video in videos])
    optimizer = torch.optim.AdamW(head.parameters(), 0.01)
    cut = 2 * len(videos) // 3
    for _ in range(60):
        loss = F.cross_entropy(head(clips[:cut], known[:cut], there[:cut]), labels[:cut])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    with torch.inference_mode():
        found = head.eval()(clips[cut:], known[cut:], there[cut:]).argmax(1)
    return float((found == labels[cut:]).float().mean())


@pytest.mark.parametrize("operator", ["nl", "max", "avg"])
def test_it_learns_what_happened_long_before(operator):
    """Which of two events was seen two seconds ago, or will be two seconds later: the clip itself does not tell."""
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(90)
    for where, causal, told in ((2, True, True), (6, False, True), (6, True, False)):
        videos = []
        for label in labels:
            features = 0.1 * torch.randn(8, 6)
            features[where, int(label)] += 3
            videos.append(FeatureBank(torch.arange(8.0), features))
        torch.manual_seed(0)
        found = learned(FeatureBankHead(6, 6, 2, operator, inner=16), videos, labels, causal)
        assert (found > 0.9) if told else (found < 0.75), (where, causal, found)
