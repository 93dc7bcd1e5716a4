"""The scale of a layer's values: levels at the limits in training, and the legend that says so."""

from __future__ import annotations

import numpy as np
import pytest
from view_samples import LEGEND

from nav_monitor_ros.views import activation_scale
from nav_monitor_ros.views.activation_scale import draw_legend, levels_of, scale_of
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.colors import ABOVE, BELOW, CYAN, HIGHEST, LOWEST, MAGENTA, level_table

RANGES = [(-6.46, 5.349), (-2.0, 3.0), (-1.0, 1.0), (0.0, 2.0), (0.5, 2.0), (-3.0, -1.0)]


@pytest.mark.parametrize(('low', 'high'), RANGES)
def test_levels_are_outside_exactly_where_values_are(low, high):
    scale = scale_of(low, high, 'viridis', True)
    half = (scale.high - scale.low) / (HIGHEST - LOWEST) / 2
    values = np.linspace(2 * scale.low - 1, 2 * scale.high + 1, 4001, dtype=np.float32)
    levels, invalid = levels_of(values, scale)
    assert not invalid
    for beyond, level, limit in ((values > high, ABOVE, high), (values < low, BELOW, low)):
        sure = np.abs(values - limit) > 1.01 * half
        np.testing.assert_array_equal((levels == level)[sure], beyond[sure])
    inside = (low <= values) & (values <= high)
    expected = LOWEST + (values - scale.low) / (scale.high - scale.low) * (HIGHEST - LOWEST)
    np.testing.assert_allclose(levels[inside], expected[inside], atol=0.51)


def test_signed_ranges_have_a_symmetric_ramp_and_their_own_limits():
    scale = scale_of(-6.46, 5.349, 'viridis', True)
    assert (scale.low, scale.high, scale.limits) == (-6.46, 6.46, (-6.46, 5.349))
    assert scale.colormap == 'diverging'


def bar_of(low, high, width=640):
    """Return the colours of the legend's bar without its caps, uint8 (columns, 3)."""
    row = draw_legend(width, '', 'layer', '', '', scale_of(low, high, 'viridis', True))[19]
    caps = np.flatnonzero((row == CYAN).all(axis=1))[0], np.flatnonzero((row == MAGENTA).all(1))[-1]
    return row[caps[0] + 15 : caps[1] - 14]


@pytest.mark.parametrize('width', [320, 640])
@pytest.mark.parametrize(('low', 'high'), RANGES)
def test_the_bar_has_the_colour_of_every_value(low, high, width):
    bar = bar_of(low, high, width)
    scale = scale_of(low, high, 'viridis', True)
    values = np.linspace(scale.low, scale.high, len(bar), dtype=np.float32)
    wanted = level_table(scale.colormap)[levels_of(values, scale)[0]]
    assert (bar == wanted).all(axis=1).mean() > 0.95
    share = float((bar == MAGENTA).all(axis=1).mean())
    assert share == pytest.approx(1 - scale.share(high), abs=0.02)


def numbers_below(monkeypatch, low, high, width=640):
    """Return the numbers below the ramp as (text, first column, end), from left to right."""
    written = []
    text = Canvas.text

    def note(self, words, left, baseline, *more, **options):
        if baseline == 41 and words:
            written.append((words, left, left + self.text_width(words, 8)))
        return text(self, words, left, baseline, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Canvas, 'text', note)
        draw_legend.cache_clear()
        draw_legend(width, '', 'layer', '', '', scale_of(low, high, 'viridis', True))
    return sorted(written, key=lambda each: each[1])


def test_the_numbers_below_the_bar_are_the_limits_at_their_places(monkeypatch):
    found = [text for text, _, _ in numbers_below(monkeypatch, -6.46, 5.349)]
    assert found == ['-6.46', '0', '5.35']
    assert [text for text, _, _ in numbers_below(monkeypatch, 0.0, 2.0)] == ['0', '1', '2']
    # The middle is left out where it would be on top of a limit.
    assert [text for text, _, _ in numbers_below(monkeypatch, -3.0, 0.01)] == ['-3', '0.01']


@pytest.mark.parametrize('width', [320, 480, 640, 1920])
@pytest.mark.parametrize(('low', 'high'), [
    *RANGES, (-6.46, 0.1), (5.0, 5.001), (-0.00012345, 12345.0), (-12345.0, -12344.0), (3.0, 3.0),
])
def test_the_numbers_below_the_bar_do_not_touch(monkeypatch, low, high, width):
    found = numbers_below(monkeypatch, low, high, width)
    for (_, _, end), (_, start, _) in zip(found, found[1:], strict=False):
        assert start - end >= activation_scale._BETWEEN - 1
    assert found[0][1] > 0 and found[-1][2] <= width


def test_a_title_that_is_too_wide_is_smaller_before_it_is_cut(monkeypatch):
    seen = {}
    text = Canvas.text

    def note(self, words, *more, **options):
        if words.startswith('layer'):
            seen[words] = more[2], options
        return text(self, words, *more, **options)

    monkeypatch.setattr(Canvas, 'text', note)
    scale = scale_of(0.0, 1.0, 'viridis', True)
    short, long = "layer 5 '4' (Conv2d)", "layer 15 'features.4.conv2' (BatchNorm2d)"
    for title in (short, long):
        draw_legend(480, '', title, '', '', scale)
    assert seen[short][0] == 11 and 8 <= seen[long][0] < 11
    plain = Canvas(np.zeros((9, 9, 3), np.uint8))
    assert plain.text_width(long, seen[long][0], bold=True) <= seen[long][1]['room']


def test_the_legend_is_as_high_as_tests_of_pictures_take_it_to_be():
    scale = scale_of(0.0, 1.0, 'viridis', True)
    assert draw_legend(640, '', 'layer', '', '', scale).shape == (LEGEND, 640, 3)
