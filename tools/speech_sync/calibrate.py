"""Calibrates the confidence of `avlearn.apply.sync.speech` on speakers of GRID that a model did not learn from.

    python tools/speech_sync/calibrate.py GRID fold.safetensors sync.json --cache crops --held-out s2 s4 s5 s30 s31

Claims are of one to eight sentences of a speaker, their audio shifted by up to a second, clean or in noise; and of the
same lips with the audio of other sentences of that speaker, where every claim is wrong. Prints how good it is.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from grid import Sentence, load_sentences
from safetensors.torch import load_file
from torch.nn import functional as F

from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.expert_answer import SURE
from avlearn.apply.sync.lip_curves import SpeechEvidence, lip_curves, speech_evidence
from avlearn.models.speech_sync import SAMPLE_RATE, VOICES, SpeechSync

REACH = 2 * VOICES  # columns
RIGHT = 0.08  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--held-out", nargs="+", required=True, metavar="SPEAKER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = SpeechSync()
    model.load_state_dict({name: value.float() for name, value in load_file(options.weights).items()})
    model.eval()
    sentences = [s for s in load_sentences(options.grid, options.cache) if s.speaker in options.held_out]
    evidence, right, kinds = claims(model, sentences, np.random.default_rng(0))
    calibration = calibrate(evidence, right)
    options.out.write_text(json.dumps(calibration, indent=1) + "\n")
    sure = np.array([probability(e, calibration) for e in evidence]) >= SURE
    for kind in sorted(set(kinds)):
        own = np.array([k == kind for k in kinds])
        print(f"{kind}: {own.sum()} claims, {right[own].sum()} right; named {sure[own].sum()}, of them right "
              f"{(sure & right)[own].sum()}")  # fmt: skip


def claims(
    model: SpeechSync, sentences: list[Sentence], rng: np.random.Generator
) -> tuple[list[SpeechEvidence], np.ndarray, list[str]]:
    """Evidence, whether the claim is right, and what it is of."""
    evidence, right, kinds = [], [], []
    speakers = sorted({s.speaker for s in sentences})
    lags = np.arange(-REACH, REACH + 1)
    for count in (1, 2, 4, 8):
        for speaker in speakers:
            own = [s for s in sentences if s.speaker == speaker]
            for first in range(0, len(own) - count + 1, count):
                chosen = own[first : first + count]
                others = [own[(first + k + len(own) // 2) % len(own)] for k in range(count)]
                for kind, audio in (("true", chosen), ("noisy", chosen), ("exchanged", others)):
                    if count == len(own) and kind == "exchanged":
                        continue
                    shift = int(rng.integers(-VOICES, VOICES + 1))
                    curves = [
                        _curves(model, lips, heard, shift, kind == "noisy", lags, rng)
                        for lips, heard in zip(chosen, audio, strict=True)
                    ]
                    lag, found = speech_evidence(sum(curves[1:], curves[0]), lags)
                    evidence.append(found)
                    right.append(kind != "exchanged" and abs(lag - shift) <= RIGHT * VOICES)
                    kinds.append(f"{count} of {kind} audio")
    return evidence, np.array(right), kinds


def _curves(model, lips, heard, shift, noisy, lags, rng):
    """Of a sentence whose audio comes later by such columns; silence goes before or after it."""
    samples = shift * SAMPLE_RATE // VOICES
    audio = F.pad(heard.audio, (max(samples, 0), max(-samples, 0)))
    audio = audio[-samples:] if samples < 0 else audio[: len(heard.audio)]
    if noisy:
        level = float(audio.square().mean().sqrt()) * 10 ** (-rng.uniform(0, 10) / 20)
        audio = audio + level * torch.from_numpy(rng.standard_normal(len(audio)).astype(np.float32))
    return lip_curves(model.similarity(lips.crops, audio).numpy(), 0, lags, seed=int(rng.integers(1 << 30)))


if __name__ == "__main__":
    sys.exit(main())
