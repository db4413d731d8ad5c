"""Mixtures of GRID's voices with the lips of those who are seen, as they are drawn for training.

GRID has ten speakers, one microphone and no noise. Most voices are spoken again by a throat that nobody has: a vocoder
(WORLD: Morise et al., 2016) takes pitch and resonances apart and puts others together. All are made faster and slower,
sound through other filters, in noise (ESC-10 and synthetic), and beside voices of people who are not seen. Some of
those who are seen are silent, or speak what is not heard.
"""

import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyworld
import soxr
import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import phase_vocoder

sys.path.append(str(Path(__file__).parents[1] / "speech_sync"))
from augment import at_speed, augment_mouths
from grid import Sentence

from avlearn.media import read_clip
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE
from avlearn.models.voices import VoiceSeparation

CROPS = 60  # of a mixture: 2.4 seconds
SAMPLES = CROPS * SAMPLE_RATE // MOUTHS
_FFT, _HOP = 512, 128  # of what changes the speed of a voice and not its pitch


@dataclass(frozen=True)
class Voice:
    """A sentence as somebody else might say it: samples ``[S]``, lips ``[128, T]``, and lips at rest."""

    speaker: str
    audio: Tensor
    lips: Tensor
    rest: Tensor


class Throat:
    """A sentence as pitch, resonances and breath, of which other voices are made."""

    def __init__(self, audio: Tensor):
        samples = audio.double().numpy()
        pitch, times = pyworld.dio(samples, SAMPLE_RATE)
        self.pitch = pyworld.stonemask(samples, pitch, times, SAMPLE_RATE)
        self.envelope = pyworld.cheaptrick(samples, self.pitch, times, SAMPLE_RATE)
        self.breath = pyworld.d4c(samples, self.pitch, times, SAMPLE_RATE)

    def say(self, speed: float, pitch: float, size: float, liveliness: float) -> Tensor:
        """``[S]`` at another speed, about a pitch in Hz that moves more or less, its resonances higher by ``size``."""
        count = int((len(self.pitch) - 1) / speed)
        frames = np.minimum((np.arange(count) * speed).round().astype(int), len(self.pitch) - 1)
        own, voiced = self.pitch[frames], self.pitch[frames] > 0
        usual = np.log(own[voiced]).mean() if voiced.any() else 0.0
        new = np.where(voiced, np.exp(np.log(pitch) + liveliness * (np.log(np.maximum(own, 1)) - usual)), 0.0)
        bins = self.envelope.shape[1]
        at = np.minimum(np.arange(bins) / size, bins - 1.001)
        low, share = at.astype(int), at - at.astype(int)
        warped = [
            np.ascontiguousarray(x[frames][:, low] * (1 - share) + x[frames][:, low + 1] * share)
            for x in (self.envelope, self.breath)
        ]
        return torch.from_numpy(pyworld.synthesize(new.clip(0, 500), *warped, SAMPLE_RATE)).float()


def vary(model: VoiceSeparation, sentence: Sentence, rounds: int) -> list[Voice]:
    """As many versions of a sentence: of other speed, voice and look."""
    throat, found = Throat(sentence.audio), []
    for _ in range(rounds):
        speed = math.exp(random.uniform(-0.22, 0.18))
        crops, _ = at_speed(sentence.crops, sentence.mel, speed)
        still = crops[:1].expand(CROPS + 1, -1, -1)
        with torch.inference_mode():
            lips, rest = (model.embed(augment_mouths(x[None]))[0] for x in (crops, still))
        if random.random() < 0.3:
            audio = at_pitch(sentence.audio, speed, math.exp(random.uniform(-0.28, 0.26)))
        else:
            pitch = math.exp(random.uniform(math.log(80), math.log(290)))
            audio = throat.say(speed, pitch, math.exp(random.uniform(-0.2, 0.2)), random.uniform(0.5, 1.5))
        found.append(Voice(sentence.speaker, audio, lips.half(), rest.half()))
    return found


