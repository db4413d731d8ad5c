"""Losses of source separation: how far estimated masks and waveforms are from the true ones.

All losses are pairwise, so that one rule decides which estimate is whose: the video says so (`fixed_order`), or, where
there is none, the permutation that fits best (`best_order`).
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

    >>> sources = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1).to(torch.complex64)  # two sources, one cell
    >>> mask_targets("ratio", sources, sources.sum(1), lambda x: x).flatten()
    tensor([0.7500, 0.2500])
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
    """Weight of each cell of a mixture, by its loudness: silence has no right mask (Zhao et al., ECCV 2018).

    Args:
        bands: magnitudes ``[..., bins, N]``.

    Returns:
        ``[..., bins, N]``, 0.02 or more.

    >>> loudness_weights(torch.tensor([0.0, 1.0]))
    tensor([0.0200, 1.4063])
    """
    return (3 * bands).log1p() + 0.02


def mask_loss(kind: str, predicted: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over cells of each mask's loss at each target (Zhao et al., ECCV 2018).

    Args:
        kind: ``bce`` (binary cross-entropy) or ``l1``.
        predicted: logits ``[B, K, bins, N]``.
        targets: ``[B, J, bins, N]`` in [0, 1].
        weights: ``[B, bins, N]``.

    Returns:
        ``[B, K, J]``.

    >>> logits, weights = torch.tensor([-9.0, 9.0]).view(1, 2, 1, 1), torch.ones(1, 1, 1)
    >>> mask_loss("l1", logits, logits.sigmoid(), weights).round()
    tensor([[[0., 1.],
             [1., 0.]]])
    """
    predicted, targets = predicted.unsqueeze(2), targets.unsqueeze(1)
    shape = torch.broadcast_shapes(predicted.shape, targets.shape)
    if kind == "bce":
        loss = F.binary_cross_entropy_with_logits(predicted.expand(shape), targets.expand(shape), reduction="none")
    else:
        loss = (predicted.sigmoid() - targets).abs()
    weights = weights[:, None, None]
    return (loss * weights).mean((3, 4)) / weights.mean((3, 4))


def negative_snr(estimates: Tensor, sources: Tensor) -> Tensor:
    """Negative signal-to-noise ratio in dB, with a soft limit at about 30 dB (Wisdom et al., NeurIPS 2020).

    By the limit, what is good already does not outweigh the rest.

    Args:
        estimates: ``[B, K, S]``, S in samples.
        sources: ``[B, J, S]``.

    Returns:
        ``[B, K, J]``.

    >>> source = torch.ones(1, 1, 1000)
    >>> float(negative_snr(1.1 * source, source).round())  # an error 20 dB below
    -20.0
    """
    estimates, sources = estimates.unsqueeze(2), sources.unsqueeze(1)
    energy = sources.square().sum(3) + _FLOOR
    error = (estimates - sources).square().sum(3)
    return 10 * torch.log10(error / energy + _FLOOR)


def negative_si_sdr(estimates: Tensor, sources: Tensor) -> Tensor:
    """Negative scale-invariant ratio of signal and distortion in dB (Le Roux et al., ICASSP 2019).

    It leaves the level open; limited as `negative_snr` is.

    Args:
        estimates: ``[B, K, S]``, S in samples.
        sources: ``[B, J, S]``.

    Returns:
        ``[B, K, J]``.

    >>> source = torch.arange(1000.0).sin().view(1, 1, 1000)
    >>> float(negative_si_sdr(5 * source, source).round())
    -30.0
    """
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
        estimates, sources: ``[B, K, S]`` and ``[B, J, S]``, S in samples.

    Returns:
        ``[B, K, J]``.

    >>> source = torch.arange(4000.0).sin().view(1, 1, 4000)
    >>> float(spectral_distance(source, source)), bool(spectral_distance(0.1 * source, source) > 1)
    (0.0, True)
    """
    total = estimates.new_zeros(())
    for n_fft in _RESOLUTIONS:
        taper = torch.hann_window(n_fft, device=estimates.device)

        def magnitudes(audio: Tensor, n_fft: int = n_fft, taper: Tensor = taper) -> Tensor:
            flat = torch.stft(audio.flatten(0, 1), n_fft, n_fft // 4, window=taper, return_complex=True)
            # Of zero the magnitude has no derivative.
            found: Tensor = (flat.real.square() + flat.imag.square() + 1e-7).sqrt().unflatten(0, audio.shape[:2])
            return found

        found, true = magnitudes(estimates).unsqueeze(2), magnitudes(sources).unsqueeze(1)
        norm = true.square().sum((3, 4)).sqrt()
        convergence = (found - true).square().sum((3, 4)).sqrt() / norm.clamp(min=_FLOOR)
        total = total + convergence + (found.log() - true.log()).abs().mean((3, 4))
    return total / len(_RESOLUTIONS)


def fixed_order(pairwise: Tensor) -> Tensor:
    """Mean over sources where estimate k is of source k: ``[B, K, K]`` to ``[B]``.

    >>> fixed_order(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]))
    tensor([2.])
    """
    return pairwise.diagonal(dim1=1, dim2=2).mean(1)


def best_order(pairwise: Tensor) -> Tensor:
    """Mean over sources in the order in which it is least: ``[B, K, K]`` to ``[B]``.

    Permutation-invariant training (Yu et al., ICASSP 2017).

    >>> best_order(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]))
    tensor([0.])
    """
    sources = range(pairwise.shape[1])
    means = [pairwise[:, list(order), list(sources)].mean(1) for order in permutations(sources)]
    return torch.stack(means).amin(0)


WAVE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "snr": negative_snr,
    "si_sdr": negative_si_sdr,
    "multi_stft": spectral_distance,
}
