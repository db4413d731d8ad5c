import json
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import Command
from typer.testing import CliRunner

from avlearn.apply.flow.estimate import load_flow
from avlearn.apply.flow.video import flow_file
from avlearn.cli import app
from avlearn.errors import AvlearnError
from avlearn.media import probe, write_video
from avlearn.media.frames import every_frame

sys.path.insert(0, str(Path(__file__).parents[2] / "media"))
from golden import golden

SHIFT = (2.0, 1.0)  # pixels right and down, from each frame of `moving` to the next


def moving(count: int, height: int = 48, width: int = 64, seed: int = 1) -> list[np.ndarray]:
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    texture = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 2)[height:-height, width:-width]
    texture = np.clip(60 + 90 * (seed % 2) + 40 * texture / texture.std(), 0, 255).astype(np.uint8)
    return [np.roll(texture, (k, 2 * k), (0, 1)) for k in range(count)]


def measured(path: Path, out: Path, **options) -> tuple:
    """Result, flows, times, and the frames drawn."""
    result = flow_file(path, load_flow(device="cpu"), out, arrays=out.with_suffix(".npz"), **options)
    arrays = np.load(out.with_suffix(".npz"))
    return result, arrays["flow"], arrays["times"], list(every_frame(out))


def test_vectors_colours_and_audio(tmp_path):
    tone = np.sin(np.arange(16_000) / 5)[None].astype(np.float32) / 4
    write_video(tmp_path / "in.mp4", moving(9), 12.5, audio=tone, sample_rate=16_000, crf=10)
    result, flow, times, drawn = measured(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert flow.shape == (8, 2, 48, 64) and flow.dtype == np.float16
    assert np.median(flow.astype(float), (0, 2, 3)) == pytest.approx(SHIFT, abs=0.1)
    assert times == pytest.approx(np.arange(8) / 12.5, abs=1e-3)
    assert [instant for instant, _ in drawn] == pytest.approx(times, abs=1e-3)
    # 2.2 of 1.6 pixels, to the right and a little down: dark orange.
    red, green, blue = np.median(drawn[3][1], (0, 1))
    assert red > 150 and 30 < green < 110 and blue < 40
    assert result.frames == 8 and result.cuts == [] and result.mean_length == pytest.approx(2.24, abs=0.2)
    assert result.full_colour == pytest.approx(0.02 * 80)
    assert probe(tmp_path / "out.mp4").audio is not None


def test_across_a_cut_there_is_no_motion(tmp_path):
    write_video(tmp_path / "in.mp4", moving(5) + moving(6, seed=2), 10, crf=10)
    result, flow, _, drawn = measured(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert result.cuts == [0.5]
    assert np.isnan(flow[4]).all() and np.isfinite(np.delete(flow, 4, 0)).all()
    assert drawn[4][1].mean() < 3 < drawn[3][1].mean()
    assert "1 cut" in result.text()


def test_a_still_picture_does_not_move(tmp_path):
    write_video(tmp_path / "in.mp4", moving(1) * 4, 10)
    result, flow, _, drawn = measured(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert np.abs(flow).max() < 0.2 and drawn[1][1].min() > 200
    assert result.mean_length < 0.1


@pytest.mark.parametrize("size", [(16, 16), (34, 50)])
def test_small_frames_and_a_smaller_size(tmp_path, size):
    write_video(tmp_path / "in.mp4", moving(4, *size), 10)
    _, flow, _, drawn = measured(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert flow.shape == (3, 2, *size) and len(drawn) == 3
    result, flow, *_ = measured(tmp_path / "in.mp4", tmp_path / "small.mp4", size=16)
    assert min(result.height, result.width) == 16 and flow.shape[2:] == (result.height, result.width)


def test_frames_that_follow_no_rate_keep_their_times(tmp_path):
    instants = [0.0, 0.1, 0.4, 0.45, 1.0]
    write_video(tmp_path / "in.mp4", zip(instants, moving(5), strict=True), 10, timed=True)
    _, _, times, drawn = measured(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert times == pytest.approx(instants[:-1], abs=1e-3)
    assert [instant for instant, _ in drawn] == pytest.approx(instants[:-1], abs=1e-3)


def test_rotated_files_are_measured_as_displayed(tmp_path):
    result, *_ = measured(golden("rotated90").path, tmp_path / "out.mp4", size=16)
    assert result.height > result.width == 16


def test_truncated_files_are_measured_as_far_as_they_go(tmp_path):
    write_video(tmp_path / "in.mkv", moving(40), 10, crf=1)
    data = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    result, flow, *_ = measured(tmp_path / "cut.mkv", tmp_path / "out.mp4")
    assert 5 < result.frames < 39 and len(flow) == result.frames


def test_a_single_frame_and_no_frames_are_told(tmp_path):
    write_video(tmp_path / "one.mp4", moving(1), 10)
    with pytest.raises(AvlearnError, match="has a single frame"):
        flow_file(tmp_path / "one.mp4", load_flow(device="cpu"), tmp_path / "out.mp4", arrays=tmp_path / "out.npz")
    assert not list(tmp_path.glob("*out*"))


def test_the_same_file_gives_the_same_bytes(tmp_path):
    write_video(tmp_path / "in.mp4", moving(4), 10)
    for name in ("a", "b"):
        measured(tmp_path / "in.mp4", tmp_path / f"{name}.mp4")
        time.sleep(0 if name == "b" else 2.1)  # an archive's dates are of two seconds
    for suffix in ("mp4", "npz"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_the_command_and_its_second_run(tmp_path, monkeypatch):
    write_video(tmp_path / "in.mp4", moving(4), 10)
    monkeypatch.chdir(tmp_path)
    words = ["flow", "in.mp4", "--device", "cpu", "--method", "dis"]
    done = CliRunner().invoke(app, [*words, "-o", "out.mp4", "--arrays", "out.npz", "--json", "-"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["schema"] == "avlearn.flow/1" and told["frames"] == 3 and told["method"] == "dis"
    for options, said in (
        (["-o", "out.mp4"], "out.mp4 is there already"),
        (["--arrays", "out.npz"], "out.npz is there already"),
        (["-o", "in.mp4", "--overwrite"], "is the input"),
        (["-o", "out.gif"], "must end in one of"),
        (["--arrays", "out.npy"], "must end in one of .npz"),
        (["--method", "horn"], "no method of optical flow is called 'horn'"),
        (["--method", "flownet_s"], "give their file"),
    ):
        wrong = CliRunner().invoke(app, [*words, *options])
        assert isinstance(wrong.exception, AvlearnError) and said in str(wrong.exception), options
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "out.npz"]
    assert CliRunner().invoke(app, [*words, "-o", "out.mp4", "--overwrite"]).exit_code == 0


def test_many_files_and_one_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_video(tmp_path / "in" / f"{name}.mp4", moving(3), 10)
    (tmp_path / "in" / "bad.mp4").write_text("hello")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["flow", "in", "-o", "out", "--arrays", "out", "--method", "dis", "--workers", "1", "--device", "cpu"]
    )
    assert done.exit_code == 2 and "2 measured" in done.stdout and "1 error" in done.stdout
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["a_flow.mp4", "a_flow.npz", "b_flow.mp4", "b_flow.npz"]


def test_stopped_it_leaves_nothing(tmp_path):
    write_video(tmp_path / "in.mp4", moving(600), 10)
    command = Command("flow", "in.mp4", "-o", "out.mp4", "--arrays", "out.npz", "--device", "cpu", cwd=tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / ".out.part.mp4").exists() and time.monotonic() < end:
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(60)
    assert command.returncode == 130 and said == "avlearn: stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
