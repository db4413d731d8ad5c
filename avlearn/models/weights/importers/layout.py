"""Layouts of released weights, and changes of names."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch

import torch
from torch import Tensor

from avlearn.errors import ModelError

Tensors = dict[str, Tensor]
Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class WeightLayout:
    """Names of weights as some code released them, and the options that they need.

    Attributes:
        name: of the code.
        mark: regular expression; a file is of this layout where it fits one of its names (and none before it fits).
        rename: its tensors under our names.
        options: of the builder, where the released network differs from what it builds by default.
        mean, std: of the channels, in [0, 1], that the weights were trained with; empty: those of the encoder.
        encoders: a shell pattern of the names of those that it is for, where a file holds more than one network.
        shape: of the tensor whose name ``mark`` fits, where names alone do not tell.
    """

    name: str
    mark: str
    rename: Callable[[Tensors], Tensors]
    options: Mapping[str, object] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    encoders: str = "*"
    shape: tuple[int, ...] | None = None

    def fits(self, tensors: Tensors, encoder: str) -> bool:
        """Whether tensors are named in this way, and are for the encoder of that name."""
        marked = (tensor for name, tensor in tensors.items() if re.search(self.mark, name))
        return fnmatch(encoder, self.encoders) and any(self.shape in (None, tensor.shape) for tensor in marked)


@contextmanager
def released_shapes(title: str) -> Iterator[None]:
    """Around what takes a stranger's tensors, by their names, for released ones: shapes and numbers may be any.

    Raises:
        ModelError: names fit and tensors do not.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{title}: its tensors are not of the released shapes: {said}") from error


def renamed(tensors: Tensors, renames: Sequence[Rename]) -> Tensors:
    """Names after the first rename that fits; those that none fits stay."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renames:
            renamed, times = re.subn(pattern, replacement, name, count=1)
            if times:
                name = renamed
                break
        found[name] = tensor
    return found


def letter(name: str) -> int:
    """The number of a, b or c."""
    return "abc".index(name) + 1


def joined(tensors: Tensors, part: str) -> Tensors:
    """Query, key and value, named ``part`` with q, k or v in place of its brace, as one ``qkv``."""
    found = dict(tensors)
    pattern = re.compile(r"^(.+\.attn\.)" + re.escape(part).replace(r"\{\}", "q") + r"\.(weight|bias)$")
    for match in filter(None, map(pattern.match, tensors)):
        names = [f"{match[1]}{part.format(letter)}.{match[2]}" for letter in "qkv"]
        if all(name in found for name in names):
            found[f"{match[1]}qkv.{match[2]}"] = torch.cat([found.pop(name) for name in names])
    return found
