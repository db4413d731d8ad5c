"""The page that the quickstart writes: metrics, training curves, and what the four tools make of held-out clips."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avlearn.apply.classify import classify_file
from avlearn.apply.localize.file import localize_file
from avlearn.apply.localize.file_maps import file_maps
from avlearn.apply.localize.maps import above_median
from avlearn.apply.separate.file import separate_file
from avlearn.apply.sync.by_model import sync_by_model
from avlearn.data.manifest import Row, read_manifest
from avlearn.evaluation import Evaluation
from avlearn.media import read_clip, remux
from avlearn.models.audiovisual import AudioVisual
from avlearn.report.page import Page
from avlearn.report.plots import (
    heatmap_frames,
    offset_curve,
    spectrogram,
    training_curves,
    write_png,
)


def write_page(
    run_dir: Path, report: Path, model: AudioVisual, tests: dict[str, Path], result: Evaluation,
    spent: tuple[float, float], cut: Sequence[str],
) -> None:  # fmt: skip
    """Use the four tools on held-out clips, and write the page.

    Args:
        run_dir: the quickstart's; the files that the tools make lie in ``tools/``.
        report: path of the page.
        model: what was trained.
        tests: manifests of the held-out worlds by their presets.
        result: the metrics.
        spent: minutes of the clock, and of all cores.
        cut: what the clock took away, a line each.
    """
    tools = run_dir / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    rows = {name: read_manifest(path) for name, path in tests.items()}
    page = Page(
        "avlearn quickstart",
        f"Everything below was made in {spent[0]:.1f} minutes ({spent[1]:.1f} core-minutes): the videos, "
        "the model, and every metric, on clips that it was not trained on."
        + (f" The clock allowed only {'; '.join(cut)}." if cut else ""),
    )
    page.section(
        "Metrics",
        "Each beside what guessing gives, what a method gives that ignores video or audio, and the best "
        "that the protocol allows. Models were chosen on validation clips.",
    )
    page.metrics(result.metrics)
    page.section("Training", "The towers learn which audio, and which moment of it, belongs to a video.")
    lines = (run_dir / "sync" / "metrics.jsonl").read_text().splitlines()
    page.image(training_curves([json.loads(line) for line in lines]), "Loss and shares over steps")
    _sync_section(page, model, rows["standard"][0], tools)
    _localize_section(page, run_dir, model, [*rows["muted"], *rows["twins"]], tools)
    _separate_section(page, model, _duet(rows["standard"]), tools)
    _classify_section(page, model, rows["solo"][:3])
    page.section("Again", "The same on your own files:")
    page.code(
        f"avlearn sync FILE --model {run_dir}/model --fix FIXED.mp4\n"
        + "\n".join(f"avlearn {tool} FILE --model {run_dir}/model" for tool in ("localize", "separate", "classify"))
    )
    page.save(report)


def _duet(rows: Sequence[Row]) -> Row:
    """A clip with two sounding things, where there is one."""
    return next((row for row in rows if "sources:2" in row.flags), rows[0])


def _sync_section(page: Page, model: AudioVisual, row: Row, tools: Path) -> None:
    delayed = tools / "sync_delayed.mp4"
    remux(row.path, delayed, audio_delay=0.3)
    found = sync_by_model(delayed, model)
    fixed = tools / "sync_fixed.mp4"
    remux(delayed, fixed, audio_delay=found.offset or 0.0)
    after = sync_by_model(fixed, model)
    page.section("Synchronization", "A clip's audio was delayed by 300 ms, then found and put right.")
    cards = []
    for title, result, video in (("Delayed by 300 ms", found, delayed), ("Fixed", after, fixed)):
        curve = offset_curve(result.offsets, result.scores, result.offset)
        cards.append((title, [("image", curve, result.verdict), ("video", video, "")]))
    page.cards(cards)


def _localize_section(page: Page, run_dir: Path, model: AudioVisual, rows: Sequence[Row], tools: Path) -> None:
    shown = [rows[0], rows[len(rows) // 2], rows[-1]]
    localize_file(shown[0].path, model, tools / "localized.mp4")
    page.section("Localization", "In each clip one thing sounds and another moves in silence.")
    images = []
    for row in shown:
        maps = file_maps(row.path, model).maps
        clip = read_clip(row.path, audio=False)
        heat = above_median(maps.mean(0))
        picked = clip.video[np.linspace(5, len(clip.video) - 5, 6).astype(int)]
        image = heatmap_frames(picked, np.repeat(heat[None], len(picked), 0))
        images.append(image)
        page.image(image, f"Sounding: {', '.join(row.labels)}. Above the frames, below with the map")
    write_png(run_dir / "heatmaps.png", np.concatenate(images, 0))
    page.cards([("Overlay, with audio", [("video", tools / "localized.mp4", "avlearn localize")])])


def _separate_section(page: Page, model: AudioVisual, row: Row, tools: Path) -> None:
    result = separate_file(row.path, model, tools / "separated", sources=2)
    page.section(
        "Separation",
        f"One clip, two sounding things ({', '.join(row.labels)}): a track for each place.",
    )
    mixture = read_clip(row.path, video=False)
    cards = [("Mixture", mixture.audio[0], mixture.sample_rate, "")]
    for k, source in enumerate(result.sources, 1):
        track = read_clip(source.audio, video=False)
        where = f"from {source.place[0]:.0%} across, {source.place[1]:.0%} down" if source.place else ""
        cards.append((f"Track {k}", track.audio[0], track.sample_rate, where))
    rest = read_clip(result.residual.audio, video=False)
    cards.append(("Residual", rest.audio[0], rest.sample_rate, "what belongs to neither"))
    shown = []
    for title, audio, rate, note in cards:
        image = ("image", spectrogram(audio, rate), f"Spectrogram, {title.lower()}")
        shown.append((title, [image, ("audio", (audio, rate), note)]))
    page.cards(shown)


def _classify_section(page: Page, model: AudioVisual, rows: Sequence[Row]) -> None:
    page.section("Recognition", "Linear classifiers on the frozen features.")
    cards = []
    for row in rows:
        result = classify_file(row.path, model, top=3)
        frame = read_clip(row.path, 2.0, 0.2, audio=False).video[0].repeat(2, 0).repeat(2, 1)
        said = "; ".join(
            f"{kind}: " + ", ".join(f"{label} {p:.2f}" for label, p in ranked) for kind, ranked in result.labels.items()
        )
        cards.append(
            (
                f"True: {row.labels[0]}",
                [("image", frame, "A frame of the clip"), ("text", said, "")],
            )
        )
    page.cards(cards)
