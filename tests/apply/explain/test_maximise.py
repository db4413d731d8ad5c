"""Drawn inputs are what a class is surest of, and as slow as they are asked to be."""

import pytest
import torch
from hand_made import Bands, Changes, Colours, classifying

from avlearn.apply.explain.maximize import maximise
from avlearn.apply.explain.network import ExplainedNetwork, of_recognizer
from avlearn.config import RecognizerConfig
from avlearn.models.recognizer import Recognizer


@pytest.fixture(scope="module")
def listener() -> ExplainedNetwork:
    torch.manual_seed(0)
    config = RecognizerConfig(inputs="both", labels=("a", "b", "c"), seconds=0.64, size=16)
    return of_recognizer(Recognizer(config).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def watcher() -> ExplainedNetwork:
    """Of what flickers, and of what is red."""
    weights = torch.tensor([[0.0, 0, 0, 1, 1, 1], [1, -1, -1, 0, 0, 0]])
    return classifying(Changes(), weights, ("flicker", "red"), (3, 8, 16, 16))


@pytest.mark.parametrize(("kind", "which"), [("video", "watcher"), ("audio", "listener")])
def test_odds_climb_above_those_of_noise_and_slow_is_slower_than_fast(kind, which, request):
    network = request.getfixturevalue(which)
    drawn = maximise(network, kind, 0, 40)
    canvas = network.canvases[kind]
    values = torch.rand(20, *canvas.shape) * (canvas.high - canvas.low) + canvas.low
    with torch.no_grad():
        noise = network.log_odds(network.score(kind, values))[:, 0].max()
    assert min(drawn.log_odds.values()) > max(drawn.first, float(noise))
    assert drawn.change["slow"] < drawn.change["fast"] / 2
    for one in drawn.inputs.values():
        assert one.shape == canvas.shape and canvas.low <= one.min() and one.max() <= canvas.high


def test_a_class_of_fast_change_is_surer_of_what_may_be_fast(watcher):
    odds = maximise(watcher, "video", 0, 40).log_odds
    assert odds["fast"] > odds["slow"] + 0.1


def test_the_same_is_drawn_again(listener):
    first, again = (maximise(listener, "audio", 0, 3).inputs["fast"] for _ in range(2))
    assert torch.equal(first, again)


def test_what_is_drawn_has_the_colour_of_the_class():
    network = classifying(Colours(), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), ("red", "green"), (3, 4, 16, 16))
    red, green, _ = maximise(network, "video", 0, 30).inputs["slow"].flatten(1).mean(1)
    assert red > 0.7 and green < 0.3


def test_a_network_of_flow_has_its_motion_drawn_though_it_sees_stacks():
    rightward = torch.tensor([[1.0, 0, 1, 0], [-1, 0, -1, 0]])
    network = classifying(Colours(in_chans=4), rightward, ("right", "left"), (2, 4, 16, 16))
    drawn = maximise(network, "video", 0, 30).inputs["slow"]
    assert drawn.shape == (2, 4, 16, 16)
    assert drawn[0].mean() > 0.7 and abs(drawn[1].mean() - 0.5) < 0.1


def test_the_band_that_decides_is_loud():
    network = classifying(Bands(), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), ("low", "high"), (1, 32, 40))
    drawn = maximise(network, "audio", 1, 30).inputs["slow"][0]
    assert drawn[20:].mean() > 0.7 and drawn[:12].mean() < 0.3


def test_odds_are_against_all_others_or_of_several_labels_against_none():
    network = classifying(Colours(), torch.zeros(3, 3), ("a", "b", "c"), (3, 4, 16, 16))
    scores = torch.randn(5, 3)
    torch.testing.assert_close(network.log_odds(scores).sigmoid(), scores.softmax(1))
    network = ExplainedNetwork("many", None, {}, {}, ("a", "b"), multi_label=True)
    assert network.log_odds(scores) is scores
