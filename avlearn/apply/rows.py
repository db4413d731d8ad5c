"""Rows that are kept along a file of any length, in one block of memory."""

import numpy as np
from numpy.typing import ArrayLike

_FEWEST = 64  # rows for which there is room at first


class Rows:
    """Rows ``[N, ...]`` of one shape and type that come few at a time, in one block that grows where it lies.

    Small arrays that are kept one by one lie between the large ones that are made and freed meanwhile, and no memory
    between them is ever given back: a process would grow by a multiple of what it keeps.

    >>> rows = Rows()
    >>> rows.extend(np.zeros((2, 3)))
    >>> rows.append(np.ones(3))
    >>> rows.array().shape
    (3, 3)
    """

    def __init__(self) -> None:
        self._block, self._count, self._shared = np.zeros(0), 0, False

    def __len__(self) -> int:
        return self._count

    def append(self, row: ArrayLike) -> None:
        """Add one."""
        self.extend(np.asarray(row)[None])

    def extend(self, rows: np.ndarray) -> None:
        """Add ``[n, ...]``."""
        count = self._count + len(rows)
        if not self._block.size:
            self._block = np.zeros((max(count, _FEWEST), *rows.shape[1:]), rows.dtype)
        elif count > len(self._block):
            if self._shared:  # a view would be left without its memory
                self._block, self._shared = self._block.copy(), False
            # By an eighth: few moves, and little room that is not used.
            self._block.resize((max(count, len(self._block) * 9 // 8), *self._block.shape[1:]), refcheck=False)
        self._block[self._count : count] = rows
        self._count = count

    def cut(self, count: int) -> None:
        """Forget all but the first ``count``."""
        self._count = min(self._count, count)

    def array(self) -> np.ndarray:
        """All of them, without a copy. Room for more is given back."""
        if not self._shared:
            self._block.resize((self._count, *self._block.shape[1:]), refcheck=False)
            self._shared = True
        return self._block[: self._count]
