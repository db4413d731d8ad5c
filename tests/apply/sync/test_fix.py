"""What is fixed is measured before it gets its name."""

import resource
import shutil
import signal
from types import SimpleNamespace

import pytest

from avlearn.apply.sync import fix
from avlearn.apply.sync.fix import fix_file
from avlearn.errors import MediaError, OutputError, SyncError
from avlearn.interrupts import SIGNALS, Terminated, raise_on_signals
from avlearn.media import Selected, packet_copy, probe, remux

MODEL = SimpleNamespace()


@pytest.fixture
def clip(small_world):
    return next((small_world / "clips").glob("*.mp4"))


def told(path, offset: float, **more):
    return SimpleNamespace(
        path=str(path), offset=offset, best=offset, steps=[], drift=None, status="out of sync", tolerance=0.04, **more
    )


def test_a_file_that_is_not_in_sync_after_all_is_not_left(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(fix, "sync_file", lambda path, model, tolerance: told(path, -0.24))
    with pytest.raises(SyncError, match=r"fixed.mp4 is not written: .* still measures -240 ms"):
        fix_file(told(clip, 0.3), tmp_path / "fixed.mp4", model=MODEL)
    assert list(tmp_path.iterdir()) == []


def test_an_offset_that_is_left_is_said(clip, tmp_path, monkeypatch):
    measured = []

    def sync_by_model(path, model, tolerance):
        measured.append(probe(path).audio.start)
        return told(path, 0.003)

    monkeypatch.setattr(fix, "sync_file", sync_by_model)
    done = fix_file(told(clip, 0.3), tmp_path / "fixed.mp4", model=MODEL)
    assert done.text() == f"wrote {tmp_path}/fixed.mp4: in sync now (+3 ms; was +300 ms)"
    assert 0.3 - 1024 / 16000 - 1e-3 <= measured[0] <= 0.301  # a packet that primes the decoder comes before


def test_the_selected_track_is_measured_where_it_lies_now(clip, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(fix, "sync_file", lambda path, model, tolerance: seen.append(path) or told(path, 0.0))
    fix_file(told(clip, 0.1), tmp_path / "fixed.mkv", source=Selected(clip, 1, "left"), model=MODEL)
    assert (seen[0].track, seen[0].channel) == (1, "left")


def test_without_a_model_nothing_is_measured(clip, tmp_path):
    remux(clip, tmp_path / "late.mp4", audio_delay=0.1)
    assert fix_file(told(tmp_path / "late.mp4", -0.1), tmp_path / "fixed.mp4").now is None


@pytest.mark.parametrize(("resample", "drift"), [(False, 0.0), (True, 0.0005)])
def test_a_drift_is_mended_only_where_the_audio_may_be_resampled(clip, tmp_path, monkeypatch, resample, drift):
    """A small one: the file counts as in sync, so its offset can be mended without."""
    asked = []
    real = fix.remux
    monkeypatch.setattr(fix, "remux", lambda *given, **more: asked.append(more["audio_drift"]) or real(*given, **more))
    result = told(clip, 0.1)
    result.drift, result.status = 30.0, "in sync"
    fix_file(result, tmp_path / "fixed.mkv", resample=resample)
    assert asked == pytest.approx([drift])


def test_a_drift_that_was_mended_is_told():
    done = fix.FixResult("fixed.mkv", 0.004, 0.0, -125.0, ())
    assert done.text() == "wrote fixed.mkv: in sync now (+0 ms; was +4 ms, drifting by -125 ms a minute)"


def test_what_cannot_be_read_back_is_the_containers_fault_and_not_left(clip, tmp_path, monkeypatch):
    def sync_by_model(path, model, tolerance):
        raise MediaError(f"{path} is damaged: its audio at 0.70 s cannot be decoded")

    monkeypatch.setattr(fix, "sync_file", sync_by_model)
    with pytest.raises(OutputError, match=r"cannot write .*/fixed.mp4: .*cannot be read back \(it is damaged.*a .mkv"):
        fix_file(told(clip, 0.3), tmp_path / "fixed.mp4", model=MODEL)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def alone(clip, tmp_path):
    """The only file of a folder."""
    return shutil.copy(clip, tmp_path / "in.mp4")


def left_as_it_was(path, clip) -> bool:
    return list(path.parent.iterdir()) == [path] and path.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("name", ["fixed.mp4", "fixed.mkv", "fixed.ts", "fixed.avi"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_disk_that_fills_up_leaves_the_file_and_nothing_else(clip, alone, tmp_path, name, share):
    fix_file(told(alone, 0.3), tmp_path / name)
    whole = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(whole * share), hard))
    try:
        with pytest.raises(OutputError, match=rf"^cannot write {tmp_path / name}: [^\n]+$"):
            fix_file(told(alone, 0.3), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_as_it_was(alone, clip)


@pytest.mark.parametrize(("number", "end"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("while_", ["copying", "measuring"])
def test_a_fix_that_is_stopped_leaves_the_file_and_nothing_else(
    clip, alone, tmp_path, monkeypatch, number, end, while_
):
    begun = []

    def stopped(*_, **__):
        begun.extend(part for part in tmp_path.iterdir() if part != alone)
        signal.raise_signal(number)

    if while_ == "copying":
        monkeypatch.setattr(packet_copy.PacketCopy, "_show", stopped)
    else:
        monkeypatch.setattr(fix, "sync_file", stopped)
    before = {signalled: signal.getsignal(signalled) for signalled in SIGNALS}
    raise_on_signals()
    try:
        with pytest.raises(end):
            fix_file(told(alone, 0.3), tmp_path / "fixed.mp4", model=MODEL)
    finally:
        for signalled, handler in before.items():
            signal.signal(signalled, handler)
    assert [part.name for part in begun] == [".fixed.part.mp4"]  # it was stopped in the middle
    assert left_as_it_was(alone, clip)
