"""How far are the sources that were separated from the true ones?

All losses are pairwise, so that one rule decides which estimate is whose: the picture says so, or, where there is
none, the order that fits best (`best_order`).
"""

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 1e-3  # energy of a stem, and share of it that an error may keep: 30 dB are good enough
_RESOLUTIONS = (512, 1024, 2048)  # samples


def mask_targets(kind: str, sources: Tensor, mixture: Tensor, bands: Callable[[Tensor], Tensor]) -> Tensor:
    """The ideal masks that a network's own are held to.

    ``ratio``: a source's share of the sum of magnitudes; ``binary``: 1 where no other is louder (both as in Zhao et
    al., ECCV 2018, for any number of sources); ``phase_sensitive``: of the mixture what points the source's way, cut to
    [0, 1] (Erdogan et al., ICASSP 2015).

    Args:
        kind: of the mask.
        sources: complex ``[B, K, F, N]``, all that the mixture holds.
        mixture: complex ``[B, F, N]``.
        bands: brings ``[..., F, N]`` to the network's ``[..., bins, N]``.

    Returns:
        ``[B, K, bins, N]`` in [0, 1].
    """
    mixture = mixture.unsqueeze(1)
    if kind == "phase_sensitive":
        projected = bands((sources * mixture.conj()).real)
        return (projected / bands(mixture.abs().square()).clamp(min=1e-8)).clamp(0, 1)
    loud = bands(sources.abs())
    if kind == "binary":
        return (loud >= loud.amax(1, keepdim=True)).to(loud)
    return loud / loud.sum(1, keepdim=True).clamp(min=1e-6)


def loudness_weights(bands: Tensor) -> Tensor:
    """Of each cell of a mixture's ``bands``, by its loudness: what is silent has no right mask (Zhao et al., 2018)."""
    return (3 * bands).log1p() + 0.02


def mask_loss(kind: str, found: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over cells, of each mask to each target.

    Args:
        kind: ``bce`` (binary cross-entropy) or ``l1``.
        found: logits ``[B, K, bins, N]``.
        targets: ``[B, J, bins, N]`` in [0, 1].
        weights: ``[B, bins, N]``.

    Returns:
        ``[B, K, J]``.
    """
    found, targets = found.unsqueeze(2), targets.unsqueeze(1)
    shape = torch.broadcast_shapes(found.shape, targets.shape)
    if kind == "bce":
        loss = F.binary_cross_entropy_with_logits(found.expand(shape), targets.expand(shape), reduction="none")
    else:
        loss = (found.sigmoid() - targets).abs()
    weights = weights[:, None, None]
    return (loss * weights).mean((3, 4)) / weights.mean((3, 4))


def negative_snr(estimates: Tensor, sources: Tensor) -> Tensor:
    """Less the ratio of signal and error in dB, at most about 30: ``[B, K, S]`` and ``[B, J, S]`` to ``[B, K, J]``.

    The soft limit is that of Wisdom et al. (NeurIPS 2020): what is good already does not outweigh the rest.
    """
    estimates, sources = estimates.unsqueeze(2), sources.unsqueeze(1)
    energy = sources.square().sum(3) + _FLOOR
    error = (estimates - sources).square().sum(3)
    return 10 * torch.log10(error / energy + _FLOOR)


def negative_si_sdr(estimates: Tensor, sources: Tensor) -> Tensor:
    """The same of the scale-invariant ratio (Le Roux et al., ICASSP 2019), which leaves the level open."""
    estimates = (estimates - estimates.mean(2, keepdim=True)).unsqueeze(2)
    sources = (sources - sources.mean(2, keepdim=True)).unsqueeze(1)
    energy = sources.square().sum(3, keepdim=True) + _FLOOR
    projected = (estimates * sources).sum(3, keepdim=True) / energy * sources
    kept = projected.square().sum(3)
    error = (estimates - projected).square().sum(3)
    return 10 * torch.log10(error / (kept + 1e-8) + _FLOOR)


def spectral_distance(estimates: Tensor, sources: Tensor) -> Tensor:
    """Spectral convergence and log magnitudes at several resolutions (Yamamoto et al., ICASSP 2020).

    Args:
        estimates, sources: ``[B, K, S]`` and ``[B, J, S]``.

    Returns:
        ``[B, K, J]``.
    """
    total = 0.0
    for n_fft in _RESOLUTIONS:
        taper = torch.hann_window(n_fft, device=estimates.device)

        def magnitudes(audio: Tensor, n_fft: int = n_fft, taper: Tensor = taper) -> Tensor:
            flat = torch.stft(audio.flatten(0, 1), n_fft, n_fft // 4, window=taper, return_complex=True)
            # Of zero the magnitude has no derivative.
            return (flat.real.square() + flat.imag.square() + 1e-7).sqrt().unflatten(0, audio.shape[:2])

        found, true = magnitudes(estimates).unsqueeze(2), magnitudes(sources).unsqueeze(1)
        norm = true.square().sum((3, 4)).sqrt()
        convergence = (found - true).square().sum((3, 4)).sqrt() / norm.clamp(min=_FLOOR)
        total = total + convergence + (found.log() - true.log()).abs().mean((3, 4))
    return total / len(_RESOLUTIONS)


def own_order(pairwise: Tensor) -> Tensor:
    """The mean over sources where estimate k is of source k: ``[B, K, K]`` to ``[B]``."""
    return pairwise.diagonal(dim1=1, dim2=2).mean(1)


def best_order(pairwise: Tensor) -> Tensor:
    """The same in whichever order it is least, permutation invariant (Yu et al., ICASSP 2017)."""
    sources = range(pairwise.shape[1])
    means = [pairwise[:, list(order), list(sources)].mean(1) for order in permutations(sources)]
    return torch.stack(means).amin(0)


WAVE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "snr": negative_snr,
    "si_sdr": negative_si_sdr,
    "multi_stft": spectral_distance,
}
