"""Scanning: every flag on a file that has it, and runs that are stopped, killed and gone on with."""

import json
import os
import random
import signal
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from commands import Command, run

from avlearn.data import content
from avlearn.data import scan as scanning
from avlearn.data.manifest import Entry, Event, read_manifest
from avlearn.data.part import Part
from avlearn.data.scan import FLAGS, ScanSummary, find_videos, folder_entries, scan, scan_folder, scan_part
from avlearn.errors import AvlearnError, DataError, OutputError
from avlearn.media import write_video

FPS, RATE = 25, 16000


def frames_of(seconds: float, seed: int = 0) -> np.ndarray:
    """Texture that moves."""
    texture = np.random.default_rng(seed).integers(0, 255, (12, 30, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    return np.stack([texture[:48, k % 100 : k % 100 + 64] for k in range(round(seconds * FPS))])


def tone(seconds: float) -> np.ndarray:
    return 0.3 * np.sin(np.arange(round(seconds * RATE)) * 0.2)[None].astype(np.float32)


def make(path: Path, seconds: float = 2.0, seed: int = 0, **audio) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"audio": tone(seconds), "sample_rate": RATE} | audio
    write_video(path, frames_of(seconds, seed), FPS, **given)
    return path


def encode(path: Path, ticks, base: Fraction, delay: float = 0.0) -> Path:
    """Frames at ``ticks`` of ``base`` from ``delay`` on, and two seconds of audio from 0 on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = base
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        samples = av.AudioFrame.from_ndarray(tone(2.0), "fltp", "mono")
        samples.sample_rate, samples.pts = RATE, 0
        for packet in [*audio.encode(samples), *audio.encode(None)]:
            container.mux(packet)
        images = frames_of(len(ticks) / FPS)
        for tick, image in zip([*ticks, None], [*images, None], strict=True):
            frame = None
            if image is not None:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
                frame.pts, frame.time_base = tick, base
            for packet in video.encode(frame):
                late = round(delay / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                container.mux(packet)
    return path


def flagged(path: Path, **options) -> tuple[tuple[str, ...], str]:
    """Flags and reason of one file."""
    (row,) = scan([Entry(path)], path.with_name("manifest.csv"), workers=1, **options)
    return row.flags, row.reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve clips, one of them a copy and one no video."""
    folder = tmp_path_factory.mktemp("folder")
    for k in range(10):
        make(folder / ("train" if k % 3 else "val") / f"class {k % 2}" / f"{k:02d}.mp4", 1.2 + k / 5, seed=k)
    (folder / "train" / "class 0" / "10.mp4").write_bytes((folder / "val" / "class 0" / "00.mp4").read_bytes())
    (folder / "train" / "class 1" / "11.mp4").write_text("no video")
    return folder


# ---- folders


def test_a_folder_of_classes(tmp_path):
    for place in (
        "train/dog bark/a.mp4",
        "train/bell/a.mp4",
        "val/bell/a.mp4",
        "val/bell/b.MP4",
        "c.mkv",
        "train/d.ts",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("x")
    for place in ("val/bell/notes.txt", "val/bell/.hidden.mp4", "val/.cache.mp4"):
        (tmp_path / place).write_text("not looked at")
    (tmp_path / "val/folder.mp4").mkdir()
    found = folder_entries(tmp_path)
    assert [(e.split, e.labels, e.path.relative_to(tmp_path).as_posix()) for e in found] == [
        ("", (), "c.mkv"),
        ("train", ("bell",), "train/bell/a.mp4"),
        ("train", (), "train/d.ts"),
        ("train", ("dog bark",), "train/dog bark/a.mp4"),
        ("val", ("bell",), "val/bell/a.mp4"),
        ("val", ("bell",), "val/bell/b.MP4"),
    ]


def test_classes_without_splits(tmp_path):
    (tmp_path / "bell").mkdir()
    (tmp_path / "bell" / "a.mp4").write_text("x")
    (entry,) = folder_entries(tmp_path)
    assert (entry.split, entry.labels) == ("", ("bell",))


def test_folders_without_video(tmp_path):
    with pytest.raises(DataError, match="holds no video"):
        folder_entries(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        folder_entries(tmp_path / "none")


def test_audio_files_are_found_where_there_is_no_video(tmp_path):
    (tmp_path / "bell").mkdir()
    for name in ("a.WAV", "b.flac"):
        soundfile.write(tmp_path / "bell" / name, np.sin(np.arange(16000) / 9), 16000)
    found = find_videos(tmp_path)
    assert [(entry.path.name, entry.labels) for entry in found.entries] == [("a.WAV", ("bell",)), ("b.flac", ("bell",))]
    said = ScanSummary(tmp_path / "m.csv", scan_folder(tmp_path)).text()
    assert said.startswith("0 of 2 clips can be used with video and audio: ")
    assert (
        "2 can be used for their audio alone, 0.00 h: avlearn finetune with recognize.inputs=audio takes them" in said
    )
    assert "cannot be used:" not in said
    (tmp_path / "c.mp4").write_text("x")
    assert [entry.path.name for entry in find_videos(tmp_path).entries] == ["c.mp4"]
    assert find_videos(tmp_path).passed_over == {".flac": 1, ".wav": 1}


def test_a_name_that_no_manifest_can_hold(tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/a\xff.mp4")).write_text("x")
    with pytest.raises(DataError, match=r"holds no video .* it holds 1 names that are not UTF-8 \(rename them\)"):
        folder_entries(tmp_path)
    (tmp_path / "b.mp4").write_text("x")
    assert [entry.path.name for entry in folder_entries(tmp_path)] == ["b.mp4"]


def test_what_is_passed_over_is_counted_and_links_are_followed_once(tmp_path):
    folder = tmp_path / "videos"
    for place in ("bell/a.VOB", "bell/b.m2ts", "c.wmv", "d.jpg", "e.jpg", "f", ".g.mp4", ".h/i.mp4", "j.txt"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "k.mxf").write_text("x")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "bell" / "up").symlink_to(folder)
    (folder / "lost.mp4").symlink_to(folder / "nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    found = find_videos(folder)
    names = [entry.path.relative_to(folder).as_posix() for entry in found.entries]
    assert names == ["bell/a.VOB", "bell/b.m2ts", "c.wmv", "linked/k.mxf", "lost.mp4"]
    assert found.passed_over == {
        ".jpg": 2, "files without a suffix": 1, "hidden files": 1, ".txt": 1,
        "links to folders that are there already": 1, "pipes, devices and folders by such a name": 1,
    }  # fmt: skip
    said = ScanSummary(folder / "m.csv", [], found.passed_over)
    assert "passed over: 2 .jpg, 1 " in said.text()
    assert said.to_dict()["passed_over"][".jpg"] == 2


def test_scan_folder_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    rows = scan_folder(folder)
    assert sorted(folder.rglob("*")) == before
    assert [row.path for row in rows] == [entry.path for entry in folder_entries(folder)]
    assert sum(bool(row.reason) for row in rows) == 1


# ---- what is in a row


def test_an_audio_file_has_no_flag(tmp_path):
    path = make(tmp_path / "a.mp4", audio=np.concatenate([tone(2.0)] * 2))
    events = (Event("beep", 0.5, 0.7),)
    (row,) = scan([Entry(path, ("x",), "val", events)], tmp_path / "manifest.parquet")
    assert (row.flags, row.reason, row.labels, row.split, row.events) == ((), "", ("x",), "val", events)
    assert (row.video_codec, row.fps, row.width, row.height) == ("h264", 25.0, 64, 48)
    assert (row.audio_codec, row.sample_rate, row.channels) == ("aac", RATE, 2)
    assert row.start == 0.0 and row.duration == pytest.approx(2.0, abs=0.01)
    assert row.bytes == path.stat().st_size and len(row.hash) == 32
    assert read_manifest(tmp_path) == [row]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "manifest.parquet"]


def test_no_audio(tmp_path):
    write_video(tmp_path / "a.mp4", frames_of(2.0), FPS)
    (row,) = scan([Entry(tmp_path / "a.mp4")], tmp_path / "manifest.csv")
    assert (row.flags, row.reason) == (("no-audio",), "there is no audio track")
    assert (row.width, row.sample_rate) == (64, 0) and row.duration == pytest.approx(2.0)


def test_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(2.0), "fltp", "mono")
        frame.sample_rate = RATE
        for packet in [*audio.encode(frame), *audio.encode(None)]:
            container.mux(packet)
    assert flagged(tmp_path / "a.mp4") == (("no-video",), "there is no video")


@pytest.mark.parametrize(("level", "flags"), [(0.0, ("silent",)), (3e-5, ("silent",)), (0.004, ())])
def test_silent(tmp_path, level, flags):
    noise = np.random.default_rng(0).uniform(-level, level, (1, 6 * RATE)).astype(np.float32)
    assert flagged(make(tmp_path / "a.mp4", 6.0, audio=noise)) == (flags, "")


def test_short_audio_in_long_silence_is_not_silent(tmp_path):
    audio = np.zeros((1, 16 * RATE), np.float32)
    audio[:, 4 * RATE : 5 * RATE] = tone(1.0)  # between the first windows
    assert flagged(make(tmp_path / "a.mp4", 16.0, audio=audio)) == ((), "")


def test_static(tmp_path):
    still = np.broadcast_to(frames_of(0.04), (290, 48, 64, 3))  # beyond the keyframe at 10 s, which is encoded anew
    write_video(tmp_path / "a.mp4", still, FPS, audio=tone(12.0), sample_rate=RATE, crf=28)
    assert flagged(tmp_path / "a.mp4") == (("static",), "")


def test_a_video_that_changes_now_and_then_is_not_static(tmp_path):
    frames = np.array(np.broadcast_to(frames_of(0.04), (275, 48, 64, 3)))
    frames[80:100, :16, :16] ^= 255  # between the first windows
    write_video(tmp_path / "a.mp4", frames, FPS, audio=tone(11.0), sample_rate=RATE)
    assert flagged(tmp_path / "a.mp4") == ((), "")


def test_short(tmp_path):
    make(tmp_path / "a.mp4", 0.8)
    assert flagged(tmp_path / "a.mp4") == (("short",), "")
    assert flagged(tmp_path / "a.mp4", min_duration=0.5) == ((), "")


def test_audio_that_is_no_numbers_is_undecodable(tmp_path):
    audio = np.zeros((16_000 * 2, 1), np.float32)
    audio[8_000:24_000] = np.nan
    soundfile.write(tmp_path / "a.wav", audio, 16_000, "FLOAT")
    why = "its audio has samples that are no numbers, or too loud to be audio"
    assert flagged(tmp_path / "a.wav") == (("undecodable",), why)


def test_variable_fps(tmp_path):
    ticks = [0, *np.cumsum(np.random.default_rng(0).choice([20, 40, 60], 49)).tolist()]
    assert flagged(encode(tmp_path / "a.mp4", ticks, Fraction(1, 1000))) == (("variable-fps",), "")


@pytest.mark.parametrize(("delay", "flags"), [(0.02, ()), (0.1, ("start-offset",))])
def test_start_offset(tmp_path, delay, flags):
    assert flagged(encode(tmp_path / "a.mp4", range(50), Fraction(1, FPS), delay)) == (flags, "")


def test_duplicates_are_named_after_the_first(tmp_path):
    paths = [make(tmp_path / name) for name in ("b.mp4", "a.mp4")]
    paths.append(make(tmp_path / "c.mp4", seed=1))
    rows = scan([Entry(path) for path in paths], tmp_path / "manifest.csv")
    assert [row.flags for row in rows] == [(), ("duplicate",), ()]
    assert rows[0].hash == rows[1].hash != rows[2].hash


def test_no_media_and_no_file(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    flags, reason = flagged(tmp_path / "a.mp4")
    assert flags == ("undecodable",)
    assert reason.startswith("is not a media file") and str(tmp_path) not in reason
    assert flagged(tmp_path / "b.mp4") == (("missing",), "there is no such file")


def test_a_file_cut_short_opens_and_is_undecodable(tmp_path):
    whole = make(tmp_path / "whole.mp4", 10.0)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as to,
    ):
        streams = {stream: to.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                to.mux(packet)
    data = (tmp_path / "front.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (row,) = scan([Entry(tmp_path / "cut.mp4")], tmp_path / "manifest.csv")
    assert row.flags == ("undecodable",) and row.reason
    assert str(tmp_path) not in row.reason
    assert row.width == 64  # what its header says is told
    assert flagged(tmp_path / "front.mp4") == ((), "")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "inspect_file", refused)
    assert flagged(make(tmp_path / "a.mp4")) == (("undecodable",), "Permission denied")


def refused(path: str) -> dict:
    content.hashlib = None
    content.open = _refuse
    return content.inspect_file(path)


def _refuse(*_):
    raise PermissionError(13, "Permission denied")


def test_real_files(real_videos, tmp_path):
    """What an engineer found by hand in some of them."""
    known = {
        "exoplayer/init.mp4": ("undecodable",),
        "ffmpeg-python/in1.mp4": ("silent",),
        "imageio-binaries/cockatoo.mp4": ("silent",),
        "imageio-binaries/0b243c_cockatoo.mp4": ("no-audio",),
        "exoplayer/sample_opus.mp4": ("no-video",),
        "specvqgan/video_02677.mp4": (),
        "decord/flipping_a_pancake.mkv": (),
    }
    rows = scan([Entry(real_videos / name) for name in known], tmp_path / "manifest.csv")
    assert {str(row.path.relative_to(real_videos)): row.flags for row in rows} == known


def test_the_summary(folder, tmp_path):
    rows = scan(folder_entries(folder), tmp_path / "manifest.parquet")
    summary = ScanSummary(tmp_path / "manifest.parquet", rows)
    told = summary.to_dict()
    assert told["schema"] == "avlearn.scan/1" and json.dumps(told)
    assert (told["clips"], told["usable"], told["flags"]) == (12, 11, {"undecodable": 1, "duplicate": 1})
    assert told["seconds"] == pytest.approx(sum(row.duration for row in rows))
    assert "11 of 12 clips can be used" in summary.text() and "11.mp4: is not a media file" in summary.text()


# ---- runs


def test_rows_do_not_depend_on_workers(folder, tmp_path):
    entries = folder_entries(folder)[::-1]
    for name, workers in (("one", 1), ("three", 3)):
        rows = scan(entries, tmp_path / f"{name}.parquet", workers=workers)
        assert [row.path for row in rows] == [entry.path for entry in entries]
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "three.parquet").read_bytes()


def stopped(entries: list[Entry], out: Path, done: int) -> Path:
    """Scan until so many files are done; returns the journal."""

    def stop(count: int, _: int) -> None:
        if count == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(entries, out, workers=2, progress=stop)
    assert not out.exists()
    return out.with_name(f".{out.name}.journal")


def test_a_run_that_was_stopped_goes_on(folder, tmp_path):
    entries = folder_entries(folder)
    scan(entries, tmp_path / "a.parquet")
    journal = stopped(entries, tmp_path / "b.parquet", 5)
    lines = journal.read_text().splitlines()
    assert len(lines) == 5
    journal.write_text("\n".join(lines) + '\n{"key": [1, "tor')  # as a kill leaves it
    told = []
    scan(entries, tmp_path / "b.parquet", progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 12) for k in range(5, 13)]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not journal.exists()


def test_a_file_that_changed_meanwhile_is_looked_at_again(tmp_path):
    entries = [Entry(make(tmp_path / f"{k}.mp4", seed=k)) for k in range(4)]
    old = {row.path: row.hash for row in scan(entries, tmp_path / "old.csv")}
    journal = stopped(entries, tmp_path / "new.csv", 3)
    done = [tmp_path / json.loads(line.partition(" ")[2])["key"][1] for line in journal.read_text().splitlines()]
    make(done[0], seed=9)
    rows = scan(entries, tmp_path / "new.csv")
    assert [row.path for row in rows if row.hash != old[row.path]] == [done[0]]


def test_a_file_that_kills_the_decoder(folder, tmp_path, monkeypatch):
    entries = folder_entries(folder)
    expected = scan(entries, tmp_path / "a.parquet")
    monkeypatch.setattr(scanning, "inspect_file", deadly)
    rows = scan(entries, tmp_path / "b.parquet", workers=3)
    assert [row.reason for row in rows if row.path.name == "05.mp4"] == ["the process died of it"]
    assert [row for row in rows if row.path.name != "05.mp4"] == [r for r in expected if r.path.name != "05.mp4"]


def deadly(path: str) -> dict:
    if path.endswith("05.mp4"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return content.inspect_file(path)


def test_a_file_that_hangs(tmp_path, monkeypatch):
    entries = [Entry(make(tmp_path / f"{k}.mp4", seed=k)) for k in range(3)]
    monkeypatch.setattr(scanning, "inspect_file", endless)
    monkeypatch.setattr(scanning, "_PATIENCE", 5)
    rows = scan(entries, tmp_path / "manifest.csv", workers=2)
    assert [row.reason for row in rows] == ["", "it was not done after 5 s", ""]


def endless(path: str) -> dict:
    known = content._facts
    content._facts = _sleep if path.endswith("1.mp4") else known
    try:
        return content.inspect_file(path)
    finally:
        content._facts = known


def _sleep(_: str) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m.json", r"must end in one of \.csv, \.parquet"),
        ("none/m.csv", "there is no folder"),
        ("folder.csv", "is a folder"),
    ],
)
def test_where_it_cannot_be_written_is_said_at_once(folder, tmp_path, monkeypatch, name, words):
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(scanning, "in_workers", None)
    with pytest.raises(OutputError, match=words):
        scan(folder_entries(folder), tmp_path / name)


