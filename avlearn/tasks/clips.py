"""The clips of a recipe, for training and for validation."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.clips import WindowRule
from avlearn.data.manifest import NO_AUDIO, NO_VIDEO, Row, in_fold, read_manifest, select, take, value_counts
from avlearn.data.scan import scan_folder
from avlearn.errors import DataError, RecipeError
from avlearn.files import printable
from avlearn.recipe import Recipe
from avlearn.recipe.schema import Data, World
from avlearn.terminal import progress_line, remark

NAMES = ("training", "validation")


def origin(recipe: Recipe) -> str:
    """Where the clips are from, in words."""
    return recipe.data.train or f"the synthetic world ({world_of(recipe).preset})"


def world_of(recipe: Recipe) -> World:
    """The world to be rendered, where a recipe names no data.

    Raises:
        RecipeError: it names neither.
    """
    if recipe.data.world is None:
        raise RecipeError("data.train is not set: give a folder or a manifest (data.train=PATH)")
    return recipe.data.world


def rows_of(source: str, fold: int | None = None) -> Sequence[Row]:
    """Rows of a folder, or of a manifest here or at an address.

    Raises:
        DataError: it names no clip, or has no such fold.
    """
    path = Path(source)
    plain_folder = path.is_dir() and not (path / "manifest.parquet").exists()
    rows = scan_folder(path) if plain_folder else read_manifest(source)
    if not rows:
        raise DataError(f"{source} names no clip")
    if fold is None:
        return rows
    if not any(value_counts(rows, "folds")):
        raise DataError(
            f"{source} has no fold {fold}: it has none; data.fold=null takes all clips, and of corpora that have "
            "several avlearn scan --corpus fills them in"
        )
    return of_fold(rows, fold, source)


def of_fold(rows: Sequence[Row], fold: int, source: object) -> Sequence[Row]:
    """Rows of a fold, with their splits in it; what it leaves out is left out.

    Args:
        rows: of a manifest.
        fold: from 1.
        source: of the rows, in words.

    Raises:
        DataError: there is no such fold.
    """
    folds = min(map(len, value_counts(rows, "folds")))
    if not 1 <= fold <= folds:
        there = f"it has {folds}" if folds else "avlearn scan --corpus fills them in for corpora that have several"
        raise DataError(f"{source} has no fold {fold}: {there}")
    return in_fold(rows, fold)


def list_clips(recipe: Recipe, sample: tuple[int, int] | None) -> list[tuple[Sequence[Row], int]]:
    """Training and validation rows, and how many there are of each; a world is rendered where there is no data.

    Of a world that is sampled there are more than rows.
    """
    data = recipe.data
    if data.train is not None:
        return [(rows, len(rows)) for rows in _split(data, data.train, recipe.seed)]
    from avlearn.data.world import WorldConfig, make_world

    world = world_of(recipe)
    config = WorldConfig.preset(world.preset)
    found: list[tuple[Sequence[Row], int]] = []
    for k, (split, clips) in enumerate((("train", world.train_clips), ("val", world.val_clips))):
        out = Path(data.root) / f"{world.preset}-{split}-{clips}-{world.seed}"
        with progress_line(f"rendering {split} clips") as progress:
            manifest = make_world(
                out, min(clips, sample[k]) if sample else clips, 2 * world.seed + k, config,
                workers=os.cpu_count(), split=split, progress=progress,
            )  # fmt: skip
        found.append((read_manifest(manifest), clips))
    return found


def _split(data: Data, source: str, seed: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """Rows for training and validation of the data that a recipe names; ``source`` is that for training."""
    train = rows_of(source, data.fold)
    splits = value_counts(train, "split")
    if data.val is not None:
        val = rows_of(data.val)
        return _to_learn(train, source), _of_split(val, "val") if "val" in value_counts(val, "split") else val
    if "val" in splits and "train" in splits:
        return _of_split(train, "train"), _of_split(train, "val")
    train = _to_learn(train, source)
    order = np.random.default_rng(seed).permutation(len(train))
    held = max(len(train) // 10, 1)
    if len(train) < 2:
        raise DataError(f"{source} has one clip: nothing is left for validation")
    return take(train, order[held:]), take(train, order[:held])


def _to_learn(rows: Sequence[Row], source: str) -> Sequence[Row]:
    """Training clips: what is held out for validation or a test stays so."""
    splits = value_counts(rows, "split")
    kept = _of_split(rows, "train") if "train" in splits else select(rows, "split", lambda split: not split)
    if not kept:
        raise DataError(f"{source} has no clips to learn from: all {len(rows)} are of the splits {', '.join(splits)}")
    if len(kept) < len(rows):
        held = ", ".join(f"{count} of '{split}'" if split else f"{count} of none" for split, count in splits.items())
        remark(f"{source}: {len(kept)} of {len(rows)} clips are learned from, by their splits ({held})")
    return kept


def _of_split(rows: Sequence[Row], split: str) -> Sequence[Row]:
    return select(rows, "split", split.__eq__)


def decode_clips(
    recipe: Recipe, rows: Sequence[Row], name: str, *, video: bool = True, audio: bool = True
) -> tuple[Sequence[Row], ClipCache]:
    """Clips decoded once, and the rows of those that could be; says which could not.

    Raises:
        DataError: more of them could not be than the recipe allows.
    """
    clip, data = recipe.clip, recipe.data
    with progress_line("decoding clips") as progress:
        cache = decode_once(
            rows, Path(data.root) / "decoded", clip.fps, clip.size, clip.sample_rate, os.cpu_count() or 1,
            progress, data.bad_files, video, audio,
        )  # fmt: skip
    for number, reason in cache.bad.items():
        print(f"left out {rows[number].path}: {reason}", file=sys.stderr)
    if cache.bad:
        said = f"{len(cache.bad)} of {len(rows)} {name} clips cannot be read"
        if len(cache.bad) > data.max_bad * len(rows):
            number, reason = next(iter(cache.bad.items()))
            raise DataError(f"{said} (data.max_bad allows a share of {data.max_bad:g}); {rows[number].path}: {reason}")
        print(f"left out {said}", file=sys.stderr)
    return take(rows, np.delete(np.arange(len(rows)), list(cache.bad))), cache


def readable_clips(
    rows: Sequence[Row], name: str, exclude: Sequence[str], *, video: bool = True, audio: bool = True
) -> Sequence[Row]:
    """Rows that have what is needed, and none of the flags; says which are left out and why.

    Raises:
        DataError: there is none.
    """
    passed_over = {NO_VIDEO: not video, NO_AUDIO: not audio}

    def usable_by(reason: str) -> bool:
        return not reason or passed_over.get(reason, False)

    for row in select(rows, "reason", lambda reason: not usable_by(reason)):
        print(f"left out {printable(row.path)}: {printable(row.reason)}", file=sys.stderr)
    usable = select(rows, "reason", usable_by)
    for flag in exclude:
        kept = select(usable, "flags", partial(_lacks, flag))
        if len(kept) < len(usable):
            print(f"left out {len(usable) - len(kept)} {name} clips: {flag}", file=sys.stderr)
        usable = kept
    if not usable:
        raise DataError(
            f"none of {len(rows)} {name} clips can be used: why is said above; {_advice(rows, audio, video)}"
        )
    return usable


def _advice(rows: Sequence[Row], audio: bool, video: bool) -> str:
    reasons = set(value_counts(rows, "reason"))
    for lacking, taken, kind in ((NO_AUDIO, audio, "video"), (NO_VIDEO, video, "audio")):
        if taken and reasons == {lacking}:
            return f"avlearn finetune with recognize.inputs={kind} takes them"
    return "data.exclude chooses the flags"


def _lacks(flag: str, flags: Sequence[str]) -> bool:
    return flag not in flags


def usable_clips(rows: Sequence[Row], name: str, exclude: Sequence[str], rule: WindowRule) -> Sequence[Row]:
    """Rows with video and audio that windows can be cut from; says which are left out and why."""
    usable = readable_clips(rows, name, exclude)
    kept = select(usable, "duration", (rule.audio_seconds - 1e-3).__le__)
    if not kept:
        longest = max(row.duration for row in usable)
        raise DataError(
            f"no {name} clip lasts {rule.audio_seconds:g} s (clip.seconds + 2 clip.context), the longest "
            f"{longest:.2f} s: lower clip.seconds or clip.context, or give longer clips"
        )
    if len(kept) < len(usable):
        print(
            f"left out {len(usable) - len(kept)} {name} clips: shorter than {rule.audio_seconds:g} s", file=sys.stderr
        )
    return kept
