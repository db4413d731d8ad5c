"""Calibrates the confidence of self-calibration on mouths and voices of GRID, whose speakers it does not learn from.

    python tools/speech_sync/self_calibration.py GRID --cache crops

Recordings are of three to twelve sentences of a speaker, their audio later by up to a second; and the same with the
audio of other sentences of that speaker, where every claim is wrong. Prints the weights, the median offset where
nothing is shifted, and how good the claims are.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from grid import Sentence, load_sentences

from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.expert_answer import SURE
from avlearn.apply.sync.self_calibration import SelfCalibration, Stretch, self_calibrate
from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE
from avlearn.signal.motion import AUDIO_RATE, audio_events, grid_motion

CELLS, REACH = 16, 1.5  # as `avlearn.apply.sync.self_calibrated` takes them
RIGHT, MOST = 0.08, 12  # seconds; recordings of a speaker and a length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = []
    sentences = load_sentences(options.grid, options.cache)
    for speaker in sorted({s.speaker for s in sentences}):
        own = [s for s in sentences if s.speaker == speaker]
        for count in (3, 6, 12):
            for first in range(0, min(len(own), MOST * count) - count + 1, count):
                chosen = own[first : first + count]
                others = [own[(first + k + len(own) // 2) % len(own)] for k in range(count)]
                shift = float(rng.uniform(-1, 1))
                for audio in (chosen, others):
                    if found := recording(chosen, audio, shift):
                        rows.append((count, audio is chosen, found, found.offset + shift))
    ahead = float(np.median([error for _, own, _, error in rows if own and abs(error) < RIGHT]))
    evidence = [found.evidence for _, _, found, _ in rows]
    right = np.array([own and abs(error - ahead) <= RIGHT for _, own, _, error in rows])
    calibration = calibrate(evidence, right)
    print(calibration, f"offset of what is not shifted: {ahead * 1000:+.0f} ms")
    sure = np.array([probability(e, calibration) for e in evidence]) >= SURE
    for count in (3, 6, 12):
        for kind in (True, False):
            of = np.array([row[0] == count and row[1] is kind for row in rows])
            print(f"{count} sentences, {'own' if kind else 'other'} audio: {of.sum()} recordings, best offset right in "
                  f"{right[of].sum()}, named {sure[of].sum()}, of them right {(sure & right)[of].sum()}")  # fmt: skip


def recording(lips: list[Sentence], heard: list[Sentence], shift: float) -> SelfCalibration | None:
    """Of sentences, their audio later by so many seconds."""
    stretches = []
    for own, other in zip(lips, heard, strict=True):
        brightness, motion, _ = grid_motion(own.crops, CELLS)
        _, *events = audio_events(other.audio, SAMPLE_RATE)
        # What is cut off at the start comes later by as much.
        views = tuple(event.numpy() for event in events)
        stretches.append(Stretch((brightness.numpy(), motion.numpy()), views[1:], -shift))
    return self_calibrate(stretches, MOUTHS, AUDIO_RATE, REACH)


if __name__ == "__main__":
    sys.exit(main())
