"""Labels over time under the frames of a file."""

import json
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from test_sound_kind import heard
from typer.testing import CliRunner

from avlearn.apply import classify as module
from avlearn.apply.classify import classify_file
from avlearn.apply.label_overlay import label_stretches
from avlearn.cli import app
from avlearn.config import RecognizerConfig
from avlearn.errors import AvlearnError, NoVideoError, OutputError
from avlearn.media import probe, read_clip, write_video, write_wav
from avlearn.media.frames import every_frame
from avlearn.models.folder import load
from avlearn.models.in_distribution import InDistribution
from avlearn.models.recognizer import Recognizer
from avlearn.models.recognizer_folder import save_recognizer

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))
from golden import golden


def network(inputs: str = "video") -> Recognizer:
    config = RecognizerConfig(inputs=inputs, labels=("bell", "drum", "fan"), size=32, seconds=1.0, fps=12.5)
    return Recognizer(config).eval()


@pytest.fixture
def clip(tmp_path):
    """Three seconds of moving noise with a tone."""
    frames = np.random.default_rng(0).integers(0, 255, (75, 48, 65, 3), dtype=np.uint8)
    tone = np.sin(np.arange(48_000) / 5)[None].astype(np.float32) / 4
    write_video(tmp_path / "in.mp4", frames, 25, audio=tone, sample_rate=16_000)
    return tmp_path / "in.mp4"


def strip_of(path: Path, below: int) -> np.ndarray:
    """What lies below a frame's rows, of the middle of a file."""
    frames = [frame for _, frame in every_frame(path)]
    return frames[len(frames) // 2][below:]


def test_the_overlay_has_the_frames_the_audio_and_a_strip(clip, tmp_path):
    told = []
    result = classify_file(clip, network(), out=tmp_path / "out.mp4", progress=lambda *said: told.append(said))
    assert result.video == str(tmp_path / "out.mp4") and result.text().endswith(f"wrote {tmp_path / 'out.mp4'}")
    assert {what for what, *_ in told} == {"looking", "drawing"} and all(done <= of for _, done, of in told)
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    assert after.video.width == 64 and after.video.height % 2 == 0 and after.video.height > before.video.height
    times = [[instant for instant, _ in every_frame(path)] for path in (clip, tmp_path / "out.mp4")]
    assert times[0] == pytest.approx(times[1], abs=1e-3)
    kept, theirs = read_clip(tmp_path / "out.mp4").audio, read_clip(clip).audio
    assert np.corrcoef(kept[0, :40_000], theirs[0, :40_000])[0, 1] > 0.99
    assert strip_of(tmp_path / "out.mp4", 48).std() > 10


def test_without_an_overlay_nothing_else_is_said(clip):
    plain = classify_file(clip, network())
    assert plain.video is None and "wrote" not in plain.text()


def test_the_label_of_a_moment_is_of_the_window_whose_centre_is_nearest():
    rows = [{"start": float(k), "label": name, "probability": 0.5} for k, name in enumerate("abc")]
    assert [stretch.start for stretch in label_stretches(rows, 1.0)] == [0.0, 1.0, 2.0]
    assert [stretch.start for stretch in label_stretches(rows, 2.0)] == [0.0, 1.5, 2.5]
    rows[0]["in_distribution"], rows[1]["label"], rows[2]["in_distribution"] = False, None, None
    assert [stretch.label for stretch in label_stretches(rows, 1.0)] == [None, None, "c"]
    assert [stretch.label for stretch in label_stretches(rows, 1.0, told=False)] == [None]


def test_windows_unlike_the_training_data_are_told(clip):
    model = network()
    frames = [np.random.default_rng(k).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8) for k in range(8)]
    from torch import cat, from_numpy, inference_mode, tensor

    from avlearn.models.in_distribution import describe_video
    from avlearn.models.two_tower import frames_to_input

    with inference_mode():
        batches = [from_numpy(each)[None] for each in frames]
        described = cat([describe_video(model.features(frames_to_input(b), None)["video"], b) for b in batches])
    found = InDistribution.fit(described, tensor(range(8)))
    model.in_distribution = {"video": replace(found, limit=found.limit * 1000)}
    assert [window["in_distribution"] for window in classify_file(clip, model).windows] == [True] * 3
    model.in_distribution = {"video": replace(found, limit=found.limit * 0)}
    assert classify_file(clip, model).verdict == "this model cannot tell"
    model.in_distribution = {}
    assert [window["in_distribution"] for window in classify_file(clip, model).windows] == [None] * 3


