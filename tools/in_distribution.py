"""Does a model know what it knows? python tools/in_distribution.py WORK [FOLDER...] [--calibrate MODEL_FOLDER]

Prints how many files are said to be unlike the training data: by their picture, by their sound, by either. Clips of the
synthetic world are rendered into WORK, also encoded again at another quality and size, and made unlike: black, still,
noise, another's noise. Every FOLDER is one more kind; sounds without a picture are put on a black one.

With --calibrate, the statistics are first learned again, from worlds of other seeds, and written to the model folder.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from avlearn import load, make_world
from avlearn.apply.windows import Notice, windows
from avlearn.data.world import WorldConfig
from avlearn.errors import AvlearnError
from avlearn.media import Clip, probe, read_clip, stream, write_video
from avlearn.models.audiovisual import AudioVisual, meet
from avlearn.models.weights.checkpoint import write_tensors

LEARNED = (("standard", 300, 9001), ("hard", 120, 9002), ("solo", 60, 9003))  # preset, clips, seed
OWN = (("standard", 60, 9201), ("hard", 60, 9202), ("solo", 60, 9203), ("duets", 60, 9204))
RECODED = {"crf 35": (35, 96), "crf 30, 192 px": (30, 192), "crf 23, 64 px": (23, 64), "crf 28, 480 px": (28, 480)}
MADE, WINDOWS = 20, 8  # clips of each kind that is made, windows of a file


def world(work: Path, preset: str, clips: int, seed: int) -> list[Path]:
    """The clips of a world."""
    folder = work / f"world-{seed}"
    make_world(folder, clips, seed, WorldConfig.preset(preset), workers=1, split="test")
    return sorted((folder / "clips").glob("*.mp4"))[:clips]


def learn(work: Path, model: AudioVisual, folder: Path) -> None:
    """Statistics of two windows of each clip, written beside the weights, which stay as they are."""
    config = model.config
    paths = [path for kind in LEARNED for path in world(work, *kind)]

    def cut() -> Iterator[tuple[int, Tensor, Tensor]]:
        shape = {"fps": config.fps, "size": config.size, "sample_rate": config.sample_rate, "mono": True}
        for number, path in enumerate(paths):
            for start in (0.0, 2.0):
                clip = read_clip(path, start, config.seconds, **shape)
                yield number, torch.from_numpy(clip.video)[None], torch.from_numpy(clip.audio)

    meet(model, cut())
    write_tensors(model, folder / "model.safetensors")
    print(f"learned from {len(paths)} clips: {folder}")


def recoded(path: Path, out: Path, crf: int, size: int) -> Path:
    """A clip at another quality and size."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        picture = target.add_stream("libx264", rate=25, options={"crf": str(crf)})
        picture.width = picture.height = size
        picture.pix_fmt = "yuv420p"
        sound = target.add_stream("aac", rate=16000, layout="mono", bit_rate=32000)
        for frame in source.decode(source.streams.video[0], source.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                scaled = frame.reformat(size, size)
                scaled.pts, scaled.time_base = frame.pts, frame.time_base
                target.mux(picture.encode(scaled))
            else:
                target.mux(sound.encode(frame))
        target.mux(picture.encode(None))
        target.mux(sound.encode(None))
    return out


def made(paths: list[Path], out: Path, change: Callable[[Clip], tuple[np.ndarray, np.ndarray]]) -> Iterator[Path]:
    """Clips with other frames or samples, one at a time in the same place."""
    for path in paths[:MADE]:
        clip = read_clip(path)
        frames, audio = change(clip)
        write_video(out, frames, clip.fps, audio=audio, sample_rate=clip.sample_rate)
        yield out


def on_black(paths: list[Path], out: Path) -> Iterator[Path]:
    """Files as they are; those without a picture on a black one."""
    for path in paths:
        info = probe(path)
        if info.video is not None or info.audio is None:
            yield path
            continue
        sound = next(stream(path, 10.0, 10.0, video=False, mono=True))
        frames = np.zeros((round(25 * sound.audio.shape[1] / sound.sample_rate), 64, 64, 3), np.uint8)
        write_video(out, frames, 25, audio=sound.audio, sample_rate=sound.sample_rate)
        yield out


def report(name: str, paths: Iterator[Path] | list[Path], model: AudioVisual) -> None:
    """A row of the table; what has not both picture and sound, or cannot be read, is left out."""
    known = []
    for path in paths:
        notice = Notice(model)
        try:
            for window in islice(windows(path, model, model.config.seconds / 2), WINDOWS):
                notice.add_video(window.features, window.frames)
                notice.add_audio(window.audio_features, window.audio)
        except AvlearnError:
            continue
        if notice.known()["video"] is not None:
            known.append(tuple(notice.known().values()))
    if known:
        video, audio = np.array(known, bool).T
        shares = f"{1 - video.mean():9.3f}{1 - audio.mean():9.3f}{1 - (video & audio).mean():9.3f}"
        print(f"{name:28}{len(known):6}{shares}", flush=True)


def main() -> None:
    """Learn where asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--model", default="default")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="the model's folder")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    if args.calibrate:
        learn(work, model, args.calibrate)
    rng, out = np.random.default_rng(0), work / "made.mp4"
    print(f"{'said to be unlike':28}{'files':>6}{'picture':>9}{'sound':>9}{'either':>9}")
    worlds = {preset: world(work, preset, clips, seed) for preset, clips, seed in OWN}
    for preset, paths in worlds.items():
        report(f"world, {preset}", paths, model)
    half = worlds["standard"][:MADE] + worlds["hard"][:MADE]
    for name, (crf, size) in RECODED.items():
        report(f"world, {name}", (recoded(path, out, crf, size) for path in half), model)
    unlike = {
        "black": lambda clip: (clip.video * 0, clip.audio),
        "still": lambda clip: (clip.video[:1].repeat(len(clip.video), 0), clip.audio),
        "noise": lambda clip: (rng.integers(0, 256, clip.video.shape, np.uint8), noise(clip)),
        "own picture, noise": lambda clip: (clip.video, noise(clip)),
        "noise, own sound": lambda clip: (rng.integers(0, 256, clip.video.shape, np.uint8), clip.audio),
    }

    def noise(clip: Clip) -> np.ndarray:
        return rng.normal(0, clip.audio.std(), clip.audio.shape).astype(np.float32)

    for name, change in unlike.items():
        report(name, made(worlds["standard"], out, change), model)
    for folder in args.folders:
        report(folder.name, on_black(sorted(p for p in folder.rglob("*") if p.is_file()), out), model)


if __name__ == "__main__":
    main()
