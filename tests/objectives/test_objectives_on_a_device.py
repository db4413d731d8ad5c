"""Objectives compute where their batch is."""

from dataclasses import replace

import pytest
import torch
from planted import SPEC, planted
from pretend_device import CUDA, pretend_device

from avlearn.objectives import OBJECTIVES, EmbeddedBatch

OPTIONS = {"avid": {"agreement_from": 0.0}, "clusters": {"clusters": 2, "every": 1, "assign": "sinkhorn"}}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradients_are_on_the_device_of_the_batch(name, training):
    kind, here = OBJECTIVES[name], planted(7)
    with pretend_device() as device:
        objective = kind(kind.Options(**OPTIONS.get(name, {})), SPEC).to(device).train(training)
        video, audio = (x.to(device).requires_grad_() for x in (here.video, here.audio))
        batch = EmbeddedBatch(video, audio, here.offset.to(device))
        assert batch.clip.device == CUDA
        for objective.progress in (0.0, 1.0):
            loss, logs = objective(replace(batch, target=batch))
            loss.backward()
        assert loss.device == CUDA and {value.device for value in logs.values()} == {CUDA}
        scores = objective.offset_scores(batch, torch.arange(-2, 3, device=device))
    assert scores.device == CUDA and scores.shape == (4, 5)
