"""The things of the world: how each looks, moves, and thereby sounds.

A thing is drawn in its own square, ``u`` to the right and ``v`` downwards in [-1, 1], for all frames at
once. Layers are painted in order; each is a signed distance (negative inside) and a colour.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avlearn.data.world import motion, sounds

Curve = np.ndarray | float  # over frames [T, 1, 1], or the same for all
Layer = tuple[np.ndarray, np.ndarray]  # distance [T, h, w] or [h, w]; colour [3] or [T, 1, 1, 3]


@dataclass(frozen=True)
class Instants:
    """Instants of frames ``[T]`` and of samples ``[S]`` in seconds, and the sample rate."""

    frames: np.ndarray
    samples: np.ndarray
    rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class Thing:
    """A thing in action.

    Attributes:
        events: instants in seconds at which something audible begins (of a fan or shaker: a beat's
            loudest instant), inside the scene.
        draw: ``(u, v)`` grids ``[h, w]`` to layers.
        sound: float64 ``[S]``, not normalised.
    """

    events: np.ndarray
    draw: Callable[[np.ndarray, np.ndarray], list[Layer]]
    sound: np.ndarray


def _t(curve: np.ndarray) -> np.ndarray:
    """A curve over frames ``[T]`` ready to meet grids ``[h, w]``."""
    return curve.astype(np.float32)[:, None, None]


def _ellipse(u: np.ndarray, v: np.ndarray, x: Curve, y: Curve, a: Curve, b: Curve, power: float = 2.0) -> np.ndarray:
    """Distance to a superellipse: power 1 is a diamond, 2 an ellipse, 6 nearly a box."""
    if power == 2.0:
        r = np.sqrt(((u - x) / a) ** 2 + ((v - y) / b) ** 2)
    else:
        r = (np.abs((u - x) / a) ** power + np.abs((v - y) / b) ** power) ** (1 / power)
    distance: np.ndarray = (r - 1) * np.minimum(a, b)
    return distance


def _segment(u: np.ndarray, v: np.ndarray, x0: Curve, y0: Curve, x1: Curve, y1: Curve, thick: float) -> np.ndarray:
    """Distance to a bar from (x0, y0) to (x1, y1)."""
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
    distance: np.ndarray = np.sqrt((u - x0 - along * dx) ** 2 + (v - y0 - along * dy) ** 2) - thick
    return distance


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours ``[count, 3]`` in 0..255 of one palette: a hue, its opposite, light and dark."""
    hue = rng.uniform(0, 6.28)
    base = 0.5 + 0.5 * np.cos(hue + np.array([0, 2.1, 4.2]))
    palette = [base * rng.uniform(0.6, 1), 1 - base * 0.7, np.full(3, 0.92), np.full(3, 0.1)]
    jitter = rng.uniform(-0.08, 0.08, (4, 3))
    return (np.clip(np.array(palette) + jitter, 0, 1) * 255).astype(np.float32)[:count]


def _inside(events: np.ndarray, duration: float) -> np.ndarray:
    return events[(events >= 0) & (events < duration)]


def _power(rng: np.random.Generator) -> float:
    return float(rng.choice([1.3, 2.0, 5.0]))


