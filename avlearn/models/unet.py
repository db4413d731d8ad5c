"""The separation network: a U-Net over the mixture's spectrogram, conditioned on visual features over time."""

from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avlearn.config import Separator

_STRIDES = ((2, 2), (2, 2), (2, 1), (2, 1))  # frequency, time
_PATCH = 2  # bins, and frames, that the first convolution makes one of
_LOWEST_HZ = 60.0
_MAPS = 16  # of the conditioning ``product``
_REACH = 2.0  # largest part of a complex mask


@lru_cache(maxsize=8)
def log_frequency_warp(linear: int, bin_hz: float, bins: int, highest: float) -> tuple[Tensor, Tensor]:
    """Matrices between linear frequencies and ``bins`` bands of equal ratio (linear below 60 Hz steps).

    Args:
        linear, bin_hz: number of linear bins, and how far they are apart.
        bins: number of bands.
        highest: Hz of the last band's centre.

    Returns:
        ``[bins, F]`` whose rows average a band, and ``[F, bins]`` that interpolates back.
    """
    hz = torch.arange(linear) * bin_hz
    position = (hz.clamp(0, highest) / _LOWEST_HZ + 1).log() / torch.tensor(highest / _LOWEST_HZ + 1).log()
    position = position * (bins - 1)
    band = torch.arange(bins)
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
    # In single precision the clock of a long file would drift.
    at = (torch.arange(frames, dtype=torch.float64, device=features.device) * (hop / step)).clamp(max=last)
    low = at.floor().long()
    share = (at - low).to(features)
    return features[..., low] * (1 - share) + features[..., (low + 1).clamp(max=last)] * share


class _Film(nn.Module):
    """Scale and shift of every channel at every time from the condition."""

    def __init__(self, condition: int, channels: int):
        super().__init__()
        self.project = nn.Conv1d(condition, 2 * channels, 1)
        for parameter in self.project.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[B, C, F, N]`` and ``[B, D, k N]``: strided frame n lies on frame k n of the condition."""
        stride = condition.shape[-1] // x.shape[-1]
        film = self.project(condition[..., ::stride]).unsqueeze(2)
        scale, shift = film.chunk(2, 1)
        return x * (1 + scale) + shift


class _Join(nn.Module):
    """The condition as further channels, the same at every frequency."""

    def __init__(self, condition: int, channels: int):
        super().__init__()
        self.mix = _block(condition + channels, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``[B, C, F, N]`` and ``[B, D, k N]``."""
        stride = condition.shape[-1] // x.shape[-1]
        tiled = condition[..., ::stride].unsqueeze(2).expand(-1, -1, x.shape[2], -1)
        return self.mix(torch.cat([x, tiled], 1))


