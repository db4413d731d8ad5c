"""Sounds of things: struck bodies, strings, breath and voices, from events and curves."""

from functools import lru_cache

import numpy as np
from scipy.signal import lfilter

# Pitch in Hz and decay in seconds that a class draws from. The ranges overlap, so that a spectrum alone
# does not name the class; with shared timbres all draw from the last one.
_RANGES = {
    "ball": ((140, 900), (0.05, 0.18)),
    "bell": ((260, 1800), (0.15, 0.60)),
    "string": ((110, 900), (0.12, 0.50)),
    "drum": ((80, 600), (0.06, 0.25)),
    "mouth": ((90, 320), (0.0, 0.0)),
    "siren": ((200, 900), (0.0, 0.0)),
    "fan": ((300, 2500), (0.0, 0.0)),
    "shaker": ((600, 4000), (0.0, 0.0)),
}
_SHARED = ((120, 1200), (0.08, 0.35))
# Ratios of partials: bars, membranes, bells, and a nearly harmonic body; any struck thing may have any.
_PARTIALS = (
    (1.0, 2.76, 5.40, 8.93),
    (1.0, 1.59, 2.14, 2.30, 2.65),
    (0.5, 1.0, 1.19, 1.56, 2.0, 2.51),
    (1.0, 2.0, 3.01, 4.03, 5.1),
)


def timbre(rng: np.random.Generator, name: str, shared: bool) -> tuple[float, float]:
    """Pitch (Hz) and decay (s) of one thing of a class."""
    pitch, decay = _RANGES[name]
    if shared:
        pitch, decay = _SHARED
    low, high = np.log(pitch)
    return float(np.exp(rng.uniform(low, high))), float(rng.uniform(*decay))


def struck(
    rng: np.random.Generator,
    samples: int,
    rate: int,
    events: np.ndarray,
    loudness: np.ndarray,
    pitch: float,
    decay: float,
    noise: float,
) -> np.ndarray:
    """A body hit at each event: partials that die away, behind a click of noise. ``[samples]``."""
    length = min(int(6 * decay * rate) + 1, samples)
    t = np.arange(length) / rate
    partials = _PARTIALS[rng.integers(len(_PARTIALS))]
    body = np.zeros(length)
    for k, ratio in enumerate(partials):
        if pitch * ratio < 0.45 * rate:
            body += (
                rng.uniform(0.4, 1)
                / (1 + 0.5 * k)
                * np.sin(2 * np.pi * pitch * ratio * t + rng.uniform(0, 6.28))
                * np.exp(-t / (decay / (1 + 0.35 * k)))
            )
    click = rng.standard_normal(length) * np.exp(-t / 0.012) * noise
    return _at_events(samples, rate, events, loudness, body + click)


def plucked(
    rng: np.random.Generator,
    samples: int,
    rate: int,
    events: np.ndarray,
    loudness: np.ndarray,
    pitch: float,
    decay: float,
) -> np.ndarray:
    """A string plucked at each event: harmonics whose balance depends on where it is plucked."""
    length = min(int(6 * decay * rate) + 1, samples)
    t = np.arange(length) / rate
    place = rng.uniform(0.08, 0.45)
    body = np.zeros(length)
    for k in range(1, 12):
        if pitch * k < 0.45 * rate:
            body += np.sin(np.pi * k * place) / k * np.sin(2 * np.pi * pitch * k * t) * np.exp(
                -t / decay * (1 + 0.15 * k)
            )  # fmt: skip
    return _at_events(samples, rate, events, loudness, body)


def _at_events(samples: int, rate: int, events: np.ndarray, loudness: np.ndarray, body: np.ndarray) -> np.ndarray:
    out = np.zeros(samples)
    for event, level in zip(events, loudness, strict=True):
        first = round(event * rate)
        lower, upper = max(first, 0), min(first + len(body), samples)
        if upper > lower:
            out[lower:upper] += level * body[lower - first : upper - first]
    return out


def breath(rng: np.random.Generator, envelope: np.ndarray, rate: int, centre: float, width: float) -> np.ndarray:
    """Noise in a band about ``centre`` Hz, as loud as the envelope ``[S]`` says."""
    noise = rng.standard_normal(len(envelope))
    band: np.ndarray = _resonate(noise, min(centre, 0.4 * rate), width * centre, rate) * envelope
    return band


def _resonate(signal: np.ndarray, centre: float, width: float, rate: int) -> np.ndarray:
    radius = np.exp(-np.pi * width / rate)
    turn = 2 * radius * np.cos(2 * np.pi * centre / rate)
    out = lfilter([1 - radius, 0, radius - 1], [1, -turn, radius * radius], signal)
    level: np.ndarray = out / (np.sqrt(np.mean(out**2)) + 1e-9)
    return level


@lru_cache(maxsize=4)
def _saw_table(size: int = 2048) -> np.ndarray:
    phase = np.arange(size) / size
    return sum((np.sin(2 * np.pi * k * phase) / k for k in range(1, 16)), np.zeros(size))


def tone(frequency: np.ndarray, rate: int, bright: float) -> np.ndarray:
    """An oscillator that follows ``frequency`` ``[S]`` Hz; ``bright`` mixes a sine with a saw."""
    phase = np.cumsum(frequency) / rate
    saw = _saw_table()[(phase * 2048).astype(int) % 2048]
    wave: np.ndarray = (1 - bright) * np.sin(2 * np.pi * phase) + bright * saw
    return wave


def voice(rng: np.random.Generator, envelope: np.ndarray, frequency: np.ndarray, rate: int) -> np.ndarray:
    """A saw through three formants, as loud as the envelope says."""
    source = tone(frequency, rate, 1.0)
    out: np.ndarray = np.zeros(len(envelope))
    for centre in (rng.uniform(300, 850), rng.uniform(900, 2200), rng.uniform(2300, 3200)):
        if centre < 0.45 * rate:
            out += _resonate(source, centre, 90 + 0.06 * centre, rate) * (500 / centre) ** 0.5
    voiced: np.ndarray = out * envelope
    return voiced
