"""Makes the network that tells kinds of sounds: python tools/sound_kinds/train.py GRID ESC10 OUT --cache sounds.pt

Five folds first: each leaves out a fifth of ESC-10, five speakers of GRID, every tenth rendered sound, and two classes
of ESC-10 as sounds of which nothing was ever heard. They are the figures, and what the confidence is calibrated on.
Then a network is trained on all. OUT gets fold1.safetensors to fold5.safetensors, model.safetensors, kinds.json and
figures.json; networks that are there already are not trained again.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sounds import CLASSES, Sound, load_sounds, mixed, targets, training_clip
from torch.nn import functional as F

from avlearn.apply.confidence import calibrate, probability
from avlearn.apply.sound_kind import SURE, SoundEvidence, sound_evidence
from avlearn.models.sound_kinds import FRAMES, KINDS, SoundKinds, standardise

LEFT_OUT = (
    ("dog_bark", "clock_tick"), ("rooster", "chainsaw"), ("baby_cry", "rain"), ("person_sneeze", "helicopter"),
    ("sea_waves", "fire_crackling"),
)  # fmt: skip
UNHEARD = "unheard class: "
BATCH, WINDOW = 48, 2 * FRAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("esc10", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6, help="of each of the six trainings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    sounds = load_sounds(options.grid, options.esc10, options.cache)
    evidence, right, groups = [], [], []
    for fold, left_out in enumerate(LEFT_OUT, 1):
        learned = [s for s in sounds if s.fold not in (-1, fold) and s.name not in left_out]
        model = trained(options.out / f"fold{fold}.safetensors", learned, options.minutes, seed=fold)
        for sound in sounds:
            if sound.fold in (-1, fold) or sound.name in left_out:
                scores, found = of_recording(model, sound)
                evidence.append(found)
                right.append(KINDS[int(scores.argmax())] == sound.kind)
                name = sound.name if sound.name in CLASSES else sound.kind or "none"
                groups.append(UNHEARD + name if sound.name in left_out else name)
        print(f"fold {fold}: {np.mean(right):.3f} right so far", flush=True)
    calibration = calibrate(evidence, np.array(right))
    report(evidence, np.array(right), groups, calibration, options.out)
    (options.out / "kinds.json").write_text(json.dumps(calibration, indent=1) + "\n")
    trained(options.out / "model.safetensors", sounds, options.minutes, seed=0)


def trained(path: Path, sounds: list[Sound], minutes: float, seed: int) -> SoundKinds:
    """The network in a file, which is trained first where there is none."""
    if not path.exists():
        state = train(sounds, minutes, seed).state_dict()
        save_file({name: value.half() if value.is_floating_point() else value for name, value in state.items()}, path)
    model = SoundKinds()
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model.eval()


def train(sounds: list[Sound], minutes: float, seed: int) -> SoundKinds:
    """A network after so many minutes, its learning rate gone with the clock."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    by_kind: dict[str, dict[str, list[Sound]]] = defaultdict(lambda: defaultdict(list))
    for sound in sounds:
        by_kind[sound.kind][sound.name].append(sound)
    model = SoundKinds().train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02)
    begin, share, step = time.process_time(), 0.0, 0
    while share < 1:
        share = (time.process_time() - begin) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * max(0.01, 0.5 + 0.5 * np.cos(np.pi * min(share, 1)))
        clips, wanted = [], []
        for _ in range(BATCH):
            chosen = [draw(by_kind, rng) for _ in range(2 if rng.random() < 0.35 else 1)]
            clips.append(mixed([training_clip(sound, WINDOW, rng) for sound in chosen], rng))
            wanted.append(targets(chosen))
        logits = model(standardise(torch.stack(clips)))
        loss = F.binary_cross_entropy_with_logits(logits, torch.stack(wanted) * 0.96 + 0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"  {share:.0%}, step {step}, loss {float(loss.detach()):.3f}", flush=True)
    return model.eval()


def draw(by_kind: dict[str, dict[str, list[Sound]]], rng: np.random.Generator) -> Sound:
    """A recording: each kind as often, and in it each class."""
    kinds = sorted(by_kind)
    names = by_kind[kinds[rng.integers(len(kinds))]]
    own = names[sorted(names)[rng.integers(len(names))]]
    return own[rng.integers(len(own))]


@torch.inference_mode()
def of_recording(model: SoundKinds, sound: Sound) -> tuple[np.ndarray, SoundEvidence]:
    """As `avlearn.apply.sound_kind.sound_kind` judges a file: windows of two seconds, one a second."""
    firsts = range(0, max(sound.mel.shape[1] - WINDOW // 2, 1), WINDOW // 2)
    windows = [sound.mel[:, first : first + WINDOW] for first in firsts]
    logits = torch.cat([model(standardise(window[None])) for window in windows]).numpy()
    return sound_evidence(logits, np.array([float(window.exp().mean().sqrt()) for window in windows]))


def report(evidence: list[SoundEvidence], right: np.ndarray, groups: list[str], calibration: dict, out: Path) -> None:
    """Print, of each group of recordings, how many are right, named, and both; and write it."""
    sure = np.array([probability(e, calibration) for e in evidence]) >= SURE
    figures = {}
    for group in [*sorted(set(groups)), "all"]:
        own = np.array([group in (g, "all") for g in groups])
        figures[group] = [int(x.sum()) for x in (own, own & right, own & sure, own & sure & right)]
        print("{}: {} recordings, {} right; named {}, of them right {}".format(group, *figures[group]))
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
