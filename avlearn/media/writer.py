"""Arrays to files: H.264 or VP9 with AAC, FLAC or Opus, and WAV. A file appears whole or not at all."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import soundfile

from avlearn.errors import OutputError
from avlearn.files import replacing
from avlearn.media.audio_track import AudioTrack
from avlearn.media.containers import Container, container_of, create
from avlearn.media.rgb import Yuv, custom_matrix
from avlearn.media.wav import without_clock

# What FFmpeg and libsndfile raise where they cannot write.
WRITE_ERRORS = (OSError, av.error.FFmpegError, soundfile.SoundFileError)
# Names of video files that frames can be written to, each at its own time.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts")
_TICKS = 90_000  # a second: of frames that follow no rate
_USUAL = custom_matrix(0)  # the matrix by which FFmpeg makes YUV of RGB, unless it is told another

Image = np.ndarray | Yuv  # a frame


def _chunks(audio: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return iter([audio]) if isinstance(audio, np.ndarray) else iter(audio)


def write_wav(path: str | Path, chunks: np.ndarray | Iterable[np.ndarray], sample_rate: int) -> None:
    """Write ``[C, S]`` (or pieces of it) as a WAV of 32-bit floats, bit for bit.

    Raises:
        OutputError: the file cannot be written.
    """
    pieces = _chunks(chunks)
    first = next(pieces, np.zeros((1, 0), np.float32))
    with replacing(path, WRITE_ERRORS) as part:
        with soundfile.SoundFile(part, "w", sample_rate, len(first), "FLOAT", format="WAV") as file:
            file.write(first.T)
            for piece in pieces:
                file.write(piece.T)
        without_clock(part)


def write_video(
    path: str | Path,
    frames: Iterable[Image] | Iterable[tuple[float, Image]],
    fps: float,
    *,
    timed: bool = False,
    audio: np.ndarray | Iterable[np.ndarray] | None = None,
    sample_rate: int | None = None,
    crf: int = 20,
    preset: str = "veryfast",
) -> None:
    """Write H.264 (4:2:0) and AAC, or FLAC for rates that AAC lacks; VP9 and Opus where the suffix is ``.webm``.

    Sample 0 of the audio is the instant zero: that of frame 0, unless frames are timed.

    Args:
        path: the file; its suffix names the container.
        frames: uint8 ``[H, W, 3]`` each, of one size (an odd side loses its last row or column); or `Yuv`, which keep
            their colours as they are.
        fps: frames a second; of timed frames, about.
        timed: frames come as pairs with the seconds at which each is shown, growing.
        audio: float32 ``[C, S]``, or pieces of it.
        sample_rate: of the audio; containers that cannot hold FLAC get the next that their codec has.
        crf, preset: x264's quality (0 best to 51) and effort.

    Raises:
        OutputError: there are no frames, the suffix is none of `VIDEO_SUFFIXES`, or the file cannot be written.
    """
    kind = _video_container(path)
    rate = Fraction(fps).limit_denominator(100_000)
    base = Fraction(1, _TICKS) if timed else 1 / rate
    numbered = _stamped(frames)
    first = next(numbered, None)
    if first is None:
        raise OutputError(f"{path}: there is no frame to write")
    chunks = _chunks(audio) if audio is not None else iter(())
    chunk = next(chunks, None)
    if chunk is not None and not sample_rate:
        raise OutputError(f"{path}: audio is written with its sample rate")
    with replacing(path, WRITE_ERRORS) as part, create(part, kind) as container:
        stream = _video_stream(container, kind.format, rate, crf, preset)
        _describe(stream.codec_context, first[1])
        stream.codec_context.time_base = base
        track = AudioTrack(container, sample_rate or 0, len(chunk), kind.audio) if chunk is not None else None

        def write_audio(until: float | Fraction) -> None:
            nonlocal chunk
            while track is not None and chunk is not None and track.written / track.rate <= until:
                track.write(chunk)
                chunk = next(chunks, None)

        for tick, image in chain([first], numbered):
            frame = _frame(image, stream.width, stream.height)
            frame.pts, frame.time_base = tick, base
            container.mux(stream.encode(frame))
            write_audio(tick * base + 1 / rate)
        container.mux(stream.encode(None))
        write_audio(float("inf"))
        if track is not None:
            track.finish()


def _describe(context: av.VideoCodecContext, image: Image) -> None:
    """Set size and colours of a stream to those of its frames."""
    if isinstance(image, Yuv):
        context.height, context.width = image.planes[0].shape
        context.colorspace, context.color_range = image.matrix, 2 if image.full else 1
        context.color_primaries, context.color_trc = image.primaries, image.transfer
        return
    context.height, context.width = (side // 2 * 2 for side in image.shape[:2])
    if custom_matrix(context.height) != _USUAL:
        context.colorspace = custom_matrix(context.height)


def _frame(image: Image, width: int, height: int) -> av.VideoFrame:
    """A frame of a stream of that size."""
    if isinstance(image, Yuv):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, values in zip(frame.planes, image.planes, strict=True):
            there = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            there[: len(values), : values.shape[1]] = values
        frame.colorspace, frame.color_range = image.matrix, 2 if image.full else 1
        return frame
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), "rgb24")
    matrix = custom_matrix(height)
    return frame if matrix == _USUAL else frame.reformat(format="yuv420p", dst_colorspace=matrix, threads=1)


def _video_container(path: str | Path) -> Container:
    kind = container_of(path)
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise OutputError(f"cannot write {path}: frames are written to {', '.join(VIDEO_SUFFIXES)}")
    return kind


def _stamped(frames: Iterable[Image | tuple[float, Image]]) -> Iterator[tuple[int, Image]]:
    """Ticks and image of each frame: its number, or of one that comes with its seconds, those."""
    for number, frame in enumerate(frames):
        yield (round(frame[0] * _TICKS), frame[1]) if isinstance(frame, tuple) else (number, frame)


def _video_stream(
    container: av.container.OutputContainer, form: str, rate: Fraction, crf: int, preset: str
) -> av.VideoStream:
    if form == "webm":
        options = {"crf": str(crf + 8), "b": "0", "deadline": "good", "cpu-used": "5"}
        stream = container.add_stream("libvpx-vp9", rate=rate, options=options)
    else:
        # x264's macroblock tree gives other bytes each time it encodes the same frames.
        options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream
