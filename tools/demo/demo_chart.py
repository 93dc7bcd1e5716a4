"""Chart of a run: the p-value of each image and the value of ood_alert over time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib
from demo_record import Kind, Record, Summary
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nav_monitor_ros.views.pages.charts import chart_style, color, inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

BLUE, VERMILLION = color('blue'), color('vermillion')
INK, MUTED, GRID = color('ink'), color('muted'), color('line')
BANDS = {Kind.KNOWN: 'none', Kind.STRANGE: color('warm'), Kind.SILENT: color('cool')}
_ROW = 25  # points between the two rows of names above the chart


def inline_timeline(record: Record, summary: Summary) -> Markup:
    """Return a finished run as a chart for a page, in the page's colours and fonts.

    Args:
        record: Record with at least one segment and one frame.
        summary: Summary of that record.
    """
    with chart_style():
        return inline_svg(
            _figure(record, summary), 'p-value of each image over time, and ood_alert')


def timeline_file(record: Record, summary: Summary) -> bytes:
    """Return the same chart as an SVG file that needs no fonts."""
    svg = io.BytesIO()
    with chart_style():
        matplotlib.rcParams['svg.fonttype'] = 'path'
        figure = _figure(record, summary)
        figure.set_facecolor('white')
        figure.savefig(svg, format='svg', metadata={'Date': None, 'Creator': None})
    return svg.getvalue()


def _figure(record: Record, summary: Summary) -> Figure:
    matplotlib.rcParams.update({'font.size': 10, 'axes.edgecolor': MUTED, 'text.color': INK})
    figure = Figure(figsize=(11.6, 4.5), facecolor='none')
    points, strip = figure.subplots(
        2, 1, sharex=True, gridspec_kw={'hspace': 0.06, 'height_ratios': (9, 1)})
    for axes in (points, strip):
        axes.set_facecolor('none')
    _draw_bands(points, record, summary)
    _draw_points(points, record)
    _draw_alert(strip, record)
    figure.legend(loc='lower right', bbox_to_anchor=(0.985, 0.0), ncol=3, frameon=False,
                  fontsize=9, handletextpad=0.4, borderpad=0)
    figure.subplots_adjust(left=0.085, right=0.985, top=0.83, bottom=0.115)
    return figure


def _seconds(record: Record, time_ns: int) -> float:
    return (time_ns - record.segments[0].start_ns) / 1e9


def _draw_bands(axes: Axes, record: Record, summary: Summary) -> None:
    """Shade the segments and label them with their names and alert delays."""
    for number, (segment, found) in enumerate(zip(record.segments, summary.segments, strict=True)):
        start, end = segment.start_ns, record.end_of(number)
        left, right = _seconds(record, start), _seconds(record, end)
        axes.axvspan(left, right, facecolor=BANDS[segment.kind], linewidth=0, zorder=0)
        if number:
            axes.axvline(left, color=GRID, linewidth=0.8, zorder=1)
        # Names alternate between two rows, because those of narrow segments would overlap.
        row = _ROW * (number % 2)
        axes.annotate(
            segment.name, ((left + right) / 2, 1), (0, row + 16),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points', ha='center', fontweight='bold',
            color=INK if segment.kind is Kind.KNOWN else VERMILLION,
        )
        if segment.kind is Kind.KNOWN or found.settled_ms is None:
            note = '' if segment.kind is Kind.KNOWN else 'no alert'
        else:
            note = f'alert after {found.settled_ms:.0f} ms' if found.settled_ms else 'alert was up'
        axes.annotate(
            note, ((left + right) / 2, 1), (0, row + 5), xycoords=('data', 'axes fraction'),
            textcoords='offset points', ha='center', fontsize=8.5, color=MUTED,
        )


def _draw_points(axes: Axes, record: Record) -> None:
    for flagged, shade, marker, label in (
        (False, BLUE, 'o', 'not flagged'),
        (True, VERMILLION, 'x', 'flagged'),
    ):
        frames = [frame for frame in record.frames if frame.flagged is flagged]
        axes.plot(
            [_seconds(record, frame.stamp_ns) for frame in frames],
            [frame.p_value for frame in frames],
            linestyle='none', marker=marker, markersize=3.2 if marker == 'o' else 4,
            markeredgewidth=0 if marker == 'o' else 1, alpha=0.75, color=shade, label=label,
        )
    threshold = record.p_value_threshold
    axes.axhline(threshold, color=INK, linewidth=1, linestyle=(0, (5, 3)),
                 label=f'threshold, p = {threshold:.2g}')
    axes.set_yscale('log')
    lowest = min([threshold, *(frame.p_value for frame in record.frames)])
    axes.set_ylim(lowest / 2, 1.4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda p, _: f'{p:g}'))
    axes.set_ylabel('p-value of each image')
    axes.grid(axis='y', color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis='x', length=0)
    axes.tick_params(colors=MUTED, which='both')
    axes.spines[['top', 'right', 'bottom']].set_visible(False)
    silent = [n for n, segment in enumerate(record.segments) if segment.kind is Kind.SILENT]
    for number in silent:
        middle = (record.segments[number].start_ns + record.end_of(number)) // 2
        axes.annotate('no image', (_seconds(record, middle), 0.5), ha='center', va='center',
                      xycoords=('data', 'axes fraction'), color=MUTED, rotation=90)


def _draw_alert(axes: Axes, record: Record) -> None:
    """Draw ood_alert as a strip."""
    begin, end = record.segments[0].start_ns, record.end_ns
    times = [begin, *(c.heard_ns for c in record.changes if begin < c.heard_ns < end), end]
    for left, right in zip(times, times[1:], strict=False):
        value = record.alert_at(left)
        x, width = _seconds(record, left), (right - left) / 1e9
        axes.barh(0, width, left=x, height=1, color=VERMILLION if value else BLUE, linewidth=0)
        if width > 0.05 * (end - begin) / 1e9:
            axes.text(x + width / 2, 0, str(value), ha='center', va='center', color='white',
                      fontweight='bold', fontsize=8.5)
    axes.set_xlim(0, _seconds(record, end))
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([0], ['ood_alert'])
    axes.set_xlabel('seconds since the first image', color=MUTED, loc='left')
    axes.tick_params(axis='y', length=0)
    axes.tick_params(axis='x', colors=MUTED)
    axes.spines[:].set_visible(False)
