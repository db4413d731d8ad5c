"""Inputs that a class would most like to see, or to hear: gradient ascent from noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avlearn.apply.explain.network import ExplainedNetwork, differentiable
from avlearn.apply.windows import check_finite

_RATE = 0.05  # of Adam, on what a sigmoid makes the range of the input of
_NOISE = 0.05  # std of the noise that it begins with, before that sigmoid
_SHAKEN = 4  # pixels, or frames of a spectrogram, by which it is moved before each step, at most
_SEED = 0


@dataclass(frozen=True)
class Smoothness:
    """Weights of the total variation, beside a gradient of the log odds whose root mean square is 1.

    Attributes:
        space: between neighbouring places; of a spectrogram, between bands.
        time: between one frame and the next.
    """

    space: float
    time: float


# What may change slowly alone, and what may change as fast as it likes.
SPEEDS = {"slow": Smoothness(1.0, 5.0), "fast": Smoothness(1.0, 0.1)}


@dataclass(frozen=True)
class Maximised:
    """Inputs of one class, by the names of `SPEEDS`.

    Attributes:
        inputs: ``[C, ...]`` each, as the canvas, in its range.
        log_odds: of the class: 0 is as likely as not.
        first: those of the noise that all begin with.
        change: mean absolute difference from one frame to the next, over the range.
    """

    inputs: dict[str, Tensor]
    log_odds: dict[str, float]
    first: float
    change: dict[str, float]


def maximise(
    network: ExplainedNetwork,
    kind: str,
    number: int,
    steps: int,
    progress: Callable[[int], None] | None = None,
) -> Maximised:
    """Inputs of an encoder that a class is surest of, slow and fast (Feichtenhofer et al., CVPR 2018).

    The log odds of the class are climbed by Adam from one noise, less the total variation over space and over time,
    which have a weight each: the strong one over time shows what the class knows of appearance and of slow motion, the
    weak one what it knows of fast motion. The odds' gradient is brought to a root mean square of 1, so that the weights
    mean the same for every network. A sigmoid keeps inputs in their range. Of one seed.

    Odds in place of the published score of the class alone: what raises all classes tells nothing of one.

    Args:
        network: with a classifier.
        kind: of the input: ``video`` (colours, flow, or both, as the encoder sees) or ``audio`` (the spectrogram).
        number: of the class.
        steps: of the ascent.
        progress: is told how many are done.

    Raises:
        ModelError: the network's scores are not finite.
    """
    canvas, encoder = network.canvases[kind], network.encoders[kind]
    random = torch.Generator().manual_seed(_SEED)
    noise = torch.randn(canvas.shape, generator=random) * _NOISE
    drawn = torch.stack([noise] * len(SPEEDS)).to(network.device).requires_grad_()
    climb = torch.optim.Adam([drawn], lr=_RATE)

    def odds(share: Tensor) -> Tensor:
        whole = canvas.low + (canvas.high - canvas.low) * share
        found = check_finite(network.score(kind, network.on_canvas(kind, whole)), "what is drawn")
        return network.log_odds(found)[:, number]

    with differentiable(encoder):
        first = float(odds(drawn.detach()[:1].sigmoid())[0])
        for step in range(steps):
            share = drawn.sigmoid()
            (rising,) = torch.autograd.grad(odds(_shaken(share, random)).sum(), share, retain_graph=True)
            (rough,) = torch.autograd.grad(_variation(share), share, retain_graph=True)
            size = rising.flatten(1).square().mean(1).sqrt().clamp(min=1e-12)
            (drawn.grad,) = torch.autograd.grad(share, drawn, rough - rising / size.view(-1, *[1] * len(canvas.shape)))
            climb.step()
            if progress:
                progress(step + 1)
    share = drawn.detach().sigmoid()
    with torch.no_grad():
        reached = odds(share)
    inputs = (canvas.low + (canvas.high - canvas.low) * share).cpu()
    change = _over_time(share).abs().flatten(1).mean(1)
    return Maximised(
        inputs=dict(zip(SPEEDS, inputs, strict=True)),
        log_odds=dict(zip(SPEEDS, reached.tolist(), strict=True)),
        first=first,
        change=dict(zip(SPEEDS, change.tolist(), strict=True)),
    )


def _shaken(share: Tensor, random: torch.Generator) -> Tensor:
    """Moved by a few pixels, or frames of a spectrogram, round and round: the grid of a network's strides blurs."""
    axes = (3, 4) if share.ndim == 5 else (3,)
    moves = torch.randint(-_SHAKEN, _SHAKEN + 1, (len(axes),), generator=random).tolist()
    return share.roll(moves, axes)


def _over_time(share: Tensor) -> Tensor:
    """Differences of frames ``[B, C, T, H, W]``, or of those of spectrograms ``[B, 1, F, N]``."""
    return share.diff(dim=2 if share.ndim == 5 else 3)


def _variation(share: Tensor) -> Tensor:
    """Squared differences, summed, each speed's by its weights; those over space are of rows and columns, or bands."""
    space = [share.diff(dim=dim) for dim in ((3, 4) if share.ndim == 5 else (2,))]
    parts = []
    for row, weights in enumerate(SPEEDS.values()):
        parts.append(weights.time * _over_time(share)[row].square().sum())
        parts += [weights.space * differences[row].square().sum() for differences in space]
    return torch.stack(parts).sum()
