"""Balance of video and audio: the encoder that is ahead learns more slowly."""

import pytest
import torch

from avlearn.config import RecognizerConfig
from avlearn.models.recognizer import Recognizer
from avlearn.tasks.recognize.balance import lead, slow_the_leader


def test_lead_is_the_ratio_of_what_each_gives_the_right_classes():
    video, audio = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.zeros(2, 2)
    right = float(torch.tensor([4.0, 0.0]).softmax(0)[0])
    assert float(lead({"video": video, "audio": audio}, torch.tensor([0, 1]))) == pytest.approx(right / 0.5)


def test_shares_of_both_are_the_score():
    model = Recognizer(RecognizerConfig(inputs="both", labels=("a", "b", "c")))
    features = model.features(torch.rand(2, 3, 20, 32, 32), torch.randn(2, 12800))
    shares = model.contributions(features)
    torch.testing.assert_close(shares["video"] + shares["audio"], model.classify(features))


@pytest.mark.parametrize(("ahead", "slowed"), [(3.0, "video"), (1 / 3, "audio"), (1.0, "")])
def test_the_gradient_of_the_leader_alone_is_damped(ahead, slowed):
    torch.manual_seed(0)
    model = Recognizer(RecognizerConfig(inputs="both", labels=("a", "b", "c")))
    model(torch.rand(2, 3, 20, 32, 32), torch.randn(2, 12800)).square().mean().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    slow_the_leader(model, torch.tensor(ahead), torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        kind = name.split(".")[0]
        changed = not torch.equal(parameter.grad, before[name])
        assert changed == (kind == slowed and parameter.ndim > 1), name
        if changed and parameter.numel() > 1000:  # noise apart, a third as long, about
            along = (parameter.grad * before[name]).sum() / before[name].square().sum()
            assert float(along) == pytest.approx(1 - float(torch.tanh(torch.tensor(0.9))), abs=0.1), name
