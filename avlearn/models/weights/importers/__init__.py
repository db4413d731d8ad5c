"""Released weights under our names: for each layout of the field, where its parameters go.

A layout is recognised by its own names, so that a file needs no more than the name of the network it is for.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avlearn.errors import ModelError
from avlearn.models.encoder import Encoder
from avlearn.models.weights.checkpoint import check_finite
from avlearn.models.weights.importers import (
    audiovisual,
    authors,
    authors_transformers,
    caffe2,
    huggingface,
    mmaction2,
    pyslowfast,
    pytorchvideo,
    torchvision,
)
from avlearn.models.weights.importers.layout import Tensors, WeightLayout, released_shapes

OURS = WeightLayout("avlearn", "", lambda tensors: tensors)
# In this order: the names of the first ones are the most particular.
LAYOUTS: tuple[WeightLayout, ...] = (
    *pytorchvideo.LAYOUTS,
    *pyslowfast.LAYOUTS,
    *mmaction2.LAYOUTS,
    *caffe2.LAYOUTS,
    *huggingface.LAYOUTS,
    *authors_transformers.LAYOUTS,
    *authors.LAYOUTS,
    *audiovisual.LAYOUTS,
    *torchvision.LAYOUTS,
    OURS,
)

_SHOWN = 4  # names of a group that a message lists


@dataclass(frozen=True)
class Report:
    """The result of loading a file: its layout, how many tensors were taken, and the names (ours) of those left."""

    layout: str
    taken: int
    left: list[str]


def find_layout(tensors: Tensors, encoder: str = "") -> WeightLayout:
    """The layout that names are of; our own where they are of no other.

    Of a file with two networks, the one that is like the encoder of that name: the video network where it is not said.
    """
    return next(layout for layout in LAYOUTS if layout.fits(tensors, encoder))


def load_weights(
    model: nn.Module, tensors: Tensors, layout: WeightLayout | None = None, source: str = "the weights"
) -> Report:
    """Give an encoder released weights, and what goes with them: the mean and std of channels.

    A classifier for other classes than theirs stays as it is, and a warning says so.

    Args:
        model: made by `create_model`, with the ``options`` of the layout (see `find_layout`).
        tensors: of a weight file (see `read_tensors`).
        layout: of their names; found out if not given.
        source: what messages call them.

    Raises:
        ModelError: not every parameter of the model is there, in its shape (the groups that are missing are named), or
            one holds NaN or infinity.
    """
    layout = layout or find_layout(tensors)
    with released_shapes(source):
        renamed = layout.rename(tensors)
    wanted = model.state_dict()
    found = _fitted(renamed, wanted)
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    others = [name for name in missing if name in renamed and _of_other_classes(name, renamed[name], wanted[name])]
    missing = [name for name in missing if name not in others]
    if missing:
        raise ModelError(
            f"{source}: {len(missing)} of {len(wanted)} parameters are missing or have another shape (by the names of "
            f"{layout.name}): {_groups(missing)}"
        )
    if others:
        warnings.warn(f"{source}: trained on other classes, so {', '.join(sorted(others))} stay random", stacklevel=2)
    check_finite(found, source)
    model.load_state_dict({**wanted, **found})
    mean = getattr(model, "mean", None)
    if layout.mean and mean is not None and len(layout.mean) == len(mean):
        model.mean, model.std = torch.tensor(layout.mean), torch.tensor(layout.std)
    return Report(layout.name, len(found), sorted(renamed.keys() - found.keys()))


def load_all_weights(model: nn.Module, tensors: Tensors, title: str) -> None:
    """Give a model all of its parameters, by its own names.

    Raises:
        ModelError: some are missing or have another shape (their groups are named), or tensors are left over.
    """
    report = load_weights(model, tensors, WeightLayout(title, "", dict))
    if report.left:
        raise ModelError(f"{len(report.left)} tensors have no place in {title}; the first is {report.left[0]}")


def classes_of(model: Encoder, tensors: Tensors, layout: WeightLayout) -> int | None:
    """How many classes the weights of a model tell apart; None where they have no classifier."""
    model.reset_classifier(1)
    named = model.named_modules()
    linear = [name for name, module in named if name.startswith("classifier") and isinstance(module, nn.Linear)]
    with released_shapes(layout.name):
        bias = layout.rename(tensors).get(f"{linear[-1]}.bias")
    return None if bias is None else bias.numel()


def _of_other_classes(name: str, found: Tensor, wanted: Tensor) -> bool:
    # Sides of one come from classifiers that are convolutions.
    return name.startswith("classifier.") and found.shape[1:].numel() == wanted.shape[1:].numel()


def _fitted(tensors: Tensors, wanted: Tensors) -> Tensors:
    """Tensors that the model has, in its shapes: sides of one more or fewer are taken for the same."""
    fitted = {}
    for name, tensor in tensors.items():
        shape = wanted[name].shape if name in wanted else None
        if shape is not None and [s for s in tensor.shape if s > 1] == [s for s in shape if s > 1]:
            fitted[name] = tensor.reshape(shape)
    return fitted


def _groups(names: Sequence[str]) -> str:
    groups = sorted({name.rpartition(".")[0] or name for name in names})
    more = f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return ", ".join(groups[:_SHOWN]) + more
