"""Separation of whole files: exact sums, no seams, the sources that are asked for, nothing half-written."""

import json
import threading

import numpy as np
import pytest
import soundfile
import torch

import avlearn.apply.localize.file_maps as file_maps
import avlearn.apply.separate.file as separate
import avlearn.apply.separate.stretches as separate_stretches
from avlearn.apply.feature_file import FeatureFile
from avlearn.apply.parallel import in_order
from avlearn.apply.separate.file import separate_file
from avlearn.apply.separate.masks import CONTEXT, separate_window, stretch_grid
from avlearn.apply.source_choice import When, parse_choice
from avlearn.config import ModelConfig
from avlearn.errors import AvlearnError, ModelError, NoAudioError, NoVideoError, OutputError
from avlearn.media import probe, read_clip, write_video, write_wav
from avlearn.metrics.separation import si_sdr
from avlearn.models.audiovisual import AudioVisual

LEFT, RIGHT = (0.25, 0.5), (0.75, 0.5)


def film(path, seconds, rate, channels, fps=25, height=64, width=64):
    """Two discs that bounce with two sounds, in noise."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * rate)) / rate
    beats = [np.exp(-8 * ((t * pace) % 1)) * np.sin(2 * np.pi * hz * t) for pace, hz in ((1.3, 440), (0.9, 1870))]
    mono = 0.2 * sum(beats) + 0.02 * rng.standard_normal(len(t))
    gains = np.linspace(0.4, 1, channels)[:, None]
    audio = (mono * gains + 0.01 * rng.standard_normal((channels, len(t)))).astype(np.float32)
    y, x = np.mgrid[:height, :width]
    frames = []
    for k in range(round(seconds * fps)):
        frame = np.full((height, width, 3), 60, np.uint8)
        for pace, at in ((1.3, 0.25), (0.9, 0.75)):
            top = height * (0.5 + 0.2 * abs(np.sin(np.pi * pace * k / fps)))
            frame[np.hypot(y - top, x - at * width) < height / 8] = 220
        frames.append(frame)
    write_video(path, frames, fps, audio=audio, sample_rate=rate)
    return path


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Five seconds at 30 fps and 44.1 kHz stereo."""
    return film(tmp_path_factory.mktemp("media") / "short.mp4", 5, 44100, 2, 30, 72, 128)


def samples(result):
    """``[K, S, C]`` float64."""
    return np.stack([soundfile.read(track.audio, always_2d=True)[0] for track in result.tracks])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_in_stretches_is_the_file_in_one_piece(model, tmp_path, monkeypatch):
    path = film(tmp_path / "half_a_minute.mp4", 30, 44100, 1)
    found = []
    for seconds in (2.7, 1000.0):
        monkeypatch.setattr(separate_stretches, "_STRETCH", seconds)
        monkeypatch.setattr(file_maps, "_LOOK", seconds)
        found.append(samples(separate_file(path, model, tmp_path / "out", choices=[LEFT, RIGHT])))
    cut, whole = found
    level = np.sqrt(np.square(whole).mean((1, 2)))
    assert level.min() > 1e-3
    assert (np.abs(cut - whole).max((1, 2)) < level * 10 ** (-60 / 20)).all()


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_what_masks_are_made_from_is_there_on_both_sides(model, rate):
    torch.manual_seed(0)
    grid, margin, step = stretch_grid(model, rate), round(CONTEXT * rate), round(model.step * rate)
    audio = 0.1 * torch.randn(2, 9 * grid) * torch.sin(torch.arange(9 * grid) * 20 / rate)
    normal = model.separator.normalise
    queries = torch.randn(1, 2, len(normal.running_mean), 9 * grid // step + 1)
    queries = queries * normal.running_var.sqrt()[:, None] + normal.running_mean[:, None]
    whole = separate_window(model, audio, rate, queries)
    begin, end = 2 * grid, 8 * grid - step
    part = separate_window(model, audio[:, begin:end], rate, queries[..., begin // step : end // step + 1])
    error = (part - whole[..., begin:end])[..., margin:-margin].abs().amax((1, 2))
    assert (error < whole.square().mean((1, 2)).sqrt() * 10 ** (-90 / 20)).all()


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 6), (8000, 1), (96000, 8)])
def test_tracks_add_up_to_the_input(model, tmp_path, rate, channels):
    path = film(tmp_path / "in.mkv", 2.3, rate, channels)
    result = separate_file(path, model, tmp_path / "out", choices=[LEFT, RIGHT])
    truth = read_clip(path, video=False).audio.T
    tracks = samples(result)
    assert (result.sample_rate, result.channels) == (rate, channels)
    length = min(len(truth), tracks.shape[1])
    assert abs(tracks.shape[1] - len(truth)) <= 2048  # the codec fills its last block
    assert np.abs(tracks.sum(0)[:length] - truth[:length]).max() < 1e-4
    assert all(np.abs(track).max() > 1e-3 for track in tracks)


