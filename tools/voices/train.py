"""Trains a network that separates voices by lips, on GRID and the noises of ESC-10 alone; see README.md.

    python tools/voices/train.py GRID ESC10 fold.safetensors model.safetensors --cache crops --held-out s2 s30 s31 s34

``fold.safetensors`` is of `tools/speech_sync/train.py` with the same speakers held out: it reads lips. Needs pyworld
(``pip install pyworld``). Minutes are those of one core that trains.
What is written is the state that separates mixtures best of sentences that are set
apart, of the speakers that are learned from.
"""

import argparse
import math
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mixtures import Batch, Mixtures, Voice, load_noises, vary
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "speech_sync"))
from grid import Sentence, load_sentences

from avlearn.models.voices import BINS, VoiceSeparation, attractor_masks

BATCH = 6
HIGHEST = 1.5e-3  # learning rate
VERSIONS = 200  # of the sentences of each speaker, about
SET_APART = 8  # sentences: every 8th of a speaker chooses the state that is kept
VOICE = 0.5  # of the second error, beside the first
QUIET = 0.01  # of the mixture's power, that counts beside a voice's own: a silent one can be missed, too
SILENT = 1e-6  # power of a mixture of which nothing is to be learned
NEAR = 1e-3  # of a voice's power: what is left of an error that no longer counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("noises", type=Path)
    parser.add_argument("lips", type=Path, help="weights of tools/speech_sync/train.py")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the crops, which take minutes to make")
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core")
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
    read = {name: value.float() for name, value in load_file(options.lips).items()}
    model.mouth.load_state_dict({name[6:]: value for name, value in read.items() if name.startswith("mouth.")})
    model.eval()
    mixtures = [Mixtures(versions(model, part), noises) for part in (learned, apart)]
    print(f"versions made in {time.process_time() - begin:.0f} s", flush=True)
    train(model, *mixtures, options.minutes * 60, options.out)


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


def versions(model: VoiceSeparation, sentences: list[Sentence]) -> list[Voice]:
    """Versions of sentences, about as many of each speaker."""
    groups = by_speaker(sentences).values()
    return [v for own in groups for s in own for v in vary(model, s, max(VERSIONS // len(own), 1))]


def train(model: VoiceSeparation, mixtures: Mixtures, apart: Mixtures, seconds: float, out: Path) -> None:
    """Learn for so many seconds of one core; write the best state so far."""
    optimizer = torch.optim.AdamW(model.masks.parameters(), weight_decay=0.02)
    losses: list[tuple[float, float]] = []
    said, best = 0.0, math.inf
    chosen = apart.batch(60)
    begin = time.process_time()
    while (done := (time.process_time() - begin) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = HIGHEST * min(1, (len(losses) + 1) / 50) * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        model.masks.train()
        by_lips, by_voice = errors(model, mixtures.batch(BATCH))
        optimizer.zero_grad()
        (by_lips + VOICE * by_voice).backward()
        torch.nn.utils.clip_grad_norm_(model.masks.parameters(), 5.0)
        optimizer.step()
        losses.append((float(by_lips.detach()), float(by_voice.detach())))
        if done - said >= 0.04:
            said = done
            model.eval()
            with torch.inference_mode():
                now = [float(x) for x in errors(model, chosen)]
            learned = np.mean(losses[-50:], axis=0)
            print(
                f"{done:4.0%} step {len(losses)}: by lips {learned[0]:.2f} dB, apart {now[0]:.2f} dB; "
                f"by voice {learned[1]:.2f}, apart {now[1]:.2f}",
                flush=True,
            )
            if now[0] < best:
                best = now[0]
                save_file({name: value.half() for name, value in model.state_dict().items()}, out)


def errors(model: VoiceSeparation, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean error of tracks in dB below the voice: of those that lips ask for, and of those by true attractors.

    Where a voice is silent, what stands for it is a share of the mixture. The second trains the embedding from the
    first step on, when lips do not yet say anything.
    """
    level = batch.audio.square().mean(1)[:, None, None].sqrt() + 1e-6
    rest = batch.audio[:, None] - batch.voices.sum(1, keepdim=True)
    targets = model.stft(torch.cat([batch.voices, rest], 1) / level)
    with torch.autocast("cpu", torch.bfloat16):
        mixture, masks, place = model.masked(batch.audio, batch.lips)
    wanted = power(targets) + QUIET * power(mixture)[:, None] + SILENT

    def error(masks: Tensor) -> Tensor:
        bins = masks.shape[2]
        wrong = power(targets[:, :, :bins] - masks * mixture[:, None, :bins]) * bins / targets.shape[2]
        errors = 10 * torch.log10(wrong / wanted + NEAR)
        return (errors * torch.tensor([0.4, 0.4, 0.2])).sum(1).mean()

    size = targets[:, :, :BINS].abs()
    dominant = (size == size.amax(1, keepdim=True)) * mixture[:, None, :BINS].abs() ** 0.5
    return error(masks.float()), error(attractor_masks(place.float(), dominant))


def power(spectrum: Tensor) -> Tensor:
    """Mean over time and frequency."""
    return torch.view_as_real(spectrum).square().sum(-1).mean((-2, -1))


if __name__ == "__main__":
    sys.exit(main())
