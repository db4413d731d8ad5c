"""A stream of an open container that takes samples and encodes them."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import numpy as np

from avlearn.errors import OutputError

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_MOST_CHANNELS = {"mp2": 2, "libmp3lame": 2, "wmav2": 2, "ac3": 6}  # of encoders that hold fewer than eight
_FORMATS = ("fltp", "flt", "s32p", "s32", "s16p", "s16")  # of samples, the best first


class AudioTrack:
    """A stream that takes samples as they come: in the first codec that has their rate and channels.

    Args:
        container: that is written.
        rate: samples a second.
        channels: 1 to 8.
        codecs: encoders that the container holds, the first choice first. Where none has the rate, the first one's
            next higher rate is taken.
        start: seconds on the container's clock: the instant of sample 0.
        stamped: whether the container tells when a stream begins. Else what an encoder puts before the first sample is
            left out of the samples instead, so that they play when they should.
        bit_rate: of the encoded stream; by default one that is good enough.
        rates: that the container holds, samples a second; None: any.

    Raises:
        OutputError: there are more channels than any of the codecs holds.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        rate: int,
        channels: int,
        codecs: Sequence[str] = ("aac", "flac"),
        *,
        start: float = 0.0,
        stamped: bool = True,
        bit_rate: int | None = None,
        rates: Sequence[int] | None = None,
    ):
        fitting = [name for name in codecs if channels <= _MOST_CHANNELS.get(name, 8)]
        if not fitting:
            raise OutputError(f"{', '.join(codecs)} hold up to 8 channels of audio or fewer, not {channels}")
        self.container, self.rate, self.layout = container, rate, _LAYOUTS[channels]
        name, self.encoded_rate = _fit(fitting, rate, rates)
        stream = container.add_stream(name, rate=self.encoded_rate, layout=self.layout)
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{name} is no encoder of audio")
        self.stream = stream
        codec = av.codec.Codec(name, "w")
        known = [form.name for form in codec.audio_formats or ()]
        self.format = next((form for form in _FORMATS if form in known), _FORMATS[0])
        context = self.stream.codec_context
        context.format = self.format
        if not codec.lossless:
            usual = 64_000 + 32_000 * channels if self.encoded_rate > 16000 else 64_000 * channels
            context.bit_rate = bit_rate or usual
        # PyAV cannot reach planes past the eighth: samples go in interleaved.
        self.resampler = av.AudioResampler(self.format, self.layout, self.encoded_rate)
        self.fifo = av.AudioFifo()
        self.left_out = 0 if stamped else -(-self._lead() * rate // self.encoded_rate)
        self.stamp = round((Fraction(start) + Fraction(self.left_out, rate)) * self.encoded_rate)
        self.written = 0

    def write(self, samples: np.ndarray) -> None:
        """Append float32 ``[C, n]``."""
        position, self.written = self.written, self.written + samples.shape[1]
        samples = samples[:, max(self.left_out - position, 0) :]
        if not samples.shape[1]:
            return
        data = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, "flt", self.layout)
        frame.sample_rate = self.rate
        self._encode(self.resampler.resample(frame))

    def finish(self) -> None:
        """Encode what is left."""
        self._encode(self.resampler.resample(None), True)
        self.container.mux(self.stream.encode(None))

    def _encode(self, pieces: Iterable[av.AudioFrame], everything: bool = False) -> None:
        for piece in pieces:
            piece.pts = None
            self.fifo.write(piece)
        size = self.stream.codec_context.frame_size or 1024
        while (frame := self.fifo.read(size, everything)) is not None:
            frame.pts, frame.time_base = self.stamp, Fraction(1, self.encoded_rate)
            self.stamp += frame.samples
            self.container.mux(self.stream.encode(frame))

    def _lead(self) -> int:
        """Samples that the encoder puts before the first: the first packet's stamp lies so far before zero."""
        like = self.stream.codec_context
        context = av.codec.Codec(like.name, "w").create("audio")
        context.sample_rate, context.layout, context.format = like.sample_rate, self.layout, self.format
        context.bit_rate, context.time_base = like.bit_rate or 0, Fraction(1, like.sample_rate)
        context.open()
        size = context.frame_size or 1024
        for number in range(8):
            frame = av.AudioFrame(self.format, self.layout, size)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts, frame.time_base = like.sample_rate, number * size, context.time_base
            packets = context.encode(frame)
            if packets:
                return max(-(packets[0].pts or 0), 0)
        return 0


def _fit(codecs: Sequence[str], rate: int, held: Sequence[int] | None) -> tuple[str, int]:
    """The codec that has a rate, or the first with its next higher one (its highest, where there is none)."""
    rates = {name: av.codec.Codec(name, "w").audio_rates or held for name in codecs}
    for name, known in rates.items():
        if known is None or rate in known:
            return name, rate
    highest = sorted(rates[codecs[0]] or [rate])
    return codecs[0], next((higher for higher in highest if higher >= rate), highest[-1])
