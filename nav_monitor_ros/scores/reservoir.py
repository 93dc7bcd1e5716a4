"""A bounded sample of rows of bits that does not depend on their order."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.scores import bit_packing

_MIN_ROWS = 64  # rows that are allocated at first


class Reservoir:
    """Keeps, of all rows that are added, those with the smallest hashes.

    This is a uniform sample. It depends neither on the order of the rows nor on their distribution
    over machines, so merged reservoirs equal the reservoir of a single stream. Memory is bounded by
    twice the capacity.
    """

    def __init__(
        self, words: int, *, capacity: int, distinct: bool, hashed: int | None = None
    ) -> None:
        """Start empty.

        Args:
            words: Number W of 64-bit words per row.
            capacity: Largest number of rows kept, 0 for all.
            distinct: Keep equal rows once.
            hashed: Number of leading words that are hashed; None for all.
        """
        self._capacity = capacity
        self._distinct = distinct
        self._hashed = hashed
        self._buffer = np.zeros((0, words), np.uint64)
        self._count = 0
        self._reduced = 0  # number of leading rows that ``rows`` returned

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
        """Add the rows of ``other``, which is unchanged."""
        self.add(other._buffer[: other._count])

    def rows(self) -> np.ndarray:
        """Return the kept rows, uint64 (P, W): sorted if distinct, else by their hashes."""
        rows = self._buffer[: self._count]
        if self._reduced == self._count:  # nothing was added since: sorting is most of a merge
            return rows.copy()
        if self._distinct:
            rows = bit_packing.distinct(rows)
            if not self._capacity or len(rows) <= self._capacity:
                return rows.copy()
            return rows[np.sort(self._smallest(rows))]
        return rows[self._smallest(rows)]

    def restore(self, rows: np.ndarray) -> None:
        """Continue with rows returned by ``rows``."""
        self._buffer, self._count, self._reduced = rows.copy(), len(rows), len(rows)

    @property
    def nbytes(self) -> int:
        """Return the memory of the rows, bytes."""
        return self._buffer.nbytes

    def _smallest(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of the rows that are kept, by increasing hash."""
        order = np.argsort(bit_packing.hashes(rows[:, : self._hashed]), kind='stable')
        return order[: self._capacity or None]

    def _make_room(self) -> None:
        reduces = self._count >= _MIN_ROWS
        kept = self.rows() if reduces else self._buffer[: self._count]
        size = len(self._buffer)
        # If half of the rows could be dropped, the buffer is large enough.
        if 2 * len(kept) > size or size < _MIN_ROWS:
            size = max(_MIN_ROWS, 2 * size)
            if self._capacity:
                size = min(size, max(_MIN_ROWS, 2 * self._capacity))
        buffer = np.empty((size, self._buffer.shape[1]), np.uint64)
        buffer[: len(kept)] = kept
        self._buffer, self._count = buffer, len(kept)
        if reduces:
            self._reduced = len(kept)
