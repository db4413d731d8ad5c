"""Is ``avlearn localize`` right that a source is on screen? python tools/localize_error.py WORK

All clips are of worlds of their own, rendered into WORK; the probability is that of the model's folder.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from reliability import reliability

from avlearn import load, localize_file, make_world
from avlearn.apply.localize.on_screen import on_screen_probability
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig
from avlearn.evaluation.negative_audio import KINDS, OWN, heard_with
from avlearn.media import read_clip, remux, write_wav
from avlearn.metrics.sync import auc
from avlearn.models.audiovisual import AudioVisual

MEASURED = (("standard", 300, 8310), ("hard", 100, 8311))  # preset, clips, seed
FILES = ("standard", 60, 8312)
STARTS = (0.0, 1.9)  # seconds, of the windows
BINS = (0.0, 0.02, 0.1, 0.5, 0.9, 0.98, 1.0)


def world(work: Path, model: AudioVisual, preset: str, clips: int, seed: int) -> tuple[ClipCache, list[Row]]:
    """A world's clips, decoded, and its rows."""
    folder = work / f"world-{seed}"
    make_world(folder, clips, seed, WorldConfig.preset(preset), workers=2, split="test")
    rows = read_manifest(folder)
    config = model.config
    return decode_once(rows, work / "decoded", config.fps, config.size, config.sample_rate, 2), rows


def report_windows(work: Path, model: AudioVisual) -> None:
    """Own audio beside silence, noise and another clip's; and whether the probability is right."""
    said, right = [], []
    for preset, clips, seed in MEASURED:
        cache, _ = world(work, model, preset, clips, seed)
        scores: dict[str, list[float]] = {kind: [] for kind in (OWN, *KINDS)}
        for start in STARTS:
            for kind, (_, evidence, levels) in heard_with(model, cache, start, seed).items():
                scores[kind] += list(on_screen_probability(model, evidence, levels))
        areas = ", ".join(f"{kind} {auc(np.array(scores[OWN]), np.array(scores[kind])).value:.4f}" for kind in KINDS)
        print(f"{clips} clips of the world {preset}, windows of {model.config.seconds:g} s: AUC over {areas}")
        for kind in (OWN, "off screen"):
            said += scores[kind]
            right += [kind == OWN] * len(scores[kind])
    title = "Is avlearn localize right that a source is on screen?"
    cases = "Half of the windows have their own audio, which is right; half have that of another clip."
    reliability(np.array(said), np.array(right), BINS, title, cases, work / "reliability.html")


def report_files(work: Path, model: AudioVisual) -> None:
    """Whole files as the command sees them, and its speed."""
    preset, clips, seed = FILES
    _, rows = world(work, model, preset, clips, seed)
    scores: dict[str, list[float]] = {kind: [] for kind in (OWN, *KINDS)}
    verdicts = {kind: 0 for kind in scores}
    made, wav = work / "made.mp4", work / "made.wav"
    rng = np.random.default_rng(seed)
    spent = seconds = 0.0
    for k, row in enumerate(rows):
        recording = read_clip(row.path, video=False)
        others = read_clip(rows[(k + rng.integers(1, clips)) % clips].path, video=False).audio
        noise = rng.standard_normal(recording.audio.shape).astype(np.float32) * np.sqrt(np.mean(recording.audio**2))
        for kind, audio in zip(scores, (recording.audio, recording.audio * 0, noise, others), strict=True):
            write_wav(wav, audio, recording.sample_rate)
            remux(row.path, made, replace_audio=wav)
            began = time.monotonic()
            result = localize_file(made, model, work / "overlay.mp4")
            spent, seconds = spent + time.monotonic() - began, seconds + row.duration
            scores[kind].append(result.audible)
            verdicts[kind] += result.verdict in ("on screen", "partly on screen")
    print(f"{clips} files of the world {preset}, {seconds / spent:.1f} times as fast as they play")
    for kind, values in scores.items():
        area = "" if kind == OWN else f", AUC {auc(np.array(scores[OWN]), np.array(values)).value:.4f}"
        print(
            f"  {kind}: audible {np.mean(values):.3f} on average, a source named in {verdicts[kind]} of {clips}{area}"
        )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    report_windows(args.work, model)
    report_files(args.work, model)


if __name__ == "__main__":
    main()
