"""Many files after one another, and many processes at once."""

import gc
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from golden import golden

from avlearn.errors import MediaError
from avlearn.media import Clip, ClipReader, Window, probe, read_clip, stream

NAMES = ("fps25", "hevc", "webm_vp9", "ts_h264", "mpg_mpeg1", "avi_mjpeg", "intra_refresh", "open_gop_ts", "mp3_mkv")
READER = {"fps": 10.0, "size": 32, "sample_rate": 16000}


def two_clips(path: str) -> list[Clip]:
    """What every process reads."""
    start = probe(path).start
    windows = [Window(start + 2.2, 0.5, 0.1, 0.1, crop="square"), Window(start + 0.7, 0.5, crop="square")]
    return ClipReader(**READER).read(path, windows)


def held_bytes() -> int:
    """Memory of this process that is not shared with files."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def held_files() -> int:
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="counts in /proc, which is Linux's")


@pytest.fixture
def no_collector():
    """What only the garbage collector would free, a training step would hold on to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@needs_proc
def test_three_hundred_opens_leave_no_memory_behind(no_collector):
    paths = [str(golden(name).path) for name in NAMES]
    for k in range(90):
        two_clips(paths[k % len(paths)])
    memory = held_bytes()
    for k in range(300):
        two_clips(paths[k % len(paths)])
    assert held_bytes() - memory < 3e6


@needs_proc
@pytest.mark.parametrize("name", NAMES)
def test_opens_leave_no_file_behind(no_collector, name):
    path = str(golden(name).path)
    two_clips(path)
    files = held_files()
    for _ in range(30):
        two_clips(path)
    assert held_files() == files


@needs_proc
@pytest.mark.parametrize("chunks", [1, 3, 100])
def test_a_stream_that_is_read_or_left_closes_its_file(no_collector, chunks):
    path = golden("fps25").path
    files = held_files()
    for _ in range(5):
        list(islice(stream(path, 0.5, 0.5), chunks))
    assert held_files() == files


@needs_proc
def test_what_goes_wrong_leaves_no_file_open(no_collector, tmp_path):
    path = golden("fps25").path
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:20000])
    (tmp_path / "text.mp4").write_text("hello")
    read_clip(path, 1.0, 0.5)
    files = held_files()
    for bad in ("cut.mp4", "text.mp4", "none.mp4"):
        with pytest.raises(MediaError):
            read_clip(tmp_path / bad)
    with pytest.raises(MediaError):
        read_clip(path, 99.0, 1.0)
    assert held_files() == files


def in_workers(method: str, paths: list[str]) -> list[list[Clip]]:
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))
    try:
        return list(pool.map(two_clips, paths, timeout=90))
    finally:
        for process in list((pool._processes or {}).values()):  # a worker that hangs must not hang the tests
            process.kill()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_read_what_their_parent_reads(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    paths = [str(golden(name).path) for name in NAMES]
    wanted = [two_clips(path) for path in paths]  # and the parent's decoders have run before the fork
    got = in_workers(method, paths)
    for clips, others in zip(wanted, got, strict=True):
        for clip, other in zip(clips, others, strict=True):
            assert np.array_equal(clip.video, other.video)
            assert np.array_equal(clip.audio, other.audio)
            assert np.array_equal(clip.times, other.times)
            assert (clip.fps, clip.sample_rate, clip.start) == (other.fps, other.sample_rate, other.start)


def test_workers_of_a_loader_read_what_their_parent_reads():
    from torch.utils.data import DataLoader

    paths = [str(golden(name).path) for name in NAMES]
    wanted = [two_clips(path) for path in paths]
    loader = DataLoader(paths, batch_size=None, num_workers=2, collate_fn=two_clips, timeout=90)
    for clips, others in zip(wanted, loader, strict=True):
        for clip, other in zip(clips, others, strict=True):
            assert np.array_equal(clip.video, other.video)
            assert np.array_equal(clip.audio, other.audio)
