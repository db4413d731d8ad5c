"""Random windows of every kind of file are, to the bit, what decoding the file from its start gives there."""

import zlib
from functools import lru_cache

import av
import numpy as np
import pytest
from golden import KINDS, golden, lag

from avlearn.errors import MediaError
from avlearn.media import ClipReader, Window, probe, read_clip, stream
from avlearn.media.rgb import to_rgb

READS = 3  # of one to four windows each


@lru_cache(2)
def decoded(name: str) -> tuple[np.ndarray, list[av.VideoFrame], object]:
    """Presentation times and frames of the whole file by PyAV alone, and the shape of its pixels."""
    with av.open(str(golden(name).path)) as container:
        video = container.streams.video[0]
        frames = list(container.decode(video))
        return np.array([frame.time for frame in frames]), frames, video.sample_aspect_ratio


def random_crop(rng: np.random.Generator):
    """None, the square, or a box of at least a third of each side."""
    kind = rng.integers(4)
    if kind < 2:
        return None if kind == 0 else "square"
    left, top = rng.uniform(0, 0.6, 2)
    return left, top, rng.uniform(left + 0.35, 1.0), rng.uniform(top + 0.35, 1.0)


def random_read(name: str, rng: np.random.Generator) -> tuple[ClipReader, list[Window]]:
    """A reader and one to four windows, some of which lap over each other, begin early or end late."""
    truth = golden(name)
    sampling = [{"fps": rng.uniform(5, 70)}, {"frames": int(rng.integers(1, 20))}, {"fps": float(truth.kind.fps)}]
    sizes = [None, int(rng.integers(16, 90)), tuple(map(int, rng.integers(16, 90, 2)))]
    reader = ClipReader(**sampling[rng.integers(3)], size=sizes[rng.integers(3)], audio=False)
    starts = rng.uniform(truth.times[0] - 0.15, truth.end - 0.1, rng.integers(1, 5))
    durations = np.where(rng.random(len(starts)) < 0.2, 0.2, rng.uniform(0.3, 2.0, len(starts)))
    return reader, [Window(*place, crop=random_crop(rng)) for place in zip(starts, durations, strict=True)]


def check_clip(name: str, reader: ClipReader, window: Window, clip) -> None:
    times, frames, aspect = decoded(name)
    truth = golden(name)
    fps = reader.frames / window.duration if reader.frames else reader.fps
    instants = window.start + np.arange(round(window.duration * fps)) / fps
    # Stamps are rounded to their tick: within half of one either frame is right.
    slack = max(0.51 * truth.kind.tick, 1.01e-4)
    if not truth.kind.variable:
        assert (instants < truth.end - 0.01).sum() <= len(clip.video) <= (instants < truth.end + 0.01).sum()
    assert len(clip.times) == len(clip.video)
    assert len(clip.video) >= (instants < times[-1]).sum()
    images = {}
    for image, time, instant in zip(clip.video, clip.times, instants, strict=False):
        right = {max(int(np.searchsorted(times, instant + s, "right")) - 1, 0) for s in (-slack, slack)}
        shown = int(np.abs(times - time).argmin())
        assert shown in right, f"at {instant:.5f} s: {time:.5f} s"
        assert time == pytest.approx(times[shown], abs=1e-9)
        if shown not in images:
            images[shown] = to_rgb(frames[shown], aspect, reader.size, window.crop)
        assert np.array_equal(image, images[shown]), f"at {instant:.5f} s: pixels of the frame at {time:.5f} s"


@pytest.mark.parametrize("name", KINDS)
def test_random_windows_are_cuts_of_the_whole(name):
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
    for _ in range(READS):
        reader, windows = random_read(name, rng)
        clips = reader.read(golden(name).path, windows)
        assert len(clips) == len(windows)
        for window, clip in zip(windows, clips, strict=True):
            check_clip(name, reader, window, clip)


def test_enough_windows_are_tried():
    """The property above is held against some hundreds of windows."""
    counts = []
    for name in KINDS:
        rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
        counts += [len(random_read(name, rng)[1]) for _ in range(READS)]
    assert sum(counts) >= 300


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("rate", [None, 16000])
def test_audio_of_a_window_does_not_depend_on_the_others(name, rate):
    truth = golden(name)
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 2)
    windows = [Window(start, 0.4, 0.1, 0.2) for start in rng.uniform(truth.times[0], truth.end - 0.6, 3)]
    reader = ClipReader(video=False, sample_rate=rate)
    for window, clip in zip(windows, reader.read(truth.path, windows), strict=True):
        [alone] = reader.read(truth.path, [window])
        assert clip.audio.shape == alone.audio.shape
        if truth.kind.tick:  # stamps that are rounded leave it open where a run of audio begins
            late, same = lag(clip.audio[0], alone.audio[0], clip.sample_rate)
            assert same > 0.99
            assert abs(late) <= truth.kind.tick
        else:
            assert np.abs(clip.audio - alone.audio).max() < 1e-4


@pytest.mark.parametrize("name", ["fps25", "late_audio", "ts_h264", "mkv", "edit_list", "webm_vp9"])
@pytest.mark.parametrize("rate", [None, 16000, 22050])
def test_audio_of_windows_adds_up_to_the_whole(name, rate):
    truth = golden(name)
    begin = truth.times[0]
    whole = read_clip(truth.path, begin, 4.0, sample_rate=rate, video=False)
    pieces = [Window(begin + start, 0.5) for start in np.arange(0, 4.0, 0.5)]
    clips = ClipReader(video=False, sample_rate=rate).read(truth.path, pieces)
    joined = np.concatenate([clip.audio for clip in clips], 1)
    assert joined.shape == whole.audio.shape
    assert np.abs(joined - whole.audio).max() < 1e-3


@pytest.mark.parametrize("name", ["fps25", "late_audio", "ts_h264", "mkv", "edit_list", "open_gop", "fps29.97"])
def test_chunks_of_a_stream_add_up_to_the_whole(name):
    path = golden(name).path
    whole = read_clip(path, sample_rate=16000)
    chunks = list(stream(path, 0.8, 0.8, sample_rate=16000))
    assert np.array_equal(np.concatenate([clip.video for clip in chunks]), whole.video)
    audio = np.concatenate([clip.audio for clip in chunks], 1)
    length = min(audio.shape[1], whole.audio.shape[1])
    assert length > 0.95 * 16000 * (golden(name).end - golden(name).times[0])
    assert np.abs(audio[:, :length] - whole.audio[:, :length]).max() < 1e-3


def test_overlapping_windows_of_a_stream_lie_on_one_grid():
    path = golden("fps25").path
    whole = read_clip(path)
    for k, clip in enumerate(stream(path, 2.0, 1.0)):
        assert clip.start == pytest.approx(probe(path).start + k)
        assert np.array_equal(clip.video, whole.video[k * 25 : k * 25 + len(clip.video)])
    assert k >= 3


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
        chunks = [clip.video for clip in stream(path, 1.0, 1.0, size=32, fps=10, audio=False)]
        whole = read_clip(path, size=32, fps=10, audio=False).video
        joined = np.concatenate(chunks)
        assert abs(len(joined) - len(whole)) <= 1
        length = min(len(joined), len(whole))
        assert np.array_equal(joined[:length], whole[:length]), path.name
        compared += 1
    assert compared >= 5
