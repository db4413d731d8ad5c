"""A network's stages as papers draw them: kernels, and the size of what comes out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as Convolution

from avlearn.errors import ModelError
from avlearn.models.cost import cost
from avlearn.models.registry import create_model, model_spec
from avlearn.terminal import aligned

_HEADS = ("stage", "kernels, channels", "output", "params M")


@dataclass(frozen=True)
class Stage:
    """The layers between two resolutions: ``kernels`` in words, ``output`` channels first, parameters."""

    name: str
    kernels: str
    output: tuple[int, ...]
    params: int


@dataclass(frozen=True)
class Anatomy:
    """The stages of a network for one clip, channels first; 10^9 multiply-adds and parameters of the whole."""

    name: str
    clip: tuple[int, ...]
    stages: tuple[Stage, ...]
    params: int
    gmacs: float

    def text(self) -> str:
        """Human-readable text."""
        rows = [("input", "", _sides(self.clip), "")]
        rows += [
            (s.name, s.kernels, _sides(s.output), f"{s.params / 1e6:.2f}" if s.params else "") for s in self.stages
        ]
        whole = f"{self.name}: {self.params / 1e6:.2f} M parameters, {self.gmacs:.2f} GMACs"
        return f"{aligned(_HEADS, rows)}\n{whole}"


def anatomy(name: str, clip: Sequence[int] | None = None) -> Anatomy:
    """The stages of a registered encoder, with the classifier of its spec; nothing is computed.

    Args:
        name: of the encoder.
        clip: frames, rows and columns; bins and frames; or samples. Those of its spec by default, if it has one.

    Raises:
        ModelError: there is no such encoder, or it cannot take this clip.
    """
    spec = model_spec(name)
    clip = clip or spec.clip
    like = spec.clip or {"video": (16, 112, 112), "audio": (64, 96)}[spec.kind]  # specs of plugins may have none
    if len(clip) != len(like):
        said = f"cannot take {_sides(clip)}" if clip else "has no clip in its spec"
        raise ModelError(f"{name} {said}: give a clip like {_sides(like)}")
    shape = spec.shape_of(clip)
    with torch.device("meta"):
        model = create_model(name, num_classes=spec.classes)
    seen: list[tuple[object, Tensor]] = []

    def run(stage: Callable[..., Tensor], *inputs: object) -> Tensor:
        seen.append((stage, stage(*inputs)))
        return seen[-1][1]

    try:
        params, gmacs = cost(model, shape)
        vars(model)["run"] = run
        with torch.no_grad():
            outputs = model.forward_stages(torch.empty(1, *shape, device="meta"))
    except (ModelError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{name} cannot take {_sides(shape)}: {(str(error) or 'too small').splitlines()[0]}"
        ) from error
    modules = dict(model.named_modules())
    if seen and all(isinstance(output, Tensor) and output.ndim == len(shape) + 1 for _, output in seen):
        if len(seen) == len(outputs):
            names = list(outputs)
        else:  # pathways: each has stages of its own
            known = {id(module): name for name, module in modules.items()}
            names = [known[id(stage)] for stage, _ in seen]
        found = [(name, *parts) for name, parts in zip(names, seen, strict=True)]
    else:  # tokens: what comes of them is on the grid only when it leaves
        found = [(name, modules.get(name), output) for name, output in outputs.items()]
    return Anatomy(name, shape, tuple(_stage(*parts) for parts in found), params, gmacs)


def _stage(name: str, stage: object, output: Tensor) -> Stage:
    params = sum(p.numel() for p in stage.parameters()) if isinstance(stage, nn.Module) else 0
    return Stage(name, _kernels(stage), tuple(output.shape[1:]), params)


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _kernels(stage: object) -> str:
    """Convolutions of each block, equal blocks counted: "[1x1x1 64, 1x3x3 64, 1x1x1 256] x3"."""
    if not isinstance(stage, nn.Module):
        return ""
    blocks = [list(_convolutions(child)) for child in stage.children()]
    if not any(len(block) > 1 for block in blocks):
        blocks = [[name for block in blocks for name in block]]
    found = []
    for block, equal in groupby(block for block in blocks if block):
        times = len(list(equal))
        found.append(f"[{', '.join(block)}]" + (f" x{times}" if times > 1 else ""))
    return ", ".join(found) or type(stage).__name__


def _convolutions(module: nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        # Shortcuts are no part of what a block does to its input.
        if isinstance(part, Convolution) and "downsample" not in name and not name.endswith("branch1"):
            groups = " each" if part.groups == part.in_channels > 1 else ""
            yield f"{_sides(part.kernel_size)} {part.out_channels}{groups}"
