"""Published networks of optical flow by name, and their weights from files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from avlearn.errors import ModelError
from avlearn.models.flow.flownet import FlowNet, FlowNetSpec
from avlearn.models.flow.raft import Raft, torchvision_names
from avlearn.models.weights.checkpoint import check_finite, read_tensors
from avlearn.models.weights.download import download
from avlearn.models.weights.importers.layout import Tensors
from avlearn.names import hint
from avlearn.remote.address import is_address


@dataclass(frozen=True)
class FlowNetwork:
    """A network.

    Attributes:
        paper: who published it, where, and when.
        params: parameters, exact, without weights that say otherwise.
        build: makes the network that weights are of; the published one of None.
        names: weights under the names that the network has.
    """

    paper: str
    params: int
    build: Callable[[Tensors | None], nn.Module]
    names: Callable[[Tensors], Tensors] = dict


def _flownet(correlation: bool) -> Callable[[Tensors | None], nn.Module]:
    def build(tensors: Tensors | None) -> nn.Module:
        if tensors is None:
            return FlowNet(FlowNetSpec(correlation, upsample_bias=correlation))
        # NVIDIA's networks have biases in their heads, and take away the frames' own mean; FlowNetPytorch's do neither.
        biased = "predict_flow6.bias" in tensors
        return FlowNet(
            FlowNetSpec(
                correlation,
                batch_norm="conv1.1.weight" in tensors,
                head_bias=biased,
                upsample_bias="upsampled_flow6_to_5.bias" in tensors,
                own_mean=biased,
            )
        )

    return build


def _raft_names(tensors: Tensors) -> Tensors:
    return {f"network.{name}": tensor for name, tensor in torchvision_names(tensors).items()}


FLOW_NETWORKS = {
    "raft_small": FlowNetwork("Teed & Deng, ECCV 2020", 990_162, lambda _: Raft(small=True), _raft_names),
    "raft_large": FlowNetwork("Teed & Deng, ECCV 2020", 5_257_536, lambda _: Raft(small=False), _raft_names),
    "flownet_s": FlowNetwork("Dosovitskiy et al., ICCV 2015", 38_676_506, _flownet(False)),
    "flownet_c": FlowNetwork("Dosovitskiy et al., ICCV 2015", 39_175_298, _flownet(True)),
}


def create_flow_network(name: str, weights: str | Path | Tensors | None = None) -> nn.Module:
    """A network from two batches of frames ``[B, 3, H, W]`` (RGB, 0 to 255) to their flow ``[B, 2, H, W]``.

    Args:
        name: one of `FLOW_NETWORKS`.
        weights: a file: of torchvision or of the authors for RAFT, of FlowNetPytorch or NVIDIA's flownet2-pytorch for
            FlowNet; its address; or its tensors. Without, they are random.

    Returns:
        The network, in evaluation mode.

    Raises:
        ModelError: there is no such network, or the weights cannot be had, or are not its.
    """
    if name not in FLOW_NETWORKS:
        raise ModelError(f"no network of optical flow is called '{name}'{hint(name, FLOW_NETWORKS)}")
    known = FLOW_NETWORKS[name]
    if weights is None:
        return known.build(None).eval()
    source = "the weights" if isinstance(weights, dict) else str(weights)
    if not isinstance(weights, dict):
        weights = read_tensors(download(source) if is_address(source) else Path(source))
    check_finite(weights, source)
    network = known.build(weights)
    _load(network, known.names(weights), source, name)
    return network.eval()


def _load(network: nn.Module, tensors: Tensors, source: str, name: str) -> None:
    """Give a network all of its tensors; how many batches a norm has seen is no weight."""
    wanted = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith(".num_batches_tracked")}
    found = {key: tensor for key, tensor in tensors.items() if not key.endswith(".num_batches_tracked")}
    wrong = sorted(wanted.keys() ^ found.keys())
    wrong += [key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape]
    if wrong:
        raise ModelError(
            f"{source}: these are no weights of {name}: {len(wrong)} tensors differ, among them {wrong[0]}"
        )
    network.load_state_dict(found, strict=False)
