"""A sample of the attacks: whatever a file holds, it ends in a result or in an error of one line."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "tools" / "attack" / "run.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count", "read"),
    # How many at least are read all the same: damage that is always refused tries little.
    [
        ("media", 300, 0.2),
        ("weights", 150, 0.01),
        ("folders", 100, 0.01),
        ("manifests", 120, 0.05),
        ("recipes", 200, 0.01),
    ],
)
def test_nothing_crashes_hangs_or_surprises(kind: str, count: int, read: float, tmp_path: Path) -> None:
    # In a process of its own: children of one that has threads may wait for locks that nobody holds.
    words = [sys.executable, str(RUN), kind, "--count", str(count), "--json", str(tmp_path / "ends.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ends = Counter(outcome["kind"] for outcome in json.loads((tmp_path / "ends.json").read_text())[kind].values())
    assert ends.keys() == {"result", "typed"} and ends.total() >= count
    assert ends["result"] >= read * count and ends["typed"] >= 0.1 * count, ends
