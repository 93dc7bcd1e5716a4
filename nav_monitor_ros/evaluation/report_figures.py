"""The figures of an evaluation's report, each with the entries of its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from scipy.stats import beta

from nav_monitor_ros.evaluation.report_data import ReportData
from nav_monitor_ros.evaluation.roc_curves import Curve, thinned
from nav_monitor_ros.views.pages.charts import (
    color,
    draw_thresholds,
    inline_svg,
    make_logarithmic,
    page_figure,
)

HIGHLIGHTED = 5  # scores drawn in colour in addition to the default
CONFIDENCE = 0.95  # confidence of the band around the measured shares
_BINS = 32
_TOLERANCE = 0.0015  # tolerance of a simplified curve, as a share of the panel
_FLOOR = 1e-12  # smallest p-value drawn


@dataclass(frozen=True)
class LineStyle:
    """Line style of a curve, in the figure and in its legend."""

    color: str  # name in the palette
    width: float  # points
    dashes: tuple[float, ...] = ()  # on, off, ..., in points; nothing for a solid line

    def options(self, order: int) -> dict[str, Any]:
        """Return the arguments of matplotlib's ``plot``."""
        return {
            'color': color(self.color), 'linewidth': self.width, 'zorder': order,
            'linestyle': (0, self.dashes) if self.dashes else '-',
        }


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend."""

    swatch: str  # line, dot, band, bar or hatched, drawn by the template
    name: str
    number: str = ''
    is_default: bool = False
    style: LineStyle = LineStyle('blue', 1.0)


DEFAULT = LineStyle('blue', 3.0)
REST = LineStyle('grey', 0.7)
_OTHERS = (
    LineStyle('vermillion', 1.8, (7, 2.5)),
    LineStyle('green', 1.8, (2, 1.8)),
    LineStyle('purple', 1.8, (9, 2, 2, 2)),
    LineStyle('orange', 1.8, (14, 3)),
    LineStyle('brown', 1.8, (6, 2, 1.5, 2, 1.5, 2)),
)
_DIAGONAL = LineStyle('muted', 0.9, (1, 2))
_PROMISE = LineStyle('ink', 1.0, (1, 2))
_THRESHOLD = LineStyle('ink', 1.4, (5, 2))


def line_styles(data: ReportData) -> dict[str, LineStyle]:
    """Return a style for each score, the same in all figures; the first ones are drawn on top."""
    def mean(score: str) -> float:
        values = [by_score[score] for by_score in data.areas.values() if score in by_score]
        return float(np.mean(values)) if values else 0.0

    names = list(data.scores[data.inside])
    others = sorted((name for name in names if name != data.default), key=lambda n: -mean(n))
    styles = {data.default: DEFAULT} if data.default in names else {}
    styles.update(zip(others, _OTHERS[:HIGHLIGHTED], strict=False))
    return {**styles, **{name: REST for name in others if name not in styles}}


# ------------------------------------------------------------------ ROC curves


def draw_roc(
    curves: Mapping[str, Curve],
    styles: Mapping[str, LineStyle],
    operating_point: tuple[float, float] | None,
    low: float | None,
    title: str,
) -> Markup:
    """Draw ROC curves.

    Args:
        curves: Curves by score.
        styles: Styles by score, for the scores to draw; the last one is drawn first.
        operating_point: False and true positive rate of the default score at its threshold.
        low: False positive rate at which a logarithmic axis begins; None for a linear one.
        title: Title of the figure.
    """
    figure, axes = page_figure()
    grid = np.linspace(0, 1, 200) if low is None else np.geomspace(low, 1, 200)
    axes.plot(*thinned((grid, grid), low, _TOLERANCE), **_DIAGONAL.options(1))
    for order, score in enumerate(reversed(list(styles)), start=2):
        style = styles[score]
        tolerance = 2 * _TOLERANCE if style is REST else _TOLERANCE
        axes.plot(*thinned(curves[score], low, tolerance), **style.options(order))
    if operating_point is not None:
        false, true = operating_point
        axes.plot(false if low is None else max(false, low), true, marker='o', markersize=8,
                  color=color('blue'), clip_on=False, zorder=100)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(-0.02, 1.02)
    if low is not None:
        make_logarithmic(axes, 'x', low / 1.15, 1.1)
    axes.set_xlabel('false positive rate' + (' (logarithmic)' if low else ''))
    axes.set_ylabel('true positive rate')
    return inline_svg(figure, title)


def roc_legend(
    data: ReportData,
    source: str,
    styles: Mapping[str, LineStyle],
    operating_point: tuple[float, float] | None,
) -> list[LegendEntry]:
    """Return the legend of a source's ROC curves."""
    areas = data.areas.get(source, {})
    entries = [
        LegendEntry(
            'line', score, f'AUROC {percent(areas[score])}' if score in areas else '',
            score == data.default, style,
        )
        for score, style in styles.items() if style is not REST
    ]
    if operating_point is not None:
        entries.append(LegendEntry(
            'dot', f'{data.default} at its threshold (false, true)',
            ', '.join(percent(rate) for rate in operating_point),
        ))
    return [*entries, LegendEntry('line', 'guessing', style=_DIAGONAL)]


