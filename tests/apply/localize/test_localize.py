"""What ``avlearn localize`` writes and says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from avlearn.apply.localize import file as localize
from avlearn.apply.localize.file import check_outputs, localize_file
from avlearn.apply.localize.file_maps import file_maps
from avlearn.cli import app
from avlearn.errors import NoAudioError, OutputError
from avlearn.media import probe, read_clip, write_video


@pytest.fixture(scope="module")
def clip(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[0]


def copy(clip, out, audio=None, start=0.0, seconds=None):
    """The clip with another audio."""
    whole = read_clip(clip, start, seconds)
    write_video(out, whole.video, whole.fps, audio=whole.audio if audio is None else audio, sample_rate=16000)
    return out


def test_the_command_writes_what_it_says_and_again_into_the_same_place(clip, tmp_path):
    words = ["localize", str(clip), "-o", str(tmp_path / "o.mp4"), "--maps", str(tmp_path / "m.npz"), "--sources"]
    first = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "r.json")])
    assert first.exit_code == 0, first.output
    assert "the sound comes from" in first.output and "source 1 at" in first.output
    said = json.loads((tmp_path / "r.json").read_text())
    assert list(said) == [
        "schema", "path", "video", "maps", "audible", "calibrated", "verdict", "reason", "in_distribution", "delay",
        "peak", "windows", "sources", "notes", "notice", "expert", "maps_by", "experts",
    ]  # fmt: skip
    assert said["schema"] == "avlearn.localize/2"
    assert isinstance(CliRunner().invoke(app, words).exception, OutputError)
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.npz", "o.mp4", "r.json"]
    maps = np.load(tmp_path / "m.npz")
    count = len(said["windows"])
    assert maps["maps"].shape == (count, 16, 16) and maps["audible"].shape == (count,)
    np.testing.assert_allclose(maps["times"], [w["time"] for w in said["windows"]], atol=1e-3)
    assert np.diff(maps["times"]).max() < 0.5
    assert len(said["sources"][0]["boxes"]) == count
    assert probe(tmp_path / "o.mp4").video.duration == pytest.approx(probe(clip).video.duration, abs=0.05)


def test_it_points_at_what_sounds(small_world, model, tmp_path):
    hits, said = [], []
    for number in range(4):
        truth = json.loads((small_world / "truth" / f"{number:06d}.json").read_text())["sources"][0]
        result = localize_file(small_world / "clips" / f"{number:06d}.mp4", model, tmp_path / "o.mp4")
        x0, y0, x1, y1 = np.mean([box for box in truth["boxes"] if box], 0) / 96
        hits.append(x0 <= result.peak[0] <= x1 and y0 <= result.peak[1] <= y1)
        said.append(result.audible)
    assert sum(hits) >= 3
    assert min(said) > 0.5


def test_in_silence_nothing_is_audible_and_nothing_drawn(clip, model, tmp_path):
    silent = copy(clip, tmp_path / "silent.mp4", np.zeros((1, 64000), np.float32))
    told = []
    result = localize_file(
        silent, model, tmp_path / "o.mp4", sources=True, progress=lambda what, done, whole: told.append((what, done))
    )
    assert (result.audible, result.verdict, result.sources) == (0.0, "silent", [])
    drawn = [done for what, done in told if what == "drawing"]
    assert len(drawn) == 100 and drawn == sorted(drawn) and 3.9 < drawn[-1] <= 4.0
    assert all(w["silent"] and w["audible"] == 0 for w in result.windows)
    assert result.reason == "the audio track is silent"
    assert result.text().startswith(f"{silent}: the audio track is silent: there is nothing to localize\n")
    before, after = (read_clip(p, audio=False).video.astype(int) for p in (silent, tmp_path / "o.mp4"))
    assert np.abs(before - after).mean() < 3  # what the encoder changes
    loud = localize_file(clip, model, tmp_path / "o.mp4")
    assert loud.audible > 0.5
    assert np.abs(before - read_clip(tmp_path / "o.mp4", audio=False).video).mean() > 6


@pytest.mark.parametrize(("frames", "samples"), [(60, 20000), (40, 38400)])
def test_maps_go_on_to_the_end_of_the_video_and_no_further(clip, model, tmp_path, frames, samples):
    read = read_clip(clip, 0, 2.4)
    write_video(tmp_path / "x.mkv", read.video[:frames], 25, audio=read.audio[:, :samples], sample_rate=16000)
    assert frames / 25 - 1.0 < file_maps(tmp_path / "x.mkv", model).times[-1] < frames / 25


def test_audio_of_something_else_is_said_to_be_of_nothing_on_screen(small_world, model, tmp_path):
    clips = sorted((small_world / "clips").glob("*.mp4"))
    audible = []
    for k in range(3):
        other = read_clip(clips[k + 5], video=False).audio
        result = localize_file(copy(clips[k], tmp_path / "x.mp4", other), model, tmp_path / "o.mp4", sources=True)
        audible.append(result.audible)
        if result.verdict == "nothing on screen explains the sound":
            assert result.sources == [] and result.verdict in result.text()
    assert np.median(audible) < 0.2


def test_boxes_are_drawn_of_sources_that_are_there_and_while_something_on_screen_is_heard(clip, monkeypatch):
    times, drawn = np.array([0.0, 4.0]), []
    monkeypatch.setattr(localize, "mark", lambda frame, box, name: drawn.append((name, box)))
    found = SimpleNamespace(times=times, maps=np.zeros((2, 6, 6)))
    here, gone = (0.1, 0.2, 0.3, 0.4), (np.nan,) * 4
    sources = [SimpleNamespace(id=k, boxes=np.array([box, box])) for k, box in ((1, here), (2, gone))]
    frames = list(localize._drawn(clip, found, np.array([1.0, 0.0]), sources, lambda _: None))
    assert {name for name, _ in drawn} == {"1"}
    np.testing.assert_allclose([box for _, box in drawn], [here] * len(drawn))
    assert len(drawn) == sum(instant <= 2.0 for instant, _ in frames) < len(frames)  # the probability falls to a half


def test_what_is_there_is_written_over_only_where_that_is_asked_for(clip, tmp_path):
    (tmp_path / "o.mp4").touch()
    with pytest.raises(OutputError, match="overwrite"):
        check_outputs(clip, tmp_path / "o.mp4", None)
    check_outputs(clip, tmp_path / "o.mp4", None, overwrite=True)


def test_what_would_be_lost_or_cannot_be_is_refused_first(clip, model, tmp_path):
    own = copy(clip, tmp_path / "own.mp4", seconds=1.0)
    with pytest.raises(OutputError, match="is the input"):
        localize_file(own, model, own)
    with pytest.raises(OutputError, match="there is no folder"):
        localize_file(own, model, tmp_path / "none" / "o.mp4")
    with pytest.raises(OutputError, match=r"must end in one of \.npz"):
        localize_file(own, model, tmp_path / "o.mp4", maps=tmp_path / "maps.txt")
    write_video(tmp_path / "mute.mp4", np.zeros((25, 64, 64, 3), np.uint8), 25)
    with pytest.raises(NoAudioError, match="no audio track"):
        localize_file(tmp_path / "mute.mp4", model, tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()
