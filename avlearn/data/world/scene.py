"""A scene: things before a background under a moving camera, and the sum of their sounds."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from avlearn.data.world.config import WorldConfig
from avlearn.data.world.objects import MOTIONS, THINGS, Instants, Thing, mover

_MARGIN = 12  # pixels of background beyond the frame that the camera may reach


@dataclass(frozen=True)
class SceneSource:
    """One thing of a class, as it truly is.

    Attributes:
        name: its class.
        onscreen, sounding: whether it is in view, and whether it is heard.
        boxes: float32 ``[T, 4]`` x0, y0, x1, y1 in pixels, tight around what is visible (NaN in a frame
            that shows nothing of it); None off screen.
        events: instants in seconds.
    """

    name: str
    onscreen: bool
    sounding: bool
    boxes: np.ndarray | None
    events: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        video: uint8 ``[T, H, W, 3]``; frame k shows the instant k / fps.
        audio: float32 ``[S]``, the sum of the stems.
        stems: float32 ``[K + 1, S]``: one a source (zeros for the silent), then the noise floor.
        sources: K of them.
    """

    video: np.ndarray
    audio: np.ndarray
    stems: np.ndarray
    sources: tuple[SceneSource, ...]


@lru_cache(maxsize=2)
def _noise_bank(size: int) -> np.ndarray:
    """Sensor noise to be cut at random places: float32 ``[size + 64, size + 64, 3]``, std 1."""
    return np.random.default_rng(7).standard_normal((size + 64, size + 64, 3)).astype(np.float32)


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A background of four octaves: float32 ``[size, size, 3]`` around mid grey."""
    out = np.zeros((size, size, 3), np.float32)
    for octave, cells in enumerate((3, 6, 12, 24)):
        grid = rng.standard_normal((cells + 2, cells + 2, 3)).astype(np.float32)
        at = np.linspace(0, cells, size, dtype=np.float32)
        low = at.astype(int)
        share = (at - low)[:, None]
        rows = grid[low] * (1 - share[..., None]) + grid[low + 1] * share[..., None]
        out += (rows[:, low] * (1 - share) + rows[:, low + 1] * share) * 0.75**octave
    colour = rng.uniform(70, 170, 3).astype(np.float32)
    return colour + out * np.float32(rng.uniform(10, 26))


def _cast(rng: np.random.Generator, config: WorldConfig) -> list[tuple[str, bool]]:
    """Class and whether it sounds, for each thing of a class in view."""
    low, high = config.sources
    weights = np.array([0.6, 0.4, 0.3][: high - low + 1])
    count = low + int(rng.choice(len(weights), p=weights / weights.sum()))
    names = list(rng.permutation(config.classes))
    while len(names) < count + 1:
        names.append(str(rng.choice(config.classes)))
    cast = [(str(names[k]), True) for k in range(count)]
    if rng.random() < config.twin_share:
        if config.twin == "sounding" and count > 1:
            cast[1] = (cast[0][0], True)
        else:
            cast.append((cast[0][0], config.twin == "sounding"))
    elif rng.random() < config.muted_share:
        cast.append((str(names[count]), False))
    order = rng.permutation(len(cast))
    return [cast[k] for k in order]


def _places(rng: np.random.Generator, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres ``[K, 2]`` of squares that do not overlap, as fractions; sizes shrink until they fit."""
    while True:
        for _ in range(60):
            room = np.maximum(1 - sizes, 0.02)
            centres = sizes[:, None] / 2 + rng.random((len(sizes), 2)) * room[:, None]
            apart = np.abs(centres[:, None] - centres[None]).max(-1)
            needed = 0.5 * (sizes[:, None] + sizes[None])
            if (apart >= needed - np.eye(len(sizes)) * 9).all():
                return centres, sizes
        sizes = sizes * 0.93


