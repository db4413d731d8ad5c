"""How fast are clips read, beside peers and the bare decoder? python tools/bench/bench_reader.py [--quick]

One job is what a training step of audio-visual learning asks for: a window of 2 s at a random instant, 16 frames at
t0 + i / 8, a random square of 7/8 of the short side scaled to 112 pixels, and the window's audio as 16 kHz mono float.
Every method does the same jobs in one process with one thread each, in random order; what is measured is CPU time
per clip. The floor is libavcodec alone: decoding, from memory, only the packets that the wanted frames need.

Peers are an extra: pip install "avlearn[bench]". Each does its job in the cheapest of its documented ways:

- torchcodec: an exact `VideoDecoder` and `get_frames_played_at`, torchvision's crop and antialiased resize, an
  `AudioDecoder` that resamples and mixes; with four windows per open, one decoder of each, all instants in one call.
- decord: a `VideoReader` that scales to short side 128 as it decodes, and an `AudioReader`.
- opencv: seek, `grab` every frame and `retrieve` the wanted ones; it has no audio, which torchcodec adds.
- pyav, everything: a loop over all frames and all audio of the file, converting only what is wanted.
"""

import os

# Before numpy and torch start their threads.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import gc
import importlib.util
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from footage import generate, make, prepare

from avlearn.media import ClipReader, Window, probe

SECONDS, FPS, RATE, SIDE = 2.0, 8, 16_000, 112
FRAMES = round(SECONDS * FPS)
SHARE = 7 / 8  # of the short side that a crop keeps
TOGETHER = 4  # windows of a file read in one open

Result = tuple[np.ndarray, np.ndarray, np.ndarray]  # uint8 [16, 112, 112, 3], float32 [32000], seconds [16]


@dataclass(frozen=True)
class Spot:
    """A window and its crop: ``t0`` in seconds, ``x`` and ``y`` as shares of the room that the crop has."""

    t0: float
    x: float
    y: float

    @property
    def instants(self) -> list[float]:
        return [self.t0 + k / FPS for k in range(FRAMES)]

    def box(self, width: int, height: int) -> tuple[int, int, int]:
        """Left, top and side of the crop in a frame of this size: even, as where chroma is halved."""
        side = round(min(width, height) * SHARE / 2) * 2
        return round(self.x * (width - side) / 2) * 2, round(self.y * (height - side) / 2) * 2, side


@dataclass(frozen=True)
class Job:
    """A file and the windows wanted of it."""

    path: Path
    width: int
    height: int
    spots: tuple[Spot, ...]


# ---------------------------------------------------------------- the methods


def ours(job: Job) -> list[Result]:
    windows = []
    for spot in job.spots:
        left, top, side = spot.box(job.width, job.height)
        shares = left / job.width, top / job.height, (left + side) / job.width, (top + side) / job.height
        windows.append(Window(spot.t0, SECONDS, crop=shares))
    clips = ClipReader(fps=FPS, size=(SIDE, SIDE), sample_rate=RATE, mono=True).read(job.path, windows)
    return [(clip.video, clip.audio[0], clip.times) for clip in clips]


def torchcodec(job: Job) -> list[Result]:
    from torchcodec.decoders import AudioDecoder, VideoDecoder
    from torchvision.transforms.v2.functional import resized_crop

    video = VideoDecoder(str(job.path), num_ffmpeg_threads=1, seek_mode="exact")
    frames = video.get_frames_played_at([t for spot in job.spots for t in spot.instants])
    times = frames.pts_seconds.numpy()
    audio = AudioDecoder(str(job.path), sample_rate=RATE, num_channels=1)
    results = []
    for k, spot in enumerate(job.spots):
        own = slice(k * FRAMES, (k + 1) * FRAMES)
        left, top, side = spot.box(job.width, job.height)
        images = resized_crop(frames.data[own], top, left, side, side, [SIDE, SIDE])
        waveform = audio.get_samples_played_in_range(spot.t0, spot.t0 + SECONDS).data[0].numpy()
        results.append((images.permute(0, 2, 3, 1).numpy(), waveform, times[own]))
    return results


def decord(job: Job) -> list[Result]:
    from decord import AudioReader, VideoReader, cpu

    (spot,) = job.spots
    scale = 128 / min(job.width, job.height)
    width, height = round(job.width * scale), round(job.height * scale)
    video = VideoReader(str(job.path), cpu(0), width, height, num_threads=1)
    rate = video.get_avg_fps()
    indices = [min(int(t * rate + 1e-4), len(video) - 1) for t in spot.instants]
    images = video.get_batch(indices).asnumpy()
    times = video.get_frame_timestamp(indices)[:, 0]
    left, top, _ = spot.box(width, height)
    images = np.ascontiguousarray(images[:, top : top + SIDE, left : left + SIDE])
    audio = AudioReader(str(job.path), cpu(0), RATE, mono=True)
    first = round(spot.t0 * RATE)
    return [(images, audio[first : first + round(SECONDS * RATE)].asnumpy()[0], times)]


