"""Preparing a data set: whatever stops a run, the next one ends with the bytes of an undisturbed one."""

import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import commands
import numpy as np
import pytest
from commands import Command

from avlearn.data import journal, prepared_clips, shards
from avlearn.data import manifest as tables
from avlearn.data import prepare as preparing
from avlearn.data.journal import Journal
from avlearn.data.manifest import Entry, Event, Row, read_manifest, write_manifest
from avlearn.data.part import Part
from avlearn.data.prepare import prepare, prepare_part
from avlearn.data.scan import scan
from avlearn.errors import DataError, OutputError
from avlearn.files import replacing
from avlearn.media import ClipReader, Slice, Window, write_video

RATE = 16000
CLIPS = 12  # that can be used
SECONDS = 1.6  # of each
LABELS = ("bell", "dog")


def make(path: Path, seed: int, seconds: float = SECONDS) -> Path:
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (20, 24, 3)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    frames = np.stack([np.roll(texture, 3 * k, 1) for k in range(round(seconds * 25))])
    audio = rng.uniform(-0.3, 0.3, (1, round(seconds * RATE))).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, 25, audio=audio, sample_rate=RATE, preset="ultrafast")
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A manifest: 12 clips that can be used, one that is damaged beyond the scan's look, one that is no video."""
    folder = tmp_path_factory.mktemp("source")
    entries = []
    for k in range(CLIPS):
        path = make(folder / LABELS[k % 2] / f"{k:02d}.{('mp4', 'mkv')[k % 3 == 0]}", k)
        entries.append(Entry(path, (LABELS[k % 2],), ("train", "val")[k % 4 == 0], (Event("beep", 0.4, 0.6),)))
    damaged = make(folder / "damaged.mp4", 99, 8.0)
    data = bytearray(damaged.read_bytes())
    with av.open(str(damaged)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    for packet in packets[45:52]:  # from 2.8 s on: between two of the scan's windows
        data[packet.pos : packet.pos + packet.size] = random.Random(0).randbytes(packet.size)
    damaged.write_bytes(data)
    (folder / "text.mp4").write_text("no video")
    entries[3:3] = [Entry(damaged), Entry(folder / "text.mp4")]
    rows = scan(entries, folder / "m.parquet")
    assert [row.path.name for row in rows if row.reason] == ["text.mp4"]
    return folder / "m.parquet"


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory) -> dict[int, Path]:
    """What comes of it in one go, loose and in shards."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for count in (0, 3):
        prepare(source, folder / str(count), shards=count)
    return {count: folder / str(count) for count in (0, 3)}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- what comes out


def test_loose_clips(source, undisturbed):
    out = undisturbed[0]
    assert sorted(path.name for path in out.iterdir()) == [
        ".prepare.journal",
        "clips",
        "manifest.parquet",
        "prepare.json",
    ]
    old, new = read_manifest(source), read_manifest(out)
    assert len(new) == len(old) == CLIPS + 2
    for before, after in zip(old, new, strict=True):
        if after.reason:
            assert after == replace(before, reason=after.reason)
            continue
        folder = before.path.parent.name
        assert after.path.relative_to(out).as_posix() == f"clips/{folder}/{before.path.stem}.mp4"
        assert (after.labels, after.split, after.events) == (before.labels, before.split, before.events)
        assert (after.start, after.width, after.height, after.sample_rate, after.channels) == (0.0, 192, 160, RATE, 1)
        assert after.duration == pytest.approx(SECONDS, abs=1e-3) and after.bytes == after.path.stat().st_size


def test_what_cannot_be_used_is_in_the_manifest_with_its_reason(source, undisturbed):
    for out in undisturbed.values():
        reasons = {row.path.name: row.reason for row in read_manifest(out) if row.reason}
        assert list(reasons) == ["damaged.mp4", "text.mp4"]
        assert "damaged" in reasons["damaged.mp4"] and "not a media file" in reasons["text.mp4"]
        assert str(source.parent) not in "".join(reasons.values())


def test_clips_in_shards_are_the_loose_ones(undisturbed):
    loose = [row for row in read_manifest(undisturbed[0]) if not row.reason]
    packed = [row for row in read_manifest(undisturbed[3]) if not row.reason]
    assert sorted(p.name for p in undisturbed[3].iterdir()) == [
        ".prepare.journal", "manifest.parquet", "prepare.json", "shards"
    ]  # fmt: skip
    assert [row.path.name for row in packed] == ["00000.tar"] * 4 + ["00001.tar"] * 4 + ["00002.tar"] * 4
    for one, other in zip(loose, packed, strict=True):
        assert replace(other, path=one.path, offset=None) == one
        got = ClipReader(size=32).read(Slice(other.path, other.offset, other.bytes), [Window(0.5, 1.0)])[0]
        wanted = ClipReader(size=32).read(one.path, [Window(0.5, 1.0)])[0]
        assert (got.video == wanted.video).all() and (got.audio == wanted.audio).all() and got.video.any()


def test_events_and_flags_follow_the_clip(tmp_path):
    """A clip whose video begins late begins at 0 afterwards, and so do its events."""
    sys.path.append(str(Path(__file__).parents[1] / "media"))
    from golden import EVENTS, flashes, golden

    truth = golden("late_video_mkv")
    at = float(truth.times[EVENTS[1]])
    rows = scan([Entry(truth.path, events=(Event("flash", at, at + 0.04),))], tmp_path / "m.csv")
    assert "start-offset" in rows[0].flags
    prepare(tmp_path / "m.csv", tmp_path / "out")
    (row,) = read_manifest(tmp_path / "out")
    (event,) = row.events
    assert "start-offset" not in row.flags and event.end - event.start == pytest.approx(0.04)
    clip = ClipReader(fps=25).read(row.path, [Window(event.start - 0.04, 0.12)])[0]
    assert [flashes(image) for image in clip.video] == [False, True, False]


@pytest.mark.parametrize("tars", [0, 1])
def test_clips_without_audio_are_prepared_and_folds_stay(tmp_path, tars):
    """They are data for who does not listen, before as after."""
    loud = make(tmp_path / "loud.mp4", 1)
    clip = ClipReader(audio=False).read(loud, [Window(0.0, SECONDS)])[0]
    write_video(tmp_path / "mute.mp4", clip.video, 25)
    folds = ("train", "", "test")
    rows = scan([Entry(tmp_path / name, ("a",), folds=folds) for name in ("mute.mp4", "loud.mp4")], tmp_path / "m.csv")
    prepare(tmp_path / "m.csv", tmp_path / "out", shards=tars)
    found = read_manifest(tmp_path / "out")
    assert [(row.reason, row.flags, row.folds) for row in found] == [(row.reason, row.flags, folds) for row in rows]
    mute, heard = found
    assert not mute.reason_for(video=True, audio=False) and mute.audio_codec == "" and heard.audio_codec == "aac"
    read = ClipReader(audio=False).read(mute.source, [Window(0.0, SECONDS)])[0]
    assert len(read.video) == round(25 * SECONDS) and mute.duration == pytest.approx(SECONDS)


def test_names_do_not_collide(tmp_path):
    paths = [make(tmp_path / "in" / name, k) for k, name in enumerate(("a.mp4", "a.mkv", "A.mov", "b/a.mp4"))]
    write_manifest([Row(path, duration=2.0) for path in [*paths, paths[0]]], tmp_path / "in" / "m.csv")
    told = prepare(tmp_path / "in" / "m.csv", tmp_path / "out")
    names = [row.path.relative_to(tmp_path / "out" / "clips").as_posix() for row in read_manifest(tmp_path / "out")]
    assert names == ["a.mp4", "a_mkv.mp4", "A_mov.mp4", "b/a.mp4", "a.mp4"] and told.clips == told.transcoded == 4


def test_the_report(source, tmp_path):
    said = run(source, tmp_path / "out", "--json", tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text())
    assert (told["schema"], told["clips"], told["transcoded"]) == ("avlearn.prepare/1", CLIPS, CLIPS)
    assert [Path(item["path"]).name for item in told["passed_over"]] == ["damaged.mp4", "text.mp4"]
    clips = [row for row in read_manifest(tmp_path / "out") if not row.reason]
    assert told["bytes_after"] == sum(row.bytes for row in clips)
    assert told["seconds"] == pytest.approx(SECONDS * CLIPS, abs=0.1)
    assert f"{CLIPS} clips" in said and "damaged.mp4: is damaged" in said


# ---- again


def test_again_does_nothing(source, undisturbed, tmp_path):
    for count, folder in undisturbed.items():
        out = tmp_path / str(count)
        shutil.copytree(folder, out)
        stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.[mt][pa][4r]")}
        (out / ".left over by a kill.part.mp4").touch()
        told = prepare(source, out, shards=count)
        assert stamps and (told.clips, told.transcoded) == (CLIPS, 0)
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
        assert contents(out) == contents(folder)


def test_more_clips_are_added_and_fewer_taken_away(source, undisturbed, tmp_path):
    rows = read_manifest(source)
    for count in (0, 3):
        few = source.with_name("few.parquet")
        write_manifest(rows[5:12], few)
        out = tmp_path / str(count)
        assert prepare(few, out, shards=count).transcoded == 7
        assert prepare(source, out, shards=count).transcoded == CLIPS - 7
        assert contents(out) == contents(undisturbed[count])
        prepare(few, out, shards=count)
        prepare(few, tmp_path / f"{count} few", shards=count)
        assert contents(out) == contents(tmp_path / f"{count} few")


def test_a_source_that_changed_is_done_again(tmp_path):
    paths = [make(tmp_path / f"{k}.mp4", k) for k in range(3)]
    scan([Entry(path) for path in paths], tmp_path / "m.csv")
    prepare(tmp_path / "m.csv", tmp_path / "out")
    make(paths[1], 7)
    scan([Entry(path) for path in paths], tmp_path / "m.csv")
    assert prepare(tmp_path / "m.csv", tmp_path / "out").transcoded == 1
    prepare(tmp_path / "m.csv", tmp_path / "new")
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


def test_a_source_that_changed_and_a_run_that_stopped(tmp_path, monkeypatch):
    """What the shards still hold of the clip must not come back."""
    paths = [make(tmp_path / f"{k}.mp4", k) for k in range(3)]
    scan([Entry(path) for path in paths], tmp_path / "m.csv")
    prepare(tmp_path / "m.csv", tmp_path / "out", shards=2)
    make(paths[1], 7)
    scan([Entry(path) for path in paths], tmp_path / "m.csv")
    monkeypatch.setattr(prepared_clips.PreparedClips, "arrange", None)
    with pytest.raises(TypeError):
        prepare(tmp_path / "m.csv", tmp_path / "out", shards=2)
    monkeypatch.undo()
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    prepare(tmp_path / "m.csv", tmp_path / "out", shards=2)
    prepare(tmp_path / "m.csv", tmp_path / "new", shards=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "new")


def test_a_source_that_went_or_changed_after_the_scan(tmp_path):
    paths = [make(tmp_path / f"{k}.mp4", k) for k in range(3)]
    scan([Entry(path) for path in paths], tmp_path / "m.csv")
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes() + b"more")
    prepare(tmp_path / "m.csv", tmp_path / "out")
    reasons = [row.reason for row in read_manifest(tmp_path / "out")]
    assert reasons == ["it is gone, or has changed since the scan"] * 2 + [""]


def test_other_settings_are_refused(source, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "out")
    for words in (["--short-side", 128], ["--sample-rate", 24000], ["--crf", 23]):
        done = commands.run("prepare", source, tmp_path / "out", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert "was prepared with other settings" in done.stderr
    assert contents(tmp_path / "out") == contents(undisturbed[0])


def test_folders_of_others_are_left_alone(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="holds something else"):
        prepare(source, tmp_path)
    with pytest.raises(OutputError, match="cannot write"):
        prepare(source, tmp_path / "thesis.tex")
    with pytest.raises(OutputError, match=r"holds something else|in .* itself"):
        prepare(source, source.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"short_side": 15}, "short side of 15"),
        ({"short_side": 161}, "give an even number"),
        ({"sample_rate": 17000}, "choose one of"),
        ({"crf": 52}, "no quality 52"),
        ({"shards": -1}, "-1 shards"),
    ],
)
def test_impossible_settings(source, tmp_path, options, words):
    with pytest.raises(DataError, match=words):
        prepare(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_manifests_without_a_clip_that_can_be_used(source, undisturbed, tmp_path):
    rows = read_manifest(source)
    write_manifest([row for row in rows if row.reason], tmp_path / "none.csv")
    with pytest.raises(DataError, match="holds no clip that can be used"):
        prepare(tmp_path / "none.csv", tmp_path / "out")
    write_manifest([row for row in rows if row.path.name == "damaged.mp4"], tmp_path / "bad.csv")
    with pytest.raises(DataError, match=r"no clip of .* can be prepared; .*damaged.mp4: is damaged"):
        prepare(tmp_path / "bad.csv", tmp_path / "out")
    with pytest.raises(DataError, match="are prepared already"):
        prepare(undisturbed[3], tmp_path / "again")


# ---- stopped


def run(*words: object) -> str:
    done = commands.run("prepare", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reached(journal: Path, lines: int, process: Command) -> bool:
    """Waits until a journal has so many lines; False where the process ended before."""
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return True
        time.sleep(0.001)
    return False


@pytest.mark.parametrize(("count", "seed"), [(0, 1), (3, 2)])
def test_killed_at_random_it_ends_as_if_undisturbed(source, undisturbed, tmp_path, count, seed):
    rng, out, hits = random.Random(seed), tmp_path / "out", 0
    words = (source, out, "--shards", count, "--workers", 3)
    for lines in [*sorted(rng.sample(range(CLIPS), 3)), CLIPS]:
        process = Command("prepare", *words)
        if reached(out / ".prepare.journal", lines, process):
            time.sleep(rng.uniform(0, 0.04))
            hits += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert holds(out)
    assert hits >= 2
    run(*words)
    assert contents(out) == contents(undisturbed[count])


class _StoppedError(BaseException):
    """As a kill between two lines of ours."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("before", "count"), [(0, 3), (3, 2), (3, 0)])
