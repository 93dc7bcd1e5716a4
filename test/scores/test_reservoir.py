"""A bounded sample of rows."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.scores import bit_packing, reservoir


@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=60),
    capacity=st.integers(0, 12), distinct=st.booleans(), seed=st.integers(0, 9),
    parts=st.integers(1, 4), fewest=st.sampled_from([1, 4, 64]),
)
@settings(max_examples=150, deadline=None)
def test_a_reservoir_keeps_the_rows_with_the_smallest_hashes(
    rows, capacity, distinct, seed, parts, fewest
):
    rows = np.array(rows, np.uint64).reshape(-1, 2)
    order = np.argsort(bit_packing.hashes(rows), kind='stable')
    expected = [tuple(row) for row in rows[order].tolist()]
    if distinct:
        expected = list(dict.fromkeys(expected))
    expected = sorted(expected[: capacity or None])
    rng = np.random.default_rng(seed)
    with patch.object(reservoir, '_MIN_ROWS', fewest):
        kept = [reservoir.Reservoir(2, capacity=capacity, distinct=distinct) for _ in range(parts)]
        for row in rng.permutation(rows):
            kept[rng.integers(parts)].add(row[None])
        for other in kept[1:]:
            before = other.rows()
            kept[0].merge(other)
            np.testing.assert_array_equal(other.rows(), before)
        found = kept[0].rows()
        assert sorted(map(tuple, found.tolist())) == expected
        assert not capacity or kept[0].nbytes <= 16 * max(fewest, 2 * capacity)
        again = reservoir.Reservoir(2, capacity=capacity, distinct=distinct)
        again.restore(found)
        np.testing.assert_array_equal(again.rows(), found)
