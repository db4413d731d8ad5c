"""BSS Eval, version 3: what of a track is its source, what another source, and what neither.

The source may have passed through any filter of 512 taps (Vincent, Gribonval & Févotte, IEEE TASLP 2006).
References with a band as empty as digital silence (a steep low-pass; lossy recordings are not) leave the filters
undetermined there: SDR stands, but SIR and SAR then depend on rounding by tenths of a dB, as in other programs.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import linear_sum_assignment

from avlearn.metrics.metric_result import MetricResult
from avlearn.metrics.separation import LIMIT

TAPS = 512


class BssEval(NamedTuple):
    """Ratios of the sources, ``[K]`` dB each, and ``order [K]``: the track that stands for each source."""

    sdr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray
    order: np.ndarray


def bss_eval(estimates: np.ndarray, references: np.ndarray, permute: bool = True) -> BssEval:
    """Source-to-distortion, -interference and -artifacts ratios of one mixture's tracks.

    A silent reference is no source: the others' ratios are as if it were not listed. Its own are `LIMIT`
    where its track is silent as well and -`LIMIT` where it is not. A silent track of a source that
    sounds gets -`LIMIT`. Nothing is NaN, and a mean over items is a fair one only without silent
    references, as in `bss_eval_metrics`.

    Args:
        estimates, references: ``[K, S]``, S in samples; no means are removed.
        permute: give the tracks to the sources in the order with the best mean SIR, else in the given one.

    Returns:
        Ratios within ± `LIMIT`.

    Raises:
        ValueError: the shapes differ or are not ``[K, S]``, or a sample is not finite.
    """
    estimates, references = np.asarray(estimates, float), np.asarray(references, float)
    if references.ndim != 2 or estimates.shape != references.shape:
        raise ValueError(f"estimates {estimates.shape} and references {references.shape}: both [K, S]")
    if not (np.isfinite(estimates).all() and np.isfinite(references).all()):
        raise ValueError("bss_eval: a sample is not finite")
    sdr, sir, sar = pairwise_bss_eval(estimates, references)
    order = np.arange(len(references))
    if permute:
        order = linear_sum_assignment(sir.T, maximize=True)[1]
    chosen = order, np.arange(len(references))
    return BssEval(sdr[chosen], sir[chosen], sar[chosen], order)


def pairwise_bss_eval(estimates: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SDR, SIR and SAR ``[E, K]`` dB of each of ``estimates [E, S]`` as each of ``references [K, S]``."""
    audible: np.ndarray = np.any(references, axis=1)
    silent: np.ndarray = ~np.any(estimates, axis=1)
    ratios = np.full((3, len(estimates), len(references)), -LIMIT)
    ratios[:, silent[:, None] & ~audible[None]] = LIMIT
    if audible.any() and not silent.all():
        ratios[np.ix_(np.arange(3), ~silent, audible)] = _ratios(estimates[~silent], references[audible])
    return ratios[0], ratios[1], ratios[2]


def _ratios(estimates: np.ndarray, references: np.ndarray) -> np.ndarray:
    """SDR, SIR, SAR ``[3, E, K]`` of tracks and references none of which is silent."""
    sources = len(references)
    size = next_fast_len(references.shape[1] + TAPS - 1, real=True)
    source, track = rfft(references, size), rfft(estimates, size)
    # Inner products of the delayed references with each other, [K, T, K, T], and with the tracks, [E, K, T].
    lags = np.arange(TAPS)[None] - np.arange(TAPS)[:, None]
    gram = irfft(source[:, None] * source.conj(), size)[:, :, lags].transpose(0, 2, 1, 3)
    seen = irfft(track[:, None] * source.conj(), size)[..., :TAPS]

    together = _solve(gram.reshape(sources * TAPS, -1), seen.reshape(len(seen), -1)).reshape(seen.shape)
    alone = np.stack([_solve(gram[k, :, k], seen[:, k]) for k in range(sources)], 1)
    by_all = np.einsum("ekf,kf->ef", rfft(together, size), source)[:, None]
    by_one = rfft(alone, size) * source
    track = track[:, None]

    target, sum_of_all = _energy(by_one, size), _energy(by_all, size)
    return np.stack(
        [
            _decibel(target, _energy(track - by_one, size)),
            _decibel(target, _energy(by_all - by_one, size)),
            np.broadcast_to(_decibel(sum_of_all, _energy(track - by_all, size)), target.shape),
        ]
    )


def _solve(gram: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Filters whose output is nearest to the tracks; references that span each other share the weight."""
    try:
        # Not Cholesky: audio without high frequencies makes rounding errors of the matrix indefinite.
        return np.linalg.solve(gram, seen.T).T
    except np.linalg.LinAlgError:
        nearest: np.ndarray = np.linalg.lstsq(gram, seen.T)[0].T
        return nearest


def _energy(spectrum: np.ndarray, size: int) -> np.ndarray:
    """Energy of the real signal of ``size`` samples behind a half spectrum ``[..., F]``, times ``size``."""
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    once = power[..., 0] + (power[..., -1] if size % 2 == 0 else 0)
    energy: np.ndarray = 2 * power.sum(-1) - once
    return energy


def _decibel(kept: np.ndarray, lost: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(kept / lost)
    return np.where(kept == 0, -LIMIT, np.clip(ratio, -LIMIT, LIMIT))


def bss_eval_metrics(estimates: np.ndarray, references: np.ndarray, name: str = "") -> list[MetricResult]:
    """Mean SDR, SIR and SAR, tracks in the given order.

    Chance hands the same tracks to the sources at random; the prior is the sum of the references.

    Args:
        estimates, references: ``[N, K, S]``. Items with a silent reference are left out.
        name: of the kind of mixtures.

    Raises:
        ValueError: the shapes differ, or no item is left.
    """
    estimates, references = np.asarray(estimates, float), np.asarray(references, float)
    if references.ndim != 3 or estimates.shape != references.shape:
        raise ValueError(f"estimates {estimates.shape} and references {references.shape}: both [N, K, S]")
    audible: np.ndarray = np.any(references, axis=2)
    kept = audible.all(1)
    if not kept.any():
        raise ValueError("bss_eval: no item in which every reference sounds")
    pairs = [
        pairwise_bss_eval(np.concatenate([tracks, truth.sum(0, keepdims=True)]), truth)
        for tracks, truth in zip(estimates[kept], references[kept], strict=True)
    ]
    metrics = []
    for label, ratios in zip(("SDR", "SIR", "SAR"), np.stack(pairs, 1), strict=True):  # [n, K + 1, K]
        straight = float(np.einsum("nkk->nk", ratios[:, :-1]).mean())
        metrics.append(
            MetricResult(
                "separation", f"{label}, {name}".removesuffix(", "), straight, float(ratios[:, :-1].mean()),
                float(ratios[:, -1].mean()), "mixture", None, len(ratios), "dB",
            )
        )  # fmt: skip
    return metrics
