"""Charts in pictures: lines and bars go through their values, whatever these are."""

from __future__ import annotations

import numpy as np
import pytest

from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.gradients.line_charts import Line, draw_bars, draw_lines


def test_a_chart_draws_lines_through_their_values():
    pixels = np.zeros((200, 300, 3), np.uint8)
    x = np.arange(11.0)
    line = Line('rise', x, x * 10, (230, 159, 0))
    draw_lines(Canvas(pixels), [line], title='t', x_label='x', y_label='y', mark=5.0)
    orange = np.abs(pixels.astype(int) - line.color).max(axis=2) < 40
    # Not where the dot of the mark is.
    columns = np.flatnonzero(orange.sum(axis=0) * (orange.sum(axis=0) < 6))
    assert len(columns) > 150
    heights = [200 - np.flatnonzero(orange[:, column]).mean() for column in columns]
    assert np.corrcoef(columns, heights)[0, 1] > 0.99


@pytest.mark.parametrize('y', [
    np.full(4, 3.0), np.full(4, np.nan), np.array([1, np.nan, np.inf, 2.0]), np.zeros(4),
    np.array([1e30, -1e30, 0, 1]), np.array([1e-30, 2e-30, 3e-30, 0]),
])
def test_charts_of_odd_values_are_drawn(y):
    pixels = np.zeros((160, 240, 3), np.uint8)
    for mark in (None, 2.0):
        lines = [Line(style, np.arange(4.0), y, (255, 0, 0), style)
                 for style in ('solid', 'dashed', 'dotted')]
        draw_lines(Canvas(pixels), lines, title='t', x_label='x', y_label='y', mark=mark)
    assert pixels.any()


def test_bars_are_as_tall_as_their_values_and_those_without_one_stand_out():
    pixels = np.zeros((200, 300, 3), np.uint8)
    draw_bars(Canvas(pixels), np.array([np.inf, 4.0, 2.0, 0.0]), list('abcd'), title='t',
              x_label='x')
    tall = [
        (np.abs(pixels.astype(int) - color).max(axis=2) < 40).sum(axis=0)
        for color in ((213, 94, 0), (230, 159, 0))
    ]
    heights = sorted(set(tall[0]))
    assert heights[0] == 0 and heights[-1] > 80
    assert min(abs(height - heights[-1] / 2) for height in heights) <= 2
    assert tall[1].max() == heights[-1]
