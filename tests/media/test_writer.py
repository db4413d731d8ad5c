"""What is written is what is read back; a file appears whole or not at all."""

import numpy as np
import pytest

from avlearn.errors import MediaError, NoAudioError, NoVideoError, OutputError, WindowError
from avlearn.media import probe, read_clip, write_video, write_wav
from avlearn.media.frames import every_frame

FPS, RATE, SECONDS = 25, 48000, 6
FLASHES = (12, 40, 77, 110, 133)  # frames


def make(path, audio_channels: int = 1, rate: int = RATE):
    frames = np.full((FPS * SECONDS, 48, 64, 3), 16, np.uint8)
    frames[list(FLASHES)] = 240
    audio = np.zeros((audio_channels, rate * SECONDS), np.float32)
    for flash in FLASHES:
        at = round(flash / FPS * rate)
        audio[:, at : at + rate // 100] = 0.8 * np.sin(2 * np.pi * 1500 * np.arange(rate // 100) / rate)
    write_video(path, frames, FPS, audio=audio, sample_rate=rate, crf=10)
    return path


def flashes(video: np.ndarray) -> list[int]:
    return np.flatnonzero(video.mean((1, 2, 3)) > 128).tolist()


def onsets(audio: np.ndarray, rate: int) -> list[float]:
    loud = np.abs(audio[0]) > 0.2
    first = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))
    kept = [k for i, k in enumerate(first) if i == 0 or k - first[i - 1] > 0.1 * rate]
    return [k / rate for k in kept]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_frames_and_audio_are_where_they_were_put(tmp_path, suffix):
    path = make(tmp_path / f"flashes.{suffix}")
    clip = read_clip(path)
    assert flashes(clip.video) == list(FLASHES)
    found = onsets(clip.audio, clip.sample_rate)
    assert np.abs(np.array(found) - np.array(FLASHES) / FPS).max() < 0.002
    info = probe(path)
    assert (info.video.width, info.video.height, info.video.fps) == (64, 48, FPS)
    assert info.video.variable_fps is False
    assert info.duration == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize(
    ("channels", "rate"), [(1, 22050), (2, 44100), (6, 48000), (8, 32000), (1, 12345), (2, 192000), (8, 176400)]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_channels_and_rates_are_kept(tmp_path, channels, rate, suffix):
    path = make(tmp_path / f"many.{suffix}", channels, rate)
    info = probe(path)
    assert (info.audio.channels, info.audio.sample_rate) == (channels, rate)
    clip = read_clip(path, video=False)
    assert clip.audio.shape[0] == channels
    found = onsets(clip.audio, clip.sample_rate)
    assert np.abs(np.array(found) - np.array(FLASHES) / FPS).max() < 0.002


def test_colours_survive(tmp_path):
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    frames[:] = (200, 60, 30)
    write_video(tmp_path / "red.mp4", frames, 25, crf=5)
    assert np.abs(read_clip(tmp_path / "red.mp4", audio=False).video.astype(int) - frames).max() <= 4


def test_wav_is_exact_to_the_bit(tmp_path):
    audio = np.random.default_rng(0).standard_normal((3, 5000)).astype(np.float32)
    write_wav(tmp_path / "a.wav", iter([audio[:, :2000], audio[:, 2000:]]), 16000)
    assert np.array_equal(read_clip(tmp_path / "a.wav", video=False).audio, audio)


def test_typed_refusals(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    for path, kind, said in (
        (tmp_path / "none.mp4", MediaError, "does not exist"),
        (tmp_path, MediaError, "is a folder"),
        (tmp_path / "text.mp4", MediaError, "not a media file"),
    ):
        with pytest.raises(kind, match=said):
            probe(path)
    write_video(tmp_path / "mute.mp4", np.zeros((10, 32, 32, 3), np.uint8), 25)
    with pytest.raises(NoAudioError):
        read_clip(tmp_path / "mute.mp4")
    with pytest.raises(WindowError):
        read_clip(tmp_path / "mute.mp4", 99.0, 1.0, audio=False)
    write_wav(tmp_path / "blind.wav", np.zeros((1, 9000), np.float32), 16000)
    with pytest.raises(NoVideoError):
        read_clip(tmp_path / "blind.wav")
    with pytest.raises(OutputError, match="no folder"):
        write_wav(tmp_path / "nowhere" / "a.wav", np.zeros((1, 10), np.float32), 16000)
    with pytest.raises(OutputError, match="no frame"):
        write_video(tmp_path / "empty.mp4", iter(()), 25)


def test_a_file_that_fails_half_way_does_not_appear(tmp_path):
    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("the source gave up")

    (tmp_path / "old.mp4").write_bytes(b"old")
    for name in ("new.mp4", "old.mp4"):
        with pytest.raises(RuntimeError):
            write_video(tmp_path / name, frames(), 25)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_frames_are_written_at_their_own_times(tmp_path, suffix):
    instants = np.cumsum([0.0, 0.04, 0.1, 0.033, 0.5, 0.02, 0.25])
    frames = [np.full((32, 48, 3), 30 * k, np.uint8) for k in range(len(instants))]
    audio = np.zeros((1, RATE), np.float32)
    path = tmp_path / f"timed{suffix}"
    write_video(path, zip(instants, frames, strict=True), 25, timed=True, audio=audio, sample_rate=RATE)
    read = list(every_frame(path))
    assert [seconds for seconds, _ in read] == pytest.approx(instants, abs=1.1e-3)
    assert [image.mean() for _, image in read] == pytest.approx([30 * k for k in range(len(instants))], abs=6)


def test_webm_holds_vp9_and_opus(tmp_path):
    info = probe(make(tmp_path / "flashes.webm"))
    assert info.video.codec.endswith("vp9") and info.audio.codec.endswith("opus")


def test_containers_that_frames_cannot_be_written_to_are_refused_with_those_that_can(tmp_path):
    for name in ("x.gif", "x", "x.avi"):
        with pytest.raises(OutputError, match=r"\.mkv"):
            write_video(tmp_path / name, np.zeros((5, 32, 32, 3), np.uint8), 25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_the_same_arrays_give_the_same_bytes(tmp_path, suffix):
    assert make(tmp_path / f"first{suffix}").read_bytes() == make(tmp_path / f"second{suffix}").read_bytes()


def test_a_wav_of_floats_holds_no_clock(tmp_path):
    write_wav(tmp_path / "a.wav", np.linspace(-1, 1, 500, dtype=np.float32)[None], 8000)
    data = (tmp_path / "a.wav").read_bytes()
    at = data.index(b"PEAK") + 8
    assert data[at : at + 8] == b"\1\0\0\0" + bytes(4)  # its version, and seconds since 1970
    assert data[at + 8 : at + 16] == np.float32(1).tobytes() + np.uint32(0).tobytes()  # the peak stays
