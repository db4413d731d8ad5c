"""Videos that flash and beep, and stand-ins of released networks that see and hear just that."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from avlearn.media import write_video
from avlearn.models.released.sparsesync import SparseSync
from avlearn.models.released.synchformer import OFFSETS, Synchformer
from avlearn.models.released.syncnet import SyncNet

FPS, RATE = 25, 16000


def flashes(path, seconds: float, lead: float = 0.0, audio_seconds: float | None = None, side: int = 96):
    """A video that flashes at random, and audio that beeps with it, `lead` seconds earlier."""
    rng = np.random.default_rng(3)
    lit = rng.random(round(seconds * FPS) + 100) < 0.3
    frames = [np.full((side, side, 3), 230 if on else 20, np.uint8) for on in lit[50 : 50 + round(seconds * FPS)]]
    instants = np.arange(round((audio_seconds or seconds) * RATE)) / RATE + lead
    heard = lit[50 + np.floor(instants * FPS + 1e-6).astype(int)]
    audio = (0.5 * heard * np.sin(2 * np.pi * 1000 * instants)).astype(np.float32)[None]
    write_video(path, frames, FPS, audio=audio, sample_rate=RATE)
    return path


def is_lit(video: torch.Tensor) -> torch.Tensor:
    """``[..., 3, T, H, W]`` to ``[T]``."""
    return (video.mean((-1, -2)).mean(-2).flatten() > 0.5).float()


class FlashNet(SyncNet):
    """Embeds whether the first video is lit, and whether its audio is loud."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.seen: list[torch.Tensor] = []

    def forward(self, video, mfcc):
        self.seen.append(video)
        windows = min(video.shape[2], mfcc.shape[3] // 4) - 4
        loud = (mfcc[0, 0, 0, : 4 * windows].view(-1, 4).median(1).values > 15).float()
        return tuple(torch.stack([on[:windows], 1 - on[:windows]], 1)[None] for on in (is_lit(video), loud))


def scores(lit: torch.Tensor, loud: torch.Tensor, offsets: tuple[float, ...]) -> torch.Tensor:
    """As the authors define the classes: at offset o the audio is of what is shown o seconds later."""
    pairs = [(lit[max(o, 0) : len(lit) + min(o, 0)], loud[max(-o, 0) : len(loud) + min(-o, 0)]) for o in
             (round(offset * FPS) for offset in offsets)]  # fmt: skip
    return torch.stack([50 * (a == b).float().mean() for a, b in pairs])[None]


class FlashFormer(Synchformer):
    """Features of a segment are its frames and samples, of which the first half is new."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.segments, self.head = 14, SimpleNamespace(out_features=21)

    def video_features(self, video):
        return is_lit(video)[None, None]

    def audio_features(self, mel):
        return (mel[0, 0, 0, :, :64].amax(0).view(16, 4).median(1).values > -0.1).float()[None, None]

    def compare(self, seen, heard):
        return scores(seen[0, :, :8].flatten(), heard[0, :, :8].flatten(), OFFSETS)


class FlashSync(SparseSync):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.head = SimpleNamespace(out_features=3)

    def forward(self, video, spectrogram):
        loud = spectrogram[0, 0, 32, :625].view(125, 5).median(1).values > 0
        return scores(is_lit(video), loud.float(), (-1.0, 0.0, 1.0))