# ------------------------------------------------------------------ histogram


def draw_histogram(data: ReportData, source: str) -> tuple[Markup, list[LegendEntry]]:
    """Draw the default score's histograms for a source and the in-distribution one."""
    found = [data.p_values.get(name, {}).get(data.default) for name in (data.inside, source)]
    has_p = all(values is not None for values in found)
    thresholds = _thresholds(data) if has_p else []
    if has_p:
        values = [-np.log10(np.clip(_finite(v), _FLOOR, 1)) for v in found if v is not None]
        line = -np.log10(max(thresholds)) if thresholds else None
    else:
        values = [
            _finite(data.scores[name].get(data.default, ())) for name in (data.inside, source)
        ]
        line = None
    figure, axes = page_figure(left=0.95)
    edges = histogram_edges(np.concatenate(values), line)
    shares = [
        np.histogram(v, edges)[0] / max(1, len(v)) if len(v) else np.zeros(len(edges) - 1)
        for v in values
    ]
    low = min([0.1, *(1 / len(v) for v in values if len(v))]) / 1.6
    axes.stairs(shares[0], edges, baseline=low, fill=True, facecolor=color('blue'), alpha=0.45,
                linewidth=0, zorder=2)
    axes.stairs(shares[0], edges, baseline=low, color=color('blue'), linewidth=1, zorder=3)
    axes.stairs(shares[1], edges, baseline=low, edgecolor=color('vermillion'), linewidth=1.6,
                fill=True, facecolor='none', hatch='////', zorder=4)
    draw_thresholds(axes, [-np.log10(threshold) for threshold in thresholds], 5)
    make_logarithmic(axes, 'y', low, 1.3)
    axes.yaxis.set_major_formatter(lambda share, _: f'{100 * share:g} %')
    axes.set_ylabel('share of the images')
    axes.set_xlim(edges[0], edges[-1])
    if has_p:
        last = int(edges[-1])
        axes.set_xticks(range(0, last + 1, 1 + last // 6))
        axes.xaxis.set_major_formatter(lambda x, _: f'{10.0 ** -round(x):g}')
        axes.set_xlabel('p-value (unusual images to the right)')
    else:
        axes.set_xlabel('score (unusual images to the right)')
    rates = operating_point_of(data, source)
    notes = ['' if rates is None else f'flagged: {percent(rate)}' for rate in (rates or (0, 0))]
    legend = [
        LegendEntry(swatch, name, note) for swatch, name, note in
        zip(('bar', 'hatched'), (data.inside, source), notes, strict=True)
    ]
    svg = inline_svg(figure, f'Histogram of {data.default} for {data.inside} and {source}')
    return svg, [*legend, *_threshold_legend(thresholds)]


def operating_point_of(data: ReportData, source: str) -> tuple[float, float] | None:
    """Return the shares of both sources that the default score flags at its threshold."""
    false, true = (data.flagged.get(n, {}).get(data.default) for n in (data.inside, source))
    return None if false is None or true is None else (false, true)


def histogram_edges(values: np.ndarray, line: float | None) -> np.ndarray:
    """Return the edges of bins over all values, one of them at the threshold, which is above 0."""
    if line is None:
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        spread = high - low if high > low else max(1.0, abs(low))
        return np.linspace(low - spread / 100, high + spread / 100, _BINS + 1)
    high = max(1.25 * line, float(values.max()) if len(values) else 0.0)
    below = max(1, round(_BINS * line / high))
    width = line / below
    above = np.arange(1, np.floor((high - line) / width) + 2)
    return np.concatenate([np.linspace(0, line, below + 1), line + width * above])


# ------------------------------------------------------------------ calibration


def calibrated_p_values(
    data: ReportData, styles: Mapping[str, LineStyle]
) -> dict[str, np.ndarray]:
    """Return the sorted p-values of the in-distribution images by score, float64 (N,) each."""
    sorted_ones = {
        score: np.sort(_finite(data.p_values[data.inside][score]))
        for score in styles if score in data.p_values.get(data.inside, {})
    }
    return {score: values for score, values in sorted_ones.items() if len(values)}


def draw_calibration(
    data: ReportData, p_values: Mapping[str, np.ndarray], styles: Mapping[str, LineStyle]
) -> tuple[Markup, list[LegendEntry]]:
    """Draw the share of in-distribution images at or below each p-value.

    Args:
        data: Contents of the report.
        p_values: Sorted p-values by score; at least one score.
        styles: Styles by score.
    """
    size = max(map(len, p_values.values()))
    thresholds = _thresholds(data)
    smallest = [float(v[0]) for v in p_values.values() if v[0] > 0]
    low = max(_FLOOR, min([0.1, 1 / size, *thresholds, *smallest]) / 1.6)
    grid = np.unique(np.append(np.geomspace(low, 1, 240), thresholds))
    figure, axes = page_figure(width=5.4, height=4.3, left=0.95)
    axes.plot([low, 1], [low, 1], **_PROMISE.options(40))
    for order, score in enumerate(reversed(list(p_values)), start=2):
        counts = np.searchsorted(p_values[score], grid, 'right')
        shares = counts / len(p_values[score])
        if score == data.default:
            _draw_band(axes, grid, counts, len(p_values[score]), low)
        axes.plot(grid, np.maximum(shares, low / 10), drawstyle='steps-post',
                  **styles[score].options(order + 3))
    draw_thresholds(axes, thresholds, 30)
    for axis in 'xy':
        make_logarithmic(axes, axis, low, 1.0)
    axes.set_xlabel('p-value (logarithmic)')
    axes.set_ylabel('share of images at or below it')
    entries = [
        LegendEntry('line', score, is_default=score == data.default, style=styles[score])
        for score in p_values if styles[score] is not REST
    ]
    if data.default in p_values:
        entries.insert(1, LegendEntry('band', f'{CONFIDENCE:.0%} interval of {data.default}'))
    entries.append(LegendEntry(
        'line', 'share equal to the p-value; above it, there are more false alarms than promised',
        style=_PROMISE,
    ))
    svg = inline_svg(figure, f'Shares of {data.inside} by p-value, against the diagonal')
    return svg, [*entries, *_threshold_legend(thresholds)]


def _draw_band(axes: Axes, grid: np.ndarray, counts: np.ndarray, size: int, low: float) -> None:
    tail = (1 - CONFIDENCE) / 2
    # The limits for none and all of the images are 0 and 1, where the formula is undefined.
    least = np.where(counts > 0, beta.ppf(tail, np.maximum(counts, 1), size - counts + 1), 0)
    most = np.where(
        counts < size, beta.ppf(1 - tail, counts + 1, np.maximum(size - counts, 1)), 1
    )
    axes.fill_between(grid, np.maximum(least, low / 10), most, step='post', linewidth=0,
                      color=color('blue'), alpha=0.18, zorder=1)


# ------------------------------------------------------------------ shared


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f'{100 * share:.2f} %'


def _thresholds(data: ReportData) -> list[float]:
    """Return the default score's thresholds to draw: one, or the extremes of several."""
    return sorted({p for p in data.thresholds.get(data.default, ()) if 0 < p < 1})


def _threshold_legend(thresholds: Sequence[float]) -> list[LegendEntry]:
    if not thresholds:
        return []
    values = ' to '.join(f'{threshold:.2g}' for threshold in thresholds)
    name = 'thresholds by class' if len(thresholds) > 1 else 'threshold'
    return [LegendEntry('line', name, f'p = {values}', style=_THRESHOLD)]


def _finite(values: Any) -> np.ndarray:
    """Return the finite ones, float64 (M,)."""
    array = np.asarray(values, np.float64).reshape(-1)
    return array[np.isfinite(array)]