def test_each_format_and_video_is_what_it_says(model, short, tmp_path):
    result = separate_file(short, model, tmp_path, sources=2, form="24")
    info = probe(short)
    for track in result.tracks:
        assert soundfile.info(track.audio).subtype == "PCM_24"
        assert soundfile.info(track.audio).format == "WAV"
    truth = read_clip(short, video=False).audio.T
    summed = samples(result).sum(0)
    length = min(len(truth), len(summed))
    assert np.abs(summed[:length] - truth[:length]).max() < 1e-4
    assert result.sources
    for track in result.sources:
        shown = probe(track.video)
        assert (shown.video.width, shown.video.height) == (info.video.width, info.video.height)
        assert abs(shown.audio.duration - info.audio.duration) < 0.05
    assert result.residual.video is None
    assert not list(tmp_path.glob(".*"))


def test_halves_give_back_what_was_put_there(model, small_world, tmp_path):
    """Two clips side by side that the model never saw, their audio added."""
    clips = [read_clip(path) for path in sorted((small_world / "clips").glob("*.mp4"))]
    better = []
    for one, two in zip(clips[:4:2], clips[1:4:2], strict=True):
        frames, length = min(len(one.video), len(two.video)), min(one.audio.shape[1], two.audio.shape[1])
        halves = np.concatenate([one.video[:frames], two.video[:frames]], 2)
        parts = [clip.audio[:, :length] / np.sqrt(np.square(clip.audio).mean()) * 0.05 for clip in (one, two)]
        path = tmp_path / "pair.mp4"
        write_video(path, halves, 25, audio=sum(parts), sample_rate=16000)
        result = separate_file(path, model, tmp_path / "out", choices=[parse_choice("left"), parse_choice("right")])
        assert [track.place[0] < 0.5 for track in result.sources] == [True, False]
        mixture = read_clip(path, video=False).audio[0]
        for track, part in zip(samples(result)[:2, :, 0], parts, strict=True):
            count = min(len(track), length, len(mixture))
            reference = part[0, :count]
            better.append(si_sdr(track[:count], reference) - si_sdr(mixture[:count], reference))
    assert np.median(better) > 4


def test_sources_are_taken_by_number_box_and_point(model, short, tmp_path):
    by_strength = separate_file(short, model, tmp_path / "all", sources=2)
    (last,) = separate_file(short, model, tmp_path / "one", choices=[by_strength.sources[-1].id]).sources
    assert last.place == by_strength.sources[-1].place
    assert last.id == by_strength.sources[-1].id
    (boxed,) = separate_file(short, model, tmp_path / "box", choices=[(0.0, 0.5, 0.5, 1.0)]).sources
    assert boxed.place[0] <= 0.5 <= boxed.place[1]
    assert boxed.id is None
    (pointed,) = separate_file(short, model, tmp_path / "point", choices=[(0.9, 0.1)]).sources
    assert (pointed.place, pointed.id) == ((0.9, 0.1), None)
    with pytest.raises(AvlearnError, match="there is no source 7"):
        separate_file(short, model, tmp_path / "none", choices=[7])
    with pytest.raises(AvlearnError, match="9 sources are too many"):
        separate_file(short, model, tmp_path / "none", choices=[LEFT] * 9)
    assert not (tmp_path / "none").exists()


def test_what_sounds_in_a_span_is_taken_in_the_shot_that_it_is_in(model, clips, tmp_path):
    """Two clips of one source each, to and fro."""
    one, two = (read_clip(path) for path in clips[:2])
    rate = one.sample_rate
    parts = [(one, 0.0), (two, 0.0), (one, 2.0)]
    frames = np.concatenate([clip.video[round(25 * start) :][:50] for clip, start in parts])
    audio = np.concatenate([clip.audio[:, round(rate * start) :][:, : 2 * rate] for clip, start in parts], 1)
    write_video(tmp_path / "film.mp4", frames, 25, audio=audio, sample_rate=rate)
    result = separate_file(tmp_path / "film.mp4", model, tmp_path / "out", choices=[When(((2.5, 3.5),))])
    assert [(shot.start, shot.camera, len(shot.sources)) for shot in result.shots] == [(0, 1, 0), (2, 2, 1), (4, 1, 0)]
    track, rest = samples(result)[..., 0]
    ends = np.r_[: round(1.9 * rate), round(4.1 * rate) : 6 * rate]
    assert not track[ends].any() and np.abs(rest[ends]).max() > 0.01
    inner = slice(round(2.1 * rate), round(3.9 * rate))
    assert si_sdr(track[inner], audio[0, inner]) > 5
    both = separate_file(tmp_path / "film.mp4", model, tmp_path / "out")
    first, second = (shot.sources[0].track for shot in both.shots[:2])
    assert first != second and both.shots[2].sources[0].track == first
    assert "shot 3, 4.0-6.0 s: " in both.text()


