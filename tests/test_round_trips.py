"""A sample of `tools/round_trips.py`: what is fixed is in sync, by FFmpeg's own stamps, in every container."""

import importlib.util
import sys
from pathlib import Path

import pytest

from avlearn.media import remux

TOOL = Path(__file__).parents[1] / "tools" / "round_trips.py"
spec = importlib.util.spec_from_file_location("round_trips", TOOL)
round_trips = sys.modules["round_trips"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(round_trips)

# Each container with another case, and those that hold no starts of streams with the cases that need them.
CASES = [
    (".mp4", "late audio", 0.25), (".mp4", "subtitles", -0.25), (".mov", "late video", -0.25),
    (".mkv", "negative stamps", 0.25), (".mkv", "chapters", -0.25), (".webm", "two audio tracks", -0.25),
    (".avi", "late video", 0.25), (".avi", "two audio tracks", -0.25), (".ts", "starts at zero", -0.25),
    (".mpg", "two audio tracks", 0.25), (".vob", "late audio", -0.25), (".mxf", "late audio", 0.25),
    (".flv", "late video", -0.25), (".asf", "starts at zero", 0.25),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "variant", "early"), CASES)
def test_a_fixed_file_is_in_sync_and_whole(tmp_path, suffix, variant, early):
    row = round_trips.round_trip(tmp_path, suffix, variant, early)
    assert row.refused is None
    assert abs(row.error) < round_trips.WITHIN
    assert not row.differs or any("not kept" in note for note in row.said)
    assert any("encoded again" in note for note in row.said) == (suffix in (".avi", ".mxf"))


def test_the_case_is_out_of_sync_before_it_is_fixed(tmp_path):
    made = round_trips.make(tmp_path, ".mkv", "late video", 0.25)
    assert round_trips.measure(made) == pytest.approx(-250, abs=2)


def test_what_a_container_lacks_is_listed(tmp_path):
    assert round_trips.round_trip(tmp_path, ".ts", "chapters", 0.25).said[-1].startswith("not kept: 2 chapters")


@pytest.mark.parametrize("suffix", [".webm", ".mpg", ".mxf", ".asf"])
def test_the_same_input_gives_the_same_bytes(tmp_path, suffix):
    made = round_trips.make(tmp_path, suffix, "starts at zero", 0.25)
    for name in ("first", "second"):
        remux(made, tmp_path / f"{name}{suffix}", audio_delay=0.25)
    assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
