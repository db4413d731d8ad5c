"""Is a probability right? What is said beside what is found."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from avlearn.report.page import Page
from avlearn.report.plots import reliability_curve


def reliability(said: np.ndarray, right: np.ndarray, bins: Sequence[float], title: str, cases: str, out: Path) -> None:
    """Said beside found, in bins: printed, and as a page.

    Args:
        said: ``[N]`` probabilities.
        right: ``[N]`` whether it was so.
        bins: edges, from 0 to 1.
        title: of the page.
        cases: a sentence that says which these are, and what is right of them.
        out: the page.
    """
    print(f"  {cases}\n  said           cases   mean  right")
    rows = []
    for low, high in pairwise(bins):
        inside = (said >= low) & ((said < high) | (high == 1.0))
        if inside.any():
            rows.append((f"{low:4.2f} to {high:4.2f}", inside.sum(), said[inside].mean(), right[inside].mean()))
            print("  {}  {:6d}  {:5.3f}  {:5.3f}".format(*rows[-1]))
    counts, mean, found = (np.array([row[k] for row in rows]) for k in (1, 2, 3))
    gap = (np.abs(mean - found) * counts).sum() / counts.sum()
    errors = f"expected calibration error {gap:.4f}, Brier score {((said - right) ** 2).mean():.4f}"
    print(f"  {errors}")
    page = Page(title, f"{counts.sum()} cases that it was not fitted on: {errors}")
    page.section("Reliability", cases)
    page.image(reliability_curve(mean, found, counts), "Share that is right over what is said, with the cases of a bin")
    page.table([dict(zip(("said", "cases", "mean", "right"), row, strict=True)) for row in rows])
    print(f"  {page.save(out)}")
