"""The attentive probe: it finds the token that tells, and what it keeps has a bound."""

import numpy as np
import pytest
import torch

from avlearn.errors import DataError
from avlearn.evaluation.attentive import AttentiveFit, AttentiveProbe, TokenStore
from avlearn.evaluation.classifiers import class_scores, fit_chosen

CPU = torch.device("cpu")


def test_tokens_come_back_as_they_were_kept():
    store = TokenStore()
    kept = [torch.randn(count, 6).half() for count in (5, 3, 7)]
    assert [store.append(tokens.float()) for tokens in kept] == [0, 1, 2]
    for number in (2, 0, 1):
        assert torch.equal(store.read(number, CPU), kept[number].float())
    assert store.size(1) == 6
    store.append(torch.ones(2, 6))
    assert store.read(3, CPU).sum() == 12


def test_what_does_not_fit_is_refused():
    store = TokenStore(most=100)
    store.append(torch.ones(5, 8))
    with pytest.raises(DataError, match="the tokens of the first 1 clips fill"):
        store.append(torch.ones(2, 8))
    with pytest.raises(DataError, match="too large for half precision"):
        store.append(torch.full((1, 1), 1e6))


def test_clips_of_all_lengths_stand_for_themselves():
    probe = AttentiveProbe([6], 3)
    probe.standardise(0, torch.randn(10, 6), torch.rand(10, 6) + 2)
    clips = [torch.randn(4, 6), torch.randn(9, 6)]
    torch.testing.assert_close(probe([clips])[1:], probe([clips[1:]]))


def test_it_is_an_attention_of_one_query():
    """As PyTorch's attention has it, with keys and values projected: the query's scores and the heads' means."""
    torch.manual_seed(0)
    probe, attention = AttentiveProbe([8], 5), torch.nn.MultiheadAttention(8, 4, batch_first=True)
    query, tokens = torch.randn(1, 1, 8), torch.randn(3, 11, 8)
    with torch.no_grad():
        to_query, to_keys, to_values = (part.view(4, 2, 8) for part in attention.in_proj_weight.chunk(3))
        asked = torch.einsum("hed,d->he", to_query, query[0, 0])
        probe.queries[0].copy_(torch.einsum("he,hed->hd", asked, to_keys) / 2**0.5)
        joined = torch.einsum("ohe,hed->ohd", attention.out_proj.weight.view(8, 4, 2), to_values)
        probe.head.weight.copy_(joined.flatten(1)[:5])
        probe.head.bias.zero_()
        expected, _ = attention(query.expand(3, 1, 8), tokens, tokens)
        found = probe([list(tokens)])
    torch.testing.assert_close(found, expected[:, 0, :5], rtol=1e-4, atol=1e-5)


def test_it_begins_as_the_mean_however_much_tokens_differ():
    """The means of clips differ by a hundredth of what tokens do: scores are in the unit of tokens, and stay small."""
    rng, store = np.random.default_rng(0), TokenStore()
    for _ in range(20):
        tokens = rng.normal(size=(2000, 12))
        store.append(torch.from_numpy(tokens - tokens.mean(0) + 0.01 * rng.normal(size=12)).float())
    labels, numbers = np.arange(20) % 2, np.arange(20.0)[:, None]
    fitted = AttentiveFit(store, CPU)._train(numbers, labels, 1e-9)  # a rate that changes nothing
    probe, tokens = fitted.module, store.read(0, CPU)
    weights = (tokens @ (probe.queries[0] / probe.spread0).T).softmax(0) * len(tokens)
    assert weights.min() > 0.5 and weights.max() < 2


@pytest.fixture(scope="module")
def marked() -> tuple[TokenStore, np.ndarray, np.ndarray, np.ndarray]:
    """Clips whose class only one marked token tells; all others tell other classes. Store, numbers, means, labels."""
    rng = np.random.default_rng(0)
    store, means = TokenStore(), []
    labels = np.arange(150) % 3
    for label in labels:
        count = int(rng.integers(9, 15))
        told = np.concatenate([[label], rng.integers(0, 3, count - 1)])
        tokens = 0.3 * rng.normal(size=(count, 12))
        tokens[np.arange(count), 1 + told] += 2
        tokens[0, 0] += 4
        rng.shuffle(tokens)
        store.append(torch.from_numpy(tokens).float())
        means.append(tokens.mean(0))
    return store, np.arange(150.0)[:, None], np.stack(means), labels


def test_it_finds_the_token_that_tells(marked):
    store, numbers, means, labels = marked
    train, val, test = np.split(np.arange(150), [80, 110])
    steps = []
    fit = AttentiveFit(store, CPU, lambda done, of: steps.append((done, of)))
    scores = class_scores(fit(numbers, labels, [(train, val)], train), numbers[test], 3)
    assert (scores.argmax(1) == labels[test]).mean() > 0.9
    assert steps[0] == (1, 200) and steps.count((200, 200)) == 3
    by_means = fit_chosen("logistic", means, labels, [(train, val)], train)
    assert by_means.score(means[test], labels[test]) < 0.75
    again = fit(numbers, labels, [(train, val)], np.concatenate([train, val]))
    assert len(steps) == 7 * 200 and again.score(numbers[test], labels[test]) > 0.9


def test_two_kinds_and_two_classes(marked):
    store, numbers, _, labels = marked
    few = np.flatnonzero(labels < 2)
    other = store.append(torch.zeros(4, 5))
    both = np.concatenate([numbers, np.full((150, 1), other)], 1)
    train, val, test = np.split(few, [60, 80])
    fitted = AttentiveFit(store, CPU)(both, labels, [(train, val)], train)
    scores = class_scores(fitted, both[test], 3)
    assert (scores.argmax(1) == labels[test]).mean() == fitted.score(both[test], labels[test]) > 0.85
