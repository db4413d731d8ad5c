"""Damaged media files, each probed, read in windows and streamed: ``python tools/attack/run.py media``."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from damage import damage, make_sources

from avlearn.errors import MediaError
from avlearn.media import Clip, ClipReader, Window, probe, stream

FPS, SIDE, RATE = 8.0, 64, 16_000
_MOST = 2_000_000  # bytes of a file of strangers that is damaged
_EACH = 6  # of them, the smallest, of each container


def cases(seed: int, count: int, folder: Path, media: Path | None = None) -> Iterator[tuple[str, Callable[[], object]]]:
    """Damaged files and calls that read them.

    Args:
        seed: decides all of it.
        count: of cases.
        folder: for files.
        media: a folder of videos, of which the smallest are damaged beside those that are made.
    """
    sources = originals(folder, media)
    for index in range(count):
        name, suffix, data = damage(seed, index, sources)
        yield name, partial(_attempt, folder / f"input{suffix}", data)


def originals(folder: Path, media: Path | None = None) -> dict[str, bytes]:
    """Whole files by name, small ones of many containers and codecs."""
    made = folder / "originals"
    made.mkdir()
    make_sources(made)
    files = {path.name: path.read_bytes() for path in sorted(made.iterdir())}
    taken: dict[str, int] = {}
    found = [path for path in media.rglob("*.*") if path.is_file()] if media else []
    for size, path in sorted((path.stat().st_size, path) for path in found):
        suffix = path.suffix.lower()
        if size <= _MOST and taken.get(suffix, 0) < _EACH:
            taken[suffix] = taken.get(suffix, 0) + 1
            files[f"{path.stem}{suffix}"] = path.read_bytes()
    return files


def _attempt(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    outcomes = attempt(path)
    if all(isinstance(outcome, MediaError) for outcome in outcomes):
        raise outcomes[0]


def attempt(path: Path) -> list[MediaError | None]:
    """What came of each way to read a file: None or the error. Whatever else is raised is a defect."""
    outcomes: list[MediaError | None] = []
    for read in (read_windows, read_unprobed, read_stream):
        try:
            read(path)
            outcomes.append(None)
        except MediaError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"{error!r} is no line") from error
            outcomes.append(error)
    return outcomes


def check(clip: Clip, fps: float, size: int | None, rate: int | None, seconds: float, audio_seconds: float) -> None:
    """Hold a clip to what is promised of it: ``seconds`` of video at most, ``audio_seconds`` of audio."""
    if clip.video.size:
        assert clip.video.dtype == np.uint8 and clip.video.ndim == 4 and clip.video.shape[3] == 3
        assert 1 <= len(clip.video) <= round(seconds * fps), clip.video.shape
        assert size is None or min(clip.video.shape[1:3]) == size, clip.video.shape
        assert clip.times.dtype == np.float64 and clip.times.shape == (len(clip.video),)
        assert np.isfinite(clip.times).all() and (np.diff(clip.times) >= 0).all(), clip.times
    if clip.audio.size:
        assert clip.audio.dtype == np.float32 and clip.audio.ndim == 2
        assert rate is None or clip.sample_rate == rate
        assert clip.audio.shape[1] == round(audio_seconds * clip.sample_rate), clip.audio.shape
        assert np.isfinite(clip.audio).all()
    assert clip.video.size or clip.audio.size


def read_windows(path: Path) -> None:
    """Two windows in one open, scaled and resampled; then one as the file has it."""
    info = probe(path)
    has = {"video": info.video is not None, "audio": info.audio is not None}
    assert np.isfinite([info.start, info.duration]).all() and info.duration >= 0
    size = path.stat().st_size
    assert info.duration < 60 + size / 10, f"{info.duration} s in {size} bytes"
    windows = [Window(info.start, 0.5), Window(info.start + 0.7, 0.6, before=0.2, after=0.3, crop="square")]
    clips = ClipReader(fps=FPS, size=SIDE, sample_rate=RATE, mono=True, **has).read(path, windows)
    for clip, window in zip(clips, windows, strict=True):
        check(clip, FPS, SIDE, RATE, window.duration, window.before + window.duration + window.after)
    clip = ClipReader(**has).read(path, [Window(info.start + 0.3, 0.4)])[0]
    check(clip, clip.fps, None, None, 0.4, 0.4)
    end = Window(info.start + max(info.duration - 0.5, 0), 0.4)
    ClipReader(fps=FPS, size=SIDE, sample_rate=RATE, **has).read(path, [end])


def read_unprobed(path: Path) -> None:
    """A window at zero, of a file that nobody looked into."""
    clip = ClipReader(fps=FPS, size=SIDE, sample_rate=RATE).read(path, [Window(0.1, 0.8)])[0]
    check(clip, FPS, SIDE, RATE, 0.8, 0.8)


def read_stream(path: Path) -> None:
    """The first three windows of a stream."""
    for clip, _ in zip(stream(path, 0.5, 0.3, fps=FPS, size=SIDE, sample_rate=RATE), range(3), strict=False):
        assert clip.video.dtype == np.uint8 and clip.audio.dtype == np.float32
        assert 1 <= len(clip.video) <= 4 and min(clip.video.shape[1:3]) == SIDE
        assert clip.audio.shape[1] <= RATE / 2 and np.isfinite(clip.audio).all()
