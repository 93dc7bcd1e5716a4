"""Point clouds of a layer: colours at the limits in training, as those of the tiles."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.views.colors import CYAN, MAGENTA, ZERO, level_table
from nav_monitor_ros.views.volume import cloud


def colors_of(values, scale):
    """Return the colour of each voxel of a single row, uint8 (N, 3) RGB."""
    maps = np.array(values, np.float32).reshape(1, 1, -1)
    points = cloud(maps, scale, channels=1, colormap='viridis')
    np.testing.assert_array_equal(points[:, 3], maps.ravel())
    packed = np.ascontiguousarray(points[:, 4]).view(np.uint8).reshape(-1, 4)
    return packed[:, 2::-1]


@pytest.mark.parametrize(('scale', 'values'), [
    ((-6.46, 5.349), (5.45, -6.55, 5.3, -6.4)),
    ((-2.0, 3.0), (3.1, -2.1, 2.9, -1.9)),
    ((0.5, 2.0), (2.1, 0.4, 1.9, 0.6)),
])
def test_voxels_outside_the_range_in_training_are_magenta_or_cyan(scale, values):
    above, below, *inside = map(tuple, colors_of(values, scale))
    assert above == MAGENTA and below == CYAN
    assert not {MAGENTA, CYAN} & set(inside)


def test_voxels_of_signed_layers_diverge_around_0():
    table = level_table('diverging')
    wanted = [tuple(table[ZERO + step]) for step in (-63, 63)]
    assert [tuple(color) for color in colors_of([-2.0, 2.0], (-4.0, 3.0))] == wanted
