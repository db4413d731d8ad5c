"""Sounds that are rendered, since no free recordings of them are at hand: music, impacts, engines, and none of all."""

import numpy as np
from scipy.signal import butter, sosfilt

from avlearn.data.world.sounds import breath, plucked, struck, tone
from avlearn.models.sound_kinds import SAMPLE_RATE

SECONDS = 4.0
_SAMPLES = round(SECONDS * SAMPLE_RATE)
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9))


def render(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Four seconds of a kind, float32 ``[S]`` with a peak of 0.5: ``music``, ``impacts``, ``engine`` or ``none``."""
    audio = {"music": _music, "impacts": _impacts, "engine": _engine, "none": _none}[kind](rng)
    return (audio / (np.abs(audio).max() + 1e-9) / 2).astype(np.float32)


def _music(rng: np.random.Generator) -> np.ndarray:
    """One to three parts in one scale and metre, and often drums."""
    beat = 60 / rng.uniform(60, 170)
    scale = _SCALES[rng.integers(len(_SCALES))]
    root = rng.uniform(110, 220)
    parts = [_part(rng, beat, scale, root * 2.0 ** rng.integers(-1, 3)) for _ in range(rng.integers(1, 4))]
    if rng.random() < 0.45:
        parts.append(_drums(rng, beat) * rng.uniform(0.5, 2.5))
    if rng.random() < 0.08:
        parts = [_drums(rng, beat)]
    return np.sum([part * rng.uniform(0.4, 1) for part in parts], axis=0)


def _part(rng: np.random.Generator, beat: float, scale: tuple[int, ...], root: float) -> np.ndarray:
    """Notes or chords by one instrument: plucked, struck, or held with vibrato."""
    out = np.zeros(_SAMPLES)
    unit = beat * rng.choice([0.25, 0.5, 0.5, 1, 2])
    instrument, chord = rng.choice(["plucked", "struck", "held", "held"]), rng.random() < 0.35
    decay, bright, vibrato, attack = (
        rng.uniform(0.1, 0.9),
        rng.uniform(0, 1),
        rng.uniform(0, 0.012),
        rng.uniform(0.005, 0.15),
    )
    weights = rng.uniform(0.1, 1, 10) / np.arange(1, 11) ** rng.uniform(0.3, 2)
    place = int(rng.integers(len(scale)))
    for start in np.arange(-rng.random() * unit, SECONDS, unit):
        if rng.random() < 0.15:
            continue
        place = int(np.clip(place + rng.integers(-3, 4), -3, 9))
        for step in (0, 2, 4) if chord else (0,):
            octave, degree = divmod(place + step, len(scale))
            pitch = root * 2 ** ((scale[degree] + 12 * octave) / 12)
            if instrument == "held":
                out += _held(rng, start, unit * rng.uniform(0.7, 1.3), pitch, weights, vibrato, attack)
            elif instrument == "plucked":
                out += plucked(
                    rng, _SAMPLES, SAMPLE_RATE, np.array([start]), np.array([rng.uniform(0.6, 1)]), pitch, decay
                )
            else:
                out += struck(
                    rng, _SAMPLES, SAMPLE_RATE, np.array([start]), np.array([1.0]), pitch, decay, 0.1 * bright
                )
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


def _held(rng, start, length, pitch, weights, vibrato, attack):
    first, last = max(round(start * SAMPLE_RATE), 0), min(round((start + length) * SAMPLE_RATE), _SAMPLES)
    out = np.zeros(_SAMPLES)
    if last - first < 64:
        return out
    t = np.arange(last - first) / SAMPLE_RATE
    phase = 2 * np.pi * pitch * (t - vibrato * np.cos(2 * np.pi * rng.uniform(4, 7) * t) / 30)
    wave = sum(w * np.sin(k * phase) for k, w in enumerate(weights, 1) if k * pitch < 0.45 * SAMPLE_RATE)
    out[first:last] = wave * np.minimum(t / attack, 1) * np.minimum((t[-1] - t) / 0.05, 1)
    return out


def _drums(rng: np.random.Generator, beat: float) -> np.ndarray:
    """A pattern of low, middle and high strokes that repeats each bar."""
    out = np.zeros(_SAMPLES)
    grid = beat / rng.choice([2, 2, 3, 4])
    steps = int(rng.choice([6, 8, 12, 16]))
    offset = rng.random() * beat
    for low, high, decay, noise, density in (
        (50, 110, 0.12, 0.2, 0.3),
        (140, 320, 0.1, 2.5, 0.25),
        (3000, 6000, 0.04, 6, 0.6),
    ):
        pattern = np.flatnonzero(rng.random(steps) < density)
        starts = np.array(
            [(bar * steps + p) * grid - offset for bar in range(int(SECONDS / grid / steps) + 2) for p in pattern]
        )
        starts = starts[(starts > -0.1) & (starts < SECONDS)]
        loud = rng.uniform(0.5, 1, len(starts))
        out += struck(
            rng, _SAMPLES, SAMPLE_RATE, starts, loud, rng.uniform(low, high), decay * rng.uniform(0.5, 2), noise
        )
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


def _impacts(rng: np.random.Generator) -> np.ndarray:
    """Few strokes at irregular times, or shots: bursts of noise that die away."""
    count = int(rng.integers(2, 14))
    starts = np.sort(rng.uniform(0, SECONDS, count))
    loud = rng.uniform(0.3, 1, count)
    if rng.random() < 0.3:
        decay = rng.uniform(0.03, 0.4)
        t = np.arange(round(5 * decay * SAMPLE_RATE)) / SAMPLE_RATE
        out = np.zeros(_SAMPLES + len(t))
        for start, level in zip(starts, loud, strict=True):
            burst = rng.standard_normal(len(t)) * (np.exp(-t / decay) + 2 * np.exp(-t / 0.01)) * level
            first = round(start * SAMPLE_RATE)
            out[first : first + len(t)] += sosfilt(
                butter(1, rng.uniform(600, 6000), fs=SAMPLE_RATE, output="sos"), burst
            )
        return out[:_SAMPLES]
    pitch = float(np.exp(rng.uniform(np.log(90), np.log(3000))))
    return struck(rng, _SAMPLES, SAMPLE_RATE, starts, loud, pitch, rng.uniform(0.01, 0.12), rng.uniform(0.3, 4))


def _engine(rng: np.random.Generator) -> np.ndarray:
    """A buzz whose pitch wanders slowly, in noise that comes and goes with it."""
    t = np.arange(_SAMPLES) / SAMPLE_RATE
    slow = np.interp(t, np.linspace(0, SECONDS, 6), rng.normal(0, rng.uniform(0.01, 0.25), 6))
    pitch = np.exp(rng.uniform(np.log(18), np.log(220))) * np.exp(slow)
    buzz = tone(pitch, SAMPLE_RATE, rng.uniform(0.6, 1))
    beat = 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    noise = breath(rng, beat, SAMPLE_RATE, rng.uniform(150, 3000), rng.uniform(0.8, 3))
    return buzz * rng.uniform(0.2, 1) + noise * rng.uniform(0.1, 1)


def _none(rng: np.random.Generator) -> np.ndarray:
    """A quiet room: faint noise of any colour, and mains hum or a pure tone."""
    t = np.arange(_SAMPLES) / SAMPLE_RATE
    noise = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(_SAMPLES)) / np.arange(1, _SAMPLES // 2 + 2) ** rng.uniform(0, 1)
    )
    hum = np.sin(2 * np.pi * rng.choice([50, 60, 100, 120, 440, 1000]) * t)
    return noise / noise.std() + hum * rng.choice([0, 0, 0.3, 2])
