"""Time to find the nearest of very many patterns, relative to other ways of storing them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing, time_calls
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.scores.bit_packing import distances, pack
from nav_monitor_ros.scores.pattern_search import PatternSearch

NEAR = (0, 16, 31, 48, 63)  # bits in which queries differ from a stored pattern
FAR = 'unlike any stored pattern'
_BDD_SIZES = ((16, 100), (32, 100), (32, 300), (64, 100))  # neurons, patterns
_BDD_LIMIT = 10.0  # seconds after which the construction of a BDD is aborted
_FLOAT_BANKS = (10_000, 100_000)  # float features in the banks of neighbours


def patterns_benchmark(
    *,
    patterns: int = 1_000_000,
    bits: int = 512,
    queries: int = 200,
    others: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Time the search for the nearest pattern, with exact distances.

    The patterns are drawn by coin toss, all of one class: nothing makes them easier to tell apart
    by tables, and nothing harder to compare: a query that is near none of them costs as much as
    reading them all, which is timed, too. Queries are stored patterns with some bits changed,
    and coin tosses. In the same run: comparing all of them with numpy, a BDD that holds patterns
    (``dd``, small sizes), and the nearest of float features (scikit-learn, faiss), where those are
    installed.

    Args:
        patterns: Of the class.
        bits: Of a pattern, at least 32.
        queries: Timed of each kind.
        others: 1 measures BDDs and float neighbours, too.
        progress: Callback for the progress of the work.

    Returns:
        Ratios are to comparing all with numpy.

    Raises:
        NavMonitorError: A size is too small, or a distance is not exact.
    """
    if patterns < 1 or bits < 32 or queries < 1:
        raise NavMonitorError('at least 1 pattern of 32 bits and 1 query')
    rng = np.random.default_rng(0)
    words = -(-bits // 64)
    rows = rng.integers(0, 2**64, (patterns, words), np.uint64)
    rows &= _mask(bits)
    progress('building the tables', 0, 1)
    begin = time.perf_counter()
    search = PatternSearch(rows, bits)
    built = time.perf_counter() - begin
    columns = np.ascontiguousarray(rows.T)
    kinds = {f'{flips} bits from a stored pattern': flips for flips in NEAR}
    asked = {
        name: [_flipped(rows[rng.integers(patterns)], bits, flips, rng) for _ in range(queries)]
        for name, flips in kinds.items()
    }
    asked[FAR] = list(rng.integers(0, 2**64, (queries, words), np.uint64) & _mask(bits))
    progress('comparing all', 0, 1)
    few = asked[FAR][: max(1, min(queries, 30))]
    all_compared = time_calls(lambda query: distances(columns, query).min(), few, warm=2)
    reference = float(np.median(all_compared))
    reading = time_calls(lambda _: rows.sum(), [None] * len(few), warm=2)
    timed = {
        f'comparing all {patterns} with numpy': Timing.of(all_compared),
        f'only reading all {patterns} from memory, {rows.nbytes / 1e6:.0f} MB':
            Timing.of(reading, reference),
    }
    for number, (name, some) in enumerate(asked.items()):
        progress('searching', number, len(asked))
        _require_exact(search, columns, some[:3])
        timed[f'search, query {name}'] = Timing.of(
            time_calls(search.nearest, some, warm=3), reference)
    near = [timing for name, timing in timed.items() if 'from a stored' in name]
    details: dict[str, Any] = {'build_seconds': built, 'memory_mb': search.nbytes / 1e6}
    if others:
        progress('BDDs', 0, 1)
        details['bdd'] = _bdds(rng)
    for bank in _FLOAT_BANKS if others else ():
        progress('float neighbours', bank, _FLOAT_BANKS[-1])
        for name, times in _float_neighbours(bank, bits, rng).items():
            timed[f'{name}, nearest of {bank} float features'] = Timing.of(times, reference)
    return Result(
        'patterns', f'The nearest of {patterns} patterns of {bits} bits',
        {'patterns': patterns, 'bits': bits, 'queries': queries, 'others': others},
        'comparing all with numpy', timed,
        {
            'near_query_ms': Figure(max(t.median_ms for t in near), 'lower', 'ms', 2.0),
            'near_query_p99_ms': Figure(max(t.p99_ms for t in near), 'lower', 'ms'),
            'far_query_ms': Figure(timed[f'search, query {FAR}'].median_ms, 'lower', 'ms', 2.0),
            'build_s': Figure(built, 'lower', 's'),
            'memory_mb': Figure(search.nbytes / 1e6, 'lower', 'MB'),
        },
        details,
    )


def _mask(width: int) -> np.ndarray:
    return pack(np.ones(width, bool))


def _flipped(row: np.ndarray, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    changed = np.zeros(width, bool)
    changed[rng.choice(width, min(count, width), replace=False)] = True
    flipped: np.ndarray = row ^ pack(changed)
    return flipped


def _require_exact(search: PatternSearch, columns: np.ndarray, some: list[np.ndarray]) -> None:
    for query in some:
        found, expected = search.nearest(query)[1], int(distances(columns, query).min())
        if found != expected:
            raise NavMonitorError(f'the search found a distance of {found}, it is {expected}')


def _bdds(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the cost of BDDs of random patterns, and of membership queries."""
    try:
        from dd.autoref import BDD
    except ImportError:
        return []
    return [_bdd(BDD(), rng.random((count, width)) < 0.5) for width, count in _BDD_SIZES]


def _bdd(bdd: Any, patterns: np.ndarray) -> dict[str, Any]:
    """Return the cost of a BDD of patterns (P, D), and of adding all patterns 1 bit away."""
    names = [f'n{place}' for place in range(patterns.shape[1])]
    assignments = [dict(zip(names, pattern.tolist(), strict=True)) for pattern in patterns]
    bdd.declare(*names)
    begin = time.perf_counter()
    held, stored = bdd.false, 0
    while stored < len(patterns) and time.perf_counter() - begin < _BDD_LIMIT:
        held |= bdd.cube(assignments[stored])
        stored += 1
    built = time.perf_counter() - begin
    asked = time_calls(
        lambda values: bdd.let(values, held) == bdd.true, assignments[: min(stored, 50)], warm=2)
    begin = time.perf_counter()
    near, flipped = held, 0
    while flipped < len(names) and time.perf_counter() - begin < _BDD_LIMIT:
        near |= bdd.let({names[flipped]: bdd.add_expr(f'!{names[flipped]}')}, held)
        flipped += 1
    return {
        'neurons': len(names), 'patterns': len(patterns), 'stored': stored, 'nodes': len(held),
        'build_seconds': built, 'query_us': float(np.median(asked)) * 1e6,
        'nodes_distance_1': len(near) if flipped == len(names) else None,
        'distance_1_seconds': time.perf_counter() - begin,
    }


def _float_neighbours(bank: int, width: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the time to find the exact nearest float features with each library."""
    features = rng.standard_normal((bank, width), np.float32)
    queries = list(rng.standard_normal((20, 1, width), np.float32))
    found: dict[str, np.ndarray] = {}

    def take(name: str, ask: Callable[[np.ndarray], object]) -> None:
        found[name] = time_calls(ask, queries, warm=2)

    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=1, algorithm='brute').fit(features)
    take('scikit-learn', neighbours.kneighbors)
    try:
        import faiss
    except ImportError:
        return found
    flat = faiss.IndexFlatL2(width)
    flat.add(features)
    take('faiss', lambda query: flat.search(query, 1))
    return found