def _paint(video: np.ndarray, thing: Thing, centre: np.ndarray, width: float, camera: np.ndarray) -> np.ndarray:
    """Draw a thing into float32 ``video [T, S, S, 3]``; its boxes ``[T, 4]``."""
    size = video.shape[1]
    half = width * size / 2
    drift = camera.max(0) - camera.min(0)
    low = np.floor(centre * size - half + camera.min(0) - 1).astype(int)
    high = np.ceil(centre * size + half + drift + camera.min(0) + 1).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, size)
    xs = np.arange(low[0], high[0], dtype=np.float32) + 0.5
    ys = np.arange(low[1], high[1], dtype=np.float32) + 0.5
    middle = (centre * size + camera).astype(np.float32)
    u = (xs[None, None, :] - middle[:, 0, None, None]) / np.float32(half)
    v = (ys[None, :, None] - middle[:, 1, None, None]) / np.float32(half)
    u, v = np.broadcast_arrays(u, v)
    region = video[:, low[1] : high[1], low[0] : high[0]]
    alpha = np.zeros(u.shape, np.float32)
    for distance, colour in thing.draw(u, v):
        cover = np.clip(0.5 - distance * np.float32(half), 0, 1).astype(np.float32)
        region += cover[..., None] * (colour.astype(np.float32) - region)
        np.maximum(alpha, cover, out=alpha)
    seen = alpha > 0.5
    columns: np.ndarray = np.any(seen, axis=1)
    rows: np.ndarray = np.any(seen, axis=2)
    boxes = np.stack(
        [
            low[0] + columns.argmax(1),
            low[1] + rows.argmax(1),
            low[0] + columns.shape[1] - columns[:, ::-1].argmax(1),
            low[1] + rows.shape[1] - rows[:, ::-1].argmax(1),
        ],
        1,
    ).astype(np.float32)
    boxes[~seen.any((1, 2))] = np.nan
    return boxes


def _background(rng: np.random.Generator, config: WorldConfig, camera: np.ndarray) -> np.ndarray:
    """The texture as the camera sees it, itself drifting: float32 ``[T, S, S, 3]``."""
    size = config.size
    texture = _texture(rng, size + 2 * _MARGIN)
    drift = np.linspace(0, 1, len(camera))[:, None] * rng.uniform(-5, 5, 2)
    at = np.clip(_MARGIN - camera - drift, 0, 2 * _MARGIN - 1.001)
    whole = at.astype(int)
    share = (at - whole).astype(np.float32)
    out = np.empty((len(camera), size, size, 3), np.float32)
    for k, ((x, y), (a, b)) in enumerate(zip(whole, share, strict=True)):
        rows = texture[y : y + size, x : x + size + 1] * (1 - b)
        rows += texture[y + 1 : y + size + 1, x : x + size + 1] * b
        np.multiply(rows[:, :-1], 1 - a, out=out[k])
        rows[:, 1:] *= a
        out[k] += rows[:, 1:]
    return out


def _darken(rng: np.random.Generator, video: np.ndarray) -> None:
    """Make it night: little light, bluish, and noise that is not that of the sensor's usual light."""
    grey = video.mean(3, keepdims=True)
    video *= np.float32(0.35)
    video += np.float32(0.65) * grey
    video *= (rng.uniform(0.25, 0.45) * np.array([0.7, 0.8, 1.3])).astype(np.float32)
    video += rng.standard_normal(video.shape).astype(np.float32) * np.float32(rng.uniform(4, 8))


def _expose(rng: np.random.Generator, video: np.ndarray) -> np.ndarray:
    """Flicker, sensor noise, and rounding to uint8."""
    frames, size = video.shape[:2]
    t = np.arange(frames)
    light = 1 + 0.025 * rng.standard_normal(frames)
    light += rng.uniform(0, 0.08) * np.sin(2 * np.pi * t / rng.uniform(15, 60) + rng.uniform(0, 6.28))
    bank, strength = _noise_bank(size), np.float32(rng.uniform(1.5, 5))
    corners = rng.integers(0, 64, (frames, 2))
    out = np.empty(video.shape, np.uint8)
    for k, (x, y) in enumerate(corners):
        frame = video[k]
        frame *= np.float32(light[k])
        frame += bank[y : y + size, x : x + size] * strength
        np.clip(frame, 0, 255, out=frame)
        out[k] = frame
    return out


def render_scene(config: WorldConfig, seed: int, index: int) -> Scene:
    """Scene ``index`` of the world with this seed: the same bytes every time."""
    return _whole_scene(config, seed, index) if config.moment == 1 else _scene_within(config, seed, index)


