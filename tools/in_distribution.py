"""Does a model know what it knows? python tools/in_distribution.py WORK [FOLDER...]

Prints how many files are said to be unlike the training data: by their video, by their audio, by either. Clips of the
synthetic world are rendered into WORK, also encoded again by other codecs, at other qualities and sizes, and made
unlike: black, still, noise, and one of the two of something else. Every FOLDER is one more kind, and so is the world's
video with its audio; audio without a video is put on a black one.

The statistics themselves come from `avlearn calibrate`, or from the training.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np

from avlearn import load, make_world
from avlearn.apply.in_distribution import InDistributionCheck
from avlearn.apply.windows import windows
from avlearn.data.world import WorldConfig
from avlearn.errors import AvlearnError
from avlearn.media import Clip, probe, read_clip, stream, write_video
from avlearn.models.audiovisual import AudioVisual

OWN = (  # preset, clips, seed
    ("standard", 25, 9701), ("hard", 25, 9702), ("solo", 15, 9703), ("duets", 15, 9704), ("muted", 10, 9705),
    ("twins", 10, 9706),
)  # fmt: skip
MADE, WINDOWS = 12, 8  # clips of each kind that is made, windows of a file


@dataclass(frozen=True)
class Recoding:
    """Codecs of video and audio, and how they are used; MPEG-1 Layer 3 at 16 kHz cuts off what is above 6.5."""

    suffix: str
    video: str
    options: dict[str, str]
    size: int
    audio: str
    rate: int
    bits: int

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.video} {self.size} px, {self.audio} {self.rate}"


RECODED = (
    Recoding(".mp4", "libx264", {"crf": "35"}, 96, "aac", 16000, 32000),
    Recoding(".mp4", "libx264", {"crf": "30"}, 192, "aac", 16000, 24000),
    Recoding(".mp4", "libx264", {"crf": "23"}, 64, "aac", 48000, 96000),
    Recoding(".mp4", "libx264", {"crf": "28"}, 480, "aac", 16000, 32000),
    Recoding(".avi", "mpeg4", {"b": "400000"}, 96, "libmp3lame", 16000, 128000),
    Recoding(".avi", "mpeg4", {"b": "150000"}, 160, "libmp3lame", 44100, 64000),
    Recoding(".mpg", "mpeg2video", {"b": "800000"}, 128, "mp2", 48000, 96000),
    Recoding(".webm", "libvpx", {"b": "200000", "cpu-used": "8", "deadline": "realtime"}, 128, "libopus", 48000, 32000),
)


def world(work: Path, preset: str, clips: int, seed: int) -> list[Path]:
    """The clips of a world."""
    folder = work / f"world-{seed}"
    make_world(folder, clips, seed, WorldConfig.preset(preset), workers=1, split="test")
    return sorted((folder / "clips").glob("*.mp4"))[:clips]


def recoded(path: Path, out: Path, how: Recoding) -> Path:
    """A clip encoded again."""
    out = out.with_suffix(how.suffix)
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        shown = target.add_stream(how.video, rate=25, options=how.options)
        shown.width = shown.height = how.size
        shown.pix_fmt = "yuv420p"
        audio = target.add_stream(how.audio, rate=how.rate, layout="mono", bit_rate=how.bits)
        for frame in source.decode(source.streams.video[0], source.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                scaled = frame.reformat(how.size, how.size)
                scaled.pts, scaled.time_base = frame.pts, frame.time_base
                target.mux(shown.encode(scaled))
            else:
                target.mux(audio.encode(frame))
        target.mux(shown.encode(None))
        target.mux(audio.encode(None))
    return out


def made(paths: list[Path], out: Path, change: Callable[[Clip], tuple[np.ndarray, np.ndarray]]) -> Iterator[Path]:
    """Clips with other frames or samples, one at a time in the same place."""
    for path in paths[:MADE]:
        clip = read_clip(path)
        frames, audio = change(clip)
        write_video(out, frames, clip.fps, audio=audio, sample_rate=clip.sample_rate)
        yield out


def on_black(paths: list[Path], out: Path) -> Iterator[Path]:
    """Files as they are; those without a video on a black one. What cannot be read is left out."""
    for path in paths:
        try:
            info = probe(path)
            if info.video is not None or info.audio is None:
                yield path
                continue
            recording = next(stream(path, 10.0, 10.0, video=False, mono=True))
        except (AvlearnError, StopIteration):
            continue
        frames = np.zeros((round(25 * recording.audio.shape[1] / recording.sample_rate), 64, 64, 3), np.uint8)
        write_video(out, frames, 25, audio=recording.audio, sample_rate=recording.sample_rate)
        yield out


def with_audio(paths: list[Path], files: list[Path], out: Path) -> Iterator[Path]:
    """Clips with the audio of files; those without any are left out."""
    for number, file in enumerate(files):
        try:
            recording = next(stream(file, 4.0, 4.0, video=False, mono=True))
        except (AvlearnError, StopIteration):
            continue
        clip = read_clip(paths[number % len(paths)], audio=False)
        write_video(out, clip.video, clip.fps, audio=recording.audio, sample_rate=recording.sample_rate)
        yield out


def report(name: str, paths: Iterator[Path] | list[Path], model: AudioVisual) -> None:
    """A row of the table; what has not both video and audio, or cannot be read, is left out."""
    known = []
    for path in paths:
        check = InDistributionCheck(model)
        try:
            for window in islice(windows(path, model, model.config.seconds / 2), WINDOWS):
                check.add_video(window.features, window.frames)
                check.add_audio(window.audio_features)
        except AvlearnError:
            continue
        if check.result()["video"] is not None:
            known.append(tuple(check.result().values()))
    if known:
        video, audio = np.array(known, bool).T
        shares = f"{1 - video.mean():9.3f}{1 - audio.mean():9.3f}{1 - (video & audio).mean():9.3f}"
        print(f"{name:34}{len(known):6}{shares}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    model = load(args.model)
    rng, out = np.random.default_rng(0), work / "made.mp4"
    print(f"{'said to be unlike':34}{'files':>6}{'video':>9}{'audio':>9}{'either':>9}")
    worlds = {preset: world(work, preset, clips, seed) for preset, clips, seed in OWN}
    for preset, paths in worlds.items():
        report(f"world, {preset}", paths, model)
    some = [path for paths in worlds.values() for path in paths[: MADE // len(worlds) + 1]]
    for how in RECODED:
        report(how.name, (recoded(path, out, how) for path in some), model)
    unlike = {
        "black": lambda clip: (clip.video * 0, clip.audio),
        "still": lambda clip: (clip.video[:1].repeat(len(clip.video), 0), clip.audio),
        "noise": lambda clip: (rng.integers(0, 256, clip.video.shape, np.uint8), noise(clip)),
        "own video, noise": lambda clip: (clip.video, noise(clip)),
        "noise, own audio": lambda clip: (rng.integers(0, 256, clip.video.shape, np.uint8), clip.audio),
    }

    def noise(clip: Clip) -> np.ndarray:
        return rng.normal(0, clip.audio.std(), clip.audio.shape).astype(np.float32)

    for name, change in unlike.items():
        report(name, made(worlds["standard"], out, change), model)
    for folder in args.folders:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        report(folder.name, on_black(files, out), model)
        report(f"own video, {folder.name}", with_audio(some, files, out), model)


if __name__ == "__main__":
    main()
