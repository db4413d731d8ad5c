"""Optical flow: errors on pairs with true flow and on generated motion, beside no motion, one motion and OpenCV.

    python tools/bench/bench_flow.py ../shared/media/flow --json flow.json

Times are of the processor, of one thread. OpenCV's TV-L1 is measured where opencv-contrib-python-headless is installed,
networks where their weights are given: ``--network raft_large:FILE``.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from moving_scenes import KINDS, LONGEST, edge_scene, make_scene

from avlearn.apply.flow.estimate import load_flow
from avlearn.media.flow_file import read_flow
from avlearn.metrics.flow import endpoint_errors, flow_metrics
from avlearn.report.flow_colours import flow_colours
from avlearn.report.plots import write_png
from avlearn.signal.flow import lucas_kanade
from avlearn.terminal import aligned

WINDOW, LEVELS = 15, 4  # of both Lucas-Kanades where they are compared
FIRST_SEED = 100  # of the scenes that are reported: parameters were chosen on those from 0 to 3
Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Two frames uint8 ``[H, W, 3]``, and their flow float32 ``[2, H, W]``, NaN where it is unknown."""

    name: str
    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="folder of pairs with true flow")
    parser.add_argument("--network", action="append", default=[], metavar="NAME:FILE")
    parser.add_argument("--scenes", type=int, default=5, help="of each kind")
    parser.add_argument("--quick", action="store_true", help="two scenes of each kind, and no TV-L1")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="draw two scenes as PNG, and measure nothing")
    words = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if words.picture:
        write_png(words.picture, _picture())
        return
    real = _real(words.media)
    if not real:
        parser.error(f"{words.media} holds no pairs with true flow: give ../shared/media/flow, or a folder like it")
    methods = _methods(words.network, words.quick)
    rows = []
    count = 2 if words.quick else words.scenes
    for kind in KINDS:
        scenes = [make_scene(kind, FIRST_SEED + k) for k in range(count)]
        pairs = [Pair(kind, scene.first, scene.second, scene.flow) for scene in scenes]
        rows += _table(f"generated: {kind}, {count} pairs", pairs, methods)
    for name, pairs in real.items():
        rows += _table(f"{name}, {len(pairs)} pair{'s' * (len(pairs) > 1)}", pairs, methods)
    _aperture()
    _by_confidence([pair for pairs in real.values() for pair in pairs])
    if words.json:
        words.json.write_text(json.dumps(rows, indent=1) + "\n")


def _methods(networks: Sequence[str], quick: bool) -> dict[str, Flow]:
    found = {"OpenCV Lucas-Kanade": _opencv_lucas_kanade, "Lucas-Kanade, same window and levels": _lucas_kanade}
    found |= {name: _ours(name) for name in ("lucas_kanade", "dis", "farneback")}
    if not quick:
        found["tv_l1"] = _ours("tv_l1")
        if hasattr(cv2, "optflow"):
            found["OpenCV TV-L1"] = _opencv_tv_l1
        else:
            print("OpenCV TV-L1: absent (opencv-contrib-python-headless)")
    found |= {name: _ours(name) for name in networks}
    return found


def _table(title: str, pairs: Sequence[Pair], methods: dict[str, Flow]) -> list[dict[str, object]]:
    """Print errors and times of all methods; times beside OpenCV's Lucas-Kanade as rows of the JSON."""
    lines, milliseconds = [], {}
    for name, method in methods.items():
        begun = time.process_time()
        flows = [method(pair.first, pair.second) for pair in pairs]
        milliseconds[name] = 1000 * (time.process_time() - begun) / len(pairs)
        measured = _mean_metrics(flows, pairs)
        if not lines:
            lines.append(["no motion", *(f"{each[1]:.3f}" for each in measured), ""])
            lines.append(["mean flow", *(f"{each[2]:.3f}" for each in measured), ""])
        lines.append([name, *(f"{each[0]:.3f}" for each in measured), f"{milliseconds[name]:.0f}"])
    print(f"\n{title}\n" + aligned(["method", "EPE px", "Fl", "angle deg", "CPU ms"], lines))
    ours, peer = milliseconds["Lucas-Kanade, same window and levels"], milliseconds["OpenCV Lucas-Kanade"]
    return [{"case": title, "peer": "OpenCV Lucas-Kanade, every pixel", "ratio": round(peer / ours, 2),
             "ours_ms": round(ours, 1), "peer_ms": round(peer, 1)}]  # fmt: skip


def _mean_metrics(flows: Sequence[np.ndarray], pairs: Sequence[Pair]) -> np.ndarray:
    """``[3, 3]``: end-point error, outliers and angle; of the flows, of no motion, and of the mean flow."""
    each = [
        [(metric.value, metric.chance, metric.prior) for metric in flow_metrics(flow[None], pair.truth[None])]
        for flow, pair in zip(flows, pairs, strict=True)
    ]
    return np.mean(each, 0)


