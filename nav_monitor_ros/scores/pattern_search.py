"""Exact search for the nearest of very many bit patterns, without comparing most of them."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import combinations

import numpy as np

from nav_monitor_ros.scores import bit_packing

MIN_INDEXED = 50_000  # patterns; comparing all is as fast for fewer
CODE = 16  # bits of a sub-code
_VALUES = 1 << CODE
_BITS = (1 << np.arange(CODE)).astype(np.uint16)
_PAIRS = np.array(list(combinations(_BITS.tolist(), 2))).sum(axis=1).astype(np.uint16)
_FLIPS = (np.zeros(1, np.uint16), _BITS, _PAIRS)  # XOR of sub-codes that differ by r bits
_LOOKUP_COST = 24  # cost of looking a pattern up, in sequential comparisons
_BLOCK = 1 << 15  # patterns whose words fit the cache
_MIN_THREADED = 1 << 17  # patterns below which threads cost more than they save
_MAX_THREADS = 4

_log = logging.getLogger(__name__)


class PatternSearch:
    """Finds the nearest of the patterns of one class, by multi-index hashing.

    Patterns are divided into m sub-codes of 16 bits, and a table per sub-code lists the patterns
    with each value. Patterns that share a sub-code with the query are looked up first, then those
    with one of the first k sub-codes different in a single bit, then in two. A pattern that has not
    been found by then has k sub-codes that differ in more than r bits, and m - k in more than
    r - 1: its distance is at least m * r + k. k is the smallest number that excludes all such
    patterns, given the best one so far. If too many patterns share a sub-code, or the nearest is
    too far away for the tables to pay off, all patterns are compared.

    The result is always exact. Queries near a stored pattern are fast; others take the time to read
    all patterns. Memory: four bytes per pattern and sub-code, and 256 kB per sub-code, about twice
    the memory of the patterns.
    Source: Norouzi, Punjani and Fleet, Fast exact search in Hamming space with multi-index
    hashing, TPAMI 2014.
    """

    def __init__(self, rows: np.ndarray, width: int) -> None:
        """Build the tables.

        Args:
            rows: uint64 (P, words), packed patterns of one class; a reference is kept.
            width: Bits of a pattern.
        """
        self._rows = rows
        self._columns = np.ascontiguousarray(rows.T)
        self._places: list[int] = []  # indices of selective sub-codes, the best first
        orders, starts = [], []
        codes = _codes(rows)
        counts = [np.bincount(codes[:, place], minlength=_VALUES) for place in range(width // CODE)]
        # Mean number of patterns that share the sub-code of a stored pattern.
        shared = [float(np.square(c, dtype=np.float64).sum()) / len(rows) for c in counts]
        for place in np.argsort(shared, kind='stable').tolist():
            if shared[place] * len(counts) * _LOOKUP_COST > len(rows):
                break
            self._places.append(place)
            code = np.ascontiguousarray(codes[:, place])
            orders.append(np.argsort(code, kind='stable').astype(np.uint32))
            starts.append(np.concatenate([[0], np.cumsum(counts[place])]).astype(np.uint32))
        self._orders = np.concatenate(orders) if orders else np.zeros(0, np.uint32)
        self._starts = np.concatenate(starts) if starts else np.zeros(0, np.uint32)

    @property
    def nbytes(self) -> int:
        """Return the memory of the search without the patterns, in bytes."""
        return self._orders.nbytes + self._starts.nbytes + self._columns.nbytes

    def nearest(self, query: np.ndarray) -> tuple[int, int]:
        """Return the row of the nearest pattern, the first of several, and its distance.

        Args:
            query: uint64 (words,).
        """
        tables = len(self._places)
        best: tuple[int, int] | None = None  # distance and row
        for radius, flips in enumerate(_FLIPS):
            needed = tables if best is None else best[0] - tables * radius + 1
            candidates = self._candidates(query, min(tables, needed), flips)
            if candidates is None:
                break
            if len(candidates):
                distances = bit_packing.popcount(self._rows[candidates] ^ query)
                smallest = int(distances.min())
                found = smallest, int(candidates[distances == smallest].min())
                best = found if best is None else min(best, found)
            if best is not None and best[0] < tables * radius + min(tables, needed):
                return best[::-1]
        return self._compare_all(query)

    def _candidates(self, query: np.ndarray, tables: int, flips: np.ndarray) -> np.ndarray | None:
        """Return the rows that match one of the first sub-codes, flipped; None if too many do."""
        codes = _codes(query[None])[0, self._places[:tables]]
        values = (codes[:, None] ^ flips).astype(np.int64)
        places = (np.arange(tables)[:, None] * (_VALUES + 1) + values).ravel()
        first = self._starts[places].astype(np.int64)
        counts = self._starts[places + 1] - first
        total = int(counts.sum())
        if not tables or total * _LOOKUP_COST > len(self._rows):
            return None
        # Positions first, first + 1, ... of each run, concatenated.
        begin = first + np.repeat(np.arange(tables), len(flips)) * len(self._rows)
        before = np.cumsum(counts) - counts
        return self._orders[np.repeat(begin - before, counts) + np.arange(total)]

    def _compare_all(self, query: np.ndarray) -> tuple[int, int]:
        if _faiss() is None:
            return self._compare_columns(query)
        count = len(self._rows)
        threads = min(_MAX_THREADS, os.cpu_count() or 1) if count >= _MIN_THREADED else 1
        edges = np.linspace(0, count, threads + 1).astype(int).tolist()
        parts = zip(edges[:-1], edges[1:], strict=True)
        found = _pool().map(lambda part: self._compare_rows(query, *part), parts)
        return min(found, key=lambda row_distance: row_distance[::-1])

    def _compare_rows(self, query: np.ndarray, start: int, stop: int) -> tuple[int, int]:
        distance, row = _faiss().knn_hamming(
            query[None].view(np.uint8), self._rows[start:stop].view(np.uint8), 1)
        return start + int(row[0, 0]), int(distance[0, 0])

    def _compare_columns(self, query: np.ndarray) -> tuple[int, int]:
        best = (0, np.iinfo(np.int64).max)
        for start in range(0, len(self._rows), _BLOCK):
            distances = bit_packing.distances(self._columns[:, start : start + _BLOCK], query)
            row = int(distances.argmin())
            if distances[row] < best[1]:
                best = (start + row, int(distances[row]))
        return best


def _codes(rows: np.ndarray) -> np.ndarray:
    """Return the sub-codes of packed patterns (N, words), uint16 (N, 4 * words)."""
    return np.ascontiguousarray(rows).astype('<u8', copy=False).view('<u2')


@lru_cache(maxsize=1)
def _faiss():
    """Return faiss, whose comparison of all patterns is faster than numpy's, or None."""
    try:
        import faiss
    except (ImportError, AttributeError):  # the latter where it was built for another numpy
        _log.info('faiss is not installed; numpy compares patterns when all are compared')
        return None
    return faiss


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return threads in which OpenMP is limited to one thread, for faiss but not for torch."""
    return ThreadPoolExecutor(
        _MAX_THREADS, 'nav_monitor patterns', lambda: _faiss().omp_set_num_threads(1)
    )
