"""Who answers: the model where it is sure, else an expert that is, else the model where it answers at all."""

from dataclasses import replace

import numpy as np
import pytest

from avlearn.apply.expert_answer import ExpertAnswer
from avlearn.apply.sync import experts as sync_experts
from avlearn.apply.sync.by_model import SyncResult

SAID = SyncResult(
    "a.mp4", "out of sync", 0.2, 0.2, None, [], 0.6, True, "audio leads by 200 ms", "", 0.04, np.zeros(0), np.zeros(0),
    [], None, {}, None,
)  # fmt: skip
SURE = ExpertAnswer("speech", -0.3, 0.95, "")
UNSURE = ExpertAnswer("self-calibration", 0.5, 0.4, "nothing stands out")


@pytest.mark.parametrize(("confidence", "status", "answer", "expert", "offset"), [
    (0.9, "out of sync", SURE, "model", 0.2),
    (0.6, "out of sync", SURE, "speech", -0.3),
    (0.6, "out of sync", UNSURE, "model", 0.2),
    (0.3, "undecidable", SURE, "speech", -0.3),
    (0.3, "undecidable", UNSURE, "model", None),
])  # fmt: skip
def test_the_surest_answers(confidence, status, answer, expert, offset, monkeypatch, small_world):
    clip = next((small_world / "clips").glob("*.mp4"))
    own = replace(SAID, confidence=confidence, status=status, offset=0.2 if status == "out of sync" else None)
    monkeypatch.setattr(sync_experts, "sync_by_model", lambda *args, **options: own)
    monkeypatch.setattr("avlearn.apply.sync.speech.speech_sync", lambda *args: answer)
    monkeypatch.setattr("avlearn.apply.sync.self_calibrated.self_calibrated_sync", lambda *args: UNSURE)
    model = type("Model", (), {"device": None})()
    found = sync_experts.sync_with_experts(clip, model)
    assert (found.expert, found.offset) == (expert, offset)
    assert found.status == ("undecidable" if offset is None else "out of sync")
