"""The benchmark of the reader runs, says what it lacks, and finds no wrong frame of ours."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "tools" / "bench" / "bench_reader.py"


def test_the_reader_is_compared(tmp_path):
    words = ["--quick", "--clips", "1", "--rounds", "1", "--json", str(tmp_path / "ratios.json")]
    done = subprocess.run([sys.executable, str(BENCH), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = [line.split() for line in done.stdout.splitlines() if line.startswith("avlearn, ")]
    assert len(ours) == 6
    assert all(line[-3:] == ["0", "0.0", "0.00"] for line in ours)  # wrong frames, video and audio beside itself
    rows = json.loads((tmp_path / "ratios.json").read_text())
    assert all(row.keys() == {"case", "peer", "ratio", "ours_ms", "peer_ms"} for row in rows)
    assert "pyav, everything, 1 per open" in {row["peer"] for row in rows}
    for peer in ("torchcodec", "decord"):
        if importlib.util.find_spec(peer) is None:
            assert f"{peer}: absent" in done.stdout
