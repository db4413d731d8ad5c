"""Whatever bytes a file holds, reading it ends in a clip or in an error that says what is wrong."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import damage
import pytest

SEED, INPUTS, WORKERS = 0, 4_800, 2


def watch(sources: Path, first: int, scratch: Path) -> list[dict]:
    """Results of every ``WORKERS``-th input; where a worker dies, that input is its defect and another goes on."""
    results = []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    scratch.mkdir()
    while first < INPUTS:
        arguments = [sources, SEED, first, WORKERS, INPUTS, scratch]
        command = [sys.executable, damage.__file__, "read", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = done.stdout.splitlines()
        results += [json.loads(line) for line in lines[1::2]]
        first += len(lines) // 2 * WORKERS
        if done.returncode:
            assert lines, done.stderr
            results.append({"index": first, "name": lines[-1], "defect": f"{done.returncode}: {done.stderr[-3000:]}"})
            first += WORKERS
    return results


@pytest.fixture(scope="module")
def sources(tmp_path_factory, request) -> Path:
    """Files made here, and the smallest of the real ones where they are."""
    folder = tmp_path_factory.mktemp("sources")
    damage.make_sources(folder)
    try:
        real = request.getfixturevalue("real_videos")
    except pytest.skip.Exception:
        return folder
    smallest = sorted((path.stat().st_size, path) for path in real.rglob("*.*"))[:8]
    for _, path in smallest:
        shutil.copy(path, folder / f"real_{path.name}")
    return folder


@pytest.mark.slow
def test_no_damage_crashes_hangs_or_surprises(sources, tmp_path):
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = pool.map(lambda k: watch(sources, k, tmp_path / str(k)), range(WORKERS))
        results = [result for part in parts for result in part]
    assert sorted(result["index"] for result in results) == list(range(INPUTS))
    defects = [f"{result['name']}\n{result['defect']}" for result in results if "defect" in result]
    again = f"python {damage.__file__} write {sources} {SEED} INDEX FILE"
    assert not defects, "\n".join([f"{len(defects)} defects; to see one: {again}", *defects[:20]])
    # Neither is all of it refused nor does the damage miss: each way of reading knows both ends.
    for ways in zip(*(result["outcomes"] for result in results), strict=True):
        ends = Counter(ways)
        assert ends["clip"] > 0.2 * INPUTS and ends.total() - ends["clip"] > 0.2 * INPUTS, ends


def test_sources_are_read_whole_before_they_are_damaged(sources):
    for path in sorted(sources.iterdir()):
        if not path.name.startswith("real_") and path.suffix != ".ogg":
            assert damage.attempt(path) == ["clip", "clip", "clip"], path.name


def test_a_header_with_a_frame_in_a_lifetime_is_not_believed(sources, tmp_path):
    data = (sources / "mpeg4_mp3.avi").read_bytes()
    scale = data.index(b"vids") + 20  # then the rate: frames a second are rate over scale
    damaged = tmp_path / "slow.avi"
    damaged.write_bytes(
        data[:scale] + (2**31 - 1).to_bytes(4, "little") + (1).to_bytes(4, "little") + data[scale + 8 :]
    )
    assert len(damage.attempt(damaged)) == 3  # whatever else they raised would come through


def test_damage_is_the_same_for_a_seed(sources):
    files = damage.load(sources)
    first, again, other = ([damage.damage(seed, k, files) for k in range(40)] for seed in (1, 1, 2))
    assert first == again and first != other
    assert sum(data not in files.values() for _, _, data in first) > 30
