"""Clips a second of training and testing recognizers, beside their references: python tools/bench/bench_recognition.py

The same files, clips, device, batch and number of views, one after the other in one process and in turns; medians of
wall time, so nothing else should run. Reading is a training clip without the network: read, random crop, flip. Training
is that and a step of SGD. Testing is K clips x 3 crops of each file, from the file to its scores. Single precision.

The reference is PyAV or `pytorchvideo.data` (where it is installed; its transforms cannot be imported with torchvision
0.17 and later) and torchvision.transforms.v2, as their documentation shows them: seek, decode up to the end of the
clip, resize, crop; each clip opens the file again. Its networks are those of torchvision and pytorchvideo.
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
import torchvision.models.video as reference
from footage import generate, make
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from avlearn.config import RecognizerConfig
from avlearn.data.manifest import Row
from avlearn.data.scan import scan_folder
from avlearn.data.views import Views, clip_starts, square_crops
from avlearn.device import choose_device
from avlearn.evaluation.view_scores import score_views
from avlearn.models.fuse import fuse_recognizer
from avlearn.models.recognizer import Recognizer
from avlearn.models.two_tower import frames_to_input
from avlearn.models.video.slowfast import slow_frames
from avlearn.tasks.recognize.clips import ClipRule, LabelledClips

LABELS = tuple(f"class {k}" for k in range(400))
CROPS = 3
Reader = Callable[[Path, float, float], torch.Tensor]  # file, start and seconds, to uint8 [T, 3, H, W]


@dataclass(frozen=True)
class Case:
    """A network, its clips (frames at frames a second, pixels) and its reference."""

    name: str
    frames: int
    fps: float
    size: int
    peer: Callable[[], nn.Module]
    inputs: Callable[[torch.Tensor], object] = lambda x: x  # from a normalized clip to what the reference takes

    def network(self, device: torch.device) -> Recognizer:
        """Untrained; how fast it is does not depend on that."""
        torch.manual_seed(0)
        config = RecognizerConfig(
            video=self.name, inputs="video", labels=LABELS, fps=self.fps, seconds=self.frames / self.fps, size=self.size
        )
        return Recognizer(config).to(device)


def pytorchvideo_slowfast() -> nn.Module:
    from pytorchvideo.models.slowfast import create_slowfast

    # As its hub makes slowfast_r50.
    return create_slowfast(slowfast_fusion_conv_kernel_size=(7, 1, 1), model_num_class=400)


CASES = [
    Case("r2plus1d_18", 16, 15.0, 112, reference.r2plus1d_18),
    Case("mvit_v2_s_16x4", 16, 7.5, 224, reference.mvit_v2_s),
]
if importlib.util.find_spec("pytorchvideo") is not None:
    CASES.append(Case("slowfast_r50_8x8", 32, 15.0, 224, pytorchvideo_slowfast, lambda x: [slow_frames(x, 4), x]))
QUICK = [Case("r2plus1d_18", 8, 15.0, 64, reference.r2plus1d_18)]


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


def learn(scores: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of SGD."""
    optimizer.zero_grad()
    F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device)).backward()
    optimizer.step()


class Ours:
    """A recognizer on files."""

    def __init__(self, case: Case, rows: list[Row], clips: int, device: torch.device):
        self.case, self.rows, self.clips = case, rows, clips
        self.network = case.network(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 1e-4)
        self.rule = ClipRule(case.fps, case.size, 16000, case.frames / case.fps, random=True, area=0.3)

    def reading(self) -> torch.Tensor:
        """A batch: read, cropped, flipped."""
        clips = LabelledClips(self.rows, LABELS, self.rule)
        video = torch.stack([clips[(k, k, ())]["video"] for k in range(len(self.rows))]).to(self.network.device)
        return frames_to_input(video).flip(-1)

    def training(self) -> None:
        """A batch, and a step."""
        self.network.train()
        learn(self.network(self.reading()), self.optimizer)

    def testing(self) -> None:
        """Scores of each file."""
        network = fuse_recognizer(self.network.eval())
        scores = score_views(network, self.rows, Views("even", self.clips, CROPS))
        assert all(isinstance(found, dict) for found in scores)