def _real(folder: Path) -> dict[str, list[Pair]]:
    """Pairs by their data set: a ``.flo`` is of Flying Chairs, a PNG of KITTI."""
    found: dict[str, list[Pair]] = {}
    for path in sorted([*folder.glob("*flow.flo"), *folder.glob("*flow_gt.png")]):
        stem = path.name.rpartition("flow")[0]
        images = sorted(
            other for other in folder.glob(f"{stem}*") if other != path and other.suffix in (".ppm", ".png")
        )
        first, second = (cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB) for image in images)
        data = "Flying Chairs" if path.suffix == ".flo" else "KITTI"
        found.setdefault(data, []).append(Pair(path.name, first, second, read_flow(path)))
    return found


def _aperture() -> None:
    """Confidence at edges, along which motion cannot be seen, and in textures."""
    edges = []
    for angle in np.linspace(0, np.pi, 16, endpoint=False):
        scene = edge_scene(float(angle), 2.0)
        confidence = lucas_kanade(_tensor(scene.first), _tensor(scene.second))[1][0, 0, 40:56, 40:56]
        edges.append(confidence.numpy().ravel())
    textures = []
    for k in range(4):
        scene = make_scene("translation", FIRST_SEED + k)
        textures.append(lucas_kanade(_tensor(scene.first), _tensor(scene.second))[1].numpy().ravel())
    edge, texture = np.concatenate(edges), np.concatenate(textures)
    print("\naperture: confidence of Lucas-Kanade, 1st, 50th and 99th percentile")
    for name, values in (("straight edges of 16 directions", edge), ("textures", texture)):
        print(f"  {name}: " + ", ".join(f"{value:.3f}" for value in np.percentile(values, [1, 50, 99])))
    print(f"  edges below 0.5: {(edge < 0.5).mean():.3f}; textures above: {(texture > 0.5).mean():.3f}")


def _by_confidence(pairs: Sequence[Pair]) -> None:
    """Errors on the pairs where Lucas-Kanade is sure, and elsewhere."""
    errors, confidences = [], []
    for pair in pairs:
        flow, confidence = lucas_kanade(_tensor(pair.first), _tensor(pair.second))
        error = endpoint_errors(flow[0].numpy(), pair.truth)
        known = np.isfinite(error)
        errors.append(error[known])
        confidences.append(confidence[0, 0].numpy()[known])
    error, confidence = np.concatenate(errors), np.concatenate(confidences)
    print("\nmedian end-point error of Lucas-Kanade by its confidence, real pairs")
    bounds = (0, 0.5, 0.9, 0.99, 1.0)
    for low, high in pairwise(bounds):
        within = (confidence >= low) & (confidence < high)
        if within.any():
            print(f"  {low} to {high}: {np.median(error[within]):.2f} px, {within.mean():.0%} of the pixels")


def _picture() -> Figure:
    """Two scenes: a frame, and the flow to the next as colours of one scale."""
    methods = ("lucas_kanade", "tv_l1", "dis")
    figure = Figure((7, 2.4), layout="constrained")
    for row, kind in enumerate(("layers", "rotation")):
        scene = make_scene(kind, FIRST_SEED)
        flows = {"true flow": scene.flow} | {name: _ours(name)(scene.first, scene.second) for name in methods}
        shown = {"frame": scene.first} | {name: flow_colours(flow, LONGEST) for name, flow in flows.items()}
        for column, (title, image) in enumerate(shown.items()):
            axes = figure.add_subplot(2, len(shown), row * len(shown) + column + 1)
            axes.imshow(image)
            axes.set_axis_off()
            if not row:
                axes.set_title(title, fontsize=9)
    return figure


def _tensor(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)[None]


def _ours(method: str) -> Flow:
    find = load_flow(method, "cpu")
    return lambda first, second: find(_tensor(first), _tensor(second))[0].numpy()


def _lucas_kanade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return lucas_kanade(_tensor(first), _tensor(second), window=WINDOW, levels=LEVELS)[0][0].numpy()


def _opencv_lucas_kanade(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """OpenCV's, for every pixel."""
    one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    height, width = one.shape
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32).reshape(-1, 1, 2)
    found, _, _ = cv2.calcOpticalFlowPyrLK(one, other, places, None, winSize=(WINDOW, WINDOW), maxLevel=LEVELS - 1)
    return (found - places).reshape(height, width, 2).transpose(2, 0, 1)


def _opencv_tv_l1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    return cv2.optflow.DualTVL1OpticalFlow_create().calc(one, other, None).transpose(2, 0, 1)


if __name__ == "__main__":
    main()
