"""Whether Grad-CAM points at the object. python tools/bench/bench_explain.py MODEL WORLD [--clips N] [--picture PNG]

MODEL is a recognizer that sees clips of the synthetic world, WORLD a folder of such clips that it was not trained on.
Of clips with one source on screen, the map of its class is made, whatever the recognizer would name: how often its peak
lies in the source's box, at every step of the features, beside the frame's centre and the share of the frame that boxes
have (where a peak drawn at random lies).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from avlearn.apply.explain.file import file_class_maps
from avlearn.apply.explain.network import ExplainedNetwork, open_network
from avlearn.media import probe, read_clip
from avlearn.report.plots import heatmap_frames


def pointing(network: ExplainedNetwork, world: Path, clips: int) -> Iterator[tuple[bool, bool, float, str]]:
    """For each map: whether its peak, and whether the centre, is in the box; the box's share; and the clip."""
    for file in sorted((world / "truth").glob("*.json"))[:clips]:
        sources = [source for source in json.loads(file.read_text())["sources"] if source["onscreen"]]
        if len(sources) != 1 or sources[0]["name"] not in network.labels:
            continue
        clip = world / "clips" / f"{file.stem}.mp4"
        video = probe(clip).video
        boxes = np.array(sources[0]["boxes"]) / ([video.width, video.height] * 2)
        maps = file_class_maps(clip, network, [network.labels.index(sources[0]["name"])])
        for time, heat in zip(maps.times, maps.video[0], strict=True):
            left, top, right, bottom = boxes[min(int(time * video.fps), len(boxes) - 1)]
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            y, x = (row + 0.5) / heat.shape[0], (column + 0.5) / heat.shape[1]
            inside = [bool(left <= at <= right and top <= down <= bottom) for at, down in ((x, y), (0.5, 0.5))]
            yield inside[0], inside[1], (right - left) * (bottom - top), file.stem


def picture(network: ExplainedNetwork, clip: Path, label: str) -> np.ndarray:
    """Three frames of a clip, each above itself with the map of a class."""
    maps = file_class_maps(clip, network, [network.labels.index(label)])
    film = read_clip(clip, 0.0, probe(clip).video.duration, audio=False)
    picked = np.linspace(0, len(maps.times) - 1, 5).round().astype(int)[1:4]
    numbers = np.minimum((maps.times[picked] * film.fps).astype(int), len(film.video) - 1)
    return heatmap_frames(film.video[numbers], maps.video[0][picked])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("world", type=Path)
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--shown", type=int, default=1, help="the number of the clip in the picture")
    args = parser.parse_args()
    network = open_network(args.model)
    found = list(pointing(network, args.world, args.clips))
    hits, centres, shares, clips = zip(*found, strict=True)
    print(f"{len(found)} maps of {len(set(clips))} clips: peak in the box {np.mean(hits):.3f}, ", end="")
    print(f"the centre {np.mean(centres):.3f}, share of the frame that boxes have {np.mean(shares):.3f}")
    if args.picture:
        clip = sorted((args.world / "clips").glob("*.mp4"))[args.shown]
        label = json.loads((args.world / "truth" / f"{clip.stem}.json").read_text())["sources"][0]["name"]
        Image.fromarray(picture(network, clip, label)).quantize(96).save(args.picture, optimize=True)


if __name__ == "__main__":
    main()
