"""Clips a second of training and testing recognizers, beside a plain loader: python tools/bench/bench_recognition.py

The same files, network, device, batch and number of views, one after the other in one process and in turns; medians of
wall time, so nothing else should run. Training is reading, random crop, flip, and a step of SGD. Testing is K clips x 3
crops of each file, from the file to its scores. The plain loader is PyAV and torchvision.transforms.v2 as their
documentation shows them: seek, decode up to the end of the clip, resize, crop; each clip opens the file again. Beside
it `pytorchvideo.data` reads, where it is installed (its transforms cannot be imported with torchvision 0.17 and later,
so the crops are torchvision's too). --quick: R(2+1)D on small frames.
"""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from footage import generate, make
from torch.nn import functional as F
from torchvision.transforms import v2

from avlearn.config import RecognizerConfig
from avlearn.data.manifest import Row
from avlearn.data.scan import scan_folder
from avlearn.data.views import Views, clip_starts, square_crops
from avlearn.device import choose_device
from avlearn.evaluation.view_scores import score_views
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input
from avlearn.tasks.recognize.clips import ClipRule, LabelledClips

LABELS = tuple(f"class {k}" for k in range(400))
CROPS = 3
Reader = Callable[[Path, float, float], torch.Tensor]  # file, start and seconds, to uint8 [T, 3, H, W]


@dataclass(frozen=True)
class Case:
    """A network and its clips: frames at frames a second, pixels."""

    name: str
    frames: int
    fps: float
    size: int

    def network(self, device: torch.device) -> Recognizer:
        """Untrained; how fast it is does not depend on that."""
        torch.manual_seed(0)
        config = RecognizerConfig(
            video=self.name, inputs="video", labels=LABELS, fps=self.fps, seconds=self.frames / self.fps, size=self.size
        )
        return Recognizer(config).to(device)


CASES = [
    Case("r2plus1d_18", 16, 15.0, 112), Case("slowfast_r50_8x8", 32, 15.0, 224), Case("mvit_v2_s_16x4", 16, 7.5, 224),
]  # fmt: skip
QUICK = [Case("r2plus1d_18", 8, 15.0, 64)]