def at_pitch(audio: Tensor, speed: float, pitch: float) -> Tensor:
    """``[S]`` faster by ``speed``, its frequencies higher by ``pitch``."""
    if abs(speed / pitch - 1) > 0.02:
        taper = torch.hann_window(_FFT)
        spectrum = torch.stft(audio, _FFT, _HOP, window=taper, return_complex=True)
        advance = torch.linspace(0, math.pi * _HOP, _FFT // 2 + 1)[:, None]
        audio = torch.istft(phase_vocoder(spectrum, speed / pitch, advance), _FFT, _HOP, window=taper)
    return torch.from_numpy(soxr.resample(audio.numpy(), SAMPLE_RATE * pitch, SAMPLE_RATE))


def load_noises(folder: Path, most: int = 120) -> list[Tensor]:
    """Clips of ESC-10 at `SAMPLE_RATE`, ``[S]`` each."""
    paths = sorted(folder.glob("*/*.*"))
    paths = [path for path in paths if path.suffix in (".wav", ".ogg")]
    chosen = random.Random(0).sample(paths, min(most, len(paths)))
    clips = [read_clip(path, video=False, sample_rate=SAMPLE_RATE, mono=True).audio[0] for path in chosen]
    return [torch.from_numpy(clip) for clip in clips if np.square(clip).mean() > 1e-7]


@dataclass(frozen=True)
class Batch:
    """Mixtures ``[B, S]``; of two who are seen in each, voices ``[B, 2, S]`` and lips ``[B, 2, 129, T]``."""

    audio: Tensor
    voices: Tensor
    lips: Tensor


class Mixtures:
    """Draws mixtures of two who are seen.

    Args:
        voices: versions of all sentences.
        noises: ``[S]`` each.
    """

    def __init__(self, voices: list[Voice], noises: list[Tensor]):
        self.by_speaker: dict[str, list[Voice]] = {}
        for voice in voices:
            self.by_speaker.setdefault(voice.speaker, []).append(voice)
        self.noises = noises

    def batch(self, count: int) -> Batch:
        """Of so many mixtures."""
        return Batch(*(torch.stack(part) for part in zip(*(self.draw() for _ in range(count)), strict=True)))

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """One mixture of a `Batch`."""
        first, second, third = (random.choice(list(self.by_speaker)) for _ in range(3))
        second = first if random.random() < 0.3 else second
        parts = [self._part(random.choice(self.by_speaker[speaker])) for speaker in (first, second)]
        voices = torch.stack([audio for audio, _ in parts]) * 10 ** ((torch.rand(2, 1) * 8 - 4) / 20)
        lips = torch.stack([lips for _, lips in parts])
        hidden, kind = torch.zeros(SAMPLES), random.random()
        if kind < 0.15:  # the second is not heard: is silent, speaks what is not heard, or is not there at all
            voices[1] = 0
            lips[1] = random.choice([self._rest(second), lips[1], torch.zeros_like(lips[1])])
        if 0.1 < kind < 0.2:  # beside somebody who is not seen
            hidden = self._part(random.choice(self.by_speaker[third]))[0] * 10 ** (random.uniform(-5, 3) / 20)
        if kind > 0.98:  # nobody is heard
            voices = torch.zeros(2, SAMPLES)
        if random.random() < 0.2 or kind > 0.98:
            hidden = hidden + self._noise() * 10 ** (random.uniform(-20, 0) / 20)
        for seen in lips:
            if random.random() < 0.15:  # out of sight for half a second or so
                at = random.randrange(CROPS)
                seen[:, at : at + random.randrange(3, 16)] = 0
        order = torch.tensor(random.choice([[0, 1], [1, 0]]))
        return voices.sum(0) + hidden, voices[order], lips[order]

    def _part(self, voice: Voice) -> tuple[Tensor, Tensor]:
        """Some 2.4 seconds at RMS 1 through some filter, and the lips: silence and no lips beyond the ends."""
        count = voice.lips.shape[1]
        start = random.randint(min(0, count - CROPS), max(0, count - CROPS))
        lips = torch.cat([voice.lips.float(), torch.ones(1, count)])
        audio = _cut(voice.audio, start * SAMPLE_RATE // MOUTHS, SAMPLES)
        return _filtered(audio), _cut(lips, start, CROPS + 1)

    def _rest(self, speaker: str) -> Tensor:
        lips = random.choice(self.by_speaker[speaker]).rest.float()
        return torch.cat([lips, torch.ones(1, lips.shape[1])])

    def _noise(self) -> Tensor:
        """At RMS 1: recorded, or of a random colour."""
        if random.random() < 0.7:
            clip = random.choice(self.noises)
            first = random.randrange(max(len(clip) - SAMPLES, 0) + 1)
            clip = clip.repeat(-(-SAMPLES // len(clip)) + 1)[first : first + SAMPLES]
        else:
            clip = torch.randn(SAMPLES)
        return _filtered(clip)


def _cut(x: Tensor, start: int, count: int) -> Tensor:
    """Entries of the last dimension from ``start`` on; zeros outside of it."""
    x = F.pad(x, (max(-start, 0), 0))[..., max(start, 0) :]
    return F.pad(x, (0, max(count - x.shape[-1], 0)))[..., :count]


def _filtered(audio: Tensor) -> Tensor:
    """Through a random smooth filter, a few dB up and down, at RMS 1."""
    spectrum = torch.fft.rfft(audio)
    knots = torch.randn(1, 1, random.randrange(2, 8)) * random.uniform(0, 4)
    curve = F.interpolate(knots, len(spectrum), mode="linear", align_corners=True)[0, 0]
    audio = torch.fft.irfft(spectrum * 10 ** (curve / 20), len(audio))
    return audio / (audio.square().mean().sqrt() + 1e-4)
