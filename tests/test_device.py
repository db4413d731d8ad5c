"""Devices and precisions by name."""

import pytest
import torch
from pretend_device import CUDA, pretend_device

from avlearn.apply.encoder_alone import load_features
from avlearn.device import choose_device, choose_precision
from avlearn.errors import AvlearnError
from avlearn.evaluation.untrained import untrained as before_training
from avlearn.models.folder import load


def test_auto_is_the_accelerator_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1", "mps", "tpu", ""):
        with pytest.raises(AvlearnError, match=f"there is no device '{name}' here; there are cpu, auto"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_a_precision_that_a_device_does_not_have_is_refused():
    cpu = torch.device("cpu")
    assert choose_precision("32", cpu) is None and choose_precision("bf16", cpu) == torch.bfloat16
    assert choose_precision("16", torch.device("cuda")) == torch.float16
    with pytest.raises(AvlearnError, match="takes a GPU"):
        choose_precision("16", cpu)
    with pytest.raises(AvlearnError, match="there is no precision '64'; there are 32, bf16, 16"):
        choose_precision("64", cpu)


def test_encoders_compute_in_a_lower_precision_and_all_else_in_the_usual(untrained):
    exact, coarse = load(untrained), load(untrained, precision="bf16")
    video, audio = torch.rand(1, 3, 8, 64, 64), torch.randn(1, 16000)
    with torch.inference_mode():
        for one, other in zip(exact(video, audio), coarse(video, audio), strict=True):
            assert one.dtype == other.dtype == torch.float32
            assert not torch.equal(one, other) and torch.allclose(one, other, atol=0.05)


def test_what_a_model_is_measured_against_computes_in_its_precision(untrained):
    model = load(untrained, precision="bf16")
    assert before_training(model).precision == torch.bfloat16


def test_a_model_is_opened_on_a_device(untrained, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pretend_device():
        assert load(untrained, "auto").device == CUDA == load_features(untrained, "cuda").device
        assert load(untrained).device == torch.device("cpu")
