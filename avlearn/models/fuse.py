"""Networks made faster for inference, with the same results: above all, batch norms folded into convolutions."""

import copy
import sys
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.conv import _ConvNd as Convolution
from torch.nn.utils import fuse_conv_bn_eval

from avlearn.errors import ModelError

if TYPE_CHECKING:
    from avlearn.models.recognizer import Recognizer


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # not those that also activate
Network = TypeVar("Network", bound=nn.Module)


class _Linear(nn.Linear):
    """By oneDNN where PyTorch would take MKL, which on processors of AMD is half as fast."""

    def forward(self, input: Tensor) -> Tensor:
        plain = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        if not plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return F.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def fuse(model: Network, *inputs: Tensor | None) -> Network:
    """A copy of a model for inference, its batch norms folded away.

    Weights over time and space are laid out with channels last in memory, and so is what is computed with them: on one
    thread of a CPU that is up to twice as fast. Linear layers are computed by oneDNN there, and MViT's attention by
    PyTorch's fused kernel.

    Args:
        model: of any kind; it stays as it is.
        inputs: that it takes, small, from which is seen which norm follows which convolution.

    Raises:
        ModelError: the copy gives other results, as where a convolution's output is used beside its norm.
    """
    fused = copy.deepcopy(model).eval()
    if not any(type(module) in _NORMS for module in fused.modules()):
        _fold(fused, {})
        return fused
    outputs: dict[int, tuple[Convolution, Tensor]] = {}  # the tensors, so that no id is used again
    pairs: dict[BatchNorm, Convolution] = {}

    def note(module: Convolution, _: object, output: Tensor) -> None:
        outputs[id(output)] = module, output

    def match(module: BatchNorm, taken: tuple[Tensor, ...]) -> None:
        if id(taken[0]) in outputs:
            pairs[module] = outputs[id(taken[0])][0]

    hooks = [m.register_forward_hook(note) for m in fused.modules() if isinstance(m, Convolution)]
    hooks += [m.register_forward_pre_hook(match) for m in fused.modules() if type(m) in _NORMS]
    with torch.inference_mode():
        expected = fused(*inputs)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        _fold(fused, pairs)
    with torch.inference_mode():
        found = fused(*inputs)
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
        raise ModelError("batch norms of this model cannot be folded: it gives other results without them")
    return fused


def _fold(model: nn.Module, pairs: dict[BatchNorm, Convolution]) -> None:
    """Change a model in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in pairs:
                folded = fuse_conv_bn_eval(pairs[child], child)
                pairs[child].weight, pairs[child].bias = folded.weight, folded.bias
                setattr(parent, name, nn.Identity())
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
        _fuse_attention(module)
        if type(module) is nn.Linear and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            module.__class__ = _Linear


def _fuse_attention(module: nn.Module) -> None:
    """Have MViT's attention computed by `FusedAttention`; torchvision is not imported for networks without any."""
    torchvision = sys.modules.get("torchvision.models.video.mvit")
    if torchvision is not None and type(module) is torchvision.MultiscaleAttention:
        from avlearn.models.fused_attention import FusedAttention

        module.__class__ = FusedAttention


def fuse_for_cpu(model: Network, device: torch.device, *inputs: Tensor | None) -> Network:
    """As `fuse`, for a CPU; on another device, or where norms cannot be folded, the model as it is."""
    if device.type != "cpu":
        return model
    try:
        return fuse(model, *inputs)
    except ModelError:
        return model


def fuse_recognizer(recognizer: "Recognizer") -> "Recognizer":
    """`fuse_for_cpu` of a recognizer, which keeps its precision."""
    config, chance = recognizer.config, torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, config.frames, config.size, config.size, generator=chance) if config.sees else None
    samples = round(config.seconds * config.sample_rate)
    audio = torch.rand(1, samples, generator=chance) - 0.5 if config.hears else None
    single = copy.copy(recognizer)
    single.precision = None  # in bfloat16 both differ by more than what folding may change
    fused = fuse_for_cpu(single, recognizer.device, video, audio)
    if fused is single:
        return recognizer
    fused.precision = recognizer.precision
    return fused
