"""SyncNet (Chung & Zisserman, ACCV-W 2016): by how much a speaker's lips and voice are shifted.

Version 2, as released: an embedding of five frames of a face, 25 a second, and one of the audio of the same 0.2 s, 20
columns of `avlearn.signal.mfcc.mfcc`; the next are 40 ms later. They lie close together where lips and voice agree. The
errors LSE-D and LSE-C, by which generated talking faces are judged, are measured with it.

Offsets are in seconds. Positive: the audio leads, an event is heard before it is seen, and the repair delays the audio.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.audio.vgg import vggm_syncnet
from avlearn.models.weights.checkpoint import read_tensors
from avlearn.models.weights.importers import load_all_weights
from avlearn.models.weights.importers.layout import Tensors, released_shapes, renamed

_RATE = 25  # embeddings a second
_SIDE = 224  # pixels
_MARGIN = 2  # steps at either end for which the audio network sees beyond the audio


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """A convolution over (time, space), strided and padded in space."""
    time, space = kernel
    conv = nn.Conv3d(inputs, outputs, (time, space, space), (1, stride, stride), (0, padding, padding))
    return [conv, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


def _pool(padding: int = 0) -> nn.Module:
    return nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, padding, padding))


class LipNet(nn.Module):
    """``[B, 3, T, 224, 224]`` in [0, 1], RGB, to ``[B, T - 4, 1024]``: an embedding of every five frames."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnlip = nn.Sequential(
            *_conv(3, 96, (5, 7), 2),
            _pool(),
            *_conv(96, 256, (1, 5), 2, 1),
            _pool(1),
            *_conv(256, 256, (1, 3), 1, 1),
            *_conv(256, 256, (1, 3), 1, 1),
            *_conv(256, 256, (1, 3), 1, 1),
            _pool(),
            *_conv(256, 512, (1, 6)),
        )
        self.netfclip = nn.Sequential(
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 1024)
        )

    def forward(self, video: Tensor) -> Tensor:
        if video.shape[3:] != (_SIDE, _SIDE):
            raise ValueError(f"SyncNet takes frames of {_SIDE} x {_SIDE} pixels, not {tuple(video.shape[3:])}")
        x = self.netcnnlip(video.flip(1) * 255)  # it learned from blue, green, red; [B, 512, T - 4, 1, 1]
        x = x.flatten(2).transpose(1, 2)
        return self.netfclip(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class SyncNet(nn.Module):
    """Embeddings of lips and of voice that lie close together where both are of the same instant."""

    def __init__(self) -> None:
        super().__init__()
        self.video = LipNet()
        self.audio = vggm_syncnet()

    def forward(self, video: Tensor, mfcc: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the same windows of 0.2 s, as many as both sides have.

        A clip is in memory as a whole. Long ones go in parts, which overlap by four frames.

        Args:
            video: ``[B, 3, T, 224, 224]`` in [0, 1], RGB, 25 frames a second: whole faces.
            mfcc: ``[B, 1, 13, N]`` of `avlearn.signal.mfcc.mfcc`, from the same instant on.

        Returns:
            Twice ``[B, min(T, N // 4) - 4, 1024]``.

        Raises:
            ValueError: frames have another size.
        """
        seen = self.video(video)
        heard = self.audio.forward_features(mfcc).transpose(1, 2)[:, _MARGIN:-_MARGIN]
        windows = min(seen.shape[1], heard.shape[1])
        return seen[:, :windows], heard[:, :windows]


@dataclass(frozen=True)
class LipSync:
    """The offset of lips and voice of a clip, and how well they agree.

    Attributes:
        offset: seconds; positive: the audio leads.
        lse_d: lip-sync error, distance: that of embeddings at this offset, 0 or more; 0 is best.
        lse_c: lip-sync error, confidence: the median over offsets less ``lse_d``; the more the better.
        distances: ``[2 reach + 1]``, of each offset from the most negative one on.
        windows: how many were compared.
        parts: ``[P, 2 reach + 1]`` distances of each part that the clip came in, by itself.
        part_windows: how many windows each has.
    """

    offset: float
    lse_d: float
    lse_c: float
    distances: Tensor
    windows: int
    parts: Tensor
    part_windows: tuple[int, ...]


def lip_sync(video: Tensor, audio: Tensor, reach: int = 15) -> LipSync:
    """Search the offset at which embeddings of lips and voice are closest.

    As its authors' code measures it, with which LSE-D and LSE-C (Prajwal et al., ACM MM 2020) are published: the mean
    distance over all windows of the video; beyond its ends the audio is zeros. A test set's figures are means over
    its clips.

    Args:
        video, audio: ``[N, D]`` of the same windows, 40 ms apart.
        reach: the largest offset, in windows.

    Raises:
        ValueError: the shapes differ.
    """
    return lip_sync_of_parts([(video, audio)], reach)


def lip_sync_of_parts(parts: Iterable[tuple[Tensor, Tensor]], reach: int = 15) -> LipSync:
    """`lip_sync` of a clip whose embeddings come in parts, one behind the other: memory does not grow with them.

    Without any window the figures are not numbers.
    """
    sums: list[tuple[Tensor, int]] = []  # of distances, and of how many windows
    seen = heard = torch.zeros(0, 0)  # what waits for audio to come, and the audio from `reach` windows before it on

    def compare(count: int) -> None:
        # Audio that leads by so many steps lies as many windows before the video.
        shifted = (heard[reach - lead :][:count] for lead in range(-reach, reach + 1))
        distances = [F.pairwise_distance(seen[:count], later).sum(dtype=torch.float64) for later in shifted]
        sums.append((torch.stack(distances).cpu(), count))

    for video, audio in parts:
        if video.shape != audio.shape:
            raise ValueError(f"lips and voice have embeddings of {tuple(video.shape)} and {tuple(audio.shape)}")
        if not len(heard):
            seen, heard = video[:0], audio.new_zeros(reach, audio.shape[1])
        seen, heard = torch.cat([seen, video]), torch.cat([heard, audio])
        if (count := len(seen) - reach) > 0:
            compare(count)
            seen, heard = seen[count:], heard[count:]
    if len(seen):
        heard = F.pad(heard, (0, 0, 0, reach))
        compare(len(seen))
    counts = tuple(count for _, count in sums)
    totals = torch.stack([total for total, _ in sums]) if sums else torch.zeros(0, 2 * reach + 1, dtype=torch.float64)
    return _of_sums(totals, counts)


def lip_sync_of_clips(found: Sequence[LipSync]) -> LipSync:
    """The figures of several clips together, in which each window counts alike.

    Args:
        found: of each clip, one at least, with the same ``reach``.
    """
    counts = tuple(count for one in found for count in one.part_windows)
    return _of_sums(torch.cat([one.parts for one in found]) * torch.tensor(counts).unsqueeze(1), counts)


def _of_sums(totals: Tensor, counts: tuple[int, ...]) -> LipSync:
    """Of parts' sums of distances ``[P, 2 reach + 1]``, and of their windows."""
    distances = totals.sum(0) / sum(counts)
    reach, best = len(distances) // 2, int(distances.argmin())
    least = float(distances[best])
    return LipSync(
        (best - reach) / _RATE,
        least,
        float(distances.median()) - least,
        distances,
        sum(counts),
        totals / torch.tensor(counts, dtype=torch.float64).unsqueeze(1),
        counts,
    )


@released_shapes("SyncNet")
def load_syncnet(source: str | Path | Tensors) -> SyncNet:
    """The network as its authors released it (``syncnet_v2.model``), in evaluation mode.

    Args:
        source: the released file, or tensors by the names in it.

    Raises:
        ModelError: the file cannot be read, parameters are missing (their groups are named), or tensors are left over.
    """
    tensors = source if isinstance(source, dict) else read_tensors(source)
    tensors = renamed(tensors, [(r"^(?=net(cnn|fc)lip\.)", "video."), (r"^(?=net(cnn|fc)aud\.)", "audio.")])
    model = SyncNet()
    load_all_weights(model, tensors, "SyncNet")
    return model.eval()
