from types import SimpleNamespace

from avlearn.evaluation import evaluator
from avlearn.evaluation.evaluator import Subject


def test_clips_are_decoded_by_as_many_processes_as_there_are_cores(monkeypatch, tmp_path):
    workers = []
    monkeypatch.setattr(evaluator.os, "cpu_count", lambda: 7)
    monkeypatch.setattr(evaluator, "decode_once", lambda *arguments, **_: workers.append(arguments[5]))
    model = SimpleNamespace(config=SimpleNamespace(fps=25, size=96, sample_rate=16000))
    Subject(model, tmp_path).decoded([])
    assert workers == [7]
