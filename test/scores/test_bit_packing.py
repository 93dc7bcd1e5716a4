"""Packed bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nav_monitor_ros.scores import bit_packing


@given(
    st.integers(1, 200).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5
        )
    )
)
def test_packing_keeps_every_bit_and_counts_them(rows):
    array = np.array(rows)
    packed = bit_packing.pack(array)
    assert packed.dtype == np.uint64
    np.testing.assert_array_equal(bit_packing.unpack(packed, array.shape[1]), array)
    np.testing.assert_array_equal(bit_packing.popcount(packed), array.sum(axis=1))


def test_the_popcount_table_equals_the_instruction(monkeypatch):
    words = np.random.default_rng(0).integers(0, 1 << 63, (50, 3)).astype(np.uint64)
    expected = [sum(bin(int(w)).count('1') for w in row) for row in words]
    assert bit_packing.popcount(words).tolist() == expected
    table = np.array([bin(value).count('1') for value in range(1 << 16)], np.uint8)
    monkeypatch.setattr(bit_packing, '_POPCOUNT_16', table)
    assert bit_packing.popcount(words).tolist() == expected
