"""RAFT and FlowNet: parameters, released files' names, and the flow that the authors' code gives for some weights."""

import pytest
import torch
from released_names import released_shapes
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from avlearn.errors import ModelError
from avlearn.models.flow import FLOW_NETWORKS, create_flow_network
from avlearn.models.flow.flownet import FlowNet, FlowNetSpec, correlation

# Of the code that wrote the names in released/flow.tsv.xz (princeton-vl/RAFT 2888e15 with 12 iterations,
# ClementPinard/FlowNetPytorch d5f3292, NVIDIA/flownet2-pytorch bce69c8) with `filled` weights: the mean of the flow
# along x and along y, and its vector at row 40, column 70.
AUTHORS = {
    "raft_small": ("raft_small", (8.76, -28.846, 26.236, 9.7125)),
    "raft_large": ("raft_large", (57.737, -62.622, 90.186, -67.62)),
    "flownetpytorch_flownetc_bn": ("flownet_c", (-18.092, 13.1, -32.636, 9.1222)),
    "nvidia_flownet2s": ("flownet_s", (-6.7403, -12.122, -12.869, -15.158)),
}  # fmt: skip


def filled(file: str) -> dict[str, Tensor]:
    """Weights of a released file's names and shapes, the same each time."""
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    for name, shape in released_shapes(file).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = 1 + values.abs() / 4
        elif len(shape) > 1:
            values = values * (2 / values[0].numel()) ** 0.5
        tensors[name] = values / 4 if len(shape) == 1 and not name.endswith(("weight", "var")) else values
    return tensors


def frames() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(8)
    small = torch.rand((1, 3, 16, 24), generator=generator) * 255
    first = F.interpolate(small, scale_factor=8, mode="bilinear", align_corners=False)
    return first, first.roll((2, 3), (2, 3))


@pytest.mark.parametrize("file", AUTHORS)
def test_the_authors_networks_give_this_flow(file):
    name, expected = AUTHORS[file]
    with torch.inference_mode():
        flow = create_flow_network(name, filled(file))(*frames())[0]
    assert [*flow.mean((1, 2)).tolist(), *flow[:, 40, 70].tolist()] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("file", "name"), [("flownetpytorch_flownets", "flownet_s"), ("nvidia_flownet2c", "flownet_c")]
)
def test_names_and_shapes_of_other_files(file, name):
    shapes = released_shapes(file)
    with torch.device("meta"):
        network = FLOW_NETWORKS[name].build({name: torch.empty(shape) for name, shape in shapes.items()})
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == shapes


@pytest.mark.parametrize("name", FLOW_NETWORKS)
def test_published_parameters(name):
    with torch.device("meta"):
        network = FLOW_NETWORKS[name].build(None)
    assert sum(parameter.numel() for parameter in network.parameters()) == FLOW_NETWORKS[name].params


@pytest.mark.parametrize("name", ["raft_small", "flownet_c"])
@pytest.mark.parametrize("size", [(16, 16), (65, 70)])
def test_frames_of_any_size(name, size):
    with torch.inference_mode():
        flow = create_flow_network(name)(*torch.rand(2, 1, 3, *size) * 255)
    assert flow.shape == (1, 2, *size) and flow.isfinite().all()


def test_levels_for_training():
    with torch.device("meta"):
        flows = FlowNet(FlowNetSpec(correlation=True)).forward_levels(*torch.rand(2, 1, 3, 64, 128))
    assert [tuple(flow.shape[2:]) for flow in flows] == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    assert all(flow.requires_grad for flow in flows)


def test_correlation_by_its_definition():
    one, other = torch.randn(2, 2, 5, 6, 7)
    found = correlation(one, other, reach=2, stride=1)
    assert found.shape == (2, 25, 6, 7)
    # Row 1 of 5, column 4 of 5: one up, two to the right.
    assert torch.allclose(found[0, 1 * 5 + 4, 3, 2], (one[0, :, 3, 2] * other[0, :, 2, 4]).mean(), atol=1e-6)
    assert found[:, 0, 0, 0].abs().max() == 0  # beyond the corner


def test_weights_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(ModelError, match="the nearest"):
        create_flow_network("flownets")
    with pytest.raises(ModelError, match="there is no weight file"):
        create_flow_network("raft_large", tmp_path / "none.pth")
    tensors = {"conv1.0.weight": torch.zeros(64, 6, 7, 7), "conv1.0.bias": torch.zeros(64)}
    save_file(tensors, tmp_path / "s.safetensors")
    with pytest.raises(ModelError, match=r"s.safetensors: these are no weights of raft_large"):
        create_flow_network("raft_large", tmp_path / "s.safetensors")
    tensors["conv1.0.bias"][3] = torch.nan
    with pytest.raises(ModelError, match=r"conv1\.0\.bias holds numbers that are not finite"):
        create_flow_network("flownet_s", tensors)
