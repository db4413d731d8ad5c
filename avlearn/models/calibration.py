"""Calibrations of a model's readouts, in files beside its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from avlearn.files import write_text
from avlearn.validation import STRICT, read_object, validated

# Names of files; see avlearn.apply.confidence, avlearn.apply.localize.on_screen, and in avlearn.apply.separate
# track_confidence and track_quality.
SYNC, ON_SCREEN, TRACKS, QUALITY = "sync.json", "localize.json", "separate.json", "separate_quality.json"
FORMAT, QUALITY_FORMAT = "avlearn.confidence/1", "avlearn.quality/1"


@dataclass(frozen=True)
class _Stored:
    """What `avlearn.apply.confidence.calibrate` found."""

    __pydantic_config__ = STRICT

    weights: dict[Annotated[str, Field(max_length=64)], Annotated[float, Field(ge=-1e6, le=1e6)]]
    bias: Annotated[float, Field(ge=-1e6, le=1e6)]


@dataclass(frozen=True)
class TrackQualityMap:
    """A line from the sharpness of a track's masks to its SI-SDR, both in dB.

    See `avlearn.apply.separate.track_quality`.

    Attributes:
        weight, bias: of the line.
        error: within which nine in ten estimates lie.
        low, high: the least and the most that is told.
    """

    __pydantic_config__ = STRICT

    weight: Annotated[float, Field(ge=0, le=100)]
    bias: Annotated[float, Field(ge=-100, le=100)]
    error: Annotated[float, Field(ge=0, le=100)]
    low: Annotated[float, Field(ge=-100, le=100)]
    high: Annotated[float, Field(ge=-100, le=100)]


@dataclass(frozen=True)
class Calibrations:
    """Calibrations of a model's readouts, as `avlearn.apply.confidence.calibrate` gives them; None: not measured.

    Attributes:
        sync: of the confidence in an offset.
        on_screen: of the probability that an audio source is on screen.
        tracks: of the confidence in a separated track.
        quality: of the estimate of its SI-SDR.
    """

    sync: dict[str, Any] | None = None
    on_screen: dict[str, Any] | None = None
    tracks: dict[str, Any] | None = None
    quality: TrackQualityMap | None = None


def read_calibrations(folder: Path) -> Calibrations:
    """Calibrations in a model folder.

    Raises:
        ModelError: a file holds something else.
    """
    path = folder / QUALITY
    quality = validated(TrackQualityMap, read_object(path, QUALITY_FORMAT), path) if path.is_file() else None
    return Calibrations(_read(folder / SYNC), _read(folder / ON_SCREEN), _read(folder / TRACKS), quality)


def save_calibrations(calibrations: Calibrations, folder: Path) -> None:
    """Write the calibrations of a model folder; those that were not measured are removed.

    Raises:
        OutputError: one cannot be written.
    """
    quality = {"format": QUALITY_FORMAT, **asdict(calibrations.quality)} if calibrations.quality else None
    found = {
        SYNC: calibrations.sync, ON_SCREEN: calibrations.on_screen, TRACKS: calibrations.tracks, QUALITY: quality,
    }  # fmt: skip
    for name, calibration in found.items():
        if calibration is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_text(folder / name, json.dumps(calibration, indent=1) + "\n")


def remove_calibrations(folder: Path) -> None:
    """Delete the calibrations of a model folder: they are of the weights that were there."""
    save_calibrations(Calibrations(), folder)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    return {"format": FORMAT, **asdict(validated(_Stored, read_object(path, FORMAT), path))}