def opencv(job: Job) -> list[Result]:
    from torchcodec.decoders import AudioDecoder

    (spot,) = job.spots
    video = cv2.VideoCapture(str(job.path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    rate = video.get(cv2.CAP_PROP_FPS)
    indices = [int(t * rate + 1e-4) for t in spot.instants]
    video.set(cv2.CAP_PROP_POS_FRAMES, indices[0])
    left, top, side = spot.box(job.width, job.height)
    images, times = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8), []
    for index in range(indices[0], indices[-1] + 1):
        video.grab()
        if index == indices[len(times)]:
            image = video.retrieve()[1][top : top + side, left : left + side]
            image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, images[len(times)])
            times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    video.release()
    audio = AudioDecoder(str(job.path), sample_rate=RATE, num_channels=1)
    waveform = audio.get_samples_played_in_range(spot.t0, spot.t0 + SECONDS).data[0].numpy()
    return [(images, waveform, np.array(times))]


def pyav_everything(job: Job) -> list[Result]:
    (spot,) = job.spots
    with av.open(str(job.path)) as container:
        container.streams.video[0].thread_count = 1
        resampler = av.AudioResampler("fltp", "mono", RATE)
        frames, audio, begin = [], [], 0.0
        for frame in container.decode(container.streams.video[0], container.streams.audio[0]):
            if isinstance(frame, av.VideoFrame):
                frames.append((frame.time, frame))
                continue
            begin = frame.time if not audio else begin
            audio += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        audio += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    shown = np.searchsorted([t for t, _ in frames], np.array(spot.instants) + 1e-4) - 1
    scale = 128 / min(job.width, job.height)
    width, height = round(job.width * scale), round(job.height * scale)
    left, top, _ = spot.box(width, height)
    images = [frames[k][1].reformat(width, height, "rgb24", threads=1).to_ndarray() for k in shown]
    images = np.stack([image[top : top + SIDE, left : left + SIDE] for image in images])
    first = round((spot.t0 - begin) * RATE)
    audio = np.concatenate(audio)[first : first + round(SECONDS * RATE)]
    return [(images, audio, np.array([frames[k][0] for k in shown]))]


def droppable(packet: av.Packet, prefix: int) -> bool:
    """Is this H.264 picture referenced by none? The first slice says so (ISO/IEC 14496-10, 7.4.1: nal_ref_idc)."""
    data, at = memoryview(packet), 0
    while at + prefix < len(data):
        header = data[at + prefix]
        if 1 <= header & 31 <= 5:
            return header >> 5 & 3 == 0
        at += prefix + int.from_bytes(data[at : at + prefix])
    return False


