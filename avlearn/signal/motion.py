"""What moves in a stretch of video, and what sets in within a stretch of audio: few numbers a moment, no weights."""

from torch import Tensor
from torch.nn import functional as F

from avlearn.signal.spectrogram import LogMel

AUDIO_RATE = 100  # frames of `audio_events` a second
_FFT, _MELS, _BANDS = 512, 40, 8
_FLOOR = 9.0  # nats below the loudest band at which quiet is quiet: 39 dB
_RISE = 2  # frames over which a band is louder than before


def grid_motion(frames: Tensor, cells: int | tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness, motion and change of motion in the cells of a grid.

    Args:
        frames: ``[T, H, W]`` grey, 0 to 255.
        cells: of a column and of a row; one number for both.

    Returns:
        ``[T, P]`` each, row by row: the mean grey level; the square root of the mean absolute difference from the
        frame before; the square root of that motion's own absolute change.
    """
    grey = frames.float()
    difference = F.pad((grey[1:] - grey[:-1]).abs(), (0, 0, 0, 0, 1, 0))
    brightness, motion = (F.adaptive_avg_pool2d(x.unsqueeze(1), cells).flatten(1) for x in (grey, difference))
    change = F.pad((motion[1:] - motion[:-1]).abs(), (0, 0, 1, 0))
    return brightness, motion.sqrt(), change.sqrt()


def audio_events(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loudness and onsets, of all frequencies and in bands, `AUDIO_RATE` a second.

    Onsets are the rise of a band of a log-mel spectrogram within 20 ms (Bello et al., IEEE TSAP 2005).

    Args:
        audio: ``[S]``.
        sample_rate: samples a second.

    Returns:
        ``[U, 1]`` loudness and onset, ``[U, 8]`` level and onset in bands.
    """
    spectrogram = LogMel(sample_rate, _FFT, 0.025, 1 / AUDIO_RATE, _MELS, floor=1e-7, mean=0.0, std=1.0)
    count = len(audio) // spectrogram.hop_samples
    levels = spectrogram(F.pad(audio, (0, max(0, _FFT - len(audio))))[None])[0, 0].T[:count]
    levels = levels.clamp(min=float(levels.max()) - _FLOOR) if count else levels
    rise = F.pad((levels[_RISE:] - levels[:-_RISE]).clamp(min=0), (0, 0, min(_RISE, len(levels)), 0))
    bands = (x.view(len(x), _BANDS, _MELS // _BANDS).mean(2) for x in (levels, rise))
    level, onset = bands
    return levels.exp().sum(1, keepdim=True).log(), rise.mean(1, keepdim=True), level, onset