def test_what_is_on_screen_and_what_is_not(model, short, tmp_path):
    result = separate_file(short, model, tmp_path, onscreen=True)
    assert [track.name for track in result.tracks] == ["onscreen", "offscreen"]
    assert all(probe(track.video).audio for track in result.tracks)
    truth = read_clip(short, video=False).audio.T
    tracks = samples(result)
    length = min(len(truth), tracks.shape[1])
    assert np.abs(tracks.sum(0)[:length] - truth[:length]).max() < 1e-4
    assert result.calibrated
    assert result.tracks[0].confidence is not None
    assert result.tracks[1].confidence is None


def test_what_a_first_call_left_gives_way(model, short, tmp_path):
    separate_file(short, model, tmp_path, choices=[LEFT, RIGHT])
    (tmp_path / "short_notes.txt").write_text("mine")
    assert len(names(tmp_path)) == 6
    separate_file(short, model, tmp_path, onscreen=True)
    ours = [f"short_{kind}.{suffix}" for kind in ("offscreen", "onscreen") for suffix in ("mp4", "wav")]
    assert names(tmp_path) == sorted([*ours, "short_notes.txt"])


def test_silence_and_stills_are_told_in_plain_words(model, tmp_path):
    moving = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), dtype=np.uint8)
    noise = (0.1 * np.random.default_rng(1).standard_normal((1, 32000))).astype(np.float32)
    write_video(tmp_path / "silent.mp4", moving, 25, audio=noise * 0, sample_rate=16000)
    silent = separate_file(tmp_path / "silent.mp4", model, tmp_path / "out")
    assert silent.reason == "the audio track is silent"
    assert [track.name for track in silent.tracks] == ["residual"]
    write_video(tmp_path / "still.mp4", np.zeros_like(moving), 25, audio=noise, sample_rate=16000)
    still = separate_file(tmp_path / "still.mp4", model, tmp_path / "out")
    assert still.reason is not None
    assert still.reason in still.text()
    said = json.loads(json.dumps(still.to_dict()))
    assert list(said) == [
        "schema", "path", "duration", "sample_rate", "channels", "format", "calibrated", "tracks", "verdict",
        "reason", "in_distribution", "delay", "notes", "notice", "shots",
    ]  # fmt: skip
    assert said["schema"] == "avlearn.separate/2"
    assert list(said["tracks"][0]) == [
        "name", "audio", "video", "share", "id", "place", "present", "confidence", "evidence", "quality",
    ]  # fmt: skip


def test_what_cannot_be_done_leaves_nothing(model, short, tmp_path, monkeypatch):
    write_video(tmp_path / "mute.mp4", np.zeros((25, 64, 64, 3), np.uint8), 25)
    write_wav(tmp_path / "blind.wav", np.zeros((1, 16000), np.float32), 16000)
    with pytest.raises(NoAudioError):
        separate_file(tmp_path / "mute.mp4", model, tmp_path / "out")
    with pytest.raises(NoVideoError):
        separate_file(tmp_path / "blind.wav", model, tmp_path / "out")
    with pytest.raises(ModelError, match="no separator"):
        separate_file(short, AudioVisual(ModelConfig()).eval(), tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file: the tracks go to a folder"):
        separate_file(short, model, tmp_path / "file")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(separate, "write_videos", interrupted)
    with pytest.raises(KeyboardInterrupt):
        separate_file(short, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_come_back_from_the_disk(tmp_path):
    seen, features = FeatureFile(tmp_path), torch.randn(5, 9, 2, 3)
    for piece in features.split(4, 1):
        seen.append(piece)
    assert torch.allclose(seen.read(2, 4)[0], features[:, 2:6], atol=2e-3)
    held = seen.read(7, 5)[0]
    assert torch.allclose(held[:, 2:], features[:, 8:].expand(-1, 3, -1, -1), atol=2e-3)
    assert torch.allclose(seen.read(40, 2)[0], features[:, 8:].expand(-1, 2, -1, -1), atol=2e-3)
    assert names(tmp_path) == []
    seen.close()


def test_work_side_by_side_keeps_its_order_and_is_few_ahead():
    made, gate = [], threading.Event()

    def items():
        for k in range(20):
            made.append(k)
            yield k

    def work(k):
        if k == 0:
            gate.wait(10)
        return k * k

    found = in_order(work, items(), 3)
    threading.Timer(0.2, gate.set).start()
    assert next(found) == 0
    assert len(made) == 4
    assert list(found) == [k * k for k in range(1, 20)]


def test_steps_before_the_start_and_past_the_end_are_those_there(tmp_path):
    seen = FeatureFile(tmp_path)
    seen.append(torch.arange(5.0).view(1, 5, 1, 1))
    assert seen.read(-2, 4).flatten().tolist() == [0, 0, 0, 1]
    assert seen.read(3, 4).flatten().tolist() == [3, 4, 4, 4]
    assert seen.read(9, 2).flatten().tolist() == [4, 4]
    seen.close()
