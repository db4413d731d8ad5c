"""Separation: how much nearer to the truth than the mixture?"""

import numpy as np

from avlearn.metrics.figure import Figure


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., ICASSP 2019) over the last axis."""
    estimate = estimate - estimate.mean(-1, keepdims=True)
    reference = reference - reference.mean(-1, keepdims=True)
    scale = (estimate * reference).sum(-1, keepdims=True) / (
        np.square(reference).sum(-1, keepdims=True) + 1e-12
    )
    target = scale * reference
    rest = np.square(estimate - target).sum(-1)
    return 10 * np.log10((np.square(target).sum(-1) + 1e-12) / (rest + 1e-12))


def separation(
    estimates: np.ndarray, references: np.ndarray, ideal: np.ndarray, name: str
) -> list[Figure]:
    """Improvement over the mixture, and whether tracks go to the right source.

    Args:
        estimates, references, ideal: ``[N, 2, S]``: the model's, the truth, and by ideal ratio masks.
        name: of the kind of mixtures.
    """
    mixture = references.sum(1, keepdims=True)
    base = si_sdr(mixture, references)
    straight = si_sdr(estimates, references).mean(1)
    crossed = si_sdr(estimates[:, ::-1], references).mean(1)
    gain = (si_sdr(estimates, references) - base).mean()
    oracle = (si_sdr(ideal, references) - base).mean()
    n = len(estimates)
    return [
        Figure("separation", f"SI-SDRi, {name}", float(gain), 0.0, 0.0, "mixture", float(oracle), n, "dB"),
        Figure("separation", f"assignment, {name}", float((straight > crossed).mean()), 0.5, 0.5, "same mask", 1.0, n),
    ]  # fmt: skip
