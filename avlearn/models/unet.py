"""The separation network: a U-Net over the log spectrogram, conditioned on what was seen, when."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRIDES = ((2, 2), (2, 2), (2, 1), (2, 1))  # frequency, time
_LOWEST_HZ = 60.0


def log_frequency_warp(hz: Tensor, bins: int, highest: float) -> tuple[Tensor, Tensor]:
    """Matrices between linear frequencies and ``bins`` bands of equal ratio (linear below 60 Hz steps).

    Args:
        hz: ``[F]`` centre of every linear bin.
        bins: number of bands.
        highest: Hz of the last band's centre.

    Returns:
        ``[bins, F]`` whose rows average a band, and ``[F, bins]`` that interpolates back.
    """
    position = (hz.clamp(0, highest) / _LOWEST_HZ + 1).log() / torch.tensor(highest / _LOWEST_HZ + 1).log()
    position = position * (bins - 1)
    band = torch.arange(bins, device=hz.device)
    back = (1 - (position[:, None] - band).abs()).clamp(min=0)  # [F, bins], rows sum to 1
    there = back.T.clone()
    there[:, hz > highest] = 0
    # Bands narrower than a bin: take the two bins around the band's centre.
    for k in torch.nonzero(there.sum(1) < 0.5).flatten():
        distance = (position - k).abs()
        near = distance.topk(2, largest=False).indices
        weight = 1 / (distance[near] + 1e-3)
        there[k, near] = weight
    return there / there.sum(1, keepdim=True), back


def at_frames(features: Tensor, step: float, hop: float, frames: int) -> Tensor:
    """Visual features at the instants of spectrogram frames, by linear interpolation.

    A second of misalignment makes sources of one class indistinguishable; the clocks are met exactly here.

    Args:
        features: ``[..., T]``; step i stands for the instant ``i * step`` seconds.
        step, hop: seconds of a feature step and of a frame; frame n is centred on ``n * hop``.
        frames: N.

    Returns:
        ``[..., N]``; past the last step its features are held.
    """
    last = features.shape[-1] - 1
    at = (torch.arange(frames, device=features.device) * (hop / step)).clamp(max=last)
    low = at.floor().long()
    share = at - low
    return features[..., low] * (1 - share) + features[..., (low + 1).clamp(max=last)] * share


class _Film(nn.Module):
    """Scale and shift of every channel at every time from the condition (Perez et al., AAAI 2018)."""

    def __init__(self, condition: int, channels: int):
        super().__init__()
        self.project = nn.Conv1d(condition, 2 * channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[B, C, F, N]`` and ``[B, D, k N]``: strided frame n lies on frame k n of the condition."""
        stride = condition.shape[-1] // x.shape[-1]
        film = self.project(condition[..., ::stride]).unsqueeze(2)
        scale, shift = film.chunk(2, 1)
        return x * (1 + scale) + shift


def _block(inputs: int, outputs: int, stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class MaskUNet(nn.Module):
    """Ratio masks for the sources that are seen, after Zhao et al. (ECCV 2018).

    The encoder sees the mixture once; the decoder runs for every source, led by the features of its
    place in the picture over time. It works on bands of equal frequency ratio and gives masks on the
    linear bins of whatever transform the magnitudes come from.

    Args:
        features: channels of the visual features.
        channels: widths from the first level to the bottom.
        bins: number of bands.
        highest: Hz of the top band.
    """

    def __init__(self, features: int, channels: tuple[int, ...], bins: int, highest: float):
        super().__init__()
        if len(channels) != len(_STRIDES) + 1:
            raise ValueError(f"the U-Net has {len(_STRIDES) + 1} widths, not {len(channels)}")
        self.bins, self.highest = bins, highest
        self.normalise = nn.BatchNorm1d(features, affine=False)
        condition = 2 * channels[2]
        self.context = nn.Sequential(
            nn.Conv1d(features, condition, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv1d(condition, condition, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.stem = _block(1, channels[0])
        self.down = nn.ModuleList(_block(channels[i], channels[i + 1], stride) for i, stride in enumerate(_STRIDES))
        self.bottom = _Film(condition, channels[-1])
        self.up = nn.ModuleList(
            _block(channels[i + 1] + channels[i], channels[i]) for i in reversed(range(len(_STRIDES)))
        )
        self.film = nn.ModuleList(_Film(condition, channels[i]) for i in reversed(range(len(_STRIDES))))
        self.mask = nn.Conv2d(channels[0], 1, 1)

    def bands(self, magnitude: Tensor, bin_hz: float) -> Tensor:
        """Linear bins to bands: ``[B, F, N]`` to ``[B, bins, N]``."""
        hz = torch.arange(magnitude.shape[1], device=magnitude.device) * bin_hz
        there, _ = log_frequency_warp(hz, self.bins, self.highest)
        return there @ magnitude

    def forward(self, bands: Tensor, features: Tensor) -> Tensor:
        """Mask logits on the bands.

        Args:
            bands: ``[B, bins, N]`` magnitudes of the mixture.
            features: ``[B, K, D, N]`` visual features of K sources at the instants of the N frames (see
                `at_frames`).

        Returns:
            ``[B, K, bins, N]``.
        """
        batch, sources = features.shape[:2]
        frames = bands.shape[-1]
        pad = -frames % 4
        x = self.stem(F.pad((bands + 1e-3).log().div(2).add(1.5), (0, pad)).unsqueeze(1))
        levels = [x]
        for down in self.down:
            levels.append(down(levels[-1]))
        levels = [level.repeat_interleave(sources, 0) for level in levels]
        features = F.pad(features.flatten(0, 1), (0, pad), "replicate")
        condition = self.context(self.normalise(features))
        x = self.bottom(levels.pop(), condition)
        for up, film in zip(self.up, self.film, strict=True):
            skip = levels.pop()
            x = F.interpolate(x, skip.shape[-2:], mode="nearest")
            x = film(up(torch.cat([x, skip], 1)), condition)
        return self.mask(x)[:, 0, :, :frames].unflatten(0, (batch, sources))

    def masks(self, logits: Tensor, linear_bins: int, bin_hz: float) -> Tensor:
        """Band logits to masks in [0, 1] on linear bins: ``[..., bins, N]`` to ``[..., F, N]``."""
        hz = torch.arange(linear_bins, device=logits.device) * bin_hz
        _, back = log_frequency_warp(hz, self.bins, self.highest)
        return back @ logits.sigmoid()
