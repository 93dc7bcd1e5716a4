"""A bounded sample of rows of bits that does not depend on the order in which they came."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.scores import bits

_MIN_ROWS = 64  # rows for which memory is taken at first


class Reservoir:
    """Of all rows that were added, those with the smallest hashes.

    A uniform sample: which rows are kept depends neither on their order nor on how they were spread
    over machines, so reservoirs merge into what one stream would have left. At most twice the
    capacity is in memory, however many rows come.
    """

    def __init__(self, words: int, *, capacity: int, distinct: bool) -> None:
        """Start empty.

        Args:
            words: W, 64-bit words of a row.
            capacity: Rows kept at most, 0 for all.
            distinct: Keep equal rows once.
        """
        self._capacity = capacity
        self._distinct = distinct
        self._buffer = np.zeros((0, words), np.uint64)
        self._count = 0
        self._reduced = 0  # the first so many rows are what ``rows`` returned

    def add(self, rows: np.ndarray) -> None:
        """Add rows, uint64 (N, W)."""
        while len(rows):
            if self._count == len(self._buffer):
                self._make_room()
            taken = rows[: len(self._buffer) - self._count]
            self._buffer[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            rows = rows[len(taken) :]

    def merge(self, other: Reservoir) -> None:
        """Add the rows of ``other``, which stays as it is."""
        self.add(other._buffer[: other._count])

    def rows(self) -> np.ndarray:
        """Return what is kept, uint64 (P, W): distinct rows sorted, others by their hashes."""
        rows = self._buffer[: self._count]
        if self._reduced == self._count:  # nothing was added since: sorting is most of a merge
            return rows.copy()
        if self._distinct:
            rows = bits.distinct(rows)
            if not self._capacity or len(rows) <= self._capacity:
                return rows.copy()
            return rows[np.sort(self._smallest(rows))]
        return rows[self._smallest(rows)]

    def restore(self, rows: np.ndarray) -> None:
        """Begin again with what ``rows`` returned."""
        self._buffer, self._count, self._reduced = rows.copy(), len(rows), len(rows)

    @property
    def nbytes(self) -> int:
        """Return the memory that the rows take, in bytes."""
        return self._buffer.nbytes

    def _smallest(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of the rows that are kept, by rising hash."""
        order = np.argsort(bits.hashes(rows), kind='stable')
        return order[: self._capacity or None]

    def _make_room(self) -> None:
        reduces = self._count >= _MIN_ROWS
        kept = self.rows() if reduces else self._buffer[: self._count]
        size = len(self._buffer)
        # Where half of it was repetition or too much, the memory will do for long.
        if 2 * len(kept) > size or size < _MIN_ROWS:
            size = max(_MIN_ROWS, 2 * size)
            if self._capacity:
                size = min(size, max(_MIN_ROWS, 2 * self._capacity))
        buffer = np.empty((size, self._buffer.shape[1]), np.uint64)
        buffer[: len(kept)] = kept
        self._buffer, self._count = buffer, len(kept)
        if reduces:
            self._reduced = len(kept)
