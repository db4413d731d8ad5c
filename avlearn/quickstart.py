"""The main job from nothing: a world, a model, its figures, its four tools, and a report."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avlearn.apply.classify import classify_file
from avlearn.apply.localize import file_maps, localize_file
from avlearn.apply.maps import relief
from avlearn.apply.separate import separate_file
from avlearn.apply.sync import sync_file
from avlearn.data.cache import decode_once
from avlearn.data.manifest import Row, read_manifest
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import OutputError
from avlearn.evaluation import Evaluation, cached_features, evaluate
from avlearn.linear_probe import fit
from avlearn.media import read_clip, remux
from avlearn.models.audiovisual import AudioVisual, load, save
from avlearn.recipe import load_recipe
from avlearn.report.page import Page
from avlearn.report.plots import (
    heatmap_frames,
    offset_curve,
    spectrogram,
    training_curves,
    write_png,
)
from avlearn.train import pretrain

# Of ten minutes: worlds and decoding take two, figures, tools and page two; the rest is training.
_PRETRAIN_SHARE, _SEPARATE_SHARE = 0.40, 0.17
_SEPARATE_STEP = 0.2  # time of a separator's step, as a part of the towers'
_TRAIN_CLIPS, _SOLO_CLIPS = 1200, 600


def quickstart(run_dir: Path, minutes: float = 10.0, seed: int = 0) -> Path:
    """Run everything once, small.

    Args:
        run_dir: gets ``worlds/``, ``sync/``, ``separate/``, ``model/``, ``tools/``, ``figures.json``, ``report.html``.
        minutes: wall-clock time to take on four idle cores; less gives smaller trainings.
        seed: decides everything but how many steps fit into the time.

    Returns:
        Path of the report.

    Raises:
        OutputError: ``run_dir`` holds a finished quickstart, or cannot be written.
    """
    began, cpu = time.monotonic(), _cpu_seconds()
    run_dir = Path(run_dir)
    report = run_dir / "report.html"
    if report.exists():
        raise OutputError(f"{report} is there already: choose another folder with --output")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {run_dir}: {error.strerror}") from error
    share = min(minutes / 10, 1.0)
    tests = _worlds(run_dir, share, seed)
    models = _train(run_dir, minutes, share, seed)
    _say("evaluating on held-out clips")
    model = load(models)
    result = evaluate(model, tests.values())
    (run_dir / "figures.json").write_text(json.dumps(result.to_dict(), indent=1) + "\n")
    print(result.text(), file=sys.stderr)
    spent = (time.monotonic() - began) / 60, (_cpu_seconds() - cpu) / 60
    _report(run_dir, report, model, tests, result, spent)
    took = (time.monotonic() - began) / 60, (_cpu_seconds() - cpu) / 60
    _say(f"done in {took[0]:.1f} minutes, {took[1]:.1f} core-minutes")
    return report


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _worlds(run_dir: Path, share: float, seed: int) -> dict[str, Path]:
    """Held-out worlds, one a question; their seeds are never those of training clips."""
    _say("rendering held-out worlds")
    counts = {"standard": 200, "muted": 120, "twins": 120, "solo": 200}
    made = {}
    for k, (preset, count) in enumerate(counts.items()):
        clips = max(round(count * share), 60)
        out = run_dir / "worlds" / f"test-{preset}"
        made[preset] = make_world(out, clips, 1_000_003 + 10 * seed + k, WorldConfig.preset(preset), split="test")
    return made


def _train(run_dir: Path, minutes: float, share: float, seed: int) -> Path:
    """Pretrain, teach to separate, add classifiers; the model's folder."""
    _say("pretraining by synchronization")
    common = [f"data.root={run_dir}/worlds", f"data.world.seed={seed}", f"seed={seed}"]
    clips = max(round(_TRAIN_CLIPS * share), 128)
    recipe = load_recipe("sync_world", [*common, f"data.world.train_clips={clips}", "data.world.val_clips=96"])
    per_step = _seconds_per_step(recipe)
    steps = max(int(minutes * 60 * _PRETRAIN_SHARE / per_step), 20)
    trainer = recipe.trainer.model_copy(update={"max_steps": steps, "val_every": max(steps // 5, 1)})
    sync = pretrain(recipe.model_copy(update={"trainer": trainer}), run_dir / "sync")
    _say("learning to separate")
    solos = max(round(_SOLO_CLIPS * share), 128)
    steps = max(int(minutes * 60 * _SEPARATE_SHARE / (per_step * _SEPARATE_STEP)), 20)
    recipe = load_recipe(
        "separate_world",
        [
            *common, f"separator.base={sync}", f"data.world.train_clips={solos}",
            "data.world.val_clips=64", f"trainer.max_steps={steps}",
            f"trainer.val_every={max(steps // 5, 1)}",
        ],
    )  # fmt: skip
    separated = pretrain(recipe, run_dir / "separate")
    _say("fitting the classifiers")
    model = load(separated)
    rows = read_manifest(run_dir / "worlds" / f"solo-train-{solos}-{seed}")
    model = add_classifiers(model, rows, run_dir / "worlds" / "decoded")
    card = (separated / "README.md").read_text()
    save(model, run_dir / "model", card)
    return run_dir / "model"


def _seconds_per_step(recipe) -> float:
    """Time of a training step on this machine, from a few on noise."""
    from avlearn.build import build_objective
    from avlearn.models.audiovisual import ModelConfig
    from avlearn.tasks.pretrain import Pretrain

    torch.set_num_threads(recipe.trainer.threads or os.cpu_count() or 1)
    clip, batch = recipe.clip, recipe.trainer.batch_size
    model = AudioVisual(ModelConfig(size=clip.size))
    task = Pretrain(model, build_objective(recipe, model, batch), {}, None, 0)
    frames = round(clip.seconds * clip.fps)
    samples = round((clip.seconds + 2 * clip.context) * clip.sample_rate)
    best = float("inf")
    for _ in range(4):
        start = time.monotonic()
        video, audio = torch.rand(batch, 3, frames, clip.size, clip.size), torch.randn(batch, samples)
        zeros = torch.zeros(batch, dtype=torch.long)
        task.output(video, audio, {"offset": zeros, "index": zeros}).loss.backward()
        best = min(best, time.monotonic() - start)
    return best * 1.25  # loading, augmentation, the optimizer


def add_classifiers(model: AudioVisual, rows: list[Row], cache: Path) -> AudioVisual:
    """The model with linear classifiers for picture, sound and both, fitted on labelled clips.

    Args:
        model: the towers.
        rows: clips with one label each; a fifth of them chooses the regularisation.
        cache: folder for the decoded clips.
    """
    config = model.config
    names = sorted({row.labels[0] for row in rows})
    clips = decode_once(rows, cache, config.fps, config.size, config.sample_rate, os.cpu_count() or 1)
    features = cached_features(model, clips, np.array([names.index(r.labels[0]) for r in rows]))
    held = np.random.default_rng(0).permutation(len(rows))
    val, train = features.take(held[: len(rows) // 5]), features.take(held[len(rows) // 5 :])
    grown = AudioVisual(replace(config, labels=tuple(names)))
    grown.load_state_dict(model.state_dict(), strict=False)
    for kind, values in train.kinds().items():
        scaler, regression = fit(values, train.labels, val.kinds()[kind], val.labels).named_steps.values()
        weight = regression.coef_ / scaler.scale_
        bias = regression.intercept_ - weight @ scaler.mean_
        layer = grown.classifiers[kind]
        layer.weight.data.copy_(torch.from_numpy(weight))
        layer.bias.data.copy_(torch.from_numpy(bias))
    return grown.eval()


def _report(
    run_dir: Path, report: Path, model: AudioVisual, tests: dict[str, Path], result: Evaluation,
    spent: tuple[float, float],
) -> None:  # fmt: skip
    _say("using the four tools and writing the report")
    tools = run_dir / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    rows = {name: read_manifest(path) for name, path in tests.items()}
    page = Page(
        "avlearn quickstart",
        f"Everything below was made in {spent[0]:.1f} minutes ({spent[1]:.1f} core-minutes): the videos, "
        "the model, and every figure, on clips that it was not trained on.",
    )
    page.section(
        "Figures",
        "Each beside what guessing gives, what a method gives that ignores picture or sound, and the best "
        "that the protocol allows. Models were chosen on validation clips.",
    )
    page.figures(result.figures)
    page.section("Training", "The towers learn which sound, and which moment of it, belongs to a picture.")
    lines = (run_dir / "sync" / "metrics.jsonl").read_text().splitlines()
    page.image(training_curves([json.loads(line) for line in lines]), "Loss and shares over steps")
    _sync_section(page, model, rows["standard"][0], tools)
    _localize_section(page, run_dir, model, rows["muted"] + rows["twins"], tools)
    _separate_section(page, model, _duet(rows["standard"]), tools)
    _classify_section(page, model, rows["solo"][:3])
    page.section("Again", "The same on your own files:")
    page.code(f"avlearn sync FILE --model {run_dir}/model --fix FIXED.mp4\navlearn localize FILE\n"
              "avlearn separate FILE\navlearn classify FILE")  # fmt: skip
    page.save(report)


def _duet(rows: list[Row]) -> Row:
    """A clip with two sounding things, where there is one."""
    return next((row for row in rows if "sources:2" in row.flags), rows[0])


def _sync_section(page: Page, model: AudioVisual, row: Row, tools: Path) -> None:
    delayed = tools / "sync_delayed.mp4"
    remux(row.path, delayed, audio_delay=0.3)
    found = sync_file(delayed, model)
    fixed = tools / "sync_fixed.mp4"
    remux(delayed, fixed, audio_delay=found.offset or 0.0)
    after = sync_file(fixed, model)
    page.section("Synchronization", "A clip's sound was delayed by 300 ms, then found and put right.")
    cards = []
    for title, result, video in (("Delayed by 300 ms", found, delayed), ("Fixed", after, fixed)):
        curve = offset_curve(result.offsets, result.scores, result.offset)
        cards.append((title, [("image", curve, result.verdict), ("video", video, "")]))
    page.cards(cards)


def _localize_section(page: Page, run_dir: Path, model: AudioVisual, rows: list[Row], tools: Path) -> None:
    shown = [rows[0], rows[len(rows) // 2], rows[-1]]
    localize_file(shown[0].path, model, tools / "localized.mp4")
    page.section("Localization", "In each clip one thing sounds and another moves in silence.")
    pictures = []
    for row in shown:
        maps = file_maps(row.path, model).maps
        clip = read_clip(row.path, audio=False)
        heat = relief(maps.mean(0))
        picked = clip.video[np.linspace(5, len(clip.video) - 5, 6).astype(int)]
        picture = heatmap_frames(picked, np.repeat(heat[None], len(picked), 0))
        pictures.append(picture)
        page.image(picture, f"Sounding: {', '.join(row.labels)}. Above the frames, below with the map")
    write_png(run_dir / "heatmaps.png", np.concatenate(pictures, 0))
    page.cards([("Overlay, with sound", [("video", tools / "localized.mp4", "avlearn localize")])])


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
        x, y = source.place
        cards.append((f"Track {k}", track.audio[0], track.sample_rate, f"from {x:.0%} across, {y:.0%} down"))
    rest = read_clip(result.residual.audio, video=False)
    cards.append(("Residual", rest.audio[0], rest.sample_rate, "what belongs to neither"))
    shown = []
    for title, audio, rate, note in cards:
        picture = ("image", spectrogram(audio, rate), f"Spectrogram, {title.lower()}")
        shown.append((title, [picture, ("audio", (audio, rate), note)]))
    page.cards(shown)


def _classify_section(page: Page, model: AudioVisual, rows: list[Row]) -> None:
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
