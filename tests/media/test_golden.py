"""Flash-and-beep files whose truth is known: a white frame at known instants, a click at the same ones."""

import numpy as np
import pytest

from avlearn.errors import MediaError, NoAudioError, NoVideoError, OutputError, WindowError
from avlearn.media import probe, read_clip, remux, stream, write_video, write_wav

FPS, RATE, SECONDS = 25, 48000, 6
FLASHES = (12, 40, 77, 110, 133)  # frames


def make(path, audio_channels: int = 1, rate: int = RATE):
    frames = np.full((FPS * SECONDS, 48, 64, 3), 16, np.uint8)
    frames[list(FLASHES)] = 240
    sound = np.zeros((audio_channels, rate * SECONDS), np.float32)
    for flash in FLASHES:
        at = round(flash / FPS * rate)
        sound[:, at : at + rate // 100] = 0.8 * np.sin(2 * np.pi * 1500 * np.arange(rate // 100) / rate)
    write_video(path, frames, FPS, audio=sound, sample_rate=rate, crf=10)
    return path


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return make(tmp_path_factory.mktemp("golden") / "golden.mp4")


def flashes(video: np.ndarray) -> list[int]:
    return np.flatnonzero(video.mean((1, 2, 3)) > 128).tolist()


def onsets(audio: np.ndarray, rate: int) -> list[float]:
    loud = np.abs(audio[0]) > 0.2
    first = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))
    kept = [k for i, k in enumerate(first) if i == 0 or k - first[i - 1] > 0.1 * rate]
    return [k / rate for k in kept]


def test_probe_tells_what_is_there(golden):
    info = probe(golden)
    assert (info.video.width, info.video.height, info.video.fps) == (64, 48, 25)
    assert info.video.variable_fps is False
    assert (info.audio.sample_rate, info.audio.channels) == (RATE, 1)
    assert info.duration == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_frames_and_sound_are_where_they_were_put(tmp_path, suffix):
    path = make(tmp_path / f"golden.{suffix}")
    clip = read_clip(path)
    assert flashes(clip.video) == list(FLASHES)
    found = onsets(clip.audio, clip.sample_rate)
    assert np.abs(np.array(found) - np.array(FLASHES) / FPS).max() < 0.002


@pytest.mark.parametrize("start", [0.0, 0.52, 1.4, 2.9, 4.44])
@pytest.mark.parametrize("rate", [None, 16000, 22050])
def test_a_window_is_a_cut_of_the_whole(golden, start, rate):
    info = probe(golden)
    whole = read_clip(golden, sample_rate=rate)
    clip = read_clip(golden, info.start + start, 1.2, sample_rate=rate)
    first = round(start * FPS)
    assert np.array_equal(clip.video, whole.video[first : first + 30])
    at = round(start * clip.sample_rate)
    cut = whole.audio[:, at : at + clip.audio.shape[1]]
    assert np.abs(clip.audio[:, : cut.shape[1]] - cut).max() < 0.02


def test_other_rates_take_the_frame_that_is_shown(golden):
    clip = read_clip(golden, fps=50)
    assert flashes(clip.video) == sorted(k for f in FLASHES for k in (2 * f, 2 * f + 1))


def test_chunks_add_up_to_the_whole(golden):
    whole = read_clip(golden, sample_rate=16000)
    chunks = list(stream(golden, 0.7, 0.7, sample_rate=16000))
    assert np.array_equal(np.concatenate([c.video for c in chunks]), whole.video)
    sound = np.concatenate([c.audio for c in chunks], 1)
    length = min(sound.shape[1], whole.audio.shape[1])
    assert length > 0.95 * SECONDS * 16000
    assert np.abs(sound[:, :length] - whole.audio[:, :length]).max() < 1e-4


def test_overlapping_windows_lie_on_one_grid(golden):
    whole = read_clip(golden)
    for k, clip in enumerate(stream(golden, 2.0, 1.0)):
        assert clip.start == pytest.approx(probe(golden).start + k)
        assert np.array_equal(clip.video, whole.video[k * FPS : k * FPS + len(clip.video)])


