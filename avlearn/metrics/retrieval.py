"""Retrieval: which of the clips' sounds belongs to this picture, and the other way round."""

import numpy as np

from avlearn.metrics.figure import Figure


def recall_at(similarity: np.ndarray, k: int) -> list[Figure]:
    """Recall at k both ways; ``similarity [N, N]``, pictures in rows, the true pairs on the diagonal."""
    n = len(similarity)
    figures = []
    for name, matrix in (("sound by picture", similarity), ("picture by sound", similarity.T)):
        rank = (matrix > np.diag(matrix)[:, None]).sum(1)
        figures.append(
            Figure("retrieval", f"R@{k} of {n}, {name}", float((rank < k).mean()), k / n, k / n, "any", 1.0, n)
        )  # fmt: skip
    return figures