def test_stopped_at_any_step_of_packing_it_ends_as_if_undisturbed(
    source, undisturbed, tmp_path, monkeypatch, before, count, after
):
    """Loose clips into shards, those into others, and out of them: each time a file is replaced, before or after."""
    intact = tmp_path / "m.parquet"
    write_manifest([row for row in read_manifest(source) if row.path.name != "damaged.mp4"], intact)
    for shards_, name in ((before, "begin"), (count, "end")):
        shutil.copytree(undisturbed[0], tmp_path / name)
        prepare(intact, tmp_path / name, shards=shards_)
    real, steps, stop = prepared_clips.replacing, 0, 0

    @contextmanager
    def stopping(path):
        nonlocal steps
        steps += 1
        if steps == stop and not after:
            raise _StoppedError
        with real(path) as part:
            yield part
        if steps == stop and after:
            raise _StoppedError

    for module in (prepared_clips, shards, tables, journal):
        monkeypatch.setattr(module, "replacing", stopping)
    for stop in range(1, 100):
        out, steps = tmp_path / f"out{stop}", 0
        shutil.copytree(tmp_path / "begin", out)
        try:
            prepare(intact, out, shards=count)
        except _StoppedError:
            assert holds(out)
            assert prepare(intact, out, shards=count).transcoded == 0
        assert contents(out) == contents(tmp_path / "end")
        if steps < stop:
            break
        steps = 0
    assert stop > (count or CLIPS) + 2


