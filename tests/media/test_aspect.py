"""An aspect of pixels that cannot be true counts as square, wherever it is said, and costs no frame."""

from pathlib import Path

import av
import numpy as np
import pytest
import small
from av.bitstream import BitStreamFilterContext

from avlearn.media import probe, read_clip, stream
from avlearn.media.frames import every_frame


def with_aspect(source: Path, target: Path, aspect: str, late: str | None = None) -> Path:
    """Its H.264 again, whose parameter sets state another aspect; from the second half on ``late``."""
    with av.open(str(source)) as taken, av.open(str(target), "w") as container:
        stream = taken.streams.video[0]
        copy = container.add_stream_from_template(stream)
        filters = [BitStreamFilterContext(f"h264_metadata=sample_aspect_ratio={late or aspect}", stream, copy)]
        filters.insert(0, BitStreamFilterContext(f"h264_metadata=sample_aspect_ratio={aspect}", stream, copy))
        packets = [packet for packet in taken.demux(stream) if packet.size]
        for k, packet in enumerate(packets):
            for filtered in filters[2 * k >= len(packets)].filter(packet):
                filtered.stream = copy
                container.mux(filtered)
    return target


def frames_of(path: Path) -> np.ndarray:
    return np.stack([image for _, image in every_frame(path)])


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov", "ts", "h264"])
@pytest.mark.parametrize("aspect", ["30000/1", "1/30000"])
def test_frames_of_an_absurd_aspect_are_all_read_and_square(tmp_path, kind, aspect):
    plain = small.write(tmp_path / f"plain.{'ts' if kind in ('ts', 'h264') else 'mp4'}", seconds=0)
    path = with_aspect(plain, tmp_path / f"a.{kind}", aspect)
    with av.open(str(path)) as container:  # what FFmpeg alone makes of it: should it read all, ours can go
        assert sum(1 for _ in container.decode(video=0)) < 20
    info = probe(path).video
    assert (info.width, info.height) == (64, 48)
    assert np.array_equal(frames_of(path), frames_of(plain))
    assert sum(len(clip.video) for clip in stream(path, 0.2, 0.2, audio=False)) == 20
    assert read_clip(path, info.start + 0.4, 0.2, audio=False).video.shape == (5, 48, 64, 3)


@pytest.mark.parametrize("aspect", ["0/1", "1/1", "4/3", "40/33"])
def test_an_aspect_that_can_be_true_stays(tmp_path, aspect):
    path = with_aspect(small.write(tmp_path / "plain.ts", seconds=0), tmp_path / "a.ts", aspect)
    across, down = map(int, aspect.split("/"))
    assert probe(path).video.width == pytest.approx(64 * (across or down) / down, abs=1)
    assert len(frames_of(path)) == 20


@pytest.mark.parametrize("aspects", [("1/1", "30000/1"), ("30000/1", "1/1"), ("1/30000", "30000/1")])
def test_an_aspect_that_becomes_absurd_on_the_way_costs_no_frame(tmp_path, aspects):
    plain = small.write(tmp_path / "plain.ts", seconds=0)
    path = with_aspect(plain, tmp_path / "a.ts", *aspects)
    assert np.array_equal(frames_of(path), frames_of(plain))


@pytest.mark.parametrize("profile, pixels", [("high422", "yuv422p"), ("high444", "yuv444p"), ("baseline", "yuv420p")])
def test_every_profile_is_understood(tmp_path, profile, pixels):
    plain = tmp_path / "plain.mp4"
    with av.open(str(plain), "w") as container:
        options = {"profile": profile, "x264-params": "cqm=jvt:interlaced=1" if profile != "baseline" else ""}
        video = container.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        video.codec_context.thread_count = 1
        for k in range(8):
            image = np.ascontiguousarray(small.TEXTURE[k : k + 48, k : k + 64])
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode(None))
    path = with_aspect(plain, tmp_path / "a.mp4", "30000/1")
    assert np.array_equal(frames_of(path), frames_of(plain))
