"""Synchronization by released networks: SyncNet v2 of lips and voice, Synchformer and SparseSync of any events."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from avlearn.apply.windows import SILENCE, check_finite, probe_both
from avlearn.device import computing_in
from avlearn.errors import ModelError
from avlearn.media import Clip, probe, stream
from avlearn.media.source import Source, opened_once
from avlearn.models.released.sparsesync import SparseSync, clip_spectrogram, load_sparsesync
from avlearn.models.released.synchformer import OFFSETS, Synchformer, load_synchformer, segment_mel
from avlearn.models.released.syncnet import LipSync, SyncNet, lip_sync_of_parts, load_syncnet
from avlearn.models.two_tower import frames_to_input
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.signal.mfcc import mfcc

_FPS, _RATE = 25, 16000  # of all three
_SIDE = 224  # pixels, of all three
_FACES = 25  # steps of SyncNet in a part
_FEWEST = 30  # windows of SyncNet: at the largest offset that is searched, half of them have audio
_SQUARE = 1.1  # sides of a face crop differ by less, as a ratio
_CPU = torch.device("cpu")
_SLACK = 0.04  # seconds by which audio may end before a window: codecs round to their frames

Network = SyncNet | Synchformer | SparseSync
Crop = tuple[int, int, int, int]


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
        curve: how well each offset fits, where there is an answer.
    """

    name: str
    offset: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    curve: "OffsetsCompared | None" = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the values beside the rest."""
        return {"name": self.name, "offset": self.offset, **self.values, "reason": self.reason}

    def text(self) -> str:
        """Human-readable text."""
        if self.reason:
            return f"{self.name}: no answer ({self.reason})"
        said = [] if self.offset is None else [_in_words(self.offset)]
        return f"{self.name}: {', '.join(said + self.figures())}"

    def figures(self) -> list[str]:
        """The values in words."""
        return [_VALUE_FORMATS[key].format(value) for key, value in self.values.items()]


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


def load_released(path: str | Path) -> Network:
    """A network from the file that its authors released; the names in it tell which.

    Raises:
        ModelError: the file cannot be read, is of none of the three, or its network tells no known offsets.
    """
    tensors = read_tensors(path)
    loaders = (
        (r"netcnnlip\.", load_syncnet),
        (r"transformer\.global_transformer\.", load_sparsesync),
        (r"transformer\.OFF_tok$", load_synchformer),
    )
    loader = next((load for mark, load in loaders if any(re.match(mark, name) for name in tensors)), None)
    if loader is None:
        raise ModelError(f"{path} holds no weights of SyncNet v2, of SparseSync or of Synchformer's second stage")
    try:
        network = loader(tensors)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if not isinstance(network, SyncNet) and network.head.out_features not in _grids(network):
        raise ModelError(f"{path}: which offsets its {network.head.out_features} classes stand for is not known")
    return network


@opened_once
def sync_with_released(
    path: Source,
    networks: Sequence[Network],
    crop: Crop | None = None,
    device: torch.device = _CPU,
    precision: torch.dtype | None = None,
) -> tuple[ReleasedSyncResult, ...]:
    """The answer of each network for a file of any length, in memory that does not grow with it.

    SyncNet sees the whole video, or ``crop``, as a face; the others see the middle square of the frame.

    Args:
        path: any file with video and audio.
        networks: of `load_released`.
        crop: left, top, width and height of the face, pixels of the frame as displayed.
        device: to which the networks go.
        precision: what they compute in (see `avlearn.device.choose_precision`); spectrograms, distances and
            probabilities stay in 32 bits.

    Raises:
        MediaError: the file cannot be read, or has no video or no audio.
        ModelError: what a network makes of it is not finite.
    """
    if not networks:
        return ()
    probe_both(path)
    heard, loudest = _audio_extent(path)
    if loudest < SILENCE:
        return tuple(ReleasedSyncResult(_name(network), reason="the audio is silent") for network in networks)
    compute = _Compute(device, precision)
    return tuple(_ask(path, heard, network.to(device), crop, compute) for network in networks)


@dataclass(frozen=True)
class _Compute:
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


@torch.inference_mode()
def _ask(path: Source, heard: float, network: Network, crop: Crop | None, compute: _Compute) -> ReleasedSyncResult:
    """What a network says of a file whose audio ends so many seconds after the first frame."""
    if isinstance(network, SyncNet):
        return _ask_syncnet(path, heard, network, crop, compute)
    if isinstance(network, Synchformer):
        return _ask_synchformer(path, heard, network, compute)
    return _ask_sparsesync(path, heard, network, compute)


def _name(network: Network) -> str:
    if isinstance(network, SyncNet):
        return "SyncNet v2"
    return "Synchformer" if isinstance(network, Synchformer) else "SparseSync"


def _ask_syncnet(
    path: Source, heard: float, network: SyncNet, crop: Crop | None, compute: _Compute
) -> ReleasedSyncResult:
    """As syncnet_python: windows from where both begin to where one ends, less the last."""
    name, info = _name(network), probe_both(path)
    left, top, width, height = crop or (0, 0, info.video.width, info.video.height)
    if left + width > info.video.width or top + height > info.video.height:
        return ReleasedSyncResult(
            name, reason=f"the crop reaches beyond the frame, {info.video.width}x{info.video.height}"
        )
    if max(width, height) > _SQUARE * min(width, height):
        return ReleasedSyncResult(
            name, reason=f"it takes a square face, not {width}x{height}: say where with --crop X,Y,W,H"
        )

    def both(video: Tensor, coefficients: Tensor) -> Tensor:
        return torch.stack(network(video, coefficients))

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        # A step more on both sides: the first sees the cut as the audio's beginning, the last lacks what comes after.
        window = (_FACES + 4 + 2) / _FPS
        left_over = int(heard * _FPS + 1e-3)
        for clip in stream(path, window, _FACES / _FPS, fps=_FPS, sample_rate=_RATE, mono=True):
            count = min(len(clip.video), left_over)
            if count < 6:
                return
            faces = np.stack([_face(frame[top : top + height, left : left + width]) for frame in clip.video[:count]])
            audio = compute.tensor(clip.audio[:, : count * _RATE // _FPS])
            lips, voice = compute(both, frames_to_input(compute.tensor(faces)[None]), mfcc(audio)).cpu()
            first = int(clip.start > info.start)
            yield lips[0, first:], voice[0, first:]
            left_over -= _FACES

    found = lip_sync_of_parts(parts())
    if found.windows < _FEWEST:
        return ReleasedSyncResult(name, reason=_too_short((_FEWEST + 5) / _FPS))
    values = {"lse_d": round(found.lse_d, 4), "lse_c": round(found.lse_c, 4)}
    return ReleasedSyncResult(name, found.offset, values, curve=_parts_compared(found))


def _parts_compared(found: LipSync) -> OffsetsCompared:
    """Of SyncNet, whose parts of about a second are judged by themselves."""
    reach = len(found.distances) // 2
    offsets = np.arange(-reach, reach + 1) / _FPS
    best = offsets[found.parts.argmin(1).numpy()]
    agree = np.abs(best - found.offset) < 1.5 / _FPS
    starts = np.cumsum([0, *found.part_windows[:-1]]) / _FPS
    windows = zip(starts.tolist(), best.tolist(), agree.astype(float).tolist(), strict=True)
    share = float(np.average(agree, weights=found.part_windows))
    return OffsetsCompared(offsets, -found.distances.numpy(), share, tuple(windows))


def _ask_synchformer(path: Source, heard: float, network: Synchformer, compute: _Compute) -> ReleasedSyncResult:
    """Segments are seen once each; those of a window are compared every half window, and at the end."""
    name, segments = _name(network), network.segments
    video_segments: deque[Tensor] = deque(maxlen=segments)
    audio_segments: deque[Tensor] = deque(maxlen=segments)
    votes = _Votes()
    waiting = segments  # segments until the next comparison
    for clip in _windows(path, heard, 0.64, 0.32, _SIDE):
        video = _middle(compute.tensor(clip.video)).unsqueeze(1)
        video_segments.append(compute(network.video_features, video))
        audio_segments.append(compute(network.audio_features, segment_mel(compute.tensor(clip.audio).unsqueeze(1))))
        begin = clip.start - 0.32 * (segments - 1)
        waiting -= 1
        if not waiting:
            votes.add(compute(network.compare, torch.cat([*video_segments], 1), torch.cat([*audio_segments], 1)), begin)
            waiting = segments // 2
    if not votes.count:
        return ReleasedSyncResult(name, reason=_too_short(0.32 * (segments + 1)))
    if waiting < segments // 2:
        votes.add(compute(network.compare, torch.cat([*video_segments], 1), torch.cat([*audio_segments], 1)), begin)
    if network.head.out_features == 2:
        return ReleasedSyncResult(name, values={"synchronizable": round(float(votes.mean[1]), 4)})
    desync = (abs(OFFSETS[votes.first]) + abs(OFFSETS[votes.last])) / 2
    values = {"probability": votes.probability, "desync": round(desync, 4)}
    return ReleasedSyncResult(name, votes.offset(OFFSETS), values, curve=votes.compared(OFFSETS))


def _ask_sparsesync(path: Source, heard: float, network: SparseSync, compute: _Compute) -> ReleasedSyncResult:
    name, votes = _name(network), _Votes()
    for clip in _windows(path, heard, 5.0, 2.4, 256):
        video, audio = compute.tensor(clip.video), compute.tensor(clip.audio)
        votes.add(compute(network, _middle(video), clip_spectrogram(audio)), clip.start)
    if not votes.count:
        return ReleasedSyncResult(name, reason=_too_short(5.0))
    grid = _grids(network)[len(votes.mean)]
    values = {"probability": votes.probability}
    return ReleasedSyncResult(name, votes.offset(grid), values, curve=votes.compared(grid))


def _grids(network: Synchformer | SparseSync) -> dict[int, tuple[float, ...]]:
    """Offsets of the classes, by how many there are."""
    return {21: OFFSETS, 2: ()} if isinstance(network, Synchformer) else {21: OFFSETS, 3: (-1.0, 0.0, 1.0)}


class _Votes:
    """Probabilities of classes, window by window."""

    def __init__(self) -> None:
        self.total = torch.zeros(())
        self.windows: list[tuple[float, int, float]] = []  # start, class and its probability

    def add(self, logits: Tensor, start: float) -> None:
        """Of the window that begins then, ``[1, classes]``."""
        shares = logits[0].softmax(0).cpu()
        self.total = self.total + shares
        self.windows.append((start, int(shares.argmax()), float(shares.max())))

    @property
    def count(self) -> int:
        return len(self.windows)

    @property
    def first(self) -> int:
        return self.windows[0][1]

    @property
    def last(self) -> int:
        return self.windows[-1][1]

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def probability(self) -> float:
        return round(float(self.mean.max()), 4)

    def offset(self, grid: tuple[float, ...]) -> float:
        return grid[int(self.mean.argmax())]

    def compared(self, grid: tuple[float, ...]) -> OffsetsCompared:
        windows = tuple((start, grid[best], share) for start, best, share in self.windows)
        return OffsetsCompared(np.array(grid), self.mean.double().numpy(), self.probability, windows)


def _audio_extent(path: Source) -> tuple[float, float]:
    """Seconds from the first frame to the audio's end, and the loudest second's root mean square."""
    end = loudest = 0.0
    for clip in stream(path, 1.0, 1.0, video=False, sample_rate=_RATE, mono=True):
        end += clip.audio.shape[1] / _RATE
        loudest = max(loudest, float(np.sqrt(np.square(clip.audio).mean())))
    return end, loudest


def _windows(path: Source, heard: float, window: float, hop: float, size: int) -> Iterator[Clip]:
    """Whole windows of video and audio; window and hop are of whole frames."""
    end = probe(path).start + heard + _SLACK
    for clip in stream(path, window, hop, fps=_FPS, size=size, sample_rate=_RATE, mono=True):
        if len(clip.video) < round(window * _FPS) or clip.start + window > end:
            return
        yield clip


def _face(frame: np.ndarray) -> np.ndarray:
    """To SyncNet's size, by the interpolation that its authors' face crops went through."""
    return cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)


def _middle(frames: Tensor) -> Tensor:
    """uint8 ``[T, H, W, 3]`` to ``[1, 3, T, 224, 224]`` in [0, 1]: the middle square."""
    top, left = ((side - _SIDE) // 2 for side in frames.shape[1:3])
    return frames_to_input(frames[None, :, top : top + _SIDE, left : left + _SIDE])


def _too_short(needed: float) -> str:
    return f"it takes at least {needed:g} s of video and audio together"


def _in_words(offset: float) -> str:
    if not offset:
        return "in sync"
    return f"audio {'leads' if offset > 0 else 'lags'} by {abs(round(offset * 1000))} ms"
