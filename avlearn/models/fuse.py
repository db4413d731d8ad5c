"""Networks made faster for inference, with the same results: above all, batch norms folded into convolutions."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.utils import fuse_conv_bn_eval

from avlearn.errors import ModelError


def fuse(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy of a model for inference, its batch norms folded away.

    Weights over time and space are laid out with channels last in memory, and so is what is computed with them: on one
    thread of a CPU that is up to twice as fast.

    Args:
        model: of any kind; it stays as it is.
        x: an input, small, from which is seen which norm follows which convolution.

    Raises:
        ModelError: the copy gives other results, as where a convolution's output is used beside its norm.
    """
    fused = copy.deepcopy(model).eval()
    outputs: dict[int, tuple[Convolution, Tensor]] = {}  # the tensors, so that no id is used again
    pairs: dict[BatchNorm, Convolution] = {}

    def note(module: Convolution, _: object, output: Tensor) -> None:
        outputs[id(output)] = module, output

    def match(module: BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            pairs[module] = outputs[id(inputs[0])][0]

    hooks = [m.register_forward_hook(note) for m in fused.modules() if isinstance(m, Convolution)]
    hooks += [m.register_forward_pre_hook(match) for m in fused.modules() if isinstance(m, BatchNorm)]
    with torch.no_grad():
        expected = fused(x)
        for hook in hooks:
            hook.remove()
        for parent in list(fused.modules()):
            for name, child in list(parent.named_children()):
                if child in pairs:
                    folded = fuse_conv_bn_eval(pairs[child], child)
                    pairs[child].weight, pairs[child].bias = folded.weight, folded.bias
                    setattr(parent, name, nn.Identity())
        for module in fused.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
        found = fused(x)
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
        raise ModelError("batch norms of this model cannot be folded: it gives other results without them")
    return fused
