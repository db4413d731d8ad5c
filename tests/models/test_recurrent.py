"""Recurrent encoders: their cells are torch's, no step sees a later frame, and they learn what only motion tells."""

import pytest
import torch
import torchvision
from families import BY_FRAMES
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.encoder import Encoder
from avlearn.models.video.frame_fusion import FrameFusion
from avlearn.models.video.lrcn import LRCN
from avlearn.models.video.recurrent import ConvRecurrence, GruRCN, MapRecurrences, RecurrentCNN

CELLS = ["rnn", "gru", "lstm"]
RECURRENT = {name: BY_FRAMES[name] for name in ("lrcn", "recurrent cnn", "gru-rcn")}


def torchs(ours: ConvRecurrence) -> nn.Module:
    """Torch's cell with the weights that a single place of ours sees, in torch's order of gates."""
    middle = ours.input.kernel_size[1] // 2
    wide, deep = ours.input.weight[:, :, 0, middle, middle], ours.state.weight[:, :, middle, middle]
    bias, inputs = ours.input.bias, ours.input.in_channels
    cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[ours.cell](inputs, ours.hidden)
    if ours.cell == "gru":  # torch's update is the share of the old state, and comes after the reset
        signs = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
        wide, deep = (w.unflatten(0, (3, -1))[[1, 0, 2]] * signs for w in (wide, deep))
        bias = bias.unflatten(0, (3, -1))[[1, 0, 2]] * signs[..., 0]
    with torch.no_grad():
        for theirs, weight in ((cell.weight_ih, wide), (cell.weight_hh, deep), (cell.bias_ih, bias)):
            theirs.copy_(weight.reshape(theirs.shape))
        cell.bias_hh.zero_()
    return cell


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("kind", CELLS)
def test_at_a_single_place_a_cell_is_torchs(kind, kernel):
    torch.manual_seed(0)
    ours = ConvRecurrence(kind, 5, 4, kernel)
    with torch.no_grad():
        if kind == "gru":
            # Torch resets what is convolved, the paper what will be: the same where channels do not mix.
            ours.state.weight[8:] *= torch.eye(4)[..., None, None]
        theirs, x = torchs(ours), torch.randn(3, 5, 6, 1, 1)
        state = torch.zeros(3, 4)
        state = (state, state) if kind == "lstm" else state
        for t, found in enumerate(ours(x).unbind(2)):
            state = theirs(x[:, :, t, 0, 0], state)
            wanted = state[0] if kind == "lstm" else state
            torch.testing.assert_close(found[..., 0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_a_step_of_gru_rcn_is_the_papers():
    """Ballas et al., equations of GRU-RCN, with all channels and places."""
    torch.manual_seed(0)
    ours = ConvRecurrence("gru", 3, 4)
    x, h = torch.randn(2, 3, 1, 5, 6), torch.rand(2, 4, 5, 6)
    (w_z, w_r, w), (b_z, b_r, b) = ours.input.weight[:, :, 0].chunk(3), ours.input.bias.chunk(3)
    u_z, u_r, u = ours.state.weight.chunk(3)
    z = (F.conv2d(x[:, :, 0], w_z, b_z, padding=1) + F.conv2d(h, u_z, padding=1)).sigmoid()
    r = (F.conv2d(x[:, :, 0], w_r, b_r, padding=1) + F.conv2d(h, u_r, padding=1)).sigmoid()
    new = (F.conv2d(x[:, :, 0], w, b, padding=1) + F.conv2d(r * h, u, padding=1)).tanh()
    (found,) = ours.step(ours.input(x)[:, :, 0], (h,))
    torch.testing.assert_close(found, (1 - z) * h + z * new)


@pytest.mark.parametrize("name", RECURRENT)
def test_no_step_sees_a_later_frame_and_every_step_all_before(name):
    model = RECURRENT[name].build().eval()
    x = torch.rand(1, 3, 5, 32, 32)
    later = x.clone()
    later[:, :, 3:] = torch.rand(1, 3, 2, 32, 32)
    with torch.no_grad():
        before, after = model.forward_stages(x), model.forward_stages(later)
    for stage in before:
        torch.testing.assert_close(before[stage][:, :, :3], after[stage][:, :, :3], rtol=0, atol=0)
        assert not torch.equal(before[stage][:, :, 3], after[stage][:, :, 3])
    x.requires_grad_()
    model.forward_features(x)[:, :, 4].square().sum().backward()
    assert (x.grad.abs().sum((0, 1, 3, 4)) > 0).all()


def test_lrcn_averages_the_scores_of_frames_or_takes_the_last():
    model = RECURRENT["lrcn"].classifier(3).eval()
    x = torch.rand(2, 3, 4, 32, 32)
    with torch.no_grad():
        states = model.forward_features(x)
        assert states.shape == (2, 16, 4, 1, 1)
        scores = model.classifier(states.flatten(2).transpose(1, 2))
        torch.testing.assert_close(model(x), scores.mean(1))
        model.readout = "last"
        torch.testing.assert_close(model(x), scores[:, -1])


def test_gru_rcn_learns_over_frozen_maps_and_over_given_ones():
    sizes = {"hidden": (4, 4, 8, 8, 8), "width": 4, "linear": 16}
    torch.manual_seed(0)
    model = GruRCN(frozen=True, **sizes)
    x = torch.rand(1, 3, 3, 64, 64)
    stages = model.forward_stages(x)
    stages["states"].sum().backward()
    learned = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {"states"}
    maps = [stages[name] for name in ("pool2", "pool3", "pool4", "pool5", "fc7")]
    bank = MapRecurrences("gru", [m.shape[1] for m in maps], sizes["hidden"], (3, 3, 3, 3, 1))
    bank.load_state_dict(model.states.state_dict())
    torch.testing.assert_close(bank(maps, (2, 2)), stages["states"])
    # An average over places of each map's states is what the paper classifies.
    low = model.states.recurrences[0](stages["pool2"])
    torch.testing.assert_close(stages["states"].mean((3, 4))[:, :4], low.mean((3, 4)))


def test_lrcn_passes_the_released_chain_of_layers():
    model = LRCN(width=12, linear=32, hidden=16).eval()
    x = torch.rand(1, 3, 2, 227, 227)
    layers, norm = iter(model.fc6), nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    convs = [layer[0] for layer in layers if isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv3d)]
    with torch.no_grad():
        y = model.normalized(x)[0].transpose(0, 1)
        for i, (stride, padding, groups) in enumerate(((2, 0, 1), (2, 0, 2), (1, 1, 1), (1, 1, 2), (1, 1, 2))):
            y = F.conv2d(y, convs[i].weight[:, :, 0], convs[i].bias, stride, padding, 1, groups).relu()
            y = F.max_pool2d(y, 3, 2, ceil_mode=True) if i in (0, 1, 4) else y
            y = norm(y) if i < 2 else y
        assert y.shape == (2, 48, 6, 6)
        y = model.fc6[-2][0](y.flatten(1)).relu()
        torch.testing.assert_close(model.fc6(model.normalized(x))[0, :, :, 0, 0].T, y, rtol=1e-4, atol=1e-4)


def test_the_frames_network_of_gru_rcn_is_vgg16_without_its_classifier():
    with torch.device("meta"):
        model, theirs = GruRCN(), torchvision.models.vgg16().requires_grad_(False)
    ours = [tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("states.")]
    images = [(*p.shape[:2], 1, *p.shape[2:]) if p.ndim == 4 else tuple(p.shape) for p in theirs.parameters()]
    assert ours == images[:-2]


def moving(clips: int) -> tuple[Tensor, Tensor]:
    """A bar that goes left or right, around the edge, from anywhere: every frame alone is as likely of both."""
    start, way = torch.randint(0, 32, (clips,)), torch.randint(0, 2, (clips,))
    places = (start[:, None] + 4 * (2 * way - 1)[:, None] * torch.arange(4)) % 32  # [N, T]
    bar = ((torch.arange(32) - places[..., None]) % 32 < 6).float()  # [N, T, W]
    return bar[:, None, :, None].expand(-1, 3, -1, 32, -1).contiguous(), way


def learned(model: Encoder, steps: int, rate: float) -> float:
    """Accuracy on clips that were not seen."""
    model.reset_classifier(2)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        x, y = moving(32)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = moving(200)
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize(
    "build",
    [
        lambda: RecurrentCNN("rnn", (8, 8, 16)),
        lambda: RecurrentCNN("gru", (8, 8, 16)),
        lambda: LRCN("last", 3, 32, 12, 32),
    ],
    ids=["rnn", "gru", "lrcn"],
)
def test_it_learns_which_way_something_moves(build):
    torch.manual_seed(0)
    assert learned(build(), 60, 0.003) > 0.9


def test_single_frames_do_not_tell_which_way():
    torch.manual_seed(0)
    assert learned(FrameFusion(width=12, hidden=32), 60, 0.003) < 0.65
