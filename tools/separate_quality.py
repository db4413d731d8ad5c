"""Is the SI-SDR right that ``avlearn separate`` estimates of a track? python tools/separate_quality.py WORK

All clips are duets of the synthetic world, rendered into WORK. With --calibrate FOLDER, the line from the sharpness of
a track's masks to its SI-SDR is first fitted on another world than that of the figures, and written into the model's
folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from separate_error import own, world

from avlearn import load
from avlearn.apply.separate.track_quality import fit_quality
from avlearn.models.audiovisual import AudioVisual
from avlearn.models.calibration import TrackQualityMap, save_calibrations

FITTED, MEASURED = ("duets", 90, 8400), ("duets", 60, 8410)  # world, clips, seed
IDENTITY = TrackQualityMap(1.0, 0.0, 0.0, -100.0, 100.0)  # tells the sharpness itself


def told(work: Path, model: AudioVisual, kind: tuple[str, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is told of each track, its true SI-SDR, and its confidence."""
    found = [
        (track.quality.si_sdr, ratio, track.confidence)
        for track, ratio in own(work, model, world(work, *kind))
        if track.quality and np.isfinite(ratio)
    ]
    said, true, sure = np.array(found).T
    return said, true, sure


def main() -> None:
    """Calibrate where asked for, then print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="the model's folder")
    args = parser.parse_args()
    model = load(args.model)
    if args.calibrate:
        model.calibrations = replace(model.calibrations, quality=IDENTITY)
        sharpness, true, _ = told(args.work, model, FITTED)
        model.calibrations = replace(model.calibrations, quality=fit_quality(sharpness, true))
        save_calibrations(model.calibrations, args.calibrate)
        print(f"fitted on {len(true)} tracks: {model.calibrations.quality}")
    said, true, sure = told(args.work, model, MEASURED)
    error, mean = np.abs(said - true), np.abs(true - true.mean()).mean()
    ranks, others = (spearmanr(figure, true).statistic for figure in (said, sure))
    print(f"{len(true)} tracks of {MEASURED[1]} duets: true SI-SDR {np.median(true):.1f} dB (median)")
    print(f"  rank correlation {ranks:.3f}; that of the confidence {others:.3f}")
    print(f"  error {np.median(error):.1f} dB (median), {error.mean():.1f} dB (mean); of saying the mean {mean:.1f} dB")
    if model.calibrations.quality:
        print(f"  {np.mean(error <= model.calibrations.quality.error):.3f} within the error that is told")


if __name__ == "__main__":
    main()
