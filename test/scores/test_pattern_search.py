"""The search for the nearest of very many patterns: always what comparing all of them gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.scores import bit_packing, pattern_search
from nav_monitor_ros.scores import pattern as pattern_module
from nav_monitor_ros.scores.pattern import Pattern
from nav_monitor_ros.scores.pattern_search import PatternSearch

WIDTHS = (1, 15, 16, 63, 64, 130, 512)


def compared(rows: np.ndarray, query: np.ndarray) -> tuple[int, int]:
    """Return the first of the nearest rows and its distance, by comparing all."""
    distances = bit_packing.popcount(rows ^ query)
    return int(distances.argmin()), int(distances.min())


def flipped(row: np.ndarray, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a packed pattern with some of its bits changed."""
    changed = np.zeros(width, bool)
    changed[rng.choice(width, min(count, width), replace=False)] = True
    return row ^ bit_packing.pack(changed)


def patterns(kind: str, count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return packed patterns, uint64 (count, words)."""
    if kind == 'random':
        drawn = rng.random((count, width)) < 0.5
    elif kind == 'clustered':  # around a few centres
        centres = rng.random((4, width)) < 0.5
        drawn = centres[rng.integers(0, 4, count)] ^ (rng.random((count, width)) < 0.05)
    elif kind == 'sparse':  # hardly a neuron is ever on
        drawn = rng.random((count, width)) < 0.02
    elif kind == 'equal':
        drawn = np.broadcast_to(rng.random(width) < 0.5, (count, width))
    else:  # only the first neurons tell patterns apart
        drawn = np.zeros((count, width), bool)
        drawn[:, : min(width, 20)] = rng.random((count, min(width, 20))) < 0.5
    return bit_packing.pack(drawn)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(['random', 'clustered', 'sparse', 'equal', 'few neurons']),
    width=st.sampled_from(WIDTHS),
    count=st.sampled_from([1, 2, 300, 3000]),
    flips=st.sampled_from([0, 1, 5, 31, 32, 33, 63, 64, 100, 512]),
    installed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_search_finds_what_comparing_all_finds(kind, width, count, flips, installed, seed):
    rng = np.random.default_rng(seed)
    rows = patterns(kind, count, width, rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern_search, '_LOOKUP_COST', 1)  # tables are used though patterns are few
        if not installed:
            patch.setattr(pattern_search, '_faiss', lambda: None)
        search = PatternSearch(rows, width)
        for _ in range(5):
            query = flipped(rows[rng.integers(count)], width, flips, rng)
            assert search.nearest(query) == compared(rows, query)


def test_tables_spare_comparing_all_near_a_stored_pattern(monkeypatch):
    rng = np.random.default_rng(0)
    rows = patterns('random', 60_000, 512, rng)
    search = PatternSearch(rows, 512)
    near = [flipped(rows[rng.integers(len(rows))], 512, flips, rng) for flips in (0, 1, 31, 63, 66)]
    expected = [compared(rows, query) for query in near]
    far = bit_packing.pack(rng.random(512) < 0.5)
    compared_all = []
    whole = PatternSearch._compare_all
    monkeypatch.setattr(
        PatternSearch, '_compare_all',
        lambda self, query: compared_all.append(1) or whole(self, query))
    assert [search.nearest(query) for query in near] == expected
    assert not compared_all
    assert search.nearest(far) == compared(rows, far)
    assert compared_all


@pytest.mark.parametrize('count', [40_000, 140_000])  # one block and several; threads
@pytest.mark.parametrize('installed', [True, False], ids=['faiss', 'numpy'])
def test_of_equally_near_patterns_the_first_is_found(count, installed, monkeypatch):
    if installed:
        pytest.importorskip('faiss')
    else:
        monkeypatch.setattr(pattern_search, '_faiss', lambda: None)
    rng = np.random.default_rng(1)
    rows = patterns('random', count, 64, rng)
    twin = rows[7].copy()
    rows[[count // 2, count - 1]] = twin
    search = PatternSearch(rows, 64)
    assert search._compare_all(twin) == (7, 0)
    assert search.nearest(twin) == (7, 0)


def test_memory_is_bounded_by_the_number_of_patterns():
    rows = patterns('random', 50_000, 512, np.random.default_rng(2))
    tables = 512 // 16
    assert PatternSearch(rows, 512).nbytes <= rows.nbytes + tables * (4 * len(rows) + 4 * 65_537)
    alike = patterns('equal', 50_000, 512, np.random.default_rng(2))
    assert PatternSearch(alike, 512).nbytes == alike.nbytes  # tables that tell nothing are not kept


def test_pattern_scores_are_the_same_with_and_without_tables(monkeypatch):
    """Frame by frame through the tables, in a batch by comparing all."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(4000, 64)).astype(np.float32)
    labels = rng.integers(0, 2, len(features))
    logits = np.eye(2, dtype=np.float32)[labels]
    training = Activations(logits, features)
    near = Activations(logits[:50], features[:50] + rng.normal(0, 0.1, (50, 64)).astype('f4'))

    def fitted() -> Pattern:
        score = Pattern(classes=2, width=64, head=None, max_patterns=0)
        score.prepare(training, labels)
        score.update(training, labels)
        score.finish()
        return score

    plain = fitted()
    monkeypatch.setattr(pattern_module, 'MIN_INDEXED', 100)
    monkeypatch.setattr(pattern_search, '_LOOKUP_COST', 1)
    searching = fitted()
    assert searching._searches and not plain._searches
    assert plain.score(near).min() < plain.score(near).max()
    for index in range(len(near)):
        frame = near[index : index + 1]
        assert searching.score_frame(frame) == plain.score(frame)[0]
        label = int(frame.predicted[0])
        for one, other in zip(
            searching.nearest(frame.features[0], label), plain.nearest(frame.features[0], label),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