# ---- the command


def wait_for_lines(journal: Path, lines: int, process: Command) -> bool:
    """Until a journal has so many lines; False where the process ended before."""
    while process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            return True
        time.sleep(0.002)
    return False


def test_ctrl_c(folder, tmp_path):
    words = ("scan", folder, "-o", tmp_path / "m.parquet", "--workers", 1)
    process = Command(*words)
    assert wait_for_lines(tmp_path / ".m.parquet.journal", 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "of 12 done: the same command goes on from there" in said and "Traceback" not in said
    assert not (tmp_path / "m.parquet").exists()
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "11 of 12 clips can be used" in done.stdout


def test_killed_and_begun_again_it_ends_as_if_undisturbed(folder, tmp_path):
    scan(folder_entries(folder), tmp_path / "a.parquet")
    rng, killed = random.Random(0), 0
    words = ("scan", folder, "-o", tmp_path / "b.parquet", "--workers", 2)
    for lines in sorted(rng.sample(range(9), 4)):
        process = Command(*words)
        if wait_for_lines(tmp_path / ".b.parquet.journal", lines, process):
            time.sleep(rng.uniform(0, 0.02))
            killed += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert killed >= 2
    done = run(*words, "--json", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert json.loads((tmp_path / "s.json").read_text())["flags"] == {"undecodable": 1, "duplicate": 1}
    assert f"{FLAGS['duplicate']}" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "s.json"]


def test_options_of_corpora_need_one(folder, tmp_path):
    done = run("scan", folder, "--fold", 2, cwd=tmp_path)
    assert done.returncode == 2 and "go with --corpus" in done.stderr


def test_a_corpus_lists_what_is_missing(tmp_path):
    make(tmp_path / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g08_c01.avi".replace(".avi", ".mp4"))
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n")
    (tmp_path / "trainlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    done = run("scan", tmp_path, "-o", tmp_path / "m.csv", "--corpus", "ucf101", "--fold", 1)
    assert done.returncode == 0, done.stderr
    assert {"missing"} in [set(row.flags) for row in read_manifest(tmp_path / "m.csv")]


def test_parts_are_looked_into_apart_and_give_the_same_manifest(folder, tmp_path):
    entries = folder_entries(folder)
    expected = scan(entries, tmp_path / "whole.parquet")
    for number in (3, 1):
        assert scan_part(entries, tmp_path / "m.parquet", Part(number, 3)) == len(entries[number - 1 :: 3])
        assert not (tmp_path / "m.parquet").exists()
    done = []
    assert scan(entries, tmp_path / "m.parquet", progress=lambda count, _: done.append(count)) == expected
    assert done[0] == len(entries) - len(entries[1::3])  # what parts have found is not looked into again
    assert (tmp_path / "m.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("text", ["3", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/4"])
def test_what_is_no_part(text):
    with pytest.raises(AvlearnError, match=rf"--part {text}: give a number and of how many"):
        Part.parse(text)