class Peer:
    """A reference on files."""

    def __init__(self, read: Reader, case: Case, rows: list[Row], clips: int, device: torch.device):
        self.read, self.case, self.rows, self.clips, self.device = read, case, rows, clips, device
        torch.manual_seed(0)
        self.network = case.peer().to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), 1e-4)
        self.change = v2.Compose([
            v2.RandomResizedCrop(case.size, scale=(0.3, 1.0), antialias=True), v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.45,) * 3, (0.225,) * 3),
        ])  # fmt: skip

    def clip(self, row: Row, start: float) -> torch.Tensor:
        """``[T, 3, H, W]`` of as many frames as the network takes, evenly spaced."""
        frames = self.read(row.path, row.start + start, self.case.frames / self.case.fps)
        return frames[torch.linspace(0, len(frames) - 1, self.case.frames).long()]

    def reading(self) -> torch.Tensor:
        """A batch, changed on the CPU as torchvision's documentation has it."""
        last = self.rows[0].duration - self.case.frames / self.case.fps - 0.1
        starts = np.random.default_rng(0).uniform(0, last, len(self.rows)).tolist()
        clips = [self.change(self.clip(row, start)) for row, start in zip(self.rows, starts, strict=True)]
        return torch.stack(clips).transpose(1, 2).to(self.device)

    def training(self) -> None:
        """A batch, and a step."""
        self.network.train()
        learn(self.network(self.case.inputs(self.reading())), self.optimizer)

    @torch.inference_mode()
    def testing(self) -> None:
        """Scores of each file, a clip after the other, its crops in a batch."""
        self.network.eval()
        resize, normalize = v2.Resize(self.case.size, antialias=True), v2.Normalize((0.45,) * 3, (0.225,) * 3)
        for row in self.rows:
            total = torch.zeros(len(LABELS))
            length, stride = row.duration * row.fps, row.fps / self.case.fps
            for start in clip_starts(Views("even", self.clips), length, self.case.frames, stride).tolist():
                frames = resize(self.clip(row, start / row.fps)).permute(0, 2, 3, 1).numpy()
                views = torch.from_numpy(np.stack(square_crops(frames, CROPS))).to(self.device)
                views = normalize(views.permute(0, 1, 4, 2, 3).float() / 255).transpose(1, 2)
                total += self.network(self.case.inputs(views)).softmax(1).sum(0).cpu()


def timed(job: Callable[[], None], device: torch.device) -> float:
    """Seconds of the clock."""
    begun = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def compare(
    case: Case, readers: dict[str, Reader], rows: list[Row], clips: int, rounds: int
) -> list[dict[str, object]]:
    """Reading, training and testing with a network, in turns."""
    device = choose_device("auto")
    sides: dict[str, Ours | Peer] = {"avlearn": Ours(case, rows, clips, device)}
    sides |= {name: Peer(read, case, rows, clips, device) for name, read in readers.items()}
    found = []
    for what in ("reading", "training", "testing"):
        spent: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, side in sides.items():
                seconds = timed(getattr(side, what), device)
                if number:  # the first is to warm up
                    spent[name].append(seconds)
        count = len(rows) * (clips * CROPS if what == "testing" else 1)
        ours = median(spent["avlearn"])
        print(f"{case.name:18} {what:9} avlearn {count / ours:8.2f} clips/s", flush=True)
        for name in readers:
            peer = median(spent[name])
            found.append({
                "case": f"{case.name}, {what}", "peer": name, "ratio": round(peer / ours, 3),
                "ours_ms": round(1000 * ours / count, 2), "peer_ms": round(1000 * peer / count, 2),
            })  # fmt: skip
            print(f"{'':28} {name:20} {count / peer:8.2f} clips/s: avlearn {peer / ours:.2f} times as fast", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="R(2+1)D alone, on small frames")
    parser.add_argument("--files", type=int, default=8, help="of 10 s, which are also a batch")
    parser.add_argument("--clips", type=int, default=10, help="of a file, to test")
    parser.add_argument("--rounds", type=int, default=3, help="after one to warm up")
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    peers: dict[str, Reader] = {"PyAV + torchvision": read_pyav}
    if importlib.util.find_spec("pytorchvideo") is not None:
        peers["pytorchvideo.data"] = read_pytorchvideo
    else:
        print("pytorchvideo: absent")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LABELS[0]).mkdir()
        size = (160, 120) if words.quick else (340, 256)
        make(Path(folder) / LABELS[0], [(f"{k}.mp4", generate, (k, *size, 250)) for k in range(words.files)])
        rows = scan_folder(Path(folder))
        found = []
        for case in QUICK if words.quick else CASES:
            found += compare(case, peers, rows, words.clips, words.rounds)
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
