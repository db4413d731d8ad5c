"""The tools as they are used on many files: what is called, and what each result is in a table."""

from dataclasses import replace
from typing import Any

from avlearn.apply.run_many import ERROR, Tool
from avlearn.apply.verdict import undecided

SYNC_CODES = {"in sync": 0, "out of sync": 1, "undecidable": 3}
_MODEL = "avlearn.models.folder:load"


def _sync_code(result: Any) -> int:
    if result.fixed or result.not_fixed:
        return 0 if result.fixed else ERROR
    return SYNC_CODES[result.status]


def _sync_cells(result: Any) -> dict[str, str]:
    cells = {
        "offset": "" if result.offset is None else f"{result.offset * 1000:+.0f} ms",
        "drift": f"{result.drift:+.0f} ms/min" if result.drift else "",
        "edits": str(len(result.steps)) if result.steps else "",
        "confidence": f"{result.confidence:.2f}{'' if result.calibrated else ', not calibrated'}",
    }
    if result.fixed or result.not_fixed:
        cells["fix"] = f"now {result.fixed.now * 1000:+.0f} ms" if result.fixed else "not fixed"
    return cells


def _localize_cells(result: Any) -> dict[str, str]:
    told = "" if result.audible is None else f"{result.audible:.2f}{'' if result.calibrated else ', not calibrated'}"
    return {
        "audible": told,
        "strongest at": "{:.0%}, {:.0%}".format(*result.peak),
        "sources": "" if result.sources is None else str(len(result.sources)),
    }


def _separate_cells(result: Any) -> dict[str, str]:
    sure = max((track.confidence for track in result.tracks if track.confidence is not None), default=None)
    calibrated = "" if result.calibrated else ", not calibrated"
    return {
        "tracks": str(len(result.tracks)),
        "left over": f"{result.residual.share:.0%}",
        "best confidence": "" if sure is None else f"{sure:.2f}{calibrated}",
    }


def _classify_cells(result: Any) -> dict[str, str]:
    if result.expert != "model":
        return {"audio": f"{result.labels['audio'][0][0]} {result.confidence:.2f}"}
    return {kind: "{} {:.2f}".format(*ranked[0]) for kind, ranked in result.labels.items()}


def _flow_cells(result: Any) -> dict[str, str]:
    return {
        "flows": str(result.frames),
        "size": f"{result.width}x{result.height}",
        "px a frame": "" if result.mean_length is None else f"{result.mean_length:.2f}",
        "cuts": str(len(result.cuts)),
    }


def _probe_cells(info: Any) -> dict[str, str]:
    video, audio = info.video, info.audio
    return {
        "container": info.container.partition(",")[0],
        "duration": f"{info.duration:.2f} s",
        "video": f"{video.codec} {video.width}x{video.height} {video.fps:.2f} fps" if video else "none",
        "audio": f"{audio.codec} {audio.sample_rate} Hz x{audio.channels}" if audio else "none",
    }


SYNC = Tool(
    "avlearn.sync/2",
    "avlearn.apply.sync.tool:sync_tool",
    "avlearn.apply.released_systems:sync_model",
    lambda result: result.status,
    _sync_code,
    _sync_cells,
)
LOCALIZE = Tool(
    "avlearn.localize/2", "avlearn.apply.localize.file:localize_file", "avlearn.apply.released_systems:localize_model",
    lambda result: result.verdict, lambda result: undecided(result.verdict), _localize_cells,
    tells_progress=True,
)  # fmt: skip
SEPARATE = Tool(
    "avlearn.separate/2", "avlearn.apply.separate.tool:separate_tool", "avlearn.apply.released_systems:separate_model",
    lambda result: result.verdict, lambda result: undecided(result.verdict), _separate_cells,
    tells_progress=True,
)  # fmt: skip
CLASSIFY = Tool(
    "avlearn.classify/1", "avlearn.apply.classify:classify_file", "avlearn.apply.classify:load_classifier",
    lambda result: result.verdict, lambda result: undecided(result.verdict), _classify_cells,
    tells_progress=True,
)  # fmt: skip
CALIBRATE = Tool(
    "avlearn.calibrate/1", "avlearn.apply.calibrate_clip:clip_evidence", _MODEL, lambda _: "measured", lambda _: 0,
    lambda clip: {"windows": str(len(clip.video)), "claims": str(len(clip.offsets) + len(clip.on_screen))},
)  # fmt: skip
PROBE = Tool("avlearn.probe/1", "avlearn.media:probe", "", lambda _: "read", lambda _: 0, _probe_cells)
FLOW = Tool(
    "avlearn.flow/1", "avlearn.apply.flow.video:flow_file", "avlearn.apply.flow.estimate:load_flow",
    lambda _: "measured", lambda _: 0, _flow_cells, tells_progress=True,
)  # fmt: skip
EMBED = Tool(
    "avlearn.embed/1", "avlearn.apply.embed:file_features", "avlearn.apply.encoder_alone:load_embedder",
    lambda _: "read", lambda _: 0, lambda result: {"windows": str(len(result.starts))},
)  # fmt: skip
EMBED_BY_EACH = replace(
    EMBED, function="avlearn.apply.embed_by_each:features_by_each", cells=lambda _: {},
)  # fmt: skip
