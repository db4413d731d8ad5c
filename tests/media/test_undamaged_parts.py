"""Frames out of a damaged file are those of the whole one, wherever the packets that decode them were not touched."""

import av
import numpy as np
import pytest
import small

from avlearn.errors import MediaError
from avlearn.media import ClipReader, Window, probe

CASES = 90  # of each kind of file
FRAMES, GOP = 50, 5
KINDS = {
    "mp4": {}, "mkv": {}, "mov": {"codec": "mjpeg", "audio": "pcm_s16le"}, "avi": {"codec": "mjpeg"},
    "ts": {"codec": "mpeg2video", "audio": "mp2"}, "flv": {"codec": "flv"},
}  # fmt: skip


def groups(path) -> dict[float, tuple[tuple[float, bytes], ...]]:
    """Groups of pictures by the instant of their keyframe: times and bytes of their packets."""
    found: list[list[tuple[float, bytes]]] = []
    try:
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                if packet.size and packet.pts is not None:
                    if packet.is_keyframe:
                        found.append([])
                    if found:
                        found[-1].append((round(float(packet.pts * packet.time_base), 4), bytes(packet)))
    except (av.error.FFmpegError, IndexError, ValueError):
        pass
    return {group[0][0]: tuple(group) for group in found}


def untouched(whole: dict, damaged: dict) -> set[float]:
    """Times of the frames of groups that are the same in both files."""
    same = [group for at, group in whole.items() if damaged.get(at) == group]
    return {time for group in same for time, _ in group}


def read(path, begin: float) -> dict[float, np.ndarray]:
    """Frames by the time at which they are presented; windows that are refused give none."""
    frames = {}
    for k in range(5):
        try:
            [clip] = ClipReader(fps=25, audio=False).read(path, [Window(begin + k * 0.4, 0.4)])
        except MediaError:
            continue
        frames |= {round(float(time), 4): image for time, image in zip(clip.times, clip.video, strict=True)}
    return frames


@pytest.mark.parametrize("suffix", KINDS)
def test_frames_that_no_damage_touched_are_those_of_the_whole_file(tmp_path, suffix):
    path = small.write(tmp_path / f"whole.{suffix}", FRAMES, 2.0, gop=GOP, **KINDS[suffix])
    data, begin = path.read_bytes(), probe(path).start
    original, right = groups(path), read(path, begin)
    assert len(right) > 0.9 * FRAMES
    damaged, rng = tmp_path / f"damaged.{suffix}", np.random.default_rng(len(suffix))
    compared = files = 0
    for _ in range(CASES):
        changed = bytearray(data)
        for at in rng.integers(len(data) // 10, len(data), rng.integers(1, 6)):
            changed[at : at + 4] = rng.bytes(len(changed[at : at + 4]))
        damaged.write_bytes(changed)
        intact = untouched(original, groups(damaged))
        got = read(damaged, begin)
        checked = [time for time in got if time in intact and time in right]
        for time in checked:
            assert np.array_equal(got[time], right[time]), f"the frame at {time} s is another"
        compared, files = compared + len(checked), files + bool(checked)
    assert files > 0.93 * CASES and compared > 20 * CASES, (files, compared)
