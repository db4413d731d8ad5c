"""A sample of the attacks: whatever a file holds, it ends in a result or in an error of one line."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "attack"

# How many cases of a kind, and which share of them at least is read all the same: damage that is always refused tries
# little. Those that need no PyTorch come first: with it, a child takes three times as long to fork.
KINDS = {
    "media": (300, 0.2),
    "manifests": (120, 0.05),
    "recipes": (200, 0.01),
    "weights": (150, 0.01),
    "folders": (100, 0.01),
}
# In a process of its own: children of one that has threads may wait for locks that nobody holds.
ATTACK = """
import json, sys
from run import attack
ends = {kind: attack(kind, seed=0, count=count) for kind, count in json.loads(sys.argv[1])}
print(json.dumps({kind: [outcome.kind for outcome in outcomes.values()] for kind, outcomes in ends.items()}))
"""


@pytest.fixture(scope="module")
def attacked() -> subprocess.CompletedProcess:
    """All kinds in one process, which imports for a few seconds what they attack."""
    words = [sys.executable, "-c", ATTACK, json.dumps([(kind, count) for kind, (count, _) in KINDS.items()])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOOLS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crashes_hangs_or_surprises(kind: str, attacked: subprocess.CompletedProcess) -> None:
    count, read = KINDS[kind]
    assert attacked.returncode == 0, attacked.stderr
    ends = Counter(json.loads(attacked.stdout)[kind])
    assert ends.keys() == {"result", "typed"} and ends.total() >= count, (ends, attacked.stderr)
    assert ends["result"] >= read * count and ends["typed"] >= 0.1 * count, ends
