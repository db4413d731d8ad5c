"""Arrays to files: H.264 with AAC, and WAV. A file appears whole or not at all."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from avlearn.errors import OutputError
from avlearn.files import replacing

_AAC_RATES = (
    8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000,
)  # fmt: skip
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


# What FFmpeg and libsndfile raise where they cannot write.
WRITE_ERRORS = (OSError, av.error.FFmpegError, soundfile.SoundFileError)


def _chunks(audio: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return iter([audio]) if isinstance(audio, np.ndarray) else iter(audio)


def write_wav(path: str | Path, chunks: np.ndarray | Iterable[np.ndarray], sample_rate: int) -> None:
    """Write ``[C, S]`` (or pieces of it) as a WAV of 32-bit floats, bit for bit.

    Raises:
        OutputError: the file cannot be written.
    """
    pieces = _chunks(chunks)
    first = next(pieces, np.zeros((1, 0), np.float32))
    with (
        replacing(path, WRITE_ERRORS) as part,
        soundfile.SoundFile(part, "w", sample_rate, len(first), "FLOAT", format="WAV") as file,
    ):
        file.write(first.T)
        for piece in pieces:
            file.write(piece.T)


class SoundTrack:
    """A stream of an open container that takes samples as they come: AAC, or FLAC for rates that AAC lacks.

    Args:
        container: that is written; one that cannot hold FLAC gets the next rate that AAC has.
        rate: samples a second.
        channels: 1 to 8.

    Raises:
        OutputError: there are more channels.
    """

    def __init__(self, container: av.container.OutputContainer, rate: int, channels: int):
        if channels not in _LAYOUTS:
            raise OutputError(f"AAC and FLAC hold 1 to 8 channels, not {channels}")
        self.container, self.rate = container, rate
        self.layout = _LAYOUTS[channels]
        lossless = rate not in _AAC_RATES and "flac" in container.supported_codecs
        encoded = rate if lossless else next((r for r in _AAC_RATES if r >= rate), _AAC_RATES[-1])
        self.stream = container.add_stream("flac" if lossless else "aac", rate=encoded, layout=self.layout)
        if not lossless:
            self.stream.bit_rate = 64_000 + 32_000 * channels if encoded > 16000 else 64_000 * channels
        # PyAV cannot reach planes past the eighth: samples go in interleaved.
        self.resampler = av.AudioResampler("s32" if lossless else "fltp", self.layout, encoded)
        self.fifo = av.AudioFifo()
        self.written = 0

    def write(self, samples: np.ndarray) -> None:
        """Append float32 ``[C, n]``."""
        if not samples.shape[1]:
            return
        data = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, "flt", self.layout)
        frame.sample_rate, frame.pts, frame.time_base = (
            self.rate,
            self.written,
            Fraction(1, self.rate),
        )
        self.written += samples.shape[1]
        for piece in self.resampler.resample(frame):
            self.fifo.write(piece)
        self._drain(False)

    def _drain(self, everything: bool) -> None:
        size = self.stream.codec_context.frame_size or 1024
        while (frame := self.fifo.read(size, everything)) is not None:
            self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Encode what is left."""
        for piece in self.resampler.resample(None):
            self.fifo.write(piece)
        self._drain(True)
        self.container.mux(self.stream.encode(None))


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    audio: np.ndarray | Iterable[np.ndarray] | None = None,
    sample_rate: int | None = None,
    crf: int = 20,
    preset: str = "veryfast",
) -> None:
    """Write H.264 (4:2:0) and AAC, or FLAC for rates that AAC lacks; sample 0 of the sound is the instant of frame 0.

    Args:
        path: the file; its suffix names the container.
        frames: uint8 ``[H, W, 3]`` each, of one size (an odd side loses its last row or column).
        fps: frames a second.
        audio: float32 ``[C, S]``, or pieces of it.
        sample_rate: of the audio; containers that cannot hold FLAC get the next that AAC has.
        crf, preset: x264's quality (0 best to 51) and effort.

    Raises:
        OutputError: there are no frames, or the file cannot be written.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise OutputError(f"{path}: there is no frame to write")
    rate = Fraction(fps).limit_denominator(100_000)
    sound = _chunks(audio) if audio is not None else iter(())
    chunk = next(sound, None)
    with replacing(path, WRITE_ERRORS) as part, av.open(str(part), "w") as container:
        # x264's macroblock tree gives other bytes each time it encodes the same frames.
        picture = container.add_stream(
            "libx264", rate=rate, options={"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        )
        picture.height, picture.width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
        picture.pix_fmt = "yuv420p"
        picture.codec_context.thread_count = 1
        track = SoundTrack(container, sample_rate, len(chunk)) if chunk is not None else None
        count = 0
        while first is not None:
            image = np.ascontiguousarray(first[: picture.height, : picture.width])
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            container.mux(picture.encode(frame))
            count += 1
            while chunk is not None and track.written / sample_rate <= count / rate:
                track.write(chunk)
                chunk = next(sound, None)
            first = next(frames, None)
        container.mux(picture.encode(None))
        while chunk is not None:
            track.write(chunk)
            chunk = next(sound, None)
        if track:
            track.finish()
