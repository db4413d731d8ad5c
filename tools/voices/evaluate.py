"""How well voices are separated by lips, of speakers that the network did not learn from.

    python tools/voices/evaluate.py GRID model.safetensors --cache crops --speakers s2 s30 s31 s34

Mixtures are of two sentences at loudnesses that differ by up to 2.5 dB either way. GRID may be any folder that holds a
folder of clips for each speaker. Prints SI-SDR improvement and assignment with the mixture as it is, ideal ratio masks
and faces exchanged beside them, and 95 % bootstrap intervals over mixtures.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "speech_sync"))
from grid import Sentence, load_sentences

from avlearn.metrics.separation import ideal_ratio_mask, si_sdr
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE
from avlearn.models.voices import VoiceSeparation

LOUDER = 2.5  # dB


@dataclass(frozen=True)
class Mixture:
    """Audio ``[S]``, voices of the faces ``[2, S]`` of which some may be silent, and lips ``[2, 129, T]``."""

    audio: Tensor
    voices: Tensor
    lips: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--speakers", nargs="+", required=True)
    parser.add_argument("--mixtures", type=int, default=150, help="of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = VoiceSeparation()
    model.load_state_dict({name: value.float() for name, value in load_file(options.weights).items()})
    model.eval()
    sentences = [s for s in load_sentences(options.grid, options.cache) if s.speaker in options.speakers]
    draw = Drawing(model, sentences)
    for kind, pair in (("two speakers", draw.two), ("one speaker twice", draw.twice)):
        mixtures = list(drawn(pair, options.mixtures, seed=1))
        if mixtures:
            print(f"{kind}, {len(mixtures)} mixtures")
            print(separation(model, mixtures))


class Drawing:
    """Draws mixtures of sentences."""

    def __init__(self, model: VoiceSeparation, sentences: list[Sentence]):
        self.speakers = sorted({s.speaker for s in sentences})
        self.sentences = {speaker: [s for s in sentences if s.speaker == speaker] for speaker in self.speakers}
        with torch.inference_mode():
            self.lips = {(s.speaker, s.name): model.lips(s.crops[None])[0] for s in sentences}

    def two(self, rng: np.random.Generator) -> Mixture:
        """Two speakers."""
        return self._mixed(*rng.permutation(self.speakers)[:2], rng=rng)

    def twice(self, rng: np.random.Generator) -> Mixture | None:
        """One speaker, who says two things at once."""
        speaker = rng.choice(self.speakers)
        return self._mixed(speaker, speaker, rng=rng) if len(self.sentences[speaker]) > 1 else None

    def _mixed(self, *speakers: str, rng: np.random.Generator) -> Mixture:
        chosen = [rng.choice(len(self.sentences[speaker])) for speaker in speakers]
        if len(set(speakers)) == 1 and chosen[0] == chosen[1]:
            chosen[1] = (chosen[1] + 1) % len(self.sentences[speakers[0]])
        parts = [self.sentences[speaker][k] for speaker, k in zip(speakers, chosen, strict=True)]
        crops = min(len(s.crops) for s in parts)
        voices = torch.stack([s.audio[: crops * SAMPLE_RATE // MOUTHS] for s in parts])
        louder = torch.from_numpy(rng.uniform(-LOUDER / 2, LOUDER / 2, (2, 1)).astype(np.float32))
        voices = voices / voices.square().mean(1, keepdim=True).sqrt() * 0.1 * 10 ** (louder / 20)
        lips = [torch.cat([self.lips[s.speaker, s.name][:, :crops], torch.ones(1, crops)]) for s in parts]
        seen = torch.nn.functional.pad(torch.stack(lips), (0, 1))
        return Mixture(voices.sum(0), voices, seen)


def drawn(how: Callable[[np.random.Generator], Mixture | None], count: int, seed: int) -> Iterator[Mixture]:
    """So many mixtures of a kind; fewer where some cannot be."""
    rng = np.random.default_rng(seed)
    yield from (mixture for mixture in (how(rng) for _ in range(count)) if mixture)


def separation(model: VoiceSeparation, mixtures: list[Mixture]) -> str:
    """Figures of mixtures in which both are heard."""
    rows = []
    for mixture in mixtures:
        voices, audio = mixture.voices.numpy(), mixture.audio.numpy()
        tracks = model.separate(mixture.audio[None], mixture.lips)[:, 0].numpy()
        turned = model.separate(mixture.audio[None], mixture.lips.flip(0))[:, 0].numpy()
        base = si_sdr(audio, voices)
        fits = si_sdr(tracks[:, None], voices)
        rows.append([
            (np.diagonal(fits) - base).mean(), np.mean(np.diagonal(fits) > fits[[0, 1], [1, 0]]),
            (si_sdr(turned, voices) - base).mean(), (si_sdr(turned, voices[::-1]) - base[::-1]).mean(),
            (si_sdr(ideal_ratio_mask(voices, audio, 640, 320), voices) - base).mean(), base.mean(),
        ])  # fmt: skip
    names = (
        "SI-SDR improvement, dB", "tracks nearest to their own face's voice (chance 0.5)",
        "improvement with faces exchanged, dB", "the same of the voice of the face that is shown, dB",
        "improvement by ideal ratio masks, dB", "SI-SDR of the mixture, dB",
    )  # fmt: skip
    values, rng = np.array(rows), np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return "\n".join(
        f"  {name}: {value:.2f} [{a:.2f} {b:.2f}]"
        for name, value, a, b in zip(names, values.mean(0), low, high, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
