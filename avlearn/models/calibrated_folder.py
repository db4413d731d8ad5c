"""A model folder with what was measured of the model on other clips; its weights stay as they are."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from avlearn.errors import ModelError, OutputError
from avlearn.files import check_folder, replacing, unfinished, write_text
from avlearn.models import in_distribution
from avlearn.models.calibration import Calibrations, remove_calibrations, save_calibrations
from avlearn.models.folder import FORMAT, OBJECTIVE, OBJECTIVE_WEIGHTS
from avlearn.models.in_distribution import InDistribution
from avlearn.validation import read_object

_TITLE = "\n## Calibration\n"  # of the last section of the card
_ALSO = "; calibrated on "


def check_calibrated_folder(folder: Path, out: Path, overwrite: bool) -> None:
    """Check, before the work, that a calibrated copy of a model folder can be written.

    Args:
        folder: of the model.
        out: a new or empty folder; with ``overwrite`` another model's, or the model's own.
        overwrite: whether that may be replaced.

    Raises:
        OutputError: it may not, cannot be written to, or holds something else.
    """
    check_folder(out)
    if folder.resolve() in out.resolve().parents:
        raise OutputError(f"{out} lies in the folder of the model: give another folder")
    if not out.is_dir() or not any(out.iterdir()):
        check_folder(out.absolute().parent)
        return
    if not overwrite:
        itself = out.exists() and out.samefile(folder)
        said = "is the model itself" if itself else "is there already"
        raise OutputError(f"{out} {said}: give another folder, or --overwrite")
    try:
        read_object(out / "config.json", FORMAT)
    except ModelError as error:
        raise OutputError(
            f"{out} holds something else than a model: nothing of it is replaced, give another folder"
        ) from error


def write_calibrated(
    folder: Path,
    out: Path,
    statistics: dict[str, InDistribution],
    calibrations: Calibrations,
    data: str,
    figures: Sequence[str],
) -> None:
    """Write a model folder again, with other statistics and calibrations. A new one appears whole.

    Args:
        folder, out: as for `check_calibrated_folder`.
        statistics: of what is in-distribution.
        calibrations: those that were not measured are not there.
        data: what they were measured on, in a few words.
        figures: lines about that for the card.

    Raises:
        OutputError: it cannot be written.
    """
    write_changed(folder, out, lambda place: _write_measured(place, statistics, calibrations, data, figures))


def write_changed(folder: Path, out: Path, change: Callable[[Path], None]) -> None:
    """Write a model folder again, changed. A new one appears whole.

    Args:
        folder, out: as for `check_calibrated_folder`.
        change: of the copy.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if out.is_dir() and any(out.iterdir()):
            if not out.samefile(folder):
                # First: of a kill, a model is left that says that it is not calibrated.
                remove_calibrations(out)
                _copy_files(folder, out)
            change(out)
            return
        part = unfinished(out)
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(folder, part)
            change(part)
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error


def _copy_files(folder: Path, out: Path) -> None:
    for name in (OBJECTIVE, OBJECTIVE_WEIGHTS):  # of the model that was there: it would score another's features
        if not (folder / name).exists():
            (out / name).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_file() and not ((out / path.name).exists() and path.samefile(out / path.name)):
            with replacing(out / path.name) as part:
                shutil.copyfile(path, part)


def _write_measured(
    folder: Path, statistics: dict[str, InDistribution], calibrations: Calibrations, data: str, figures: Sequence[str]
) -> None:
    remove_calibrations(folder)
    in_distribution.save(statistics, folder)
    config = read_object(folder / "config.json", FORMAT)
    trained_on = str(config.get("trained_on", "")).partition(_ALSO)[0] or "unknown data"
    config = {"format": FORMAT, **config, "trained_on": f"{trained_on}{_ALSO}{data}"}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    card = folder / "README.md"
    above = card.read_text(encoding="utf-8").partition(_TITLE)[0].rstrip("\n") if card.is_file() else f"# {folder.name}"
    listed = "\n".join(f"- {line}" for line in figures)
    write_text(card, f"{above}\n{_TITLE}\nMeasured on {data}, by `avlearn calibrate`:\n\n{listed}\n")
    save_calibrations(calibrations, folder)
