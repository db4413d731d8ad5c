"""Footage like that of Kinetics' small copies, made from a seed: textures, moving things, a cut; audio like speech."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from avlearn.data.transcode import Settings, transcode

LENGTH = 10  # seconds of a file


def leaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Discs and bars of power-law sizes that hide one another: the statistics of photographs (Lee et al., 2001).

    Returns:
        float32 ``[3, height, width]``, 0 to 255.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.full((3, height, width), 110, np.float32)
    for size in np.sort(height / 2 * np.clip(rng.power(0.6, 220), 0.02, 1))[::-1]:
        dy, dx = y - rng.uniform(0, height), x - rng.uniform(0, width)
        angle = rng.uniform(0, np.pi)
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = np.hypot(along, across) < size
        if rng.random() < 0.4:
            inside = (abs(along) < size) & (abs(across) < size / 3)
        slope = along[inside] / size * rng.uniform(0, 40)
        image[:, inside] = (rng.uniform(30, 220) + rng.uniform(-40, 40, (3, 1))).astype(np.float32) + slope
    # Surfaces are rough at every scale: noise whose amplitude falls with the frequency.
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / np.maximum(frequency, 1 / height)
    rough = np.fft.irfft2(spectrum, (height, width))
    return np.clip(image + 10 * rough / rough.std(), 0, 255).astype(np.float32)


def moving_frames(seed: int, width: int, height: int, fps: int) -> Iterator[np.ndarray]:
    """Frames uint8 ``[height, width, 3]``: a camera over a scene, two things moving in it, grain; half are cut once."""
    rng = np.random.default_rng(seed)
    count, side = LENGTH * fps, height // 4
    cut = int(rng.uniform(0.3, 0.7) * count) if seed % 2 else count
    yy, xx = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    shake = np.cumsum(rng.normal(0, 0.004, (count, 2)), 0)  # of the hand
    grain = rng.normal(0, 0.6, (2 * height, 2 * width, 1)).astype(np.float32)
    for k in range(count):
        if k in (0, cut):
            scene = torch.from_numpy(leaves(rng, 2 * height, 2 * width))[None]
            things = [torch.from_numpy(leaves(rng, height, height))[:, :side, :side] for _ in range(2)]
            paths = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(3, 8, (2, 2))
            phase, drift = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.05, 0.3, 4)
        t = k / fps
        zoom, turn = 0.55 + 0.05 * np.sin(drift[0] * t + phase[0]), 0.06 * np.sin(drift[1] * t + phase[1])
        px, py = 0.3 * np.sin(drift[2:] * t + phase[2:]) + 0.3 * np.sin(shake[k])
        grid = np.stack([px + zoom * (xx - turn * yy), py + zoom * (yy + turn * xx)], -1)
        frame = torch.nn.functional.grid_sample(scene, torch.from_numpy(grid)[None].float(), align_corners=False)[0]
        for thing, at, speed in zip(things, *paths, strict=True):
            left = int((width - side) * (0.5 + 0.5 * np.sin(speed[0] * t + at[0])))
            top = int((height - side) * (0.5 + 0.5 * np.sin(speed[1] * t + at[1])))
            frame[:, top : top + side, left : left + side] = thing
        dy, dx = rng.integers(0, height), rng.integers(0, width)
        image = frame.permute(1, 2, 0).numpy() + grain[dy : dy + height, dx : dx + width]
        yield np.clip(image, 0, 255).astype(np.uint8)


def speech(seed: int, rate: int) -> np.ndarray:
    """Harmonics that glide and come in syllables, with some breath: float32 ``[2, S]``."""
    rng = np.random.default_rng([seed, 1])
    t = np.arange(LENGTH * rate) / rate
    pitch = rng.uniform(100, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(h * phase + rng.uniform(0, 6)) / h ** rng.uniform(0.7, 1.3) for h in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * t) + 0.4, 0, 1)
    mono = 0.15 * voice * syllables + rng.normal(0, 0.004, len(t))
    return np.stack([mono, 0.8 * np.roll(mono, 7)]).astype(np.float32)


def encode(path: Path, frames: Iterator[np.ndarray], fps: Fraction, audio: np.ndarray, rate: int, **options) -> None:
    """H.264 and AAC to mp4; ``options`` are libx264's, ``bit_rate`` the audio's."""
    part = path.with_suffix(".part.mp4")
    bit_rate = options.pop("bit_rate")
    with av.open(str(part), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=fps, options=options)
        layout = {1: "mono", 2: "stereo"}[len(audio)]
        track = container.add_stream("aac", rate=rate, layout=layout)
        track.bit_rate = bit_rate
        video.codec_context.thread_count = 2
        written = 0
        for k, image in enumerate(frames):
            if not k:
                video.height, video.width = image.shape[:2]
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
            while written < min((k + 1) / fps * rate, audio.shape[1]):
                piece = np.ascontiguousarray(audio[:, written : written + 1024])
                frame = av.AudioFrame.from_ndarray(piece, "fltp", layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, written, Fraction(1, rate)
                container.mux(track.encode(frame))
                written += piece.shape[1]
        container.mux(video.encode(None))
        container.mux(track.encode(None))
    part.rename(path)


def generate(path: Path, seed: int, width: int, height: int, gop: int) -> None:
    """An ordinary file, as x264 makes them by default."""
    torch.set_num_threads(1)
    fps = (25, 30)[seed // 2 % 2]
    encode(
        path, moving_frames(seed, width, height, fps), Fraction(fps), speech(seed, 44_100), 44_100,
        preset="medium", crf="23", g=str(gop), bit_rate=128_000,
    )  # fmt: skip


def prepare(path: Path, source: Path) -> None:
    """A file as ``avlearn prepare`` makes it by default."""
    transcode(source, path, Settings())


def make(folder: Path, tasks: list[tuple[str, Callable, tuple]]) -> list[Path]:
    """Files that are not there yet, several at a time; a task is the file's name and what makes it."""
    paths = [folder / name for name, _, _ in tasks]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        todo = [(path, task) for path, task in zip(paths, tasks, strict=True) if not path.exists()]
        for future in [pool.submit(maker, path, *arguments) for path, (_, maker, arguments) in todo]:
            future.result()
    return paths
