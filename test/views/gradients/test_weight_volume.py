"""Volumes of weights: a place for every weight, and pictures of any shape."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.views.gradients.signed_colors import (
    reach_of,
    signed_colors,
)
from nav_monitor_ros.views.gradients.weight_volume import (
    WeightVolume,
    draw_slice,
    draw_volume,
    joined,
)


def test_a_volume_has_a_place_for_every_weight():
    weights = np.arange(4 * 3 * 2 * 5, dtype=float).reshape(4, 3, 2, 5)
    volume = WeightVolume.of(weights)
    assert volume.values.shape == (4, 3, 10)
    assert np.array_equal(volume.slice(7), weights[:, :, 1, 2].T)
    assert volume.place(7) == 'row 2, column 3'
    assert WeightVolume.of(np.zeros((2, 2, 3))).place(1) == 'column 2'
    drawn = draw_slice(WeightVolume.of(weights - 60), 7, 60.0)
    assert drawn.shape == (3, 4, 3)
    assert drawn[-1, 0].tolist() == signed_colors(np.array(weights[0, 0, 1, 2] - 60), 60).tolist()


def test_long_axes_are_joined_by_their_strongest_weight():
    values = np.zeros((130, 2, 1))
    values[129, 1, 0], values[0, 0, 0], values[1, 0, 0] = -5, 1, -2
    shorter, blocks = joined(values)
    assert blocks == (3, 1, 1) and shorter.shape == (44, 2, 1)
    assert shorter[43, 1, 0] == -5 and shorter[0, 0, 0] == -2
    values[0, 0, 0] = np.nan
    assert np.isnan(joined(values)[0][0, 0, 0])


@pytest.mark.parametrize('shape', [
    (1, 1, 1, 1), (64, 1, 3, 3), (1, 64, 3, 3), (8, 8, 11, 11), (2048, 512, 1, 1), (4, 4, 3),
    (3, 3, 3, 3, 3),
])
@pytest.mark.parametrize('fill', ['noise', 'zero', 'nan', 'inf'])
def test_volumes_of_any_shape_are_drawn_or_said_to_be_empty(shape, fill):
    weights = np.random.default_rng(0).normal(size=shape)
    if fill != 'noise':
        weights[:] = {'zero': 0, 'nan': np.nan, 'inf': np.inf}[fill]
    volume = WeightVolume.of(weights)
    reach = reach_of(weights)
    picture = draw_volume(volume, reach, (240, 320), least=reach_of(weights, percentile=85))
    assert picture.shape == (240, 320, 3)
    colored = np.abs(picture.astype(int) - np.roll(picture, 1, axis=2)).max(axis=2) > 24
    assert colored.any()  # cubes, or the note
    assert draw_slice(volume, 0, reach).shape[2] == 3