def _block(inputs: int, outputs: int, stride: tuple[int, int] = (1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


class MaskUNet(nn.Module):
    """Masks for the sources that are seen.

    The encoder sees the mixture once; the decoder runs for every source, led by the features of its place in the
    video over time and, where others are asked for in the same mixture, by what is seen of them: what moves with
    another's audio is not its own. Bins and frames enter and leave in patches of two by two, so that masks are fine
    where the network, for speed, is not.

    Args:
        features: channels of the visual features.
        config: what it is like.
        highest: Hz of the top bin.
        bin_hz: of the transform at the training's sample rate.
    """

    def __init__(self, features: int, config: Separator, highest: float, bin_hz: float):
        super().__init__()
        channels = config.channels
        self.config, self.highest = config, highest
        self.bins = config.bins if config.scale == "log" else round(highest / bin_hz)
        self.normalise = nn.BatchNorm1d(features, affine=False)
        condition = 2 * channels[2]
        self.context = nn.Sequential(
            nn.Conv1d(features, condition, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv1d(condition, condition, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.other_sources = nn.Conv1d(condition, condition, 1)
        for parameter in self.other_sources.parameters():
            nn.init.zeros_(parameter)
        planes = 3 if config.mask == "complex" else 1
        self.scale_in = nn.BatchNorm2d(planes)
        self.stem = nn.Sequential(
            nn.Conv2d(planes, channels[0], _PATCH + 2, _PATCH, 1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.LeakyReLU(0.2, inplace=True),
            _block(channels[0], channels[0]),
        )
        self.down = nn.ModuleList(_block(channels[i], channels[i + 1], stride) for i, stride in enumerate(_STRIDES))
        levels = list(reversed(range(len(_STRIDES))))
        self.up = nn.ModuleList(_block(channels[i + 1] + channels[i], channels[i]) for i in levels)
        self.film = nn.ModuleList()
        if config.conditioning in ("film", "none"):
            self.bottom: nn.Module = _Film(condition, channels[-1])
            self.film.extend(_Film(condition, channels[i]) for i in levels)
        elif config.conditioning == "bottleneck":
            self.bottom = _Join(condition, channels[-1])
        self.planes = 2 if config.mask == "complex" else 1
        maps = _MAPS if config.conditioning == "product" else 1
        self.mask = nn.ConvTranspose2d(channels[0], self.planes * maps, _PATCH + 2, _PATCH, 1)
        if config.conditioning == "product":
            self.weigh = nn.Conv1d(condition, maps, 1)
        if config.conditioning == "none":
            self.queries = nn.Parameter(torch.randn(config.sources, features, 1))

    @property
    def stride(self) -> int:
        """Frames of the transform in a step of the bottom."""
        return _PATCH * prod(time for _, time in _STRIDES)

    def bands(self, values: Tensor, bin_hz: float) -> Tensor:
        """A transform's bins to the network's: ``[..., F, N]`` to ``[..., bins, N]``, averaged where they are bands."""
        if self.config.scale == "log":
            there, _ = log_frequency_warp(values.shape[-2], bin_hz, self.bins, self.highest)
            return there.to(values) @ values
        return F.pad(values, (0, 0, 0, max(self.bins - values.shape[-2], 0)))[..., : self.bins, :]

    def forward(self, spectrum: Tensor, bin_hz: float, features: Tensor | None, alone: Tensor | None = None) -> Tensor:
        """What becomes of the mixture's bins, see `masks`.

        Args:
            spectrum: complex ``[B, F, N]`` of the mixture.
            bin_hz: of its bins.
            features: ``[B, K, D, N]`` visual features of K sources at the instants of the N frames (see `at_frames`);
                None for the conditioning ``none``.
            alone: bool ``[B]``, mixtures whose sources are not to know of each other.

        Returns:
            ``[B, K, 1 or 2, bins, N]``.
        """
        batch, frames = len(spectrum), spectrum.shape[-1]
        pad = -frames % self.stride
        x = self.stem(self.scale_in(F.pad(self._planes(spectrum, bin_hz), (0, pad))))
        condition = self._condition(batch, frames + pad, features, alone)
        levels = [x]
        for down in self.down:
            levels.append(down(levels[-1]))
        if self.config.conditioning == "product":
            maps = self.mask(self._decode(levels, None)).unflatten(1, (self.planes, -1))
            weights = self.weigh(condition.flatten(0, 1)).sigmoid().unflatten(0, (batch, -1))
            weights = weights.repeat_interleave(_PATCH, -1)
            return torch.einsum("bpmfn,bkmn->bkpfn", maps, weights)[..., :frames]
        levels = [level.repeat_interleave(condition.shape[1], 0) for level in levels]
        found = self.mask(self._decode(levels, condition.flatten(0, 1)))
        return found[..., :frames].unflatten(0, (batch, -1))

    def _planes(self, spectrum: Tensor, bin_hz: float) -> Tensor:
        """What the network sees of the mixture: ``[B, 1 or 3, bins, N]``."""
        magnitude = self.bands(spectrum.abs(), bin_hz)
        loudness = (magnitude + 1e-3).log()
        if self.config.mask != "complex":
            return loudness.unsqueeze(1)
        # The phase, on waves whose loudness is compressed as an ear does.
        wave = self.bands(spectrum, bin_hz) / (magnitude + 1e-5) ** 0.7
        return torch.stack([loudness, wave.real, wave.imag], 1)

    def _condition(self, batch: int, frames: int, features: Tensor | None, alone: Tensor | None) -> Tensor:
        """``[B, K, D, N / patch]``: what is seen of each source, and of the others."""
        if features is None or self.config.conditioning == "none":
            queries = self.queries.expand(batch, -1, -1, frames // _PATCH)
            found = self.context(queries.flatten(0, 1)).unflatten(0, (batch, -1))
        else:
            features = F.pad(features.flatten(0, 1), (0, frames - features.shape[-1]), "replicate")[..., ::_PATCH]
            found = self.context(self.normalise(features)).unflatten(0, (batch, -1))
        others = found.sum(1, keepdim=True) - found
        if alone is not None:
            others = others * ~alone[:, None, None, None]
        return found + self.other_sources(others.flatten(0, 1)).unflatten(0, (batch, -1))

    def _decode(self, levels: list[Tensor], condition: Tensor | None) -> Tensor:
        x = levels[-1]
        if condition is not None:
            x = self.bottom(x, condition)
        for k, up in enumerate(self.up):
            skip = levels[-2 - k]
            x = up(torch.cat([F.interpolate(x, skip.shape[-2:], mode="nearest"), skip], 1))
            if self.film:
                x = self.film[k](x, condition)
        return x

    def masks(self, found: Tensor, linear_bins: int, bin_hz: float) -> Tensor:
        """Masks for a transform's bins of what `forward` found: ``[B, K, F, N]``, in [0, 1] or complex.

        Bins above the highest that the network knows get its mask.
        """
        if self.config.mask == "complex":
            real, imaginary = (_REACH * (part / _REACH).tanh() for part in found.unbind(2))
            mask = torch.complex(real + 0.5, imaginary)
        else:
            mask = found.squeeze(2).sigmoid()
            if self.config.mask == "binary" and not self.training:
                mask = (mask > 0.5).to(mask)
        if self.config.scale == "log":
            return log_frequency_warp(linear_bins, bin_hz, self.bins, self.highest)[1].to(mask) @ mask
        return mask[..., torch.arange(linear_bins, device=mask.device).clamp(max=self.bins - 1), :]