def ball(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """Falls and bounces; louder from higher up."""
    events = motion.irregular_events(rng, instants.duration, 0.28, 0.85)
    t = instants.frames
    index = np.clip(np.searchsorted(events, t, side="right") - 1, 0, len(events) - 2)
    gap = events[index + 1] - events[index]
    share = (t - events[index]) / gap
    height = 4 * share * (1 - share) * np.clip((gap / 0.85) ** 2, 0.25, 1)
    squash = np.exp(-np.minimum(motion.since_last(t, events), motion.until_next(t, events)) / 0.03)
    main, _, light, dark = _colours(rng, 4)
    radius, power = rng.uniform(0.26, 0.36), _power(rng)
    floor = 0.88

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        wide, tall = _t(radius * (1 + 0.35 * squash)), _t(radius * (1 - 0.35 * squash))
        y = floor - tall - _t(height) * (1.7 - 2 * radius)
        return [
            (_ellipse(u, v, 0, floor + 0.05, 0.85, 0.07, 4.0), dark),
            (_ellipse(u, v, 0, y, wide, tall, power), main),
            (_ellipse(u, v, -0.09, y - 0.08, 0.09, 0.09), light),
        ]

    fall = np.diff(events, prepend=events[0] - 0.5)
    loudness = np.clip(fall / 0.85, 0.35, 1) ** 1.2
    pitch, decay = sounds.timbre(rng, "ball", shared)
    args = (len(instants.samples), instants.rate, events, loudness, pitch, decay, rng.uniform(0.2, 1))
    return Thing(_inside(events, instants.duration), draw, sounds.struck(rng, *args))


def bell(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """A hammer strikes a body that then swings."""
    events = motion.irregular_events(rng, instants.duration, 0.32, 1.0)
    t = instants.frames
    hit = motion.strike(t, events)
    past = motion.since_last(t, events)
    swing = 0.16 * np.exp(-past / 0.35) * np.sin(2 * np.pi * 4 * past + 0.6)
    main, other, light, dark = _colours(rng, 4)
    power, wide = _power(rng), rng.uniform(0.42, 0.55)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        x = 0.22 + _t(swing) * (v + 0.9)
        head_x, head_y = _t(-0.78 + 0.47 * hit), _t(-0.35 + 0.38 * hit)
        return [
            (_ellipse(u, v, x, 0.1, wide, 0.62, power), main),
            (_ellipse(u, v, x, 0.62, wide * 1.05, 0.12, 4.0), other),
            (_segment(u, v, -0.85, -0.85, head_x, head_y, 0.06), dark),
            (_ellipse(u, v, head_x, head_y, 0.19, 0.19), light),
        ]

    loudness = rng.uniform(0.6, 1, len(events))
    pitch, decay = sounds.timbre(rng, "bell", shared)
    args = (len(instants.samples), instants.rate, events, loudness, pitch, decay, rng.uniform(0, 0.5))
    return Thing(_inside(events, instants.duration), draw, sounds.struck(rng, *args))


def string(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """A pick crosses a string, which blurs and settles."""
    events = motion.irregular_events(rng, instants.duration, 0.28, 0.95)
    t = instants.frames
    past, coming = motion.since_last(t, events), motion.until_next(t, events)
    width = 0.04 + 0.36 * np.exp(-past / 0.22)
    pick = np.where(past < 0.3, 0.15 + 1.6 * past, -0.65 + 0.7 * np.clip(1 - coming / 0.2, 0, 1))
    main, other, light, dark = _colours(rng, 4)
    place, upright = rng.uniform(-0.5, 0.5), rng.random() < 0.5

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        u, v = (v, u) if upright else (u, v)
        return [
            (_ellipse(u, v, 0, 0, 0.95, 0.62, 5.0), other),
            (_ellipse(u, v, 0, 0, 0.92, _t(width)), light),
            (_segment(u, v, -0.92, 0, 0.92, 0, 0.03), dark),
            (_ellipse(u, v, place, _t(np.clip(pick, -0.75, 0.75)), 0.13, 0.2, 1.3), main),
        ]

    loudness = rng.uniform(0.6, 1, len(events))
    pitch, decay = sounds.timbre(rng, "string", shared)
    args = (len(instants.samples), instants.rate, events, loudness, pitch, decay)
    return Thing(_inside(events, instants.duration), draw, sounds.plucked(rng, *args))


def mouth(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """A face whose mouth opens with each syllable."""
    events = motion.irregular_events(rng, instants.duration, 0.20, 0.60)
    lengths, levels = rng.uniform(0.12, 0.22, len(events)), rng.uniform(0.5, 1, len(events))

    def opening(t: np.ndarray) -> np.ndarray:
        out = np.zeros(len(t))
        for event, length, level in zip(events, lengths, levels, strict=True):
            share = (t - event) / length
            on = (share > 0) & (share < 1)
            out[on] = np.maximum(out[on], level * np.sin(np.pi * share[on] ** 0.7))
        return out

    openness = opening(instants.frames)
    main, other, light, dark = _colours(rng, 4)
    power, wide = rng.choice([2.0, 3.5]), rng.uniform(0.3, 0.5)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        return [
            (_ellipse(u, v, 0, 0, 0.85, 0.93, power), main),
            (_ellipse(u, v, -0.33, -0.38, 0.13, 0.1), light),
            (_ellipse(u, v, 0.33, -0.38, 0.13, 0.1), light),
            (_ellipse(u, v, 0, 0.35, wide + 0.08, _t(0.1 + 0.42 * openness)), other),
            (_ellipse(u, v, 0, 0.35, wide, _t(0.03 + 0.40 * openness)), dark),
        ]

    pitch, _ = sounds.timbre(rng, "mouth", shared)
    glide = motion.smooth_walk(rng, instants.samples, 0.35, 0.8, 1.25)
    sound = sounds.voice(rng, opening(instants.samples), pitch * glide, instants.rate)
    return Thing(_inside(events, instants.duration), draw, sound)


def fan(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """Blades that speed up, slow down and stop; the breath beats as they pass."""
    grid = np.arange(0, instants.duration + 0.05, 0.005)
    speed = np.clip(motion.smooth_walk(rng, grid, 0.45, -0.8, 2.8), 0, None)  # turns a second
    angle = np.cumsum(speed) * 0.005 + rng.random()
    blades = int(rng.integers(2, 5))
    turn, pace = np.interp(instants.frames, grid, angle), np.interp(instants.frames, grid, speed)
    main, other, light, dark = _colours(rng, 4)
    wide = rng.uniform(0.25, 0.45)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        radius, direction = np.hypot(u, v), np.arctan2(v, u)
        wave = np.cos(blades * (direction - 2 * np.pi * _t(turn)))
        blade = np.maximum(radius - 0.82, (1 - 2 * wide - wave) * radius * 0.5)
        glow = dark + (light - dark) * (0.5 * _t(np.clip(pace / 2.8, 0, 1)))[..., None]
        return [
            (_ellipse(u, v, 0, 0, 0.95, 0.95), glow),
            (blade, main),
            (_ellipse(u, v, 0, 0, 0.2, 0.2), other),
        ]

    beat = np.cos(np.pi * blades * np.interp(instants.samples, grid, angle)) ** 2
    strength = np.clip(np.interp(instants.samples, grid, speed) / 2.8, 0, 1) ** 1.5
    pitch, _ = sounds.timbre(rng, "fan", shared)
    sound = sounds.breath(rng, strength * (0.25 + 0.75 * beat**1.5), instants.rate, pitch, rng.uniform(0.3, 1))
    turns = np.interp(instants.samples, grid, angle) * blades
    events = instants.samples[1:][(np.diff(np.floor(turns)) > 0) & (strength[1:] > 0.02)]  # none while it all but rests
    return Thing(events, draw, sound)


def siren(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """A lamp that brightens and widens with its pitch, and goes out in its pauses."""
    events = motion.irregular_events(rng, instants.duration, 0.35, 1.0)
    on_for = rng.uniform(0.5, 0.85, len(events)) * np.diff(events, append=events[-1] + 0.6)

    def lit(t: np.ndarray) -> np.ndarray:
        index = np.clip(np.searchsorted(events, t, side="right") - 1, 0, len(events) - 1)
        past = t - events[index]
        glow: np.ndarray = np.clip(past / 0.02, 0, 1) * np.clip((on_for[index] - past) / 0.04, 0, 1) * (past >= 0)
        return glow

    grid = np.arange(0, instants.duration + 0.05, 0.005)
    bend = motion.smooth_walk(rng, grid, 0.22, 0, 1)
    level, glow = np.interp(instants.frames, grid, bend), lit(instants.frames)
    main, other, light, dark = _colours(rng, 4)
    power = _power(rng)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        bright = _t(glow * (0.45 + 0.55 * level))[..., None]
        size = _t(0.35 + 0.35 * glow * level)
        return [
            (_ellipse(u, v, 0, 0.72, 0.75, 0.22, 5.0), other),
            (
                _ellipse(u, v, 0, -0.1, 0.8, 0.78, power),
                dark + (main - dark) * (0.25 + 0.75 * bright),
            ),
            (_ellipse(u, v, 0, -0.1, size, size), main * 0.5 + (light * 1.1 - main * 0.5) * bright),
        ]

    pitch, _ = sounds.timbre(rng, "siren", shared)
    octaves = rng.uniform(0.6, 1.2)
    frequency = pitch * 2 ** (octaves * np.interp(instants.samples, grid, bend))
    loud = lit(instants.samples) * (0.5 + 0.5 * np.interp(instants.samples, grid, bend))
    sound = sounds.tone(frequency, instants.rate, rng.uniform(0, 0.8)) * loud
    return Thing(_inside(events, instants.duration), draw, sound)


def drum(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """Two sticks in turn; the skin gives way under each."""
    events = motion.irregular_events(rng, instants.duration, 0.20, 0.70)
    t = instants.frames
    left, right = motion.strike(t, events[::2]), motion.strike(t, events[1::2])
    skin = np.exp(-motion.since_last(t, events) / 0.07)
    main, other, light, dark = _colours(rng, 4)
    power = rng.choice([3.0, 6.0])

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        top = _t(0.05 + 0.10 * skin)
        bright = light * 0.75 + (light * 1.1 - light * 0.75) * _t(skin)[..., None]
        return [
            (_ellipse(u, v, 0, 0.5, 0.8, 0.45, power), main),
            (_ellipse(u, v, 0, top, 0.82, 0.22), bright),
            (_segment(u, v, -0.9, -0.55, _t(-0.3 + 0 * left), _t(-0.85 + 0.86 * left), 0.07), dark),
            (
                _segment(u, v, 0.9, -0.55, _t(0.3 + 0 * right), _t(-0.85 + 0.86 * right), 0.07),
                other,
            ),
        ]

    loudness = rng.uniform(0.6, 1, len(events))
    pitch, decay = sounds.timbre(rng, "drum", shared)
    args = (len(instants.samples), instants.rate, events, loudness, pitch, decay, rng.uniform(0.5, 2))
    return Thing(_inside(events, instants.duration), draw, sounds.struck(rng, *args))


def shaker(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
    """Shaken from side to side, with rests; it hisses with its speed."""
    turns = motion.irregular_events(rng, instants.duration, 0.14, 0.38)
    ends = np.where(np.arange(len(turns)) % 2, 1.0, -1.0) * rng.uniform(0.5, 1, len(turns))
    grid = np.arange(-0.1, instants.duration + 0.1, 0.002)
    index = np.clip(np.searchsorted(turns, grid, side="right") - 1, 0, len(turns) - 2)
    share = np.clip((grid - turns[index]) / (turns[index + 1] - turns[index]), 0, 1)
    place = ends[index] + (ends[index + 1] - ends[index]) * (0.5 - 0.5 * np.cos(np.pi * share))
    speed = np.abs(np.gradient(place, 0.002))
    x = np.interp(instants.frames, grid, place)
    main, other, _, dark = _colours(rng, 4)
    power = _power(rng)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        shift = _t(0.5 * x)
        return [
            (_segment(u, v, shift, 0.1, shift * 0.6, 0.9, 0.09), dark),
            (_ellipse(u, v, shift, -0.15, 0.42, 0.6, power), main),
            (_ellipse(u, v, shift, -0.15, 0.43, 0.14, 4.0), other),
        ]

    strength = np.clip(np.interp(instants.samples, grid, speed) / 14, 0, 1.5) ** 2
    pitch, _ = sounds.timbre(rng, "shaker", shared)
    sound = sounds.breath(rng, strength, instants.rate, pitch, rng.uniform(0.4, 1))
    strokes = (turns[:-1] + turns[1:]) / 2  # it is fastest half-way from turn to turn
    return Thing(_inside(strokes, instants.duration), draw, sound)


CLASSES: dict[str, Callable[[np.random.Generator, Instants, bool], Thing]] = {
    f.__name__: f for f in (ball, bell, string, mouth, fan, siren, drum, shaker)
}


def _moving_disc(across: float, down: float) -> Callable[[np.random.Generator, Instants, bool], Thing]:
    """A disc on a circle or a line, under noise that has nothing to do with it.

    Where it is in one frame is drawn alike for all ways of moving: only frames together tell them apart.

    Args:
        across, down: sign of the motion along each; 0 for a place that does not change.
    """

    def disc(rng: np.random.Generator, instants: Instants, shared: bool) -> Thing:
        reach, radius = 0.42, rng.uniform(0.26, 0.34)
        middle = rng.uniform(-0.24, 0.24, 2)
        angle = rng.uniform(0, 6.28) + 6.28 * rng.uniform(0.5, 1.1) * instants.frames
        resting = np.full_like(angle, rng.uniform(0, 6.28))
        x = middle[0] + reach * np.cos(angle if across else resting)
        y = middle[1] + reach * (down * np.sin(angle) if down else np.cos(resting))
        main, other, _, _ = _colours(rng, 4)
        power = _power(rng)
        loudness = motion.smooth_walk(rng, instants.samples, 0.4, 0.0, 1.0)

        def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
            outer = _ellipse(u, v, _t(x), _t(y), radius, radius, power)
            return [(outer, main), (_ellipse(u, v, _t(x), _t(y), radius * 0.4, radius * 0.4), other)]

        return Thing(np.empty(0), draw, loudness * rng.standard_normal(len(instants.samples)))

    return disc


# One thing, told apart by how it moves alone.
MOTIONS = {
    "clockwise": _moving_disc(1, 1), "counterclockwise": _moving_disc(1, -1),
    "sideways": _moving_disc(1, 0), "up and down": _moving_disc(0, 1),
}  # fmt: skip
THINGS = CLASSES | MOTIONS


def mover(rng: np.random.Generator, instants: Instants) -> Thing:
    """A silent abstract thing that drifts, turns or pulses."""
    t = instants.frames
    x = motion.smooth_walk(rng, t, 0.5, -0.5, 0.5)
    y = motion.smooth_walk(rng, t, 0.5, -0.5, 0.5)
    pulse = motion.smooth_walk(rng, t, 0.3, 0.25, 0.5)
    angle = motion.smooth_walk(rng, t, 0.6, -3, 3)
    main, other, _, _ = _colours(rng, 4)
    power, long = _power(rng), rng.uniform(0.5, 1)

    def draw(u: np.ndarray, v: np.ndarray) -> list[Layer]:
        c, s = _t(np.cos(angle)), _t(np.sin(angle))
        du, dv = u - _t(x), v - _t(y)
        ru, rv = du * c + dv * s, dv * c - du * s
        size = _t(pulse)
        return [
            (_ellipse(ru, rv, 0, 0, size, size * long, power), main),
            (_ellipse(ru, rv, 0.12, 0, size * 0.3, size * 0.3), other),
        ]

    return Thing(np.empty(0), draw, np.zeros(len(instants.samples)))
