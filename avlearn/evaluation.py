"""Every readout of a model on held-out clips with known truth, each figure beside its references."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.embed import describe
from avlearn.apply.separate import separate_window
from avlearn.build import solo_features
from avlearn.data.cache import ClipCache, decode_once
from avlearn.data.manifest import Row, read_manifest
from avlearn.errors import DataError
from avlearn.linear_probe import Features, probe_features, random_twin
from avlearn.metrics import Figure, table
from avlearn.metrics import sync as sync_metrics
from avlearn.metrics.localization import control, localization
from avlearn.metrics.retrieval import recall_at
from avlearn.metrics.separation import separation
from avlearn.models.audiovisual import AudioVisual, frames_to_input
from avlearn.objectives.similarity import heatmap, offset_scores, pair_scores
from avlearn.signal import Stft
from avlearn.tasks.separate import Mixtures

_BATCH = 16
_OFFSETS = 21  # steps among which an offset is sought: 0.8 s on each side
_AROUND = 12  # steps of sound on each side of the picture, for the shifted control of localization
_SHIFT = 7  # steps (0.56 s) by which a shifted pair is off at least
_RETRIEVAL = 100  # clips in a gallery


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on clips.

    Attributes:
        figures: with their references.
        items: SHA-256 of the list of clips, so that two evaluations can be told to be of the same ones.
    """

    figures: list[Figure]
    items: str

    def to_dict(self) -> dict:
        """JSON types."""
        return {
            "schema": "avlearn.evaluate/1",
            "items": self.items,
            "figures": [f.to_dict() for f in self.figures],
        }

    def text(self) -> str:
        """For people."""
        return table(self.figures) + f"\nclips: sha256 {self.items[:16]}"


def evaluate(model: AudioVisual, manifests: Sequence[str | Path], seed: int = 0) -> Evaluation:
    """Measure a model.

    Synchronization and retrieval are measured on every clip; localization on clips of a world with one
    sounding and one silent thing; separation and the probe on clips with one source alone.

    Args:
        model: from `avlearn.load`.
        manifests: of clips that the model was not trained on.
        seed: of the windows and mixtures.

    Raises:
        DataError: no clip is long enough.
    """
    rows = [row for manifest in manifests for row in read_manifest(manifest)]
    rows = [row for row in rows if not row.reason]
    needed = model.config.seconds + 2 * _AROUND * model.step
    rows = [row for row in rows if row.duration >= needed - 1e-3]
    if not rows:
        raise DataError(f"no clip lasts the {needed:.2f} s that the evaluation needs")
    items = hashlib.sha256("\n".join(f"{r.path.name} {r.hash}" for r in rows).encode()).hexdigest()
    plain = [r for r in rows if not {"muted", "twins"} & set(r.flags)]
    solos = [r for r in plain if "sources:1" in r.flags and "offscreen" not in r.flags]
    one_of_two = [
        r for r in rows
        if r.truth and "sources:1" in r.flags and "muted" in r.flags and "offscreen" not in r.flags
    ]  # fmt: skip
    mixed = [r for r in rows if r not in one_of_two and r not in solos] or rows
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:

        def decoded(chosen: list[Row]) -> ClipCache:
            config = model.config
            return decode_once(chosen, Path(folder), config.fps, config.size, config.sample_rate, 4)

        figures += _sync(model, decoded(mixed), seed)
        for name, keep in (("other class", False), ("twin", True)):
            chosen = [r for r in one_of_two if ("twins" in r.flags) == keep]
            if chosen:
                figures += _localization(model, decoded(chosen), chosen, name)
        if len(solos) >= 40:
            cache = decoded(solos)
            labels = [r.labels[0] for r in solos]
            if model.separator is not None:
                figures += _separation(model, cache, labels, seed)
            figures += _probe(model, cache, labels, seed)
    return Evaluation(figures, items)


def _sound_windows(cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float) -> Tensor:
    count = round(seconds * cache.sample_rate)
    first = np.round(starts * cache.sample_rate).astype(int)
    return torch.from_numpy(np.stack([cache.audio[i, s : s + count] for i, s in zip(index, first, strict=True)]))


def _frame_windows(cache: ClipCache, index: np.ndarray, starts: np.ndarray, seconds: float) -> Tensor:
    count = round(seconds * cache.fps)
    first = np.round(starts * cache.fps).astype(int)
    frames = [cache.video[i, s : s + count] for i, s in zip(index, first, strict=True)]
    return frames_to_input(torch.from_numpy(np.stack(frames)))