def test_kinds_of_sound_are_drawn_and_silence_and_doubt_are_grey(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "sound_kind", heard("music", "music", 0.93))
    result = classify_file(clip, load("default"), out=tmp_path / "music.mp4")
    assert result.window_seconds == 2.0
    bar = strip_of(tmp_path / "music.mp4", 48)[24].astype(int)
    assert np.ptp(bar[8]) > 60 and np.ptp(bar[60]) < 40  # blue, then grey in the silent second half
    monkeypatch.setattr(module, "sound_kind", heard(None, "engine", 0.4))
    assert classify_file(clip, load("default"), out=tmp_path / "doubt.mp4").verdict == "this model cannot tell"
    assert np.ptp(strip_of(tmp_path / "doubt.mp4", 48)[24].astype(int), axis=1).max() < 40


def test_files_of_any_kind_get_their_strip(tmp_path):
    classify_file(golden("rotated90").path, network(), out=tmp_path / "turned.mp4")
    assert probe(tmp_path / "turned.mp4").video.height > probe(tmp_path / "turned.mp4").video.width
    frames = np.random.default_rng(0).integers(0, 255, (5, 33, 35, 3), dtype=np.uint8)
    instants = [0.0, 0.1, 0.4, 0.45, 1.0]
    write_video(tmp_path / "vfr.mp4", zip(instants, frames, strict=True), 10, timed=True)
    classify_file(tmp_path / "vfr.mp4", network(), out=tmp_path / "drawn.mkv")
    assert [instant for instant, _ in every_frame(tmp_path / "drawn.mkv")] == pytest.approx(instants, abs=1e-3)
    assert probe(tmp_path / "drawn.mkv").audio is None


def test_what_has_no_frames_is_refused_before_the_work(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros((1, 32_000), np.float32), 16_000)
    assert classify_file(tmp_path / "a.wav", network("audio")).windows
    with pytest.raises(NoVideoError, match=r"a\.wav has no video under which"):
        classify_file(tmp_path / "a.wav", network("audio"), out=tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_the_command_and_its_second_run(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_recognizer(network(), tmp_path / "model", "")
    words = ["classify", "in.mp4", "--model", "model", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "-o", "out.mp4", "--json", "-"])
    assert done.exit_code == 0 and json.loads(done.stdout)["video"] == "out.mp4"
    for options, said in (
        (["-o", "out.mp4"], "out.mp4 is there already"),
        (["-o", "in.mp4", "--overwrite"], "is the input"),
        (["-o", "out.gif"], "must end in one of"),
        (["-o", "none/out.mp4"], "there is no folder none"),
    ):
        wrong = CliRunner().invoke(app, [*words, *options])
        assert isinstance(wrong.exception, AvlearnError) and said in str(wrong.exception), options
    assert CliRunner().invoke(app, [*words, "-o", "out.mp4", "--overwrite"]).exit_code == 0


def test_many_files_and_one_that_cannot_be_read(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_recognizer(network(), tmp_path / "model", "")
    (tmp_path / "videos" / "b").mkdir(parents=True)
    shutil.copy(clip, tmp_path / "videos" / "a.mp4")
    shutil.copy(clip, tmp_path / "videos" / "b" / "a.mkv")
    (tmp_path / "videos" / "bad.mp4").write_text("hello")
    words = ["classify", "videos", "--model", "model", "-o", "strips", "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "2 labelled" in done.stdout and "1 error" in done.stdout, done.output
    made = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "strips").rglob("*.*"))
    assert made == ["strips/a_classified.mp4", "strips/b/a_classified.mp4"]
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, AvlearnError) and "is there already" in str(again.exception)
    taken = CliRunner().invoke(app, [*words[:4], "-o", "x.mp4"])
    assert isinstance(taken.exception, AvlearnError) and "give a folder's name" in str(taken.exception)


def test_a_full_disk_leaves_nothing(clip, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avlearn.media.audio_track.AudioTrack.write", full)
    with pytest.raises(OutputError, match="No space left on device"):
        classify_file(clip, network(), out=tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_stopped_it_leaves_nothing(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (25, 240, 320, 3), dtype=np.uint8)
    write_video(tmp_path / "in.mp4", (frames[k % 25] for k in range(500)), 25)
    save_recognizer(network(), tmp_path / "model", "")
    command = Command("classify", "in.mp4", "--model", "model", "-o", "out.mp4", "--device", "cpu", cwd=tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / ".out.part.mp4").exists() and time.monotonic() < end:
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(60)
    assert command.returncode == 130 and said == "avlearn: stopped\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "model"]
