"""Pairs of frames that move as we say: textures of sinusoids, whose values are known at every place."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

KINDS = ("translation", "rotation", "zoom", "layers")
LONGEST = 10.0  # pixels: no motion is longer
_WAVES = 80
_Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scene:
    """Two frames uint8 ``[H, W, 3]``, and the flow float32 ``[2, H, W]`` from the first to the second."""

    first: np.ndarray
    second: np.ndarray
    flow: np.ndarray


def make_scene(kind: str, seed: int, size: tuple[int, int] = (240, 320), noise: float = 1.0) -> Scene:
    """A scene.

    Args:
        kind: one of `KINDS`. ``layers``: a disc moves before a background that moves another way.
        seed: decides texture and motion, of 4 pixels to `LONGEST` where it is longest.
        size: rows and columns.
        noise: standard deviation in grey levels, other in each frame.
    """
    rng = np.random.default_rng((KINDS.index(kind), seed))
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    texture = _texture(rng)
    linear, shift = _motion(kind, rng, size)
    middle = np.array([size[1] - 1, size[0] - 1]) / 2
    forward, inverse = (_about(middle, matrix) for matrix in (linear, np.linalg.inv(linear)))
    moved_x, moved_y = forward(x, y)
    flow = np.stack([moved_x + shift[0] - x, moved_y + shift[1] - y])
    first, second = texture(x, y), texture(*inverse(x - shift[0], y - shift[1]))
    if kind == "layers":
        disc, step = _texture(rng), _vector(rng)
        centre, radius = middle * rng.uniform(0.8, 1.2, 2), 0.28 * min(size)
        there, later = (np.hypot(x - dx - centre[0], y - dy - centre[1]) < radius for dx, dy in ((0, 0), step))
        first = np.where(there[..., None], disc(x, y), first)
        second = np.where(later[..., None], disc(x - step[0], y - step[1]), second)
        flow = np.where(there, step[:, None, None], flow)
    seen = (np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).round() for frame in (first, second))
    return Scene(*(frame.astype(np.uint8) for frame in seen), flow.astype(np.float32))


def edge_scene(angle: float, step: float, size: tuple[int, int] = (96, 96)) -> Scene:
    """A straight edge between two grey levels that moves ``step`` pixels across itself; ``flow`` is that motion.

    Args:
        angle: radians from the x axis to the direction across the edge.
    """
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    across = np.array([np.cos(angle), np.sin(angle)])
    place = (x - (size[1] - 1) / 2) * across[0] + (y - (size[0] - 1) / 2) * across[1]
    frames = (128 + 80 * np.tanh((place - moved) / 2) for moved in (0.0, step))
    first, second = (np.repeat(frame.round().astype(np.uint8)[..., None], 3, 2) for frame in frames)
    flow = np.broadcast_to((step * across).astype(np.float32)[:, None, None], (2, *size))
    return Scene(first, second, flow)


def _texture(rng: np.random.Generator) -> _Texture:
    """Colours at places: many waves of 5 to 80 pixels, the longer the stronger."""
    lengths = np.exp(rng.uniform(np.log(5), np.log(80), _WAVES))
    angles, phases = rng.uniform(0, 2 * np.pi, _WAVES), rng.uniform(0, 2 * np.pi, (_WAVES, 3))
    strengths = np.sqrt(lengths)
    strengths *= 40 / np.sqrt((strengths**2).sum() / 2)

    def colours(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        image = np.full((*x.shape, 3), 128.0)
        for length, angle, phase, strength in zip(lengths, angles, phases, strengths, strict=True):
            turn = 2 * np.pi / length * (x * np.cos(angle) + y * np.sin(angle))
            image += strength * np.sin(turn[..., None] + phase)
        return image

    return colours


def _vector(rng: np.random.Generator) -> np.ndarray:
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(4, LONGEST)
    return length * np.array([np.cos(angle), np.sin(angle)])


def _motion(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What places are multiplied by, and what is added."""
    share = rng.choice([-1, 1]) * rng.uniform(4, LONGEST) / (np.hypot(*size) / 2)
    turned = np.array([[np.cos(share), -np.sin(share)], [np.sin(share), np.cos(share)]])
    linear = {"rotation": turned, "zoom": (1 + share) * np.eye(2)}.get(kind, np.eye(2))
    return linear, np.zeros(2) if kind in ("rotation", "zoom") else _vector(rng)


def _about(middle: np.ndarray, matrix: np.ndarray) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def moved(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across, down = x - middle[0], y - middle[1]
        return (
            matrix[0, 0] * across + matrix[0, 1] * down + middle[0],
            matrix[1, 0] * across + matrix[1, 1] * down + middle[1],
        )

    return moved
