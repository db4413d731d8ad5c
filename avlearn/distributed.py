"""Operations of processes that train together on weights, gradients and counts."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor


def shard(towers: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Leave each process its part of the towers' weights (FSDP), which are gathered where features are computed.

    Args:
        towers: modules with a ``forward_features``; changed in place.
        mesh: of one dimension, all processes.
    """
    for tower in towers:
        fully_shard(tower, mesh=mesh)
        register_fsdp_forward_method(tower, "forward_features")


def average_whole(parameters: Iterable[Tensor]) -> None:
    """Average over all processes the gradients of parameters that are not sharded, in place: few, and scalars."""
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def clip_by_norm(parameters: Iterable[Tensor], most: float) -> None:
    """Scale gradients, in place, to an L2 norm of ``most`` over all of them; some may be sharded, and some whole."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    factor = (most / (torch.stack(norms).norm() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        (gradient.to_local() if isinstance(gradient, DTensor) else gradient).mul_(factor)


def smallest_count(count: int, device: torch.device) -> int:
    """The smallest of all processes' counts; this one's own, where there is one process.

    Args:
        count: of this process.
        device: on which the processes' backend reduces.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return count
    smallest = torch.tensor(count, device=device)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return int(smallest)
