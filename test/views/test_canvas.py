"""Drawing areas in design pixels."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.views.canvas import Canvas

TEXT = "layer 64 '_blocks.5._project_conv' (Conv2d)"


@pytest.mark.parametrize('unit', [1.0, 1.5])
@pytest.mark.parametrize('room', [0, 150, 260, 300, 1000])
def test_text_is_as_large_as_fits_between_two_heights(unit, room):
    canvas = Canvas(np.zeros((9, 9, 3), np.uint8), unit)
    height = canvas.height_that_fits(TEXT, room, 13, 8, bold=True)
    assert 8 <= height <= 13
    assert height == 8 or canvas.text_width(TEXT, height, bold=True) <= room
    assert height == 13 or canvas.text_width(TEXT, height + 1, bold=True) > room
