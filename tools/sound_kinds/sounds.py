"""The sounds that the network of kinds learns from, as log-mel spectrograms, and how they are changed for training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rendered import render
from torch import Tensor
from torch.nn import functional as F

from avlearn.media import read_clip
from avlearn.models.sound_kinds import BANDS, KINDS, SAMPLE_RATE, SoundKinds

CLASSES = {
    "dog_bark": "animal", "rooster": "animal", "baby_cry": "cry or cough", "person_sneeze": "cry or cough",
    "chainsaw": "engine", "helicopter": "engine", "rain": "water or fire", "sea_waves": "water or fire",
    "fire_crackling": "water or fire", "clock_tick": "impacts",
}  # fmt: skip
RENDERED = {"music": 1500, "impacts": 500, "engine": 250, "none": 250}
HELD_SPEAKERS = ("s2", "s4", "s5", "s30", "s31")  # in each fold


@dataclass(frozen=True)
class Sound:
    """A recording: its kind (none: ""), its class, whether and in which fold it is held out, ``[64, U]`` in nats."""

    kind: str
    name: str
    fold: int | None
    mel: Tensor


def load_sounds(grid: Path, esc10: Path, cache: Path) -> list[Sound]:
    """All recordings, kept in a file from one run to the next. Rendered sounds are of fold None but for every tenth."""
    if not cache.exists():
        torch.save(_read(grid, esc10), cache)
    return [Sound(*row) for row in torch.load(cache, weights_only=True)]


def _read(grid: Path, esc10: Path) -> list[tuple[str, str, int | None, Tensor]]:
    mel = SoundKinds().mel
    rows = []
    for path in sorted(grid.glob("s*/*.mp4")):
        audio = read_clip(path, video=False, sample_rate=SAMPLE_RATE, mono=True).audio
        fold = -1 if path.parent.name in HELD_SPEAKERS else None  # -1: of every fold
        rows.append(("speech", path.parent.name, fold, mel(torch.from_numpy(audio))[0, 0]))
    for path in sorted(esc10.glob("*/*.ogg")):
        audio = read_clip(path, video=False, sample_rate=SAMPLE_RATE, mono=True).audio
        name = path.parent.name
        rows.append((CLASSES[name], name, int(path.name[0]), mel(torch.from_numpy(audio))[0, 0]))
    rng = np.random.default_rng(0)
    for kind, count in RENDERED.items():
        for number in range(count):
            fold = -1 if number % 10 == 0 else None
            audio = torch.from_numpy(render(kind, rng))[None]
            rows.append(("" if kind == "none" else kind, f"rendered {kind}", fold, mel(audio)[0, 0]))
    return rows


def training_clip(sound: Sound, frames: int, rng: np.random.Generator) -> Tensor:
    """A stretch ``[64, frames]`` that holds something loud, faster or slower, through another microphone."""
    speed = float(np.exp(rng.uniform(-0.2, 0.2)))
    need = int(frames * speed)
    mel = sound.mel
    if mel.shape[1] < need:
        mel = mel.repeat(1, need // mel.shape[1] + 1)
    top = mel.amax(0)
    for _ in range(10):
        first = int(rng.integers(mel.shape[1] - need + 1))
        if float(top[first : first + need].max()) > float(top.max()) - 4:
            break
    clip = F.interpolate(mel[None, :, first : first + need], frames, mode="linear")[0]
    bands = torch.arange(BANDS) * float(np.exp(rng.uniform(-0.12, 0.12)))
    low = bands.clamp(max=BANDS - 1.001).long()
    share = (bands.clamp(max=BANDS - 1.001) - low)[:, None]
    clip = clip[low] * (1 - share) + clip[low + 1] * share
    curve = torch.from_numpy(rng.standard_normal(int(rng.integers(2, 7)))).float() * rng.uniform(0, 1.5)
    clip = clip + F.interpolate(curve[None, None], BANDS, mode="linear")[0, 0][:, None]
    if rng.random() < 0.35:
        clip = _in_a_room(clip, float(np.exp(-1 / rng.uniform(3, 30))), float(rng.uniform(0.02, 0.4)))
    if rng.random() < 0.4:  # the codec's or the microphone's end
        clip[int(rng.integers(BANDS // 2, BANDS)) :] = -16
    return clip


def mixed(clips: list[Tensor], rng: np.random.Generator) -> Tensor:
    """One clip, or two over one another, in the noise of a recording."""
    mix = clips[0]
    for clip in clips[1:]:
        mix = torch.logaddexp(mix, clip - _loudness(clip) + _loudness(mix) + float(rng.uniform(-1.5, 1.5)))
    if rng.random() < 0.6:
        colour = torch.linspace(0, -float(rng.uniform(0, 5)), BANDS)[:, None]
        noise = colour + torch.from_numpy(rng.standard_normal(tuple(mix.shape))).float() * 0.9
        mix = torch.logaddexp(mix, noise + mix.max() - float(rng.uniform(4, 11)))
    return mix


def _loudness(clip: Tensor) -> float:
    return float(torch.logsumexp(clip.flatten(), 0))


def _in_a_room(mel: Tensor, decay: float, loudness: float) -> Tensor:
    """With an echo whose power falls by a factor with each frame."""
    count = mel.shape[1]
    steps = torch.arange(count)
    fall = torch.where(steps[:, None] >= steps, decay ** (steps[:, None] - steps).clamp(min=0).float(), 0.0)
    return (mel.exp() + loudness * mel.exp() @ fall.T).log()


def targets(sounds: list[Sound]) -> Tensor:
    """``[K]``: 1 for each kind that is there."""
    there = {sound.kind for sound in sounds}
    return torch.tensor([float(kind in there) for kind in KINDS])
