"""Synchronization by released networks: SyncNet v2 of lips and voice, Synchformer and SparseSync of any events."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avlearn.apply.sync.released_answer import FPS, RATE, SIDE, Compute, OffsetsCompared, ReleasedSyncResult, too_short
from avlearn.apply.sync.released_syncnet import NAME, Crop, ask_syncnet
from avlearn.apply.windows import SILENCE, probe_both
from avlearn.errors import ModelError
from avlearn.media import Clip, probe, stream
from avlearn.media.source import Source, opened_once
from avlearn.models.released.sparsesync import SparseSync, clip_spectrogram, load_sparsesync
from avlearn.models.released.synchformer import OFFSETS, Synchformer, load_synchformer, segment_mel
from avlearn.models.released.syncnet import SyncNet, load_syncnet
from avlearn.models.two_tower import frames_to_input
from avlearn.models.weights.checkpoint import read_tensors

_CPU = torch.device("cpu")
_SLACK = 0.04  # seconds by which audio may end before a window: codecs round to their frames

Network = SyncNet | Synchformer | SparseSync


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

    SyncNet sees ``crop``, or each face that is found, or a frame that is about square, as a face; the others see the
    middle square of the frame. Of more than ten minutes, faces are looked for in as much, in parts that are spread
    over it.

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
    compute = Compute(device, precision)
    return tuple(_ask(path, heard, network.to(device), crop, compute) for network in networks)


@torch.inference_mode()
def _ask(path: Source, heard: float, network: Network, crop: Crop | None, compute: Compute) -> ReleasedSyncResult:
    """What a network says of a file whose audio ends so many seconds after the first frame."""
    if isinstance(network, SyncNet):
        return ask_syncnet(path, heard, network, crop, compute)
    if isinstance(network, Synchformer):
        return _ask_synchformer(path, heard, network, compute)
    return _ask_sparsesync(path, heard, network, compute)


def _name(network: Network) -> str:
    if isinstance(network, SyncNet):
        return NAME
    return "Synchformer" if isinstance(network, Synchformer) else "SparseSync"


def _ask_synchformer(path: Source, heard: float, network: Synchformer, compute: Compute) -> ReleasedSyncResult:
    """Segments are seen once each; those of a window are compared every half window, and at the end."""
    name, segments = _name(network), network.segments
    video_segments: deque[Tensor] = deque(maxlen=segments)
    audio_segments: deque[Tensor] = deque(maxlen=segments)
    votes = _Votes()
    waiting = segments  # segments until the next comparison
    for clip in _windows(path, heard, 0.64, 0.32, SIDE):
        video = _middle(compute.tensor(clip.video)).unsqueeze(1)
        video_segments.append(compute(network.video_features, video))
        audio_segments.append(compute(network.audio_features, segment_mel(compute.tensor(clip.audio).unsqueeze(1))))
        begin = clip.start - 0.32 * (segments - 1)
        waiting -= 1
        if not waiting:
            votes.add(compute(network.compare, torch.cat([*video_segments], 1), torch.cat([*audio_segments], 1)), begin)
            waiting = segments // 2
    if not votes.count:
        return ReleasedSyncResult(name, reason=too_short(0.32 * (segments + 1)))
    if waiting < segments // 2:
        votes.add(compute(network.compare, torch.cat([*video_segments], 1), torch.cat([*audio_segments], 1)), begin)
    if network.head.out_features == 2:
        return ReleasedSyncResult(name, values={"synchronizable": round(float(votes.mean[1]), 4)})
    desync = (abs(OFFSETS[votes.first]) + abs(OFFSETS[votes.last])) / 2
    values = {"probability": votes.probability, "desync": round(desync, 4)}
    return ReleasedSyncResult(name, votes.offset(OFFSETS), values, curve=votes.compared(OFFSETS))


def _ask_sparsesync(path: Source, heard: float, network: SparseSync, compute: Compute) -> ReleasedSyncResult:
    name, votes = _name(network), _Votes()
    for clip in _windows(path, heard, 5.0, 2.4, 256):
        video, audio = compute.tensor(clip.video), compute.tensor(clip.audio)
        votes.add(compute(network, _middle(video), clip_spectrogram(audio)), clip.start)
    if not votes.count:
        return ReleasedSyncResult(name, reason=too_short(5.0))
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
    for clip in stream(path, 1.0, 1.0, video=False, sample_rate=RATE, mono=True):
        end += clip.audio.shape[1] / RATE
        loudest = max(loudest, float(np.sqrt(np.square(clip.audio).mean())))
    return end, loudest


def _windows(path: Source, heard: float, window: float, hop: float, size: int) -> Iterator[Clip]:
    """Whole windows of video and audio; window and hop are of whole frames."""
    end = probe(path).start + heard + _SLACK
    for clip in stream(path, window, hop, fps=FPS, size=size, sample_rate=RATE, mono=True):
        if len(clip.video) < round(window * FPS) or clip.start + window > end:
            return
        yield clip


def _middle(frames: Tensor) -> Tensor:
    """uint8 ``[T, H, W, 3]`` to ``[1, 3, T, 224, 224]`` in [0, 1]: the middle square."""
    top, left = ((side - SIDE) // 2 for side in frames.shape[1:3])
    return frames_to_input(frames[None, :, top : top + SIDE, left : left + SIDE])
