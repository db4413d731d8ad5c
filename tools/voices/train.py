"""Trains a network that separates voices by lips, on GRID and the noises of ESC-10 alone; see README.md.

    python tools/voices/train.py GRID ESC10 model.safetensors --cache crops --minutes 40 --held-out s2 s4 s5 s30 s31

Minutes are those of one core. What is written is the state that separates mixtures best of sentences that are set
apart, of the speakers that are learned from.
"""

import argparse
import math
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from mixtures import Batch, Mixtures, Voice, load_noises, vary
from safetensors.torch import save_file
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "speech_sync"))
from grid import Sentence, load_sentences
from network import LIPS, VoiceSeparation

BATCH = 6
HIGHEST = 1.5e-3  # learning rate
VERSIONS = 160  # of the sentences of each speaker, about
SET_APART = 8  # sentences: every 8th of a speaker chooses the state that is kept
QUIET = 0.01  # of the mixture's power, that counts beside a voice's own: a silent one can be missed, too
SILENT = 1e-6  # power of a mixture of which nothing is to be learned
NEAR = 1e-3  # of a voice's power: what is left of an error that no longer counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("noises", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the crops, which take minutes to make")
    parser.add_argument("--minutes", type=float, default=40.0, help="of one core")
    parser.add_argument("--held-out", nargs="*", default=[], metavar="SPEAKER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    begin = time.process_time()
    sentences = [s for s in load_sentences(options.grid, options.cache) if s.speaker not in options.held_out]
    learned, apart = split(sentences)
    print(f"{len(learned)} sentences to learn from, {len(apart)} set apart", flush=True)
    model, noises = VoiceSeparation(), load_noises(options.noises)
    spoken = versions(learned), versions(apart)
    find_components(model, spoken[0])
    mixtures = [Mixtures(project(model, voices), noises) for voices in spoken]
    train(model, *mixtures, begin, options.minutes * 60, options.out)


def split(sentences: list[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences to learn from, and every eighth of a speaker."""
    found: tuple[list[Sentence], list[Sentence]] = [], []
    for own in by_speaker(sentences).values():
        for k, sentence in enumerate(own):
            found[k % SET_APART == SET_APART - 1].append(sentence)
    return found


def by_speaker(sentences: list[Sentence]) -> dict[str, list[Sentence]]:
    """The sentences of each speaker."""
    found: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        found.setdefault(sentence.speaker, []).append(sentence)
    return found


def versions(sentences: list[Sentence]) -> list[Voice]:
    """Versions of sentences, about as many of each speaker."""
    groups = by_speaker(sentences).values()
    return [v for own in groups for s in own for v in vary(s, max(VERSIONS // len(own), 1))]


def find_components(model: VoiceSeparation, voices: list[Voice]) -> None:
    """The principal components of what moves of lips."""
    pixels = torch.cat([voice.lips[:, ::5] for voice in voices], 1).float()
    values, vectors = torch.linalg.eigh(pixels @ pixels.T / pixels.shape[1])
    model.components.copy_(vectors[:, -LIPS:].T.flip(0))
    model.spread.copy_(values[-LIPS:].flip(0).sqrt())


def project(model: VoiceSeparation, voices: list[Voice]) -> list[Voice]:
    """The same with the components of their lips, ``[48, T]``."""
    found = []
    for voice in voices:
        lips, rest = (model.project(pixels.float().T[None])[0] for pixels in (voice.lips, voice.rest))
        found.append(replace(voice, lips=lips, rest=rest))
    return found


def train(model: VoiceSeparation, mixtures: Mixtures, apart: Mixtures, begin: float, seconds: float, out: Path) -> None:
    """Learn until so many seconds of one core have gone by since ``begin``; write the best state so far."""
    optimizer = torch.optim.AdamW(model.masks.parameters(), weight_decay=0.02)
    losses: list[float] = []
    said, best = 0.0, math.inf
    chosen = apart.batch(40)
    begin, seconds = time.process_time(), seconds - (time.process_time() - begin)
    while (done := (time.process_time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = HIGHEST * min(1, (len(losses) + 1) / 50) * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        model.train()
        loss = error(model, mixtures.batch(BATCH))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.masks.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if done - said >= 0.04:
            said = done
            model.eval()
            with torch.inference_mode():
                now = float(error(model, chosen))
            print(f"{done:4.0%} step {len(losses)}: {np.mean(losses[-50:]):.2f} dB, apart {now:.2f} dB", flush=True)
            if now < best:
                best = now
                save_file({name: value.half() for name, value in model.state_dict().items()}, out)


def error(model: VoiceSeparation, batch: Batch) -> Tensor:
    """Mean error of tracks, in dB below the voice, or below what stands for it where it is silent; and of the rest."""
    mixture, masks = model.masked(batch.audio, batch.lips)
    level = batch.audio.square().mean(1)[:, None, None].sqrt() + 1e-6
    rest = batch.audio[:, None] - batch.voices.sum(1, keepdim=True)
    targets = model.stft(torch.cat([batch.voices, rest], 1) / level)
    wrong = power(targets - masks * mixture[:, None])
    own = power(targets) + QUIET * power(mixture)[:, None] + SILENT
    errors = 10 * torch.log10(wrong / own + NEAR)
    return (errors * torch.tensor([0.4, 0.4, 0.2])).sum(1).mean()


def power(spectrum: Tensor) -> Tensor:
    """Mean over time and frequency."""
    return torch.view_as_real(spectrum).square().sum(-1).mean((-2, -1))


if __name__ == "__main__":
    sys.exit(main())
