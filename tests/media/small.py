"""Small files of one kind or another, written with PyAV and then changed byte by byte."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TEXTURE = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)


def write(
    path: Path,
    frames: int = 20,
    seconds: float = 0.8,
    *,
    fps: int = 25,
    codec: str = "libx264",
    audio: str = "aac",
    layouts: tuple[str, ...] = ("mono",),
    languages: tuple[str, ...] = (),
    rate: int = 16_000,
    begin: float = 0.0,
    late: float = 0.0,
    gop: int = 10,
    aspect: Fraction | None = None,
    form: str | None = None,
) -> Path:
    """A moving texture of 64x48 and a tone in each of the tracks.

    Args:
        path: its suffix names the container, unless ``form`` does.
        frames: of video; 0: no video.
        seconds: of audio; 0: none.
        begin: instant at which the file's clock starts, seconds.
        late: seconds by which the audio begins later than the video.
    """
    with av.open(str(path), "w", format=form, options={"fflags": "+bitexact"}) as container:
        video = None
        if frames:
            options = {"preset": "ultrafast", "x264-params": "mbtree=0"} if codec == "libx264" else {}
            video = container.add_stream(codec, rate=fps, options={"g": str(gop), **options})
            video.width, video.height = 64, 48
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            video.codec_context.thread_count = 1
            if aspect:
                video.codec_context.sample_aspect_ratio = aspect
        tracks = []
        for k, layout in enumerate(layouts if seconds else ()):
            track = container.add_stream(audio, rate=rate, layout=layout)
            if languages:
                track.metadata["language"] = languages[k]
            tracks.append(track)
        for k in range(frames):
            image = np.ascontiguousarray(TEXTURE[k % 40 : k % 40 + 48, k % 60 : k % 60 + 64])
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = k + round(begin * fps), Fraction(1, fps)
            container.mux(video.encode(frame))
        if video:
            container.mux(video.encode(None))
        for k, track in enumerate(tracks):
            _tone(container, track, 300 * (k + 1), seconds, rate, begin + late)
    return path


def _tone(container, track, hertz: float, seconds: float, rate: int, begin: float) -> None:
    size = track.codec_context.frame_size or 1024
    layout = track.codec_context.layout
    resampler = av.AudioResampler(track.codec_context.format, layout, rate, size)
    for first in range(0, max(round(seconds * rate), 1), size):
        n = min(size, max(round(seconds * rate), 1) - first)
        tone = np.sin(2 * np.pi * hertz * np.arange(first, first + n) / rate).astype(np.float32) * 0.3
        # PyAV cannot reach planes past the eighth: samples go in interleaved.
        frame = av.AudioFrame.from_ndarray(np.repeat(tone, layout.nb_channels)[None], "flt", layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, first + round(begin * rate), Fraction(1, rate)
        for piece in resampler.resample(frame):
            container.mux(track.encode(piece))
    for piece in resampler.resample(None):
        container.mux(track.encode(piece))
    container.mux(track.encode(None))


def change_box(data: bytes, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """The bytes of an MP4 with the content of the first box at a path ("moov/trak/edts/elst") changed."""
    head, _, rest = path.partition("/")
    out, at, done = b"", 0, False
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        box = data[at : at + size]
        if kind.decode("latin1") == head and not done:
            inner = change_box(box[8:], rest, change) if rest else change(box[8:])
            done = inner != box[8:]
            box = struct.pack(">I4s", len(inner) + 8, kind) + inner
        out, at = out + box, at + size
    return out
