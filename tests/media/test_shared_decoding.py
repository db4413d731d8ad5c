"""Streams that share a decoding give what each gives alone, and nothing is decoded twice."""

import numpy as np
import pytest

from avlearn.errors import MediaError
from avlearn.media import MediaFile, SharedDecoding, decode_audio, decode_video, stream

WANTED = [
    {"window": 2.0, "hop": 1.0, "fps": 8, "size": 48, "sample_rate": 16_000, "mono": True},
    {"window": 0.7, "hop": 0.7, "fps": 7.5, "audio": False},
    {"window": 1.5, "hop": 1.5, "sample_rate": 8000, "mono": True, "video": False},
]


@pytest.fixture(scope="module")
def clip(small_world):
    return sorted((small_world / "clips").glob("*.mp4"))[0]


@pytest.fixture
def decoded_often(monkeypatch):
    """How often video and audio were decoded."""
    often = {"video": 0, "audio": 0}
    by_video, by_audio = decode_video.presented, decode_audio._decoded

    def counted(kind, decode):
        def count(*args):
            often[kind] += 1
            return decode(*args)

        return count

    monkeypatch.setattr(decode_video, "presented", counted("video", by_video))
    monkeypatch.setattr(decode_audio, "_decoded", counted("audio", by_audio))
    return often


def together(file, wanted) -> list[list]:
    """Clips of each, taken from the one that is behind."""
    with SharedDecoding() as decoded:
        streams = [stream(file, **one, decoded=decoded) for one in wanted]
        clips = [[next(one)] for one in streams]
        decoded.begun()
        left = set(range(len(wanted)))
        while left:
            k = min(left, key=lambda k: clips[k][-1].start + wanted[k]["window"])
            clip = next(streams[k], None)
            left -= {k} if clip is None else set()
            clips[k] += [] if clip is None else [clip]
    return clips


def test_each_gets_what_it_gets_alone_and_all_is_decoded_once(clip, decoded_often):
    expected = [list(stream(clip, **one)) for one in WANTED]
    decoded_often.update(video=0, audio=0)
    with MediaFile(clip) as file:
        found = together(file, WANTED)
    assert decoded_often == {"video": 1, "audio": 1}
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) > 1
        for one, other in zip(ours, theirs, strict=True):
            assert one.start == other.start
            np.testing.assert_array_equal(one.video, other.video)
            np.testing.assert_array_equal(one.audio, other.audio)


def test_one_that_begins_later_decodes_for_itself(clip, decoded_often):
    with MediaFile(clip) as file, SharedDecoding() as decoded:
        first = stream(file, **WANTED[1], decoded=decoded)
        next(first)
        decoded.begun()
        late = list(stream(file, **WANTED[1], decoded=decoded))
    assert decoded_often["video"] == 2
    np.testing.assert_array_equal(late[0].video, next(stream(clip, **WANTED[1])).video)


def test_what_ends_the_decoding_is_told_to_each(clip, monkeypatch):
    whole = decode_video.presented

    def broken(*args):
        for number, frame in enumerate(whole(*args)):
            if number == 12:
                raise ValueError("no frame")
            yield frame

    monkeypatch.setattr(decode_video, "presented", broken)
    with MediaFile(clip) as file, SharedDecoding() as decoded:
        streams = [stream(file, 0.1, 0.1, fps=fps, audio=False, decoded=decoded) for fps in (10, 20)]
        for one in streams:
            next(one)
        for one in streams:
            with pytest.raises(MediaError, match="cannot be decoded: no frame"):
                list(one)
