"""What a result of each tool is in a table, and for a script."""

from types import SimpleNamespace as Result

import pytest

from avlearn.apply.tools import CLASSIFY, EMBED, LOCALIZE, PROBE, SEPARATE, SYNC
from avlearn.apply.verdict import CANNOT_TELL


def synced(**more) -> Result:
    told = dict(status="out of sync", offset=0.2, drift=None, steps=[], confidence=0.87, calibrated=True)
    return Result(**{**told, "fixed": None, "not_fixed": "", **more})


def test_sync_tells_offset_drift_edits_and_what_became_of_the_fix():
    cells = {"offset": "+200 ms", "drift": "", "edits": "", "confidence": "0.87"}
    assert (SYNC.cells(synced()), SYNC.exit_code(synced())) == (cells, 1)
    assert SYNC.exit_code(synced(status="in sync")) == 0 and SYNC.exit_code(synced(status="undecidable")) == 3
    more = SYNC.cells(synced(offset=None, drift=-30.0, steps=[{}, {}], calibrated=False))
    assert more == {"offset": "", "drift": "-30 ms/min", "edits": "2", "confidence": "0.87, not calibrated"}
    mended, left = synced(fixed=Result(now=0.003)), synced(not_fixed="its offset jumps")
    assert (SYNC.cells(mended)["fix"], SYNC.exit_code(mended)) == ("now +3 ms", 0)
    assert (SYNC.cells(left)["fix"], SYNC.exit_code(left)) == ("not fixed", 2)


def test_localize_tells_where_and_how_many():
    found = Result(audible=0.5, calibrated=True, peak=(0.25, 0.75), sources=None, verdict="on screen")
    assert LOCALIZE.cells(found) == {"audible": "0.50", "strongest at": "25%, 75%", "sources": ""}
    found.sources, found.calibrated = [{}, {}], False
    assert LOCALIZE.cells(found) == {
        "audible": "0.50, not calibrated", "strongest at": "25%, 75%", "sources": "2",
    }  # fmt: skip


def test_separate_tells_the_surest_track_and_what_is_left():
    tracks = [Result(confidence=c) for c in (0.2, 0.9, None)]
    found = Result(tracks=tracks, calibrated=True, residual=Result(share=0.31), verdict="separated")
    assert SEPARATE.cells(found) == {"tracks": "3", "left over": "31%", "best confidence": "0.90"}
    found.calibrated = False
    assert SEPARATE.cells(found)["best confidence"] == "0.90, not calibrated"
    found.tracks = tracks[2:]
    assert SEPARATE.cells(found) == {"tracks": "1", "left over": "31%", "best confidence": ""}


def test_classify_tells_the_likeliest_label_of_each_kind():
    found = Result(labels={"video": [("bell", 0.91), ("drum", 0.05)], "both": [("drum", 0.5)]}, expert="model")
    assert CLASSIFY.cells(found) == {"video": "bell 0.91", "both": "drum 0.50"}
    found = Result(labels={"audio": [("speech", 0.99)]}, expert="sound", confidence=0.93)
    assert CLASSIFY.cells(found) == {"audio": "speech 0.93"}


@pytest.mark.parametrize("tool", [LOCALIZE, SEPARATE, CLASSIFY])
def test_what_a_model_cannot_tell_is_undecided_for_a_script(tool):
    assert tool.exit_code(Result(verdict=CANNOT_TELL)) == 3
    assert tool.exit_code(Result(verdict="on screen")) == 0


def test_probe_tells_the_streams():
    video = Result(codec="h264", width=64, height=48, fps=25.0)
    audio = Result(codec="aac", sample_rate=16000, channels=2)
    info = Result(container="mov,mp4", duration=2.5, video=video, audio=audio)
    cells = {"container": "mov", "duration": "2.50 s", "video": "h264 64x48 25.00 fps", "audio": "aac 16000 Hz x2"}
    assert (PROBE.cells(info), PROBE.exit_code(info), PROBE.status(info)) == (cells, 0, "read")
    assert PROBE.cells(Result(container="x", duration=1, video=None, audio=None))["video"] == "none"
    assert EMBED.cells(Result(starts=[0, 1])) == {"windows": "2"} and EMBED.exit_code(None) == 0
