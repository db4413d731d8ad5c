"""Motion: irregular event times, and the curves that they drive."""

import numpy as np


def irregular_events(rng: np.random.Generator, duration: float, shortest: float, longest: float) -> np.ndarray:
    """Event times in seconds from about ``-longest`` to past the end; gaps are random, with rests.

    Irregular gaps make the offset between video and audio unique: a beat would fit itself every period.
    """
    times, now = [], -rng.uniform(0, longest)
    while now < duration + longest:
        times.append(now)
        gap = rng.uniform(shortest, longest)
        now += gap * (1.8 if rng.random() < 0.12 else 1.0)
    return np.array(times)


def since_last(t: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Seconds since the last event at each instant ``[N]`` (large before the first)."""
    index = np.searchsorted(events, t, side="right") - 1
    return np.where(index >= 0, t - events[np.maximum(index, 0)], 9.0)


def until_next(t: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Seconds until the next event at each instant ``[N]`` (large after the last)."""
    index = np.searchsorted(events, t, side="right")
    return np.where(index < len(events), events[np.minimum(index, len(events) - 1)] - t, 9.0)


def strike(t: np.ndarray, events: np.ndarray) -> np.ndarray:
    """A beater's way: 0 at rest, 1 at the instant of an event; it swings in 0.16 s and returns in 0.25 s."""
    coming = np.clip(1 - until_next(t, events) / 0.16, 0, 1) ** 2
    going = np.clip(1 - since_last(t, events) / 0.25, 0, 1)
    return np.maximum(coming, going)


def smooth_walk(rng: np.random.Generator, t: np.ndarray, every: float, low: float, high: float) -> np.ndarray:
    """A smooth random curve between ``low`` and ``high`` with knots about ``every`` seconds apart."""
    knots = np.cumsum(rng.uniform(0.6, 1.4, int(t[-1] / every) + 6) * every) - 2 * every
    values = rng.uniform(low, high, len(knots))
    index = np.clip(np.searchsorted(knots, t) - 1, 0, len(knots) - 2)
    share = np.clip((t - knots[index]) / (knots[index + 1] - knots[index]), 0, 1)
    share = share * share * (3 - 2 * share)
    return values[index] * (1 - share) + values[index + 1] * share
