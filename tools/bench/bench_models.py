"""How fast are the networks, beside their reference implementations? python tools/bench/bench_models.py [--quick]

Each network of ours gets the weights of its reference (torchvision; pytorchvideo where it is installed), must give the
same scores to 1e-4, and is then timed beside it: one thread each, in turns, medians of CPU time. For inference ours has
its batch norms folded away and channels last in memory (`avlearn.models.fuse`), which users of the references would
have to do themselves; "as is" is without. Training is a forward and a backward pass.
"""

import os

# Before torch starts its threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision.models.video as reference
from torch import Tensor, nn

from avlearn.models import create_model
from avlearn.models.fuse import fuse
from avlearn.models.video.slowfast import slow_frames
from avlearn.models.weights.importers import load_weights


@dataclass(frozen=True)
class Pair:
    """A network of ours and its reference.

    Attributes:
        name: of ours.
        peer: builds the reference.
        clip: frames, rows and columns.
        inputs: from a normalised clip to what the reference takes.
    """

    name: str
    peer: Callable[[], nn.Module]
    clip: tuple[int, int, int]
    inputs: Callable[[Tensor], object] = lambda x: x


def pytorchvideo_slowfast() -> nn.Module:
    from pytorchvideo.models.slowfast import create_slowfast

    # As its hub makes slowfast_r50.
    return create_slowfast(slowfast_fusion_conv_kernel_size=(7, 1, 1), model_num_class=400)


PAIRS = [
    Pair("r3d_18", reference.r3d_18, (16, 112, 112)),
    Pair("mc3_18", reference.mc3_18, (16, 112, 112)),
    Pair("r2plus1d_18", reference.r2plus1d_18, (16, 112, 112)),
    Pair("s3d", reference.s3d, (16, 224, 224)),
    Pair("swin3d_t", reference.swin3d_t, (16, 224, 224)),
    Pair("mvit_v2_s_16x4", reference.mvit_v2_s, (16, 224, 224)),
]
if importlib.util.find_spec("pytorchvideo"):
    PAIRS.append(
        Pair("slowfast_r50_8x8", pytorchvideo_slowfast, (32, 224, 224), lambda x: [slow_frames(x, 4), x]),
    )


def couple(pair: Pair) -> tuple[nn.Module, nn.Module]:
    """Ours and the reference with the same random weights and statistics."""
    torch.manual_seed(0)
    peer = pair.peer().eval()
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    ours = create_model(pair.name, num_classes=400).eval()
    load_weights(ours, peer.state_dict())
    return ours, peer


def forward(model: nn.Module, x: object) -> None:
    with torch.inference_mode():
        model(x)


def step(model: nn.Module, x: object) -> None:
    model(x).sum().backward()
    model.zero_grad()


def medians(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each, taken in turns after one that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if number:
                taken[name].append((time.process_time() - begin) * 1000)
    return {name: sorted(values)[len(values) // 2] for name, values in taken.items()}


def measure(pair: Pair, shrink: int, rounds: int) -> list[dict]:
    """Rows of a network."""
    ours, peer = couple(pair)
    frames, rows, columns = pair.clip
    x = torch.rand(2, 3, frames, rows // shrink, columns // shrink)

    def seen() -> object:
        # Anew each time: pathways of pytorchvideo's write into the list that they are given.
        return pair.inputs(normalized.clone())

    normalized = ours.normalized(x).contiguous()  # as users of the reference have it
    fused = fuse(ours, x[:1])
    with torch.inference_mode():
        expected = peer(seen())
        apart = max(float((model(x) - expected).abs().max()) for model in (ours, fused)) / float(expected.abs().max())
    assert apart < 1e-4, f"{pair.name} is {apart:.1e} off its reference"
    used = medians(
        {
            "ours": lambda: forward(fused, x),
            "ours as is": lambda: forward(ours, x),
            "peer": lambda: forward(peer, seen()),
        },
        rounds,
    )
    ours.train()
    peer.train()
    trained = medians({"ours": lambda: step(ours, x), "peer": lambda: step(peer, seen())}, rounds)
    where = type(peer).__module__.partition(".")[0]
    size = f"2x{frames}x{rows // shrink}x{columns // shrink}"
    return [
        row(f"{pair.name} {size}, inference", where, used["ours"], used["peer"]),
        row(f"{pair.name} {size}, inference as is", where, used["ours as is"], used["peer"]),
        row(f"{pair.name} {size}, training", where, trained["ours"], trained["peer"]),
    ]


def row(case: str, peer: str, ours_ms: float, peer_ms: float) -> dict:
    return {
        "case": case, "peer": peer, "ratio": round(peer_ms / ours_ms, 3),
        "ours_ms": round(ours_ms, 1), "peer_ms": round(peer_ms, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks (default: all)")
    parser.add_argument("--quick", action="store_true", help="the small ones at half the size, three rounds")
    parser.add_argument("--rounds", type=int, help="rounds to take the median of (default: 7, quick 3)")
    parser.add_argument("--threads", type=int, default=1, help="of both (default: 1)")
    parser.add_argument("--json", metavar="FILE", help="write the ratios, a list of rows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'':50}{'peer':>14}{'ours ms':>10}{'peer ms':>10}{'ratio':>8}")
    for pair in PAIRS:
        if pair.name not in options.names if options.names else options.quick and pair.clip[1] > 112:
            continue
        for found in measure(pair, 2 if options.quick else 1, options.rounds or (3 if options.quick else 7)):
            rows.append(found)
            print(
                f"{found['case']:50}{found['peer']:>14}{found['ours_ms']:10.1f}{found['peer_ms']:10.1f}"
                f"{found['ratio']:8.2f}"
            )
    if importlib.util.find_spec("pytorchvideo") is None:
        print("pytorchvideo: absent")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