def _scene_within(config: WorldConfig, seed: int, index: int) -> Scene:
    """A scene that takes a share of the time, cut into footage of a disc."""
    rng = np.random.default_rng([seed, index, 1])
    frames = round(config.duration * config.fps)
    inner = round(config.moment * frames)
    first = int(rng.integers(frames - inner + 1))
    spans = [replace(config, moment=1.0, duration=count / config.fps) for count in (inner, frames - inner)]
    scene = _whole_scene(spans[0], seed, index)
    other = _whole_scene(replace(spans[1], classes=tuple(MOTIONS)), int(rng.integers(2**31)), index)
    at = round(first / config.fps * config.sample_rate)
    quieter = np.float32(10 ** (rng.uniform(-30, 0) / 20))
    around = np.round(other.audio * quieter * 32767).astype(np.float32) / 32767
    silent = np.zeros((len(scene.stems) - 1, len(around)), np.float32)
    outside = np.concatenate([silent, around[None]])
    stems = np.concatenate([outside[:, :at], scene.stems, outside[:, at:]], 1)
    unseen = np.full((frames - inner, 4), np.nan, np.float32)
    sources = tuple(
        replace(
            source,
            boxes=None if source.boxes is None else np.concatenate([unseen[:first], source.boxes, unseen[first:]]),
            events=tuple(event + first / config.fps for event in source.events),
        )
        for source in scene.sources
    )
    video = np.concatenate([other.video[:first], scene.video, other.video[first:]])
    return Scene(video, stems.sum(0), stems, sources)


def _whole_scene(config: WorldConfig, seed: int, index: int) -> Scene:
    """A scene that takes all of the time."""
    rng = np.random.default_rng([seed, index])
    frames = round(config.duration * config.fps)
    samples = round(config.duration * config.sample_rate)
    instants = Instants(np.arange(frames) / config.fps, np.arange(samples) / config.sample_rate, config.sample_rate)
    cast = _cast(rng, config)
    movers = int(rng.integers(config.distractors[0], config.distractors[1] + 1))
    sizes = rng.uniform(*config.object_size, len(cast) + movers)
    sizes[len(cast) :] *= 0.8
    centres, sizes = _places(rng, sizes)
    shake = np.cumsum(rng.standard_normal((frames, 2)) * 0.12, 0)
    shake += 0.25 * rng.standard_normal((frames, 2))
    camera = np.clip((shake - shake.mean(0)) * config.size / 96, -6, 6)

    things = [THINGS[name](rng, instants, config.shared_timbres) for name, _ in cast]
    things += [mover(rng, instants) for _ in range(movers)]
    video = _background(rng, config, camera)
    boxes: list[np.ndarray] = [np.empty(0)] * len(things)
    for k in rng.permutation(len(things)):
        boxes[k] = _paint(video, things[k], centres[k], float(sizes[k]), camera)

    sources, stems = [], []
    for k, (name, sounding) in enumerate(cast):
        level = rng.uniform(-6, 0) if sounding else -np.inf
        stems.append(_levelled(things[k].sound, level))
        events = tuple(float(e) for e in things[k].events)
        sources.append(SceneSource(name, True, sounding, boxes[k], events))
    if rng.random() < config.offscreen_share:
        name = str(rng.choice(config.classes))
        thing = THINGS[name](rng, instants, config.shared_timbres)
        stems.append(_levelled(thing.sound, float(rng.uniform(*config.offscreen_db)) - 3))
        sources.append(SceneSource(name, False, True, None, tuple(float(e) for e in thing.events)))
    stems.append(_noise_floor(rng, samples, config.sample_rate))
    stacked = np.stack(stems)
    # A stem may stand above the sum where another cancels it; it must fit int16 too.
    peak = max(np.abs(stacked.sum(0)).max(), 0.9 * np.abs(stacked).max())
    stacked *= min(1.0, 0.9 / (peak + 1e-9))
    stacked = (np.round(stacked * 32767) / 32767).astype(np.float32)
    if config.look == "night":
        _darken(rng, video)
    return Scene(_expose(rng, video), stacked.sum(0), stacked, tuple(sources))


def _levelled(sound: np.ndarray, decibel: float) -> np.ndarray:
    """Bring a sound to a level relative to 0.16 root mean square over its loud parts."""
    loud = np.sort(np.abs(sound))[-len(sound) // 4 :]
    rms = np.sqrt(np.mean(loud**2))
    if rms < 1e-9 or not np.isfinite(decibel):
        return np.zeros_like(sound)
    levelled: np.ndarray = sound * (0.16 * 10 ** (decibel / 20) / rms)
    return levelled


def _noise_floor(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Coloured noise between -56 and -40 dB."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / rate)
    spectrum /= np.maximum(hz, 40) ** rng.uniform(0, 0.8)
    noise = np.fft.irfft(spectrum, samples)
    levelled: np.ndarray = noise / noise.std() * 10 ** (rng.uniform(-56, -40) / 20)
    return levelled
