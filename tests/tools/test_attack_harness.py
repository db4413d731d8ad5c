"""The harness of the attacks tells the ends of a case apart: one that could not would find nothing."""

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avlearn.errors import MediaError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "attack"))
import harness


def _raise(error: Exception) -> None:
    raise error


def _spin() -> None:
    while True:
        pass


def _slow(seconds: float) -> None:
    """What computes now and then, as a process that shares its core with many."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.process_time()
        while time.process_time() < begun + 0.05:
            pass
        time.sleep(0.9)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: 1, "result"),
        (lambda: _raise(MediaError("a.mp4 is cut")), "typed"),
        (lambda: _raise(MediaError("")), "untyped"),
        (lambda: _raise(ValueError("raw")), "untyped"),
        (lambda: sys.exit(2), "untyped"),
        (lambda: os._exit(0), "crash"),
        (lambda: ctypes.string_at(0), "crash"),
        (_spin, "hang"),
        (lambda: time.sleep(9), "hang"),
        (lambda: _slow(5), "result"),
        (lambda: np.ones(2**29), "memory"),
    ],
)
def test_ends_of_a_case(call, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CPU_SECONDS", 1)
    monkeypatch.setattr(harness, "_WALL_SECONDS", 2)
    outcome = harness.run_case(call)
    assert outcome.kind == kind
    assert outcome.good == (kind in ("result", "typed"))
