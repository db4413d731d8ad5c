"""Two folds of footage, each to be judged by towers that learned from the other, and the recipe of their trainings."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avlearn.adapt.footage import Stretch
from avlearn.config import ModelConfig
from avlearn.data.manifest import Row, write_manifest
from avlearn.errors import DataError
from avlearn.media import probe
from avlearn.recipe import Recipe
from avlearn.tasks import load_recipe

FOLDS = 2
LEAST = 20  # stretches that can be judged: a calibration stands on as many
_CONTEXT = 0.96  # seconds of audio beside the video, about
_FILES = 8  # from which on folds are of whole files
_HELD = 0.1  # of a fold's stretches, which choose the checkpoint


def context(step: float) -> float:
    """Seconds of further audio on each side of a window: whole steps of a model."""
    return max(round(_CONTEXT / step), 1) * step


def least_seconds(config: ModelConfig, step: float) -> float:
    """Seconds that a stretch has to last to be learned from."""
    return config.seconds + 2 * context(step)


def assign(parts: Sequence[Stretch], seed: int) -> tuple[list[int], bool]:
    """The fold of each stretch, and whether folds are of whole files; of few files, they are the halves of each.

    Args:
        parts: in the order of their files, and of time.
        seed: of the order in which files are dealt out.

    Raises:
        DataError: there are too few.
    """
    files = list(dict.fromkeys(part.file for part in parts))
    if len(parts) < LEAST:
        seconds = sum(part.end - part.start for part in parts)
        raise DataError(
            f"{len(parts)} stretches of {len(files)} files can be used, {seconds:.0f} s in all: adapt takes {LEAST} "
            "at least, which are 2 minutes of one file, or 20 short files"
        )
    if len(files) >= _FILES:
        order = np.random.default_rng(seed).permutation(len(files))
        fold = {files[k]: place % FOLDS for place, k in enumerate(order)}
        return [fold[part.file] for part in parts], True
    counts = {file: sum(part.file == file for part in parts) for file in files}
    seen = dict.fromkeys(files, 0)
    found = []
    for part in parts:
        whole = files.index(part.file) if counts[part.file] == 1 else seen[part.file] * FOLDS // counts[part.file]
        found.append(whole % FOLDS)
        seen[part.file] += 1
    return found, False


def write_lists(parts: Sequence[Stretch], folder: Path, seconds: float, seed: int) -> tuple[Path, Path]:
    """Manifests of pieces to train on and to validate with; no file is in both where there are several.

    Args:
        parts: that may be learned from.
        folder: gets ``train.parquet`` and ``val.parquet``.
        seconds: of a window with its context.
        seed: of the choice of what is held out.
    """
    files = list(dict.fromkeys(part.file for part in parts))
    if len(files) >= 1 / _HELD:
        held = set(np.random.default_rng(seed).permutation(files)[: max(round(len(files) * _HELD), 1)])
        split = [part.file in held for part in parts]
    else:
        count = max(round(len(parts) * _HELD), 1)
        split = [k >= len(parts) - count for k in range(len(parts))]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, wanted in (("train", False), ("val", True)):
        rows = [row for part, own in zip(parts, split, strict=True) if own == wanted for row in _pieces(part, seconds)]
        paths.append(folder / f"{name}.parquet")
        write_manifest(rows, paths[-1])
    return paths[0], paths[1]


def _pieces(part: Stretch, seconds: float) -> list[Row]:
    """A copy in pieces of one length, which are decoded once: side by side, the last one to the end."""
    info = probe(part.copy)
    assert info.video and info.audio
    there = min(info.video.duration, info.audio.duration)
    count = max(math.ceil(there / seconds), 1)
    return [
        Row(part.copy, start=info.start + float(start), duration=seconds)
        for start in np.linspace(0, max(there - seconds, 0), count)
    ]


def recipe(
    base: str, config: ModelConfig, step: float, lists: tuple[Path, Path], root: Path, seed: int, accelerator: str
) -> Recipe:
    """The recipe ``adapt`` for a base and lists of pieces.

    Args:
        base: name or path of the model to begin with.
        config, step: of it.
        lists: manifests, see `write_lists`.
        root: of decoded clips.
        seed: of all that is drawn.
        accelerator: see the recipe's section ``trainer``.
    """
    train, val = lists
    words = [
        f"model.base={base}", f"data.train={train}", f"data.val={val}", f"data.root={root}", f"seed={seed}",
        f"clip.seconds={config.seconds}", f"clip.context={context(step)}", f"trainer.accelerator={accelerator}",
    ]  # fmt: skip
    return load_recipe("adapt", words)
