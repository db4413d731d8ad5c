"""Trains the encoders of talking faces that come with the package, on GRID alone.

    python tools/speech_sync/train.py GRID speech_sync.safetensors --cache crops --minutes 25
    python tools/speech_sync/train.py GRID fold.safetensors --cache crops --minutes 25 --held-out s2 s4 s5 s30 s31

With --held-out it trains without these speakers and prints how near the offsets of their sentences are. Minutes are
those of one core; 25 of them are about 3,000 steps. GRID holds the folders of the speakers, s1, s2, ...
"""

import argparse
import math
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from augment import at_speed, augment_mouths, augment_voice, of_another_voice
from grid import Sentence, load_sentences
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from avlearn.models.speech_sync import BANDS, SpeechSync

BATCH, FRAMES = 16, 40  # clips, and crops of each
RATIO = 4  # columns of a spectrogram to a crop
BLUR = 1.5  # columns, std of what counts as the right place
HIGHEST = 2e-3  # learning rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the crops, which take minutes to make")
    parser.add_argument("--minutes", type=float, default=25.0, help="of one core")
    parser.add_argument("--held-out", nargs="*", default=[], metavar="SPEAKER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    sentences = load_sentences(options.grid, options.cache)
    held_out = [s for s in sentences if s.speaker in options.held_out]
    seen = [s for s in sentences if s.speaker not in options.held_out]
    print(f"{len(seen)} sentences to learn from, {len(held_out)} held out", flush=True)
    model = train(seen, options.minutes * 60)
    if held_out:
        print(report(model, held_out))
    save_file({name: value.half() for name, value in model.state_dict().items()}, options.out)


def train(sentences: list[Sentence], seconds: float) -> SpeechSync:
    """A model after so many seconds of one core."""
    model, begin, losses, said = SpeechSync(), time.process_time(), [], 0.0
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    by_speaker: dict[bool, list[Sentence]] = {True: [], False: []}
    for sentence in sentences:
        by_speaker[sentence.speaker == "s1"].append(sentence)
    while (done := (time.process_time() - begin) / seconds) < 1:
        warm = min(1, (len(losses) + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = HIGHEST * warm * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        # Half of the clips are of s1, who has nine sentences of ten.
        chosen = [random.choice(by_speaker[random.random() < 0.5] or sentences) for _ in range(BATCH)]
        loss = clip_loss(model, *batch(chosen, sentences))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if done - said >= 0.05:
            said = done
            print(f"{done:4.0%} step {len(losses)} loss {np.mean(losses[-100:]):.3f}", flush=True)
    return model.eval()


def batch(chosen: list[Sentence], sentences: list[Sentence]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mouths ``[B, 40, 48, 48]``, whole voices ``[B, 40, U]``, which columns are theirs, and where mouths begin."""
    mouths, voices, places = [], [], []
    for sentence in chosen:
        speed = min(math.exp(random.uniform(-0.25, 0.25)), (len(sentence.crops) - 1) / (FRAMES + 4))
        crops, mel = at_speed(sentence.crops, sentence.mel, speed)
        first = random.randrange(len(crops) - FRAMES)
        mel = of_another_voice(mel, math.exp(random.uniform(-0.16, 0.16)))
        mouths.append(crops[first : first + FRAMES])
        voices.append(augment_voice(mel, random.choice(sentences).mel))
        places.append(RATIO * first)
    longest = max(voice.shape[1] for voice in voices)
    padded = torch.zeros(len(chosen), BANDS, longest)
    there = torch.zeros(len(chosen), longest, dtype=torch.bool)
    for row, voice in enumerate(voices):
        padded[row, :, : voice.shape[1]] = voice
        there[row, : voice.shape[1]] = True
    return augment_mouths(torch.stack(mouths)), padded, there, torch.tensor(places)


def clip_loss(model: SpeechSync, mouths: Tensor, voices: Tensor, there: Tensor, places: Tensor) -> Tensor:
    """Cross-entropy of where in all voices of the batch a stretch of crops belongs, and of whose crops a stretch of
    voice belongs to."""
    mouth, voice = model.mouth(mouths), model.voice(voices)
    count = random.choice([6, 10, 16, 25, FRAMES])  # crops of a stretch: evidence adds up over them
    first = random.randrange(FRAMES - count + 1)
    mouth, places = mouth[:, :, first : first + count], places + RATIO * first
    similarity = torch.einsum("bdt,cdu->bctu", mouth, voice) * model.scale.exp()
    starts = voice.shape[2] - RATIO * (count - 1)
    diagonal = torch.arange(starts) + RATIO * torch.arange(count)[:, None]
    logits = similarity.gather(3, diagonal.expand(*similarity.shape[:2], -1, -1)).sum(2)  # [mouths, voices, starts]
    there = there[:, RATIO * (count - 1) :]
    logits = logits.masked_fill(~there, -1e4)
    own = torch.arange(len(mouths))
    near = torch.exp(-0.5 * ((torch.arange(starts) - places[:, None]) / BLUR) ** 2) * there
    near = near / near.sum(1, keepdim=True)
    where = logits.flatten(1).logsumexp(1) - (logits[own, own] * near).sum(1)
    column = places.clamp(max=starts - 1)[None, :, None].expand(len(mouths), -1, 1)
    return where.mean() + 0.5 * F.cross_entropy(logits.gather(2, column)[:, :, 0].T, own)


def report(model: SpeechSync, sentences: list[Sentence]) -> str:
    """How far from nothing the offsets of sentences are, which are in sync; one second on either side is searched."""
    offsets = []
    for sentence in sentences:
        similarity = model.similarity(sentence.crops, sentence.audio).numpy()
        rows = np.arange(len(similarity))
        lags = np.arange(-100, 101)
        columns = RATIO * rows + lags[:, None]
        inside = (columns >= 0) & (columns < similarity.shape[1])
        values = np.where(inside, similarity[rows, columns.clip(0, similarity.shape[1] - 1)], 0).sum(1)
        offsets.append(10 * int(lags[np.argmax(values / (inside.sum(1) + 10))]))
    error = np.abs(offsets)
    speakers = " ".join(sorted({s.speaker for s in sentences}))
    return (
        f"{len(error)} sentences of {speakers}: within 40 ms {np.mean(error <= 40):.3f}, within 80 ms "
        f"{np.mean(error <= 80):.3f}, median error {np.median(error):.0f} ms, chance {17 / 201:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
