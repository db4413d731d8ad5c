"""A world on disk: MP4 files, their ground truth, and a manifest."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avlearn.data.manifest import Row, write_manifest
from avlearn.data.pool import Died
from avlearn.data.processes import in_processes
from avlearn.data.world.config import WorldConfig
from avlearn.data.world.scene import Scene, render_scene
from avlearn.errors import DataError, OutputError
from avlearn.files import replacing, sweep, write_text
from avlearn.lock import locked
from avlearn.media import write_video


def make_world(
    out: str | Path,
    clips: int,
    seed: int = 0,
    config: WorldConfig | None = None,
    *,
    workers: int | None = None,
    split: str = "train",
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
    least: int = 1,
) -> Path:
    """Render a world; what is there already, of the same seed and options, is kept.

    ``out`` gets ``clips/000000.mp4``, ``stems/000000.npz`` (``stems``: int16 ``[K + 1, S]``, sources then
    noise, over 32767), ``truth/000000.json`` (a list of sources: name, onscreen, sounding, boxes, events),
    ``world.json`` (seed and options), and ``manifest.parquet``.

    Args:
        out: a new folder, or one of the same world.
        clips: how many.
        seed: decides every scene, together with its number.
        config: the standard world by default.
        workers: processes; all cores by default.
        split: written into the manifest.
        progress: called with how many clips are done, and of how many: at first with those that were there.
        seconds: of the clock, after which the world has as many clips as there are, but at least ``least``.
        least: see ``seconds``.

    Returns:
        Path of the manifest.

    Raises:
        DataError: clips or workers is below 1, or the seed is negative.
        OutputError: the folder holds another world, or cannot be written.
    """
    for what, value, lowest in (("clips", clips, 1), ("workers", workers, 1), ("seed", seed, 0)):
        if value is not None and value < lowest:
            raise DataError(f"a world cannot have {what} = {value}: give {lowest} or more")
    config = config or WorldConfig()
    out = Path(out)
    try:
        for name in ("clips", "stems", "truth"):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    with locked(out / ".lock", wait=True):
        _claim(out, json.dumps({"seed": seed, **asdict(config)}, indent=1))
        sweep(out)
        try:
            made = _render(out, config, seed, clips, workers, progress, seconds, least)
        finally:
            sweep(out)
        rows = [_row(out, config, split, f"{index:06d}") for index in made]
        write_manifest(rows, out / "manifest.parquet")
    return out / "manifest.parquet"


def _claim(out: Path, written: str) -> None:
    """Make the folder that of a world, or see that it is."""
    note = out / "world.json"
    if not note.exists():
        write_text(note, written)
    if _options(note.read_text()) != json.loads(written):
        raise OutputError(f"{out} holds a world of another seed or other options: choose a new folder")


def _options(note: str) -> dict[str, Any]:
    """What a note of a world says; an older one lacks the options that came later."""
    usual = json.loads(json.dumps(asdict(WorldConfig())))
    try:
        return {**usual, **json.loads(note)}
    except (TypeError, ValueError):
        return {}


def _render(
    out: Path, config: WorldConfig, seed: int, clips: int, workers: int | None,
    progress: Callable[[int, int], None] | None, seconds: float | None, least: int,
) -> list[int]:  # fmt: skip
    """Write the clips that are not there; numbers of those that are, then."""
    until = time.monotonic() + (float("inf") if seconds is None else seconds)
    todo = [index for index in range(clips) if not all(path.exists() for path in _files(out, f"{index:06d}"))]
    made = set(range(clips)) - set(todo)
    progress = progress or (lambda done, total: None)
    progress(len(made), clips)
    with closing(in_processes(partial(_make_clip, out, config, seed), todo, workers)) as results:
        for number, result in results:
            if isinstance(result, Died):
                raise DataError(f"the process that renders clip {todo[number]} was killed (out of memory?)")
            made.add(todo[number])
            progress(len(made), clips)
            if time.monotonic() > until and len(made) >= least:
                break
    return sorted(made)


def _files(out: Path, name: str) -> tuple[Path, Path, Path]:
    """Where the clip, its stems and its truth are."""
    return out / "clips" / f"{name}.mp4", out / "stems" / f"{name}.npz", out / "truth" / f"{name}.json"


def _make_clip(out: Path, config: WorldConfig, seed: int, index: int) -> None:
    _write(render_scene(config, seed, index), config, out, f"{index:06d}")


def _row(out: Path, config: WorldConfig, split: str, name: str) -> Row:
    clip, _, truth = _files(out, name)
    known = json.loads(truth.read_text())
    return Row(
        path=clip,
        duration=config.duration,
        video_codec="h264",
        fps=config.fps,
        width=config.size,
        height=config.size,
        audio_codec="aac",
        sample_rate=config.sample_rate,
        channels=1,
        labels=tuple(s["name"] for s in known["sources"] if s["onscreen"] and s["sounding"]),
        split=split,
        flags=tuple(known["flags"]),
        hash=known["hash"],
        bytes=clip.stat().st_size,
        truth=truth,
    )


def _flags(scene: Scene) -> list[str]:
    heard = [s for s in scene.sources if s.onscreen and s.sounding]
    silent = [s for s in scene.sources if s.onscreen and not s.sounding]
    names = [s.name for s in scene.sources if s.onscreen]
    flags = [f"sources:{len(heard)}"]
    flags += ["muted"] if silent else []
    flags += ["twins"] if len(set(names)) < len(names) else []
    flags += ["offscreen"] if any(not s.onscreen for s in scene.sources) else []
    return flags


def _write(scene: Scene, config: WorldConfig, out: Path, name: str) -> None:
    clip = out / "clips" / f"{name}.mp4"
    write_video(
        clip, scene.video, config.fps, audio=scene.audio[None], sample_rate=config.sample_rate,
        crf=18, preset="veryfast",
    )  # fmt: skip
    sources = [
        {
            "name": s.name,
            "onscreen": s.onscreen,
            "sounding": s.sounding,
            "events": [round(e, 6) for e in s.events],
            "boxes": None if s.boxes is None else [_box(b) for b in s.boxes],
        }
        for s in scene.sources
    ]
    digest = hashlib.sha256(scene.video.tobytes() + scene.stems.tobytes()).hexdigest()[:32]
    truth = {"sources": sources, "flags": _flags(scene), "hash": digest}
    stems = np.round(scene.stems * 32767).astype(np.int16)
    with replacing(out / "stems" / f"{name}.npz") as part:
        np.savez_compressed(part, stems=stems)
    with replacing(out / "truth" / f"{name}.json") as part:
        part.write_text(json.dumps(truth))


def _box(box: np.ndarray) -> list[float] | None:
    return None if np.isnan(box).any() else [float(v) for v in box]
