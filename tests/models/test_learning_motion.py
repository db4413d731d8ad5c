"""Networks of optical flow, and recurrent ones over it, learn the world in which no single frame tells the class."""

import numpy as np
import pytest
import torch
from families import FAMILIES, OF_FLOW, Family
from test_learning import accuracy, learn

from avlearn.data.world import WorldConfig, render_scene
from avlearn.data.world.objects import MOTIONS
from avlearn.models.inputs import flow_input
from avlearn.models.video.recurrent import RecurrentCNN
from avlearn.models.video.tsn import stacked_resnet

pytestmark = pytest.mark.slow
CHANCE = 1 / len(MOTIONS)
CHANNELS = {"video": slice(0, 3), "flow": slice(3, 5), "video+flow": slice(0, 5)}
_WIDTHS, _FLOWS = (8, 16, 32), (2, 16, 32, 32)
NETWORKS = {name: OF_FLOW[name] for name in ("temporal cnn-m", "temporal resnet", "two streams", "fused streams")} | {
    "temporal bn-inception": OF_FLOW["temporal bn-inception"],
    "st-resnet": OF_FLOW["st-resnet"],
    "gru": Family(lambda: RecurrentCNN("gru", _WIDTHS, 2), _FLOWS),
    "lstm": Family(lambda: RecurrentCNN("lstm", _WIDTHS, 2), _FLOWS),
    "dsconv": FAMILIES["dsconv"],
}
# Steps and the highest learning rate, where they are not 800 and 0.003.
SCHEDULES = {
    "temporal cnn-m": (800, 0.002),
    "temporal bn-inception": (800, 0.002),
    "st-resnet": (1200, 0.003),
    "gru": (300, 0.003),
    "lstm": (300, 0.003),
    "dsconv": (2000, 0.003),
}


def render(seed: int, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """So many clips of each motion, uint8 ``[N, 5, 16, 32, 32]``: frames and their flow; labels ``[N]``."""
    videos = []
    for label, name in enumerate(MOTIONS):
        config = WorldConfig.preset("motions", classes=(name,), duration=1.0, fps=16.0, size=32)
        videos += [render_scene(config, seed, label * clips + i).video for i in range(clips)]
    video = torch.from_numpy(np.stack(videos)).movedim(-1, 1)
    flow = (flow_input(video / 255) * 255).round().byte()
    return torch.cat([video, flow], 1), torch.arange(len(MOTIONS)).repeat_interleave(clips)


@pytest.fixture(scope="module")
def seen():
    return render(1, 400)


@pytest.fixture(scope="module")
def held_out():
    return render(3, 60)  # schedules were chosen on clips of seed 2


def inputs(video: torch.Tensor, network: torch.nn.Module, frames: int) -> torch.Tensor:
    return video[:, CHANNELS[network.takes], :: video.shape[2] // frames] / 255


@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns_motion(name, seen, held_out):
    network, frames = NETWORKS[name].classifier(len(MOTIONS)), 8 if name == "dsconv" else 16
    for stream in network.children():
        if hasattr(stream, "dropout"):
            stream.dropout.p = 0.0
    learn(network, inputs(seen[0], network, frames), seen[1], *SCHEDULES.get(name, (800, 0.003)))
    found = accuracy(network, inputs(held_out[0], network, frames), held_out[1])
    assert found > 3 * CHANCE, f"{name}: {found:.1%} of held-out clips; {CHANCE=:.1%}"


def test_a_frame_alone_is_at_chance(seen, held_out):
    """The same network over single frames of colours learns nothing that holds for others."""
    torch.manual_seed(0)
    network = stacked_resnet(1, 3, (1, 1, 1, 1), 8)
    network.reset_classifier(len(MOTIONS))
    of_one = [part[0][:, :, 8:9] for part in (seen, held_out)]
    learn(network, inputs(of_one[0], network, 1), seen[1], 800, 0.003)
    found = accuracy(network, inputs(of_one[1], network, 1), held_out[1])
    assert abs(found - CHANCE) < 0.1, f"{found:.1%} of held-out clips; {CHANCE=:.1%}"
