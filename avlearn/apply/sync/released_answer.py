"""What a released network says of a file's synchronization, and what computing it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import check_finite
from avlearn.device import computing_in

FPS, RATE = 25, 16000  # of all three networks
SIDE = 224  # pixels, of all three
_SHOWN = 8  # speakers that have a line in text: those seen longest


@dataclass(frozen=True)
class ReleasedSyncResult:
    """The answer of a released network for a file.

    Attributes:
        name: ``SyncNet v2``, ``Synchformer`` or ``SparseSync``.
        offset: seconds, positive when the audio leads; None where it gives none.
        values: of SyncNet ``lse_d`` and ``lse_c``; of the others the ``probability`` of the offset, a mean over
            windows, and of Synchformer ``desync``, seconds; of Synchformer with two classes ``synchronizable`` alone,
            the probability that the file can be synchronized.
        reason: why there is no answer, else "".
        note: a line on what was looked at, else "".
        speakers: of SyncNet, one dict for each person in each shot: ``speaker``, ``shot``, ``side`` (``left``,
            ``middle`` or ``right``), ``start`` and ``end`` (seconds), ``offset``, ``lse_d`` and ``lse_c``.
        curve: how well each offset fits, where there is an answer.
    """

    name: str
    offset: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    speakers: tuple[dict[str, Any], ...] = ()
    curve: "OffsetsCompared | None" = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the values beside the rest; ``note`` and ``speakers`` where there are any."""
        more: dict[str, Any] = {"note": self.note} if self.note else {}
        if self.speakers:
            more["speakers"] = list(self.speakers)
        return {"name": self.name, "offset": self.offset, **self.values, "reason": self.reason, **more}

    def text(self) -> str:
        """Human-readable text."""
        if self.reason:
            return f"{self.name}: no answer ({self.reason})"
        said = [] if self.offset is None else [in_words(self.offset)]
        first = f"{self.name}: {', '.join(said + self.figures())}" + (f" ({self.note})" if self.note else "")
        return "\n".join([first, *speaker_lines(self.speakers)])

    def figures(self) -> list[str]:
        """The values in words."""
        return _figures(self.values)


@dataclass(frozen=True)
class OffsetsCompared:
    """How well each of a network's offsets fits a file.

    Attributes:
        offsets: ``[O]`` seconds, rising.
        scores: ``[O]``, the more the better: mean probabilities, or distances below 0.
        confidence: the probability of the best, or the share of parts of a second that it is the best of, within a
            frame.
        windows: start in seconds, best offset and its probability of each window that was judged by itself.
    """

    offsets: np.ndarray
    scores: np.ndarray
    confidence: float
    windows: tuple[tuple[float, float, float], ...]


_VALUE_FORMATS = {
    "lse_d": "LSE-D {:.3f}",
    "lse_c": "LSE-C {:.3f}",
    "probability": "probability {:.2f}",
    "desync": "DeSync {:.2f} s",
    "synchronizable": "synchronizable with probability {:.2f}",
}


@dataclass(frozen=True)
class Compute:
    """Computing on a device: what comes out is in 32 bits, and finite."""

    device: torch.device
    precision: torch.dtype | None

    def tensor(self, array: np.ndarray) -> Tensor:
        """On the device."""
        return torch.from_numpy(array).to(self.device)

    def __call__(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        with computing_in(self.precision, self.device):
            found = network(*inputs)
        return check_finite(found.float(), "the file")


def too_short(needed: float) -> str:
    return f"it takes at least {needed:g} s of video and audio together"


def in_words(offset: float) -> str:
    if not offset:
        return "in sync"
    return f"audio {'leads' if offset > 0 else 'lags'} by {abs(round(offset * 1000))} ms"


def _figures(values: Mapping[str, float]) -> list[str]:
    return [_VALUE_FORMATS[key].format(value) for key, value in values.items()]


def speaker_lines(speakers: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each of the speakers that are seen longest, in the order of the film."""
    longest = sorted(speakers, key=lambda s: s["start"] - s["end"])[:_SHOWN]
    lines = [
        f"speaker {s['speaker']}, {s['side']}, {s['start']:.1f} to {s['end']:.1f} s: {in_words(s['offset'])}, "
        + ", ".join(_figures({key: s[key] for key in ("lse_d", "lse_c")}))
        for s in speakers
        if s in longest
    ]
    return lines + [f"and {len(speakers) - _SHOWN} more, which --json lists"] * (len(speakers) > _SHOWN)
