"""Separation: how much nearer to the truth than the mixture, and how often each track is of the right source."""

from itertools import permutations

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from avlearn.metrics.metric_result import MetricResult

LIMIT = 100.0  # dB: a perfect or a silent estimate would make a mean infinite
_TIE = 1e-3  # dB: tracks that differ by rounding only are the same track


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., ICASSP 2019), means removed.

    Args:
        estimate, reference: ``[..., S]``, broadcast against each other.

    Returns:
        ``[...]`` dB within ± `LIMIT`; NaN where the reference is silent: there is no ratio.
    """
    estimate, reference = (
        x - x.mean(-1, keepdims=True) for x in (np.asarray(estimate, float), np.asarray(reference, float))
    )
    energy = np.square(reference).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (estimate * reference).sum(-1) / energy
        target = scale[..., None] * reference
        kept = np.square(target).sum(-1)
        ratio = 10 * np.log10(kept / np.square(estimate - target).sum(-1))
    ratio = np.where((kept == 0) | np.isnan(ratio), -LIMIT, np.clip(ratio, -LIMIT, LIMIT))
    return np.where(energy > 0, ratio, np.nan)


def _pairwise(estimates: np.ndarray, references: np.ndarray) -> np.ndarray:
    """SI-SDR of estimate k against reference j ``[N, K, K]``, items with a silent one left out."""
    estimates, references = np.asarray(estimates), np.asarray(references)
    if estimates.ndim != 3 or estimates.shape != references.shape:
        raise ValueError(f"estimates {estimates.shape} and references {references.shape}: both [N, K, S]")
    ratios: np.ndarray = si_sdr(estimates[:, :, None], references[:, None])
    ratios = ratios[~np.isnan(ratios).any((1, 2))]
    if not len(ratios):
        raise ValueError("separation: no item in which every reference sounds")
    return ratios


def _named(label: str, name: str) -> str:
    return f"{label}, {name}" if name else label


def si_sdr_improvement(
    estimates: np.ndarray,
    references: np.ndarray,
    mixture: np.ndarray,
    ideal: np.ndarray | None = None,
    name: str = "",
) -> MetricResult:
    """Mean SI-SDR of the tracks less that of the mixture.

    Chance hands the same tracks to the sources at random; the prior is the mixture itself.

    Args:
        estimates, references: ``[N, K, S]``. Items with a silent reference are left out.
        mixture: ``[N, S]``.
        ideal: ``[N, K, S]`` from `ideal_ratio_mask`, the oracle.
        name: of the kind of mixtures.
    """
    ratios = _pairwise(estimates, references)
    mixture = np.broadcast_to(np.asarray(mixture)[:, None], references.shape)
    base = float(np.einsum("nkk->nk", _pairwise(mixture, references)).mean())
    gain = float(np.einsum("nkk->nk", ratios).mean()) - base
    oracle = None
    if ideal is not None:
        oracle = float(np.einsum("nkk->nk", _pairwise(ideal, references)).mean()) - base
    return MetricResult(
        "separation", _named("SI-SDRi", name), gain, float(ratios.mean()) - base, 0.0, "mixture",
        oracle, len(ratios), "dB",
    )  # fmt: skip


def best_order_improvement(
    estimates: np.ndarray, references: np.ndarray, mixture: np.ndarray, name: str = ""
) -> MetricResult:
    """`si_sdr_improvement` of tracks that nothing says the sources of: each item's order is that which fits best.

    So the order is the truth's, which a network that sees nothing cannot know: the metric is one to compare with.

    Args:
        estimates, references: ``[N, K, S]``. Items with a silent reference are left out.
        mixture: ``[N, S]``.
        name: of the kind of mixtures.
    """
    ratios = _pairwise(estimates, references)
    sources = range(ratios.shape[1])
    best = np.stack([ratios[:, order, sources].mean(1) for order in permutations(sources)]).max(0)
    mixture = np.broadcast_to(np.asarray(mixture)[:, None], references.shape)
    base = float(np.einsum("nkk->nk", _pairwise(mixture, references)).mean())
    return MetricResult(
        "separation", _named("SI-SDRi", _named(name, "audio alone, in the best order").removeprefix(", ")),
        float(best.mean()) - base, None, 0.0, "mixture", None, len(ratios), "dB",
    )  # fmt: skip


def assignment_accuracy(estimates: np.ndarray, references: np.ndarray, name: str = "") -> MetricResult:
    """Share of items whose best order of the tracks is the given one; a tie counts as wrong.

    Args:
        estimates, references: ``[N, K, S]``, K at least 2. Items with a silent reference are left
            out.
        name: of the kind of mixtures.
    """
    ratios = _pairwise(estimates, references)
    sources = ratios.shape[1]
    if sources < 2:
        raise ValueError("assignment needs at least two sources")
    orders = list(permutations(range(sources)))  # the first one is the identity
    sums = np.stack([ratios[:, order, range(sources)].sum(1) for order in orders], 1)
    right = sums[:, 0] > sums[:, 1:].max(1) + _TIE
    # One track for all is always a tie: the prior gets nothing right.
    return MetricResult(
        "separation", _named("assignment", name), float(right.mean()), 1 / len(orders), 0.0,
        "the mixture for each", 1.0, len(ratios),
    )  # fmt: skip


def separation(
    estimates: np.ndarray, references: np.ndarray, ideal: np.ndarray | None, name: str
) -> list[MetricResult]:
    """Both metrics of sources that add up to their mixture.

    Args:
        estimates, references, ideal: ``[N, K, S]``, the model's, the truth, by ideal ratio masks.
        name: of the kind of mixtures.
    """
    mixture = np.sum(references, axis=1)
    return [
        si_sdr_improvement(estimates, references, mixture, ideal, name),
        assignment_accuracy(estimates, references, name),
    ]


def ideal_ratio_mask(references: np.ndarray, mixture: np.ndarray, window: int = 1024, hop: int = 256) -> np.ndarray:
    """What masks on magnitudes can do at best: each reference's share, with the mixture's phase.

    Args:
        references: ``[..., K, S]``.
        mixture: ``[..., S]``; what it holds beside the references has a share of its own.
        window, hop: of the Hann short-time Fourier transform, samples.

    Returns:
        ``[..., K, S]``.
    """
    references, mixture = np.asarray(references, float), np.asarray(mixture, float)
    stft = ShortTimeFFT(hann(window, sym=False), hop, fs=1.0)
    rest = mixture - references.sum(-2)
    shares = np.abs(stft.stft(references))
    whole = shares.sum(-3) + np.abs(stft.stft(rest))
    masks = shares / np.maximum(whole, 1e-12)[..., None, :, :]
    tracks: np.ndarray = stft.istft(masks * stft.stft(mixture)[..., None, :, :], k1=mixture.shape[-1])
    return tracks
