"""Normalization of a file's audio: a usual level, no constant offset, channels that do not cancel."""

from dataclasses import dataclass

import numpy as np

from avlearn.apply.rows import Rows
from avlearn.media import Selected, stream
from avlearn.media.source import Source, found_once

_NORMAL = (-34.0, -12.0)  # dB of full scale: levels that stay as they are
_MIDDLE = -22.0  # dB of full scale that any other level is brought to
_QUIET = -45.0  # dB of full scale below which people are told
_SILENT = 1e-5  # root mean square below which there is no audio: rounding to 16 bits leaves about as much
_CANCEL = 0.1  # of what the mean of unrelated channels has: with less, they cancel each other
_OFFSET = 0.01  # of the root mean square: a smaller constant changes nothing


@dataclass(frozen=True)
class AudioNormalizer:
    """Changes to a file's samples before the model takes them.

    Attributes:
        source: the file, and the channel that is listened to where the mean of all would cancel.
        offset: constant that is subtracted.
        gain: factor then.
        notes: lines for people, of what is out of the ordinary.
    """

    source: Source
    offset: float = 0.0
    gain: float = 1.0
    notes: tuple[str, ...] = ()

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Samples of the chosen channels' mean, as read from ``source``, as the model takes them.

        Zeros stay zeros: where a track has no audio, none is made.
        """
        if not self.offset and self.gain == 1:
            return audio
        return np.where(audio == 0, 0, (audio - self.offset) * self.gain).astype(np.float32)

    def downmix(self, audio: np.ndarray) -> np.ndarray:
        """The chosen channels' mean of all: ``[..., C, S]`` to ``[..., 1, S]``."""
        channel = getattr(self.source, "channel", None)
        if isinstance(channel, int) and audio.shape[-2] > 1:
            return audio[..., channel - 1 : channel, :]
        return audio.mean(-2, keepdims=True)


def audio_normalizer(source: Source) -> AudioNormalizer:
    """Look through a file's audio, once.

    A level that is usual stays as it is, to the bit; any other is brought to the middle of what is usual.

    Args:
        source: the file, with the track and channel that were chosen.

    Raises:
        MediaError: the file cannot be read, or has no audio track.
    """
    channel, offset, gain, notes = found_once(source, "normalizer", lambda: _measured(source))
    return AudioNormalizer(source if channel is None else Selected(source, channel=channel), offset, gain, notes)


def _measured(source: Source) -> tuple[int | None, float, float, tuple[str, ...]]:
    """The only channel to listen to (None: all), the offset, the gain, and the notes."""
    means, moments = Rows(), Rows()
    counts: list[int] = []
    for clip in stream(source, 1.0, 1.0, video=False):
        audio = clip.audio.astype(np.float64)
        means.append(audio.mean(1))
        moments.append(np.cov(audio, bias=True).reshape(len(audio), len(audio)))
        counts.append(audio.shape[1])
    if not counts:
        return None, 0.0, 1.0, ()
    mean, moment = (np.average(rows.array(), 0, counts) for rows in (means, moments))
    own, channels = np.diag(moment), len(moment)
    shares, channel, notes = np.full(channels, 1 / channels), None, []
    if moment.mean() < _CANCEL * own.sum() / channels**2:
        loudest = int(own.argmax())
        shares = np.eye(channels)[loudest]
        channel = loudest + 1
        notes.append(f"the audio channels cancel each other when mixed: only channel {channel} is used")
    power = np.einsum("c,ncd,d->n", shares, moments.array(), shares) * counts
    # By its energy: pauses do not make a file quiet.
    loudness = np.sqrt((power**2 / counts).sum() / max(power.sum(), 1e-30))
    offset = float(shares @ mean)
    if loudness < _SILENT:
        return channel, 0.0, 1.0, tuple(notes)
    level = 20 * np.log10(loudness)
    gain = 1.0 if _NORMAL[0] <= level <= _NORMAL[1] else float(10 ** ((_MIDDLE - level) / 20))
    if level < _QUIET:
        notes.append(f"the audio is quiet ({level:.0f} dB of full scale): it was amplified for the model")
    return channel, offset if abs(offset) > _OFFSET * loudness else 0.0, gain, tuple(notes)