@torch.inference_mode()
def _towers(
    model: AudioVisual, cache: ClipCache, lead: np.ndarray, room: int, mirror: bool = False
) -> tuple[Tensor, Tensor]:
    """Picture windows ``V [N, D, T, Y, X]`` and sound that is longer by ``room`` steps, ``A [N, D, T + room]``.

    Clip i's picture begins ``lead[i]`` steps into its sound. Odd clips start a frame later than even ones:
    on and off the grid of the steps. ``mirror`` turns the picture left to right.
    """
    seen, heard = [], []
    for first in range(0, len(cache.video), _BATCH):
        index = np.arange(first, min(first + _BATCH, len(cache.video)))
        start = (index % 2) / cache.fps
        video = _frame_windows(cache, index, start + lead[index] * model.step, model.config.seconds)
        audio = _sound_windows(cache, index, start, model.config.seconds + room * model.step)
        v, a = model(video.flip(-1) if mirror else video, audio)
        seen.append(v)
        heard.append(a)
    return torch.cat(seen), torch.cat(heard)


@torch.inference_mode()
def _sync(model: AudioVisual, cache: ClipCache, seed: int) -> list[Figure]:
    rng = np.random.default_rng(seed)
    n = len(cache.video)
    lead = rng.integers(0, _OFFSETS, n)
    video, audio = _towers(model, cache, lead, _OFFSETS - 1)
    scale = model.config.pool_scale
    steps = torch.arange(_OFFSETS)
    curves = torch.cat(
        [offset_scores(v, a, scale, 0, steps) for v, a in zip(video.split(_BATCH), audio.split(_BATCH), strict=True)]
    )
    # Similarity is not comparable between clips (a still moment scores low everywhere); the probability that
    # a clip's own curve gives to an offset is.
    chances = (curves * model.config.score_scale).log_softmax(1).numpy()
    every = np.arange(_OFFSETS)
    shifted_to = np.array([rng.choice(every[np.abs(every - o) >= _SHIFT]) for o in lead])
    rows = np.arange(n)
    aligned, shifted = chances[rows, lead], chances[rows, shifted_to]
    held = n // 3
    threshold = sync_metrics.best_threshold(aligned[:held], shifted[:held])
    # The sound of offset o begins o steps before the picture: seen from the middle of the range, the
    # audio leads by what is left.
    grid = (_OFFSETS // 2 - every) * model.step
    predicted, true = grid[curves.argmax(1).numpy()], grid[lead]
    figures = [
        sync_metrics.two_afc(aligned, shifted),
        sync_metrics.binary_accuracy(aligned[held:], shifted[held:], threshold),
        sync_metrics.auc(aligned[held:], shifted[held:]),
        sync_metrics.offset_within(predicted, true, model.step, grid),
        sync_metrics.offset_within(predicted, true, 2 * model.step, grid),
    ]
    gallery = min(_RETRIEVAL, n)
    frames = video.shape[2]
    own = torch.stack([audio[i, :, lead[i] : lead[i] + frames] for i in range(gallery)])
    scores = torch.cat([pair_scores(v, own, scale)[..., 0] for v in video[:gallery].split(_BATCH)])
    return figures + recall_at(scores.numpy(), 1) + recall_at(scores.numpy(), 5)


def _boxes(rows: list[Row], start: np.ndarray, seconds: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean boxes over the windows of the sounding and of the silent thing, in pixels of the model's input."""
    found: dict[bool, list] = {True: [], False: []}
    for row, begin in zip(rows, start, strict=True):
        first = round(begin * row.fps)
        seen = set()
        for source in json.loads(row.truth.read_text())["sources"]:
            if source["onscreen"] and source["sounding"] not in seen:
                window = source["boxes"][first : first + round(seconds * row.fps)]
                seen.add(source["sounding"])
                mean = np.mean([box for box in window if box], 0)
                found[source["sounding"]].append(mean * size / row.width)
    return np.array(found[True]), np.array(found[False])


@torch.inference_mode()
def _localization(model: AudioVisual, cache: ClipCache, rows: list[Row], name: str) -> list[Figure]:
    lead = np.full(len(rows), _AROUND)
    video, audio = _towers(model, cache, lead, 2 * _AROUND)
    mirrored, _ = _towers(model, cache, lead, 2 * _AROUND, mirror=True)
    steps = video.shape[2]

    def located(first: int) -> np.ndarray:
        """Maps against the sound from a step on, as `mirrored_heatmap` makes them."""
        sound = audio[:, :, first : first + steps]
        return ((heatmap(video, sound) + heatmap(mirrored, sound).flip(-1)) / 2).numpy()

    maps, late, early = located(_AROUND), located(0), located(2 * _AROUND)
    start = (np.arange(len(rows)) % 2) / cache.fps + _AROUND * model.step
    first = np.round(start * cache.fps).astype(int)
    count = round(model.config.seconds * cache.fps)
    motion = []
    for i, s in enumerate(first):
        grey = cache.video[i, s : s + count].astype(np.float32).mean(-1)
        energy = np.abs(np.diff(grey, axis=0)).mean(0)
        cells = maps.shape[1]
        side = energy.shape[0] // cells
        motion.append(energy.reshape(cells, side, cells, side).mean((1, 3)))
    size = model.config.size
    boxes, silent = _boxes(rows, start, model.config.seconds, size)
    return [
        *localization(maps, np.stack(motion), boxes, silent, size, name=name),
        control(np.concatenate([late, early]), np.tile(boxes, (2, 1)), np.tile(silent, (2, 1)), size, name),
    ]  # fmt: skip


@torch.inference_mode()
def _separation(model: AudioVisual, cache: ClipCache, labels: list[str], seed: int) -> list[Figure]:
    config = model.config
    features = solo_features(model, cache)
    figures = []
    for name, share in (("different classes", 0.0), ("same class", 1.0)):
        pairs = Mixtures(cache.audio, features, labels, share, config.seconds, model.step, config.sample_rate)
        estimates, references, ideal, lone = [], [], [], []
        stft = Stft(config.sample_rate, config.separator.window, config.separator.hop)
        for i in range(len(pairs)):
            item = pairs[(i, seed + i)]
            if (labels[item["index"][0]] == labels[item["index"][1]]) != bool(share):
                continue
            mixture = item["stems"].sum(0, keepdim=True)
            tracks = separate_window(model, mixture, config.sample_rate, item["features"][None])[:, 0]
            alone = separate_window(model, mixture, config.sample_rate, item["features"][None, :1])[:, 0]
            spectra = stft(item["stems"])
            ratio = spectra.abs() / spectra.abs().sum(0).clamp(min=1e-8)
            ideal.append(stft.inverse(ratio * stft(mixture), mixture.shape[1]).numpy())
            estimates.append(tracks.numpy())
            lone.append(torch.cat([alone, mixture - alone]).numpy())
            references.append(item["stems"].numpy())
        if not estimates:
            continue
        truth, best = np.stack(references), np.stack(ideal)
        figures += separation(np.stack(estimates), truth, best, name)
        if not share:
            figures += separation(np.stack(lone), truth, best, "on and off screen")
    return figures


@torch.inference_mode()
def cached_features(model: AudioVisual, cache: ClipCache, labels: np.ndarray) -> Features:
    """Features of recognition of decoded clips."""
    video, audio = [], []
    for first in range(0, len(cache.video), _BATCH):
        frames = torch.from_numpy(np.array(cache.video[first : first + _BATCH]))
        sound = torch.from_numpy(np.array(cache.audio[first : first + _BATCH]))
        features, heard = model.video_features(frames_to_input(frames)), model.audio_features(sound)
        steps = min(features.shape[2], heard.shape[2])
        seen, said = describe(model, features[:, :, :steps], heard[:, :, :steps])
        video.append(seen.numpy())
        audio.append(said.numpy())
    return Features(np.concatenate(video), np.concatenate(audio), labels)


def _probe(model: AudioVisual, cache: ClipCache, labels: list[str], seed: int) -> list[Figure]:
    """Five labelled clips a class to learn from, as many to choose the regularisation, the rest to test."""
    names = sorted(set(labels))
    targets = np.array([names.index(label) for label in labels])
    order = np.random.default_rng(seed).permutation(len(targets))
    parts: list[list[int]] = [[], [], []]
    for k in range(len(names)):
        own = [i for i in order if targets[i] == k]
        for part, chosen in zip(parts, (own[:5], own[5:10], own[10:]), strict=True):
            part += chosen
    if not all(parts) or len(parts[2]) < 5 * len(names):
        return []  # too few to say anything
    reference: dict[str, float] = {}
    for network in (random_twin(model), model):
        features = cached_features(network, cache, targets)
        split = [features.take(np.array(part)) for part in parts]
        figures, _ = probe_features(*split, reference, ", 5 shots")
        if network is not model:
            reference = {f.name.split(", ")[1]: f.value for f in figures if f.name.startswith("top-1")}
    return [f for f in figures if f.name.startswith("top-1")]