def holds(out: Path) -> bool:
    """Whether every clip lies where the manifest says, if there is one."""
    for row in read_manifest(out) if (out / "manifest.parquet").exists() else ():
        if not row.reason:
            with row.path.open("rb") as file:
                file.seek(row.offset or 0)
                if hashlib.sha256(file.read(row.bytes)).hexdigest()[:32] != row.hash:
                    return False
    return True


def test_ctrl_c(source, undisturbed, tmp_path):
    process = Command("prepare", source, tmp_path / "out", "--workers", 1)
    assert reached(tmp_path / "out" / ".prepare.journal", 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("avlearn: stopped with ")
    assert said.splitlines()[-1].endswith(f"of {CLIPS + 1} done: the same command goes on from there")
    assert not list((tmp_path / "out").rglob("*.part.*")) and not (tmp_path / "out" / "manifest.parquet").exists()
    assert f"{CLIPS} transcoded" not in run(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(undisturbed[0])


def test_a_clip_that_kills_its_process_and_one_that_hangs(source, tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_clips, "_make", deadly)
    monkeypatch.setattr(prepared_clips, "_PATIENCE", 5)
    prepare(source, tmp_path / "out", workers=3)
    reasons = {row.path.name: row.reason for row in read_manifest(tmp_path / "out") if row.reason}
    assert reasons.pop("05.mp4") == "the process died of it"
    assert re.fullmatch(r"it was not done after \d+ s", reasons.pop("04.mp4"))
    assert sorted(reasons) == ["damaged.mp4", "text.mp4"]
    monkeypatch.undo()
    assert prepare(source, tmp_path / "out").transcoded == 2


_make = prepared_clips._make


def deadly(settings, item):
    if item[0].path.name == "05.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item[0].path.name == "04.mp4":
        prepared_clips.transcode = lambda *_: time.sleep(600)
    return _make(settings, item)


def test_two_runs_do_not_mix(source, undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "out")
    other = Journal(tmp_path / "out" / ".prepare.journal")
    with pytest.raises(OutputError, match="another run is at work"):
        prepare(source, tmp_path / "out")
    other.close()
    assert contents(tmp_path / "out") == contents(undisturbed[0])


@pytest.mark.parametrize("limit", [30_000, 150_000])
def test_a_full_disk(source, undisturbed, tmp_path, limit):
    """What may not grow past a limit is a clip at 30 kB, a shard at 150 kB."""
    sizes = [row.bytes for row in read_manifest(undisturbed[0]) if not row.reason]
    assert min(sizes) > 30_000 and max(sizes) < 150_000 < sum(sizes) / 3
    words = (source, tmp_path / "out", "--shards", 3)
    done = subprocess.run(
        [sys.executable, "-m", "avlearn", "prepare", *map(str, words)], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if not line.startswith("preparing ")]
    assert done.returncode == 2 and len(errors) == 1
    assert errors[0].startswith("avlearn: error: cannot write ") and "File too large" in errors[0]
    assert not list((tmp_path / "out").rglob("*.part.*")) and not (tmp_path / "out" / "manifest.parquet").exists()
    for path in (tmp_path / "out" / "clips").rglob("*.mp4"):
        assert path.read_bytes() == (undisturbed[0] / path.relative_to(tmp_path / "out")).read_bytes()
    run(*words)
    assert contents(tmp_path / "out") == contents(undisturbed[3])


@pytest.mark.parametrize("count", [0, 3])
def test_parts_are_prepared_apart_and_give_the_same_bytes(source, undisturbed, tmp_path, count):
    clips = CLIPS + 1  # one is damaged
    found = [prepare_part(source, tmp_path / "out", Part(number, 2)) for number in (2, 1)]
    assert [own for own, _ in found] == [clips // 2, clips - clips // 2] and sum(len(lost) for _, lost in found) == 1
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    assert prepare(source, tmp_path / "out", shards=count).transcoded == 0
    assert contents(tmp_path / "out") == contents(undisturbed[count])


def test_parts_that_begin_at_once_claim_a_folder_together(tmp_path, monkeypatch):
    @contextmanager
    def slowly(path: Path) -> Iterator[Path]:
        with replacing(path) as part:
            yield part
            time.sleep(0.1)  # others are at the same then

    monkeypatch.setattr(preparing, "replacing", slowly)
    settings, out = preparing._settings(160, 16000, 20, 0, None), tmp_path / "out"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: preparing._claim(out, settings, tmp_path / "m.parquet"), range(4)))
    assert [path.name for path in out.iterdir()] == ["prepare.json"]
