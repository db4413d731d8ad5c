"""A small network that gives each face that is seen its own voice.

A U-Net sees the mixture's spectrogram and embeds every time and frequency so that what one voice says lies together
(deep attractors: Chen et al., ICASSP 2017). Convolutions over time see the mixture with the moments of a face's lips,
and those of the others, and say where in that space this face's voice lies (as in The Conversation: Afouras et al.,
Interspeech 2018; Looking to Listen: Ephrat et al., SIGGRAPH 2018). The masks of all faces and of what is left add up
to one: faces compete. It learned from GRID and ESC-10 alone.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.models.speech_sync import MOUTHS, SAMPLE_RATE, SIDE, MouthEncoder, standardise_mouths
from avlearn.signal.stft import Stft

_FILE = Path(__file__).parent / "zoo" / "voices" / "model.safetensors"

LIPS = 128  # numbers of a moment of lips
FRAMES = 2  # of the spectrogram to a crop of the mouth
BINS = 160  # of 25 Hz that are embedded one by one: up to 4 kHz, where nearly all of a voice's power is
HIGH = 8  # bands above them that are masked as a whole
PLACE = 20  # dimensions of an embedding
_SURE = 2  # power to which masks are raised that look for attractors: what is most surely a voice's counts
_SMALL = 0.3  # power to which magnitudes are raised: quiet harmonics count, too
_SECONDS = 3  # of a window
_SEEN = slice(15, 94), slice(8, 87)  # 70 pixels are a face's length there, and a tenth of it lies the centre lower
_WIDTH = 256  # of what goes over time
_CHANNELS = 16, 32, 48, 64, 64  # of the U-Net, at 160, 80, 40, 20 and 10 bands


class _Residual(nn.Module):
    """A convolution that adds to what it sees, over time, or over time and frequency."""

    def __init__(self, channels: int, dilation: int = 1, plane: bool = False):
        super().__init__()
        norm, conv = (nn.BatchNorm2d, nn.Conv2d) if plane else (nn.BatchNorm1d, nn.Conv1d)
        self.norm = norm(channels)
        self.conv = conv(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.relu(self.norm(x)))


def _conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, (stride, 1), 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


class VoiceMasks(nn.Module):
    """Masks of K faces, and of what is left."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = _CHANNELS
        self.front = nn.Sequential(nn.Conv2d(1, first, (7, 3), padding=(3, 1)), nn.BatchNorm2d(first), nn.ReLU())
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b, 2), _Residual(b, plane=True)) for a, b in zip(_CHANNELS[:-1], rest, strict=True)
        )
        last = _CHANNELS[-1]
        self.flat = nn.Conv1d(10 * last + 2 * HIGH, _WIDTH, 1)
        self.heard = nn.Sequential(*(_Residual(_WIDTH, d) for d in (1, 2, 4, 8)))
        self.back = nn.Conv1d(_WIDTH, 10 * last, 1)
        sides = 24, 24, 32, 48
        below = 24, 32, 48, last
        self.up = nn.ModuleList(_conv(a + b, c) for a, b, c in zip(below, _CHANNELS[:-1], sides, strict=True))
        self.place = nn.Conv2d(sides[0], PLACE, 1)
        self.seen = nn.Sequential(
            nn.Conv1d(LIPS + 1, _WIDTH, 5, padding=2), nn.ReLU(), nn.Conv1d(_WIDTH, _WIDTH, 3, padding=1)
        )
        self.others = nn.Conv1d(_WIDTH, _WIDTH, 1)
        self.time = nn.Sequential(
            *(_Residual(_WIDTH, d) for d in (1, 2, 4, 8, 1, 2, 4)), nn.BatchNorm1d(_WIDTH), nn.ReLU()
        )
        self.query = nn.Conv1d(_WIDTH, 11 * PLACE, 1)  # one for all bands, and one for each of ten
        self.high = nn.Conv1d(_WIDTH, HIGH, 1)

    def forward(self, magnitude: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, K, 321, N]`` of each face's share (what is left has 0), and embeddings ``[B, D, 160, N]``.

        Args:
            magnitude: ``[B, 321, N]`` of a mixture of about RMS 1.
            lips: ``[B, K, 129, T]``: of `VoiceSeparation.lips`, and last 1; all 0 where no face is seen. Two columns
                are to a crop: T is at least N / 2.
        """
        count, frames = lips.shape[1], magnitude.shape[2]
        small = magnitude**_SMALL
        high = F.adaptive_avg_pool1d(small[:, BINS:-1].transpose(1, 2), 2 * HIGH).transpose(1, 2)
        levels = [self.front(small[:, None, :BINS])]
        for down in self.down:
            levels.append(down(levels[-1]))
        heard = self.heard(self.flat(torch.cat([levels[-1].flatten(1, 2), high], 1)))
        x = levels[-1] + self.back(heard).unflatten(1, levels[-1].shape[1:3])
        for up, level in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = up(torch.cat([x.repeat_interleave(2, 2), level], 1))
        place = self.place(x)
        seen = self.seen(lips.flatten(0, 1)).repeat_interleave(FRAMES, 2)[:, :, :frames].unflatten(0, (-1, count))
        others = self.others((seen.sum(1, keepdim=True) - seen).flatten(0, 1)).unflatten(0, (-1, count))
        face = self.time((heard[:, None] + seen + others).flatten(0, 1))
        query = self.query(face).unflatten(0, (-1, count)).unflatten(2, (11, PLACE))  # [B, K, 11, D, N]
        bands = place.unflatten(2, (10, -1))  # [B, D, 10, 16, N]
        low = torch.einsum("bkgdn,bdgfn->bkgfn", query[:, :, 1:] + query[:, :, :1], bands).flatten(2, 3)
        top = self.high(face).unflatten(0, (-1, count)).repeat_interleave(BINS // HIGH, 2)
        return torch.cat([low, top, top[:, :, -1:]], 2), place


class VoiceSeparation(nn.Module):
    """The masks, and what makes their input of crops and samples."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth = MouthEncoder()
        self.masks = VoiceMasks()
        self.stft = Stft(SAMPLE_RATE, 0.04, 1 / (FRAMES * MOUTHS))

    def lips(self, crops: Tensor) -> Tensor:
        """What lips do, ``[B, 128, T]`` of about std 1.

        Args:
            crops: uint8 ``[B, T, 64, 64]`` of `avlearn.apply.faces.MOUTH`, `MOUTHS` a second, or their middle.
        """
        margin = (crops.shape[-1] - SIDE) // 2
        return self.embed(standardise_mouths(crops[:, :, margin : margin + SIDE, margin : margin + SIDE].float()))

    def embed(self, mouths: Tensor) -> Tensor:
        """The same of standardised ``[B, T, 48, 48]``: embeddings of `avlearn.models.speech_sync`, less their mean."""
        embedded = self.mouth(mouths) * LIPS**0.5
        return embedded - embedded.mean(2, keepdim=True)

    def masked(self, audio: Tensor, lips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spectrograms ``[B, 321, N]`` of ``[B, S]`` at RMS 1, masks ``[B, K + 1, 321, N]``, that of the rest last, and
        embeddings.

        Args:
            audio: mixtures at `SAMPLE_RATE`, of any level.
            lips: as of `VoiceMasks`, ``[B, K, 129, T]``; T crops from the first sample on.
        """
        spectrum = self.stft(audio / (audio.square().mean(1, keepdim=True).sqrt() + 1e-6))
        logits, place = self.masks(spectrum.abs(), lips)
        return spectrum, F.pad(logits, (0, 0, 0, 0, 0, 1)).softmax(1), place

    @torch.inference_mode()
    def separate(self, audio: Tensor, lips: Tensor) -> Tensor:
        """Each face's voice ``[K, C, S]``: the masks are those of the mean of the channels.

        Lips say whose a moment is, and what the voice is like that they find says what else is its own: masks are the
        geometric mean of those that lips ask for and those of their attractors.

        Args:
            audio: ``[C, S]`` at `SAMPLE_RATE`.
            lips: ``[K, 129, T]``, see `masked`.
        """
        spectrum, masks, place = self.masked(audio.mean(0, keepdim=True), lips[None])
        low = masks[:, :, :BINS]
        alike = attractor_masks(place, low**_SURE * spectrum[:, None, :BINS].abs() ** 0.5)
        both = ((low + 1e-6) * (alike + 1e-6)).sqrt()
        masks = torch.cat([both / both.sum(1, keepdim=True), masks[:, :, BINS:]], 2)
        return self.stft.inverse(self.stft(audio) * masks[0, :-1, None], audio.shape[1])


def attractor_masks(place: Tensor, weights: Tensor) -> Tensor:
    """Masks ``[B, K, 160, N]`` by which attractor is near: each the mean of embeddings under its weights (Chen et al.,
    ICASSP 2017).

    Args:
        place: embeddings ``[B, D, 160, N]``.
        weights: ``[B, K, 160, N]``, at least 0.
    """
    total = weights.sum((2, 3))[..., None] + 1e-3
    attractors = torch.einsum("bkfn,bdfn->bkd", weights, place) / total
    return torch.einsum("bkd,bdfn->bkfn", attractors, place).softmax(1)


class Voices:
    """The network as the tools use it: see `avlearn.models.released.systems.SeparateSystem`. Windows of 3 s."""

    faces, gaps = True, True
    sample_rate, samples = SAMPLE_RATE, _SECONDS * SAMPLE_RATE
    looks = tuple(crop / MOUTHS - _SECONDS / 2 for crop in range(_SECONDS * MOUTHS + 1))

    def __init__(self, network: VoiceSeparation, title: str, device: torch.device):
        self.network, self.title, self.device = network, title, device

    @torch.inference_mode()
    def separate_window(self, audio: Tensor, seen: list[list[np.ndarray | None]]) -> Tensor:
        """As of a `SeparateSystem`; the picture of the head is not looked at."""
        tracks = [_filled(frames[:-1]) for frames in seen]
        lips = self.network.lips(torch.from_numpy(np.stack([mouths for mouths, _ in tracks])).to(self.device))
        there = torch.from_numpy(np.stack([there for _, there in tracks])).to(lips)[:, None]
        return self.network.separate(audio.to(self.device), torch.cat([lips * there, there], 1)).cpu()


def _filled(mouths: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """Mouths ``[T, 48, 48]``, where there is none the nearest, and ``[T]`` whether there is one."""
    there = np.array([mouth is not None for mouth in mouths])
    known = np.flatnonzero(there)
    near = known[np.abs(np.arange(len(mouths))[:, None] - known).argmin(1)]
    return np.stack([seen_as_cropped(mouths[k]) for k in near]), there


def seen_as_cropped(mouth: np.ndarray) -> np.ndarray:
    """The part of a mouth of `avlearn.apply.separate.shown_faces.ShownFaces`, uint8 ``[96, 96]``, that encoders see of
    crops of `avlearn.apply.faces.MOUTH`: ``[48, 48]``."""
    return cv2.resize(mouth[_SEEN], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def open_voices(
    *, title: str = "the network of voices", device: torch.device, precision: torch.dtype | None = None
) -> Voices:
    """The network that comes with the package; it is small, and computes in 32 bits whatever the precision."""
    return Voices(load_voices(device), title, device)


@cache
def load_voices(device: torch.device | None = None) -> VoiceSeparation:
    """The network that comes with the package, in evaluation mode."""
    model = VoiceSeparation()
    model.load_state_dict({name: value.float() for name, value in load_file(_FILE).items()})
    return model.eval().to(device or torch.device("cpu"))
