"""Is ``avlearn separate`` right that a track is its thing's? python tools/separate_error.py WORK [--calibrate FOLDER]

All clips are of worlds of their own, rendered into WORK. With --calibrate, the map from evidence to the confidence in
a track is first fitted on other worlds than those of the figures, and written into the model's folder.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from reliability import reliability
from scipy.stats import spearmanr

from avlearn import load, make_world, read_clip, separate_file
from avlearn.apply.confidence import calibrate
from avlearn.apply.separate.result import Track
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig
from avlearn.evaluation.multi_source import stems
from avlearn.evaluation.scene_objects import scene_objects
from avlearn.media import remux, write_wav
from avlearn.metrics.separation import si_sdr
from avlearn.metrics.sync import auc
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.calibration import save_calibrations

DUET = {"sources": (2, 2), "muted_share": 0.0, "offscreen_share": 0.0}
WORLDS = {"duets": ("standard", DUET), "muted": ("muted", {}), "standard": ("standard", {})}
FITTED = (("duets", 150, 8400), ("muted", 60, 8401), ("standard", 60, 8402))  # world, clips, seed
MEASURED, UNRELATED, SILENT = ("duets", 100, 8410), 60, 10  # clips of it with another clip's audio, and with none
RIGHT = 5.0  # dB (SI-SDR) that a track has of its own thing's audio
BINS = (0.0, 0.1, 0.5, 0.9, 0.98, 1.0)


def world(work: Path, name: str, clips: int, seed: int) -> list[Row]:
    """A world's clips."""
    preset, changes = WORLDS[name]
    folder = work / f"world-{seed}"
    make_world(folder, clips, seed, WorldConfig.preset(preset, **changes), workers=1, split="test")
    return read_manifest(folder)


def separated(path: Path, model: AudioVisual) -> Iterator[tuple[Track, np.ndarray]]:
    """The sources' tracks, and their audio ``[S]``."""
    with tempfile.TemporaryDirectory() as folder:
        for track in separate_file(path, model, folder).sources:
            yield track, soundfile.read(track.audio, dtype="float32", always_2d=True)[0].mean(1)


def own(work: Path, model: AudioVisual, rows: list[Row]) -> Iterator[tuple[Track, float]]:
    """Tracks of clips, and the SI-SDR that each has of the thing at its place: -inf where that is silent."""
    for row in rows:
        there, tracks = scene_objects(row), stems(row)
        boxes = np.array([np.nanmedian(thing.boxes, 0) for thing in there])
        for track, audio in separated(row.path, model):
            far = np.maximum(boxes[:, :2] - track.place, track.place - boxes[:, 2:]).max(1)
            true = tracks[there[far.argmin()].stem]
            samples = min(len(audio), len(true))
            ratio = float(si_sdr(audio[:samples], true[:samples]))
            yield track, -np.inf if np.isnan(ratio) else ratio


def other(work: Path, model: AudioVisual, rows: list[Row], silent: bool = False) -> Iterator[Track]:
    """Tracks of clips with the audio of another clip, or with none."""
    made, wav = work / "made.mp4", work / "made.wav"
    for k, row in enumerate(rows):
        recording = read_clip(rows[(k + 7) % len(rows)].path, video=False)
        write_wav(wav, recording.audio * (not silent), recording.sample_rate)
        remux(row.path, made, replace_audio=wav)
        yield from (track for track, _ in separated(made, model))


def fit(work: Path, model: AudioVisual, out: Path) -> None:
    """Tracks of things that sound, of things that do not, and of audio that nothing makes: which are right?

    Only each thing's own audio tells, which a world has and other clips have not: so this is not in the package.
    """
    evidence, right = [], []
    for kind in FITTED:
        rows = world(work, *kind)
        found = [(track, ratio >= RIGHT) for track, ratio in own(work, model, rows)]
        if kind is FITTED[0]:
            found += [(track, False) for track in other(work, model, rows)]
        evidence += [track.evidence for track, _ in found if track.evidence]
        right += [yes for track, yes in found if track.evidence]
        print(f"{kind[0]}: {len(found)} tracks, {np.mean([yes for _, yes in found]):.3f} of them right", flush=True)
    model.calibrations = replace(model.calibrations, tracks=calibrate(evidence, np.array(right)))
    save_calibrations(model.calibrations, out)
    print(f"calibrated on {len(right)} tracks, {np.mean(right):.3f} of them right: {out}")


def report(work: Path, model: AudioVisual) -> None:
    """Whether the confidence tells good tracks from bad ones, and from those of audio that nothing seen makes."""
    name, clips, _ = MEASURED
    rows = world(work, *MEASURED)
    tracks, ratios = zip(*own(work, model, rows), strict=True)
    said, ratios = np.array([track.confidence for track in tracks]), np.array(ratios)
    right = ratios >= RIGHT
    print(f"{clips} clips of the world {name}: {len(said)} tracks, {right.sum()} with {RIGHT:g} dB or more")
    print(f"  AUC {auc(said[right], said[~right]).value:.4f}, rank correlation {spearmanr(said, ratios).statistic:.3f}")
    unrelated = np.array([track.confidence for track in other(work, model, rows[:UNRELATED])])
    quantiles = ", ".join(f"{value:.3f}" for value in np.quantile(unrelated, (0.5, 0.95, 1.0)))
    print(f"{UNRELATED} videos with another clip's audio: {len(unrelated)} tracks")
    print(f"  {(unrelated >= 0.5).sum()} of them at 0.5 or more; median, 95 %, most {quantiles}")
    print(f"  AUC to right tracks {auc(said[right], unrelated).value:.4f}")
    silent = list(other(work, model, rows[:SILENT], silent=True))
    print(f"{SILENT} videos with silence: {len(silent)} tracks")
    cases = (
        f"Tracks of two things that sound, and of unrelated audio; right is {RIGHT:g} dB of the thing's own or more."
    )
    reliability(
        np.concatenate([said, unrelated]), np.concatenate([right, np.zeros(len(unrelated), bool)]), BINS,
        "Is the confidence of avlearn separate right?", cases, work / "reliability.html",
    )  # fmt: skip


def main() -> None:
    """Calibrate where asked for, then print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="the model's folder")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    if args.calibrate:
        fit(args.work, model, args.calibrate)
    report(args.work, model)


if __name__ == "__main__":
    main()
