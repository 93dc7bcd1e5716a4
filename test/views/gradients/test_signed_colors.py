"""Signed colours: zero is mid-grey, both ends are equally far from it."""

from __future__ import annotations

import numpy as np
from gradient_subjects import BLUE, GREY, VERMILLION

from nav_monitor_ros.views.gradients.signed_colors import (
    channel_colors,
    reach_of,
    signed_colors,
    signed_table,
)


def test_zero_is_exactly_mid_grey_and_the_ends_are_the_palettes_own_blue_and_vermillion():
    values = np.array([-2.0, -1.0, 0.0, 1e-9, 1.0, 2.0])
    assert signed_colors(values, 1.0).tolist() == [
        [*BLUE], [*BLUE], [*GREY], [*GREY], [*VERMILLION], [*VERMILLION]
    ]
    assert signed_table().shape == (255, 3)
    assert channel_colors(np.zeros((2, 2, 3)), 1.0).tolist() == np.full((2, 2, 3), 128).tolist()
    assert channel_colors(np.array([[[5.0, 0.0, -5.0]]]), 1.0).tolist() == [[[255, 128, 1]]]


def test_opposite_values_lie_equally_far_from_grey():
    values = np.linspace(0.01, 1, 50)
    up, down = (np.abs(signed_colors(v, 1.0) - 128.0) for v in (values, -values))
    share_up = up.max(axis=1) / up.max()
    share_down = down.max(axis=1) / down.max()
    assert np.allclose(share_up, share_down, atol=0.01)


def test_the_reach_is_a_percentile_of_what_is_finite():
    values = np.arange(-100.0, 101.0)
    assert reach_of(values, percentile=100) == 100
    assert reach_of(values, np.array([np.nan, np.inf]), percentile=50) == 50
    assert reach_of(np.zeros(5)) == 0 and reach_of() == 0 and reach_of(np.array([np.nan])) == 0
    sparse = np.zeros(1000)
    sparse[0] = 3
    assert reach_of(sparse) == 3  # the percentile is 0, but not everything is