@pytest.mark.parametrize("delay", [0.3, 0.04, -0.12, -0.5])
def test_remux_moves_the_sound_and_nothing_else(golden, tmp_path, delay):
    remux(golden, tmp_path / "moved.mp4", audio_delay=delay)
    clip = read_clip(tmp_path / "moved.mp4")
    assert flashes(clip.video) == list(FLASHES)
    wanted = [f / FPS + delay for f in FLASHES if f / FPS + delay > 0.02]
    found = onsets(clip.audio, clip.sample_rate)
    assert len(found) == len(wanted)
    assert np.abs(np.array(found) - np.array(wanted)).max() < 0.003


def test_remux_replaces_the_sound(golden, tmp_path):
    tone = 0.5 * np.sin(np.arange(44100 * SECONDS) * 0.1)[None].repeat(2, 0).astype(np.float32)
    write_wav(tmp_path / "tone.wav", tone, 44100)
    remux(golden, tmp_path / "replaced.mp4", replace_audio=tmp_path / "tone.wav")
    info = probe(tmp_path / "replaced.mp4")
    assert (info.audio.sample_rate, info.audio.channels) == (44100, 2)
    clip = read_clip(tmp_path / "replaced.mp4")
    assert np.corrcoef(clip.audio[0, :200000], tone[0, :200000])[0, 1] > 0.99


@pytest.mark.parametrize(("channels", "rate"), [(1, 22050), (2, 44100), (6, 48000), (8, 32000)])
def test_channels_and_rates_are_kept(tmp_path, channels, rate):
    path = make(tmp_path / "many.mp4", channels, rate)
    info = probe(path)
    assert (info.audio.channels, info.audio.sample_rate) == (channels, rate)
    assert read_clip(path, video=False).audio.shape[0] == channels


def test_wav_is_exact_to_the_bit(tmp_path):
    sound = np.random.default_rng(0).standard_normal((3, 5000)).astype(np.float32)
    write_wav(tmp_path / "a.wav", iter([sound[:, :2000], sound[:, 2000:]]), 16000)
    assert np.array_equal(read_clip(tmp_path / "a.wav", video=False).audio, sound)


def test_typed_refusals(golden, tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    for path, kind, said in (
        (tmp_path / "none.mp4", MediaError, "does not exist"),
        (tmp_path, MediaError, "is a folder"),
        (tmp_path / "text.mp4", MediaError, "not a media file"),
    ):
        with pytest.raises(kind, match=said):
            probe(path)
    with pytest.raises(WindowError):
        read_clip(golden, 99.0, 1.0)
    write_video(tmp_path / "mute.mp4", np.zeros((10, 32, 32, 3), np.uint8), 25)
    with pytest.raises(NoAudioError):
        read_clip(tmp_path / "mute.mp4")
    write_wav(tmp_path / "blind.wav", np.zeros((1, 9000), np.float32), 16000)
    with pytest.raises(NoVideoError):
        read_clip(tmp_path / "blind.wav")
    with pytest.raises(OutputError, match="input itself"):
        remux(golden, golden)
    with pytest.raises(OutputError, match="no folder"):
        write_wav(tmp_path / "nowhere" / "a.wav", np.zeros((1, 10), np.float32), 16000)


def test_colours_survive(tmp_path):
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    frames[:] = (200, 60, 30)
    write_video(tmp_path / "red.mp4", frames, 25, crf=5)
    assert np.abs(read_clip(tmp_path / "red.mp4", audio=False).video.astype(int) - frames).max() <= 4


@pytest.mark.slow
def test_real_files_stream_as_they_read(real_videos):
    """Every eighth real file: chunks of frames are those of one reading; what cannot be read says why."""
    compared = 0
    for path in sorted(p for p in real_videos.rglob("*") if p.is_file())[::8]:
        try:
            info = probe(path)
        except MediaError:
            continue
        if info.video is None or info.duration > 12:
            continue
        chunks = [c.video for c in stream(path, 1.0, 1.0, size=32, fps=10, audio=False)]
        whole = read_clip(path, size=32, fps=10, audio=False).video
        joined = np.concatenate(chunks)
        assert abs(len(joined) - len(whole)) <= 1
        length = min(len(joined), len(whole))
        assert np.array_equal(joined[:length], whole[:length]), path.name
        compared += 1
    assert compared >= 5
