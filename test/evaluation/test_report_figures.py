"""Figures of a report: curves, line styles, thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_samples import (
    INSIDE,
    made_up,
    read,
)
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.evaluation.report_figures import REST, histogram_edges, line_styles
from nav_monitor_ros.evaluation.roc_curves import roc_curve, thinned


def area(curve):
    false, true = curve
    return float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum())


def test_curves_have_the_area_that_scikit_learn_finds():
    rng = np.random.default_rng(2)
    normal, strange = rng.integers(0, 9, 300), rng.integers(3, 12, 200)
    truth = np.repeat([0, 1], [300, 200])
    curve = roc_curve(normal.astype(float), strange.astype(float))
    expected = roc_auc_score(truth, np.concatenate([normal, strange]))
    assert area(curve) == pytest.approx(expected, abs=1e-12)


def test_infinite_scores_are_ranked_and_those_that_are_no_number_left_out():
    normal = np.array([-np.inf, 0.0, 1.0, np.nan])
    curve = roc_curve(normal, np.array([2.0, np.inf, np.nan]))
    assert area(curve) == 1
    assert roc_curve(normal, np.array([np.nan])) is None


@pytest.mark.parametrize('low', [None, 1e-4])
def test_thinned_curves_are_short_and_where_they_were(low):
    rng = np.random.default_rng(3)
    curve = roc_curve(rng.normal(size=10_000), rng.normal(1.5, 1, 10_000))
    x, y = thinned(curve, low, 0.002)
    assert len(x) < 300 < len(curve[0])
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    assert (x[-1], y[-1]) == (1, 1)
    # Along the panel, whatever its scale, the line is hardly moved: up or to the side.
    places = np.linspace(0.05, 0.99, 500)
    scaled = x if low is None else 1 - np.log(x) / np.log(low)
    shown = np.interp(places, scaled, y)
    at = places if low is None else low ** (1 - places)
    upper, lower = (
        np.interp(at * (1 + side) if low is None else at * low ** -side, *curve)
        for side in (0.004, -0.004)
    )
    assert (shown <= upper + 0.004).all() and (shown >= lower - 0.004).all()


def test_constant_scores_are_guesses_on_both_axes():
    x, y = roc_curve(np.zeros(50), np.zeros(20))
    assert (list(x), list(y)) == ([0, 1], [0, 1])
    x, y = thinned((x, y), 1e-3, 0.001)
    assert np.interp(np.log(0.1), np.log(x), y) == pytest.approx(0.1, abs=0.01)


def test_scores_look_alike_in_all_figures_and_at_most_six_are_coloured():
    data = made_up()
    areas = [data.areas[name] for name in ('triangles', 'photographs')]
    looks = line_styles(data)
    coloured = [look for look in looks.values() if look is not REST]
    assert set(looks) == set(data.scores[INSIDE])
    mean = {s: areas[0][s] + areas[1][s] for s in looks if s != 'fused'}
    assert list(looks) == ['fused', *sorted(mean, key=mean.get, reverse=True)]
    assert list(looks.values()).index(REST) == 6
    assert len(coloured) == 6
    assert len({look.color for look in coloured}) == len({look.dashes for look in coloured}) == 6
    assert coloured[0].width > max(look.width for look in coloured[1:])


def test_threshold_is_an_edge_of_the_histogram():
    line = -np.log10(11 / 1001)
    edges = histogram_edges(-np.log10(np.arange(1, 1002) / 1001), line)
    assert line in edges
    assert (np.diff(edges) > 0).all()
    assert edges[0] == 0 and edges[-1] > 3
    # An image with exactly this p-value is flagged, so it belongs to the right of the line.
    counts = np.histogram([line], edges)[0]
    assert counts[np.flatnonzero(edges == line)[0]] == 1


def test_flagged_shares_are_said_as_they_are_given(tmp_path):
    """Each image has its class's threshold, which the page cannot know."""
    data = made_up()
    flagged = {INSIDE: {'fused': 0.0123}, 'triangles': {'fused': 0.4567},
               'photographs': {'fused': 0.89}}
    page = read(tmp_path, replace(data, flagged=flagged, thresholds={'fused': (0.001, 0.05)}))
    assert page.text.count('flagged: 1.23 %') == 2
    assert 'flagged: 45.67 %' in page.text and 'flagged: 89.00 %' in page.text
    assert page.text.count('thresholds by class') == 3
    assert '1.23 %, 45.67 %' in page.text and '1.23 %, 89.00 %' in page.text