class Floor:
    """The least that libavcodec must do for a job: its needed packets, loaded beforehand, through bare decoders."""

    def __init__(self, job: Job):
        with av.open(str(job.path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            packets = [p for p in container.demux(video, audio) if p.size and p.pts is not None]
            frames = [p for p in packets if p.stream is video]
            shown = np.array(sorted(p.pts for p in frames))
            seconds = shown * float(video.time_base)
            instants = np.array([spot.instants for spot in job.spots])
            # Right is the frame shown then, or half a millisecond sooner or later: stamps are rounded to ticks.
            self.right = [seconds[np.maximum(np.searchsorted(seconds, instants + d) - 1, 0)] for d in (-5e-4, 5e-4)]
            wanted = {int(shown[k]) for k in np.searchsorted(seconds, instants.ravel() + 1e-4) - 1}
            extra = video.codec_context.extradata or b""
            prefix = (extra[4] & 3) + 1 if video.codec_context.name == "h264" and extra[:1] == b"\1" else 0
            self.frames, run = [], []
            for packet in frames:  # decoding order: a run from a keyframe ends with its last wanted packet
                run = [] if packet.is_keyframe else run
                if packet.pts in wanted or not (prefix and droppable(packet, prefix)):
                    run.append(packet)
                if packet.pts in wanted:
                    self.frames += run
                    run = []
            base = float(audio.time_base)
            spans = [(spot.t0 - 0.06, spot.t0 + SECONDS) for spot in job.spots]
            heard = [p for p in packets if p.stream is audio]
            self.audio = [p for p in heard if any(low < p.pts * base < high for low, high in spans)]
            self.decoders = [self._decoder(stream) for stream in (video, audio)]

    @staticmethod
    def _decoder(stream: av.stream.Stream) -> av.CodecContext:
        decoder = av.CodecContext.create(stream.codec_context.codec.name, "r")
        decoder.extradata = stream.codec_context.extradata
        if isinstance(stream, av.AudioStream):
            decoder.sample_rate, decoder.layout = stream.codec_context.sample_rate, stream.codec_context.layout
        decoder.thread_count = 1
        decoder.open()
        return decoder

    def decode(self) -> None:
        for decoder, packets in zip(self.decoders, (self.frames, self.audio), strict=True):
            for packet in packets:
                decoder.decode(packet)
            decoder.decode(None)
            decoder.flush_buffers()


FLOOR, OURS = "bare decoder", "avlearn"
# What runs, which modules it needs, and whether one open serves several windows.
PEERS: dict[str, tuple[Callable, tuple[str, ...], bool]] = {
    "torchcodec": (torchcodec, ("torchcodec",), True),
    "decord": (decord, ("decord",), False),
    "opencv": (opencv, ("torchcodec",), False),
    "pyav, everything": (pyav_everything, (), False),
}


def one_by_one(read: Callable, job: Job) -> list[Result]:
    return [result for spot in job.spots for result in read(Job(job.path, job.width, job.height, (spot,)))]


def floors(job: Job, together: int) -> list[Floor]:
    spots = [job.spots[k : k + together] for k in range(0, len(job.spots), together)]
    return [Floor(Job(job.path, job.width, job.height, group)) for group in spots]


def methods() -> tuple[dict[tuple[str, int], Callable], list[str]]:
    """By name and windows per open, functions from a job to results; and the peers that are absent."""
    table = {(OURS, 1): partial(one_by_one, ours), (OURS, TOGETHER): ours}
    absent = []
    for name, (read, modules, shares) in PEERS.items():
        if not all(importlib.util.find_spec(module) for module in modules):
            absent.append(name)
            continue
        table[name, 1] = partial(one_by_one, read)
        if shares:
            table[name, TOGETHER] = read
    return table, absent


# ---------------------------------------------------------------- measuring


def clocked(run: Callable) -> tuple[float, list]:
    begin = time.process_time()
    result = run()
    return (time.process_time() - begin) * 1000, result


def lag(audio: np.ndarray, reference: np.ndarray) -> float:
    """Milliseconds by which the audio is late."""
    size = 2 * len(reference)
    product = np.fft.rfft(audio, size) * np.conj(np.fft.rfft(reference, size))
    shift = int(np.argmax(np.fft.irfft(product, size)))
    return (shift - size if shift > size // 2 else shift) / RATE * 1000


def compare(results: list[Result], right: list[np.ndarray], reference: list[Result]) -> dict[str, float]:
    """Frames of another time than the packets say, and how far video and audio are from ours."""
    times = np.stack([times for _, _, times in results])
    wrong = int(np.all([abs(times - t) > 1e-3 for t in right], axis=0).sum())
    far = max(np.abs(r[0].astype(int) - o[0]).mean() for r, o in zip(results, reference, strict=True))
    late = max((lag(r[1], o[1]) for r, o in zip(results, reference, strict=True)), key=abs)
    return {"wrong": wrong, "far": far, "late": late}


def measure(jobs: list[Job], rounds: int, rng: random.Random) -> tuple[dict, dict]:
    """Median over the rounds of the mean CPU milliseconds per clip, and what the results are like, of each method."""
    table, _ = methods()
    clips = sum(len(job.spots) for job in jobs)
    checks = {key: {"wrong": 0, "far": 0.0, "late": 0.0} for key in table}
    for job in jobs:  # which also warms up
        right, reference = Floor(job).right, ours(job)
        for key, read in list(table.items()):
            try:
                found = compare(read(job), right, reference)
            except Exception as error:
                if key[0] == OURS:
                    raise
                print(f"{key[0]}: left out, it fails on {job.path.name}: {str(error).strip().splitlines()[0]}")
                del table[key]
                continue
            found["wrong"] += checks[key]["wrong"]
            checks[key] = {k: max(v, checks[key][k], key=abs) for k, v in found.items()}
    spent: dict[tuple[str, int], list[float]] = {}
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(rounds):
        total = dict.fromkeys([*table, (FLOOR, 1), (FLOOR, TOGETHER)], 0.0)
        for job in rng.sample(jobs, len(jobs)):
            for key in rng.sample(list(total), len(total)):
                if key[0] == FLOOR:
                    total[key] += sum(clocked(floor.decode)[0] for floor in floors(job, key[1]))
                else:
                    total[key] += clocked(partial(table[key], job))[0]
                gc.collect()
        for key, milliseconds in total.items():
            spent.setdefault(key, []).append(milliseconds / clips)
    gc.enable()
    gc.unfreeze()
    return {key: float(np.median(values)) for key, values in spent.items()}, checks


def draw(paths: list[Path], rng: random.Random) -> list[Job]:
    """Four windows of each file that has video, audio and length enough."""
    jobs = []
    for path in paths:
        info = probe(path)
        if info.video is None or info.audio is None:
            print(f"{path.name}: left out, it lacks video or audio")
            continue
        begin = max(info.video.start, info.audio.start)
        end = min(info.video.start + info.video.duration, info.audio.start + info.audio.duration) - SECONDS - 0.1
        if end <= begin:
            print(f"{path.name}: left out, it is shorter than a window")
            continue
        spots = tuple(Spot(rng.uniform(begin, end), rng.random(), rng.random()) for _ in range(TOGETHER))
        jobs.append(Job(path, info.video.width, info.video.height, spots))
    return jobs


def report(case: str, spent: dict, checks: dict) -> list[dict]:
    """Print a case's table; return its rows.

    "1 a time", "4 a time": how many times as fast we are with so many windows per open. "video": mean levels that
    the worst window's pixels are off ours; "audio ms": how late the worst window's audio is beside ours.
    """
    mine, together = spent[OURS, 1], spent[OURS, TOGETHER]
    heads = "CPU ms", "1 a time", f"{TOGETHER} a time", "wrong frames", "video", "audio ms"
    print(f"\n{case}\n{'':32}" + "".join(f"{head:>13}" for head in heads))
    rows = []
    for (name, windows), milliseconds in sorted(spent.items(), key=lambda item: item[1]):
        check = checks.get((name, windows))
        tail = f"{check['wrong']:13d}{check['far']:13.1f}{check['late']:13.2f}" if check else ""
        label = f"{name}, {windows} per open"
        print(f"{label:32}{milliseconds:13.2f}{milliseconds / mine:13.2f}{milliseconds / together:13.2f}{tail}")
        for count, own in ((1, mine), (TOGETHER, together)):
            if name != OURS and (name != FLOOR or windows == count):
                rows.append(row(f"{case}, {count} per open", label, own, milliseconds))
    shares = f"{spent[FLOOR, 1] / mine:.0%}", f"{spent[FLOOR, TOGETHER] / together:.0%}"
    print(f"of the bare decoder's speed: {shares[0]} with 1 window per open, {shares[1]} with {TOGETHER}")
    return rows


def row(case: str, peer: str, ours_ms: float, peer_ms: float) -> dict:
    return {
        "case": case, "peer": peer, "ratio": round(peer_ms / ours_ms, 3),
        "ours_ms": round(ours_ms, 3), "peer_ms": round(peer_ms, 3),
    }  # fmt: skip


def cases(work: Path, clips: int, quick: bool) -> dict[str, list[Path]]:
    """Generated files by kind; those prepared come in the order of their originals."""
    small = {
        gop: make(work, [(f"small_g{gop}_{k:03d}.mp4", generate, (k, 340, 256, gop)) for k in range(clips)])
        for gop in (250, 12)
    }
    found = {"340x256, GOP 250": small[250], "340x256, GOP 12": small[12]}
    if not quick:
        large = [(f"large_g250_{k:03d}.mp4", generate, (k, 1280, 720, 250)) for k in range(max(clips // 3, 1))]
        found["1280x720, GOP 250"] = make(work, large)
    tasks = [(f"prepared_{k:03d}.mp4", prepare, (path,)) for k, path in enumerate(small[250])]
    return {**found, "prepared": make(work, tasks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few files, no 1280x720: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the ratios, a list of rows")
    parser.add_argument("--work", metavar="FOLDER", help="keep the generated files here (default: a temporary folder)")
    parser.add_argument("--folder", metavar="FOLDER", help="measure on the videos of a folder instead")
    parser.add_argument(
        "--clips", type=int, help="files of each kind (default: 9, quick 4; a third as many of 1280x720)"
    )
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default: 3, quick 2)")
    parser.add_argument("--seed", type=int, default=0, help="of windows and order")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clips = options.clips or (4 if options.quick else 9)
    rounds = options.rounds or (2 if options.quick else 3)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(options.work or scratch)
        work.mkdir(parents=True, exist_ok=True)
        if options.folder:
            folder = Path(options.folder)
            found = {folder.name: sorted(path for path in folder.iterdir() if path.is_file())[: options.clips]}
        else:
            found = cases(work, clips, options.quick)
        rows, spent = [], {}
        for name, paths in found.items():
            rng = random.Random(options.seed)
            jobs = draw(paths, rng)
            size = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
            spent[name], checks = measure(jobs, rounds, rng)
            rows += report(f"{name} ({len(jobs)} files of {size:.2f} MB)", spent[name], checks)
        if "prepared" in found:
            before, after = spent["340x256, GOP 250"][OURS, 1], spent["prepared"][OURS, 1]
            print(f"\nprepared files are read {before / after:.2f} x as fast as their originals")
            rows.append(row("prepared, 1 per open", "avlearn, the originals", after, before))
    for name in methods()[1]:
        print(f'{name}: absent (pip install "avlearn[bench]")')
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