def read_pyav(path: Path, start: float, seconds: float) -> torch.Tensor:
    """Frames from a start on: seek to the keyframe before it, decode up to the end."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time >= start + seconds:
                break
            if frame.time >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def read_pytorchvideo(path: Path, start: float, seconds: float) -> torch.Tensor:
    """The same by its EncodedVideo."""
    from pytorchvideo.data.encoded_video import EncodedVideo

    video = EncodedVideo.from_path(str(path), decode_audio=False)
    frames = video.get_clip(start, start + seconds)["video"]
    video.close()
    return frames.byte().transpose(0, 1)


def plain_clip(read: Reader, case: Case, row: Row, start: float) -> torch.Tensor:
    """``[T, 3, H, W]`` of as many frames as the network takes, evenly spaced."""
    frames = read(row.path, row.start + start, case.frames / case.fps)
    return frames[torch.linspace(0, len(frames) - 1, case.frames).long()]


def step(network: Recognizer, optimizer: torch.optim.Optimizer, video: torch.Tensor) -> None:
    """One step of SGD."""
    labels = torch.zeros(len(video), dtype=torch.long, device=network.device)
    optimizer.zero_grad()
    F.cross_entropy(network(video), labels).backward()
    optimizer.step()


def train_ours(case: Case, network: Recognizer, optimizer: torch.optim.Optimizer, rows: list[Row]) -> None:
    """A batch: read, cropped, flipped, learned."""
    rule = ClipRule(case.fps, case.size, 16000, case.frames / case.fps, random=True, area=0.3)
    clips = LabelledClips(rows, LABELS, rule)
    video = torch.stack([clips[(k, k, ())]["video"] for k in range(len(rows))]).to(network.device)
    step(network, optimizer, frames_to_input(video).flip(-1))


def train_plain(
    read: Reader, case: Case, network: Recognizer, optimizer: torch.optim.Optimizer, rows: list[Row]
) -> None:
    """The same with transforms of torchvision, on the CPU as its documentation has it."""
    change = v2.Compose([
        v2.RandomResizedCrop(case.size, scale=(0.3, 1.0), antialias=True), v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    starts = np.random.default_rng(0).uniform(0, rows[0].duration - case.frames / case.fps - 0.1, len(rows))
    clips = [change(plain_clip(read, case, row, start)) for row, start in zip(rows, starts.tolist(), strict=True)]
    step(network, optimizer, torch.stack(clips).transpose(1, 2).to(network.device))


def test_ours(case: Case, network: Recognizer, rows: list[Row], clips: int) -> None:
    """Scores of each file."""
    assert all(isinstance(found, dict) for found in score_views(network, rows, Views("even", clips, CROPS)))


@torch.inference_mode()
def test_plain(read: Reader, case: Case, network: Recognizer, rows: list[Row], clips: int) -> None:
    """The same, a clip after the other, its crops in a batch."""
    resize = v2.Resize(case.size, antialias=True)
    for row in rows:
        total = torch.zeros(len(LABELS))
        length, stride = row.duration * row.fps, row.fps / case.fps
        for start in clip_starts(Views("even", clips), length, case.frames, stride).tolist():
            frames = resize(plain_clip(read, case, row, start / row.fps)).permute(0, 2, 3, 1).numpy()
            video = np.stack(square_crops(frames, CROPS))
            scores = network(frames_to_input(torch.from_numpy(video).to(network.device)))
            total += scores.softmax(1).sum(0).cpu()


def timed(job: Callable[[], None], device: torch.device) -> float:
    """Seconds of the clock."""
    begun = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def compare(case: Case, peers: dict[str, Reader], rows: list[Row], clips: int, rounds: int) -> list[dict[str, object]]:
    """Training and testing of a network, in turns."""
    device = choose_device("auto")
    network = case.network(device)
    optimizer = torch.optim.SGD(network.parameters(), 1e-4)
    jobs: dict[tuple[str, str], Callable[[], None]] = {
        ("training", "avlearn"): lambda: train_ours(case, network, optimizer, rows),
        ("testing", "avlearn"): lambda: test_ours(case, network, rows, clips),
    }
    for peer, read in peers.items():
        jobs["training", peer] = lambda read=read: train_plain(read, case, network, optimizer, rows)
        jobs["testing", peer] = lambda read=read: test_plain(read, case, network, rows, clips)
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    for number in range(rounds + 1):
        for (what, who), job in jobs.items():
            network.train(what == "training")
            seconds = timed(job, device)
            if number:  # the first is to warm up
                spent[what, who].append(seconds)
    found = []
    for (what, who), seconds in spent.items():
        count = len(rows) * (1 if what == "training" else clips * CROPS)
        print(f"{case.name:18} {what:9} {who:22} {count / median(seconds):8.2f} clips/s")
        if who != "avlearn":
            ours = median(spent[what, "avlearn"])
            found.append({
                "case": f"{case.name}, {what}", "peer": who, "ratio": round(median(seconds) / ours, 3),
                "ours_ms": round(1000 * ours / count, 2), "peer_ms": round(1000 * median(seconds) / count, 2),
            })  # fmt: skip
            print(f"{case.name:18} {what:9} avlearn is {median(seconds) / ours:.2f} times as fast as {who}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    files, clips, rounds = (2, 2, 1) if words.quick else (8, 10, 3)
    peers: dict[str, Reader] = {"PyAV + torchvision": read_pyav}
    if importlib.util.find_spec("pytorchvideo") is not None:
        peers["pytorchvideo.data"] = read_pytorchvideo
    else:
        print("pytorchvideo: absent")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LABELS[0]).mkdir()
        size = (160, 120) if words.quick else (340, 256)
        make(Path(folder) / LABELS[0], [(f"{k}.mp4", generate, (k, *size, 250)) for k in range(files)])
        rows = scan_folder(Path(folder))
        found = [one for case in (QUICK if words.quick else CASES) for one in compare(case, peers, rows, clips, rounds)]
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
