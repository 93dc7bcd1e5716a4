"""Charts of pages: matplotlib figures as SVG in the fonts and colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_PALETTE = Path(__file__).parent / 'assets' / 'palette.css'
_RIGHT, _BOTTOM, _TOP = 0.14, 0.55, 0.2  # margins around the axes, inches


@lru_cache(maxsize=1)
def palette() -> dict[str, str]:
    """Return the light colours of ``palette.css`` by name, as ``#rrggbb``."""
    light = _PALETTE.read_text(encoding='utf-8').split('@media')[0]
    return dict(re.findall(r'--(\w+): (#[0-9a-f]{6})', light))


def color(name: str) -> str:
    """Return a light colour by name; ``inline_svg`` replaces it by the page's."""
    return palette()[name]


@contextmanager
def chart_style() -> Iterator[None]:
    """Draw charts independently of the user's matplotlib settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            'svg.fonttype': 'none', 'svg.hashsalt': 'page', 'lines.scale_dashes': False,
            'hatch.linewidth': 0.6,
        })
        yield


def page_figure(
    width: float = 4.5, height: float = 3.9, left: float = 0.72
) -> tuple[Figure, Axes]:
    """Return an empty figure.

    Args:
        width: Width of the figure, inches.
        height: Height of the figure, inches.
        left: Room for the numbers of the y axis, inches.
    """
    figure = Figure(figsize=(width, height), facecolor='none')
    axes = figure.add_axes((
        left / width, _BOTTOM / height, 1 - (left + _RIGHT) / width,
        1 - (_BOTTOM + _TOP) / height,
    ))
    axes.set_facecolor('none')
    axes.grid(color=color('line'), linewidth=0.7)
    axes.set_axisbelow(True)
    muted = color('muted')
    axes.tick_params(which='both', color=muted, labelcolor=muted, labelsize=10)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set_color(muted)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(color('ink'))
        axis.label.set_fontsize(11)
    return figure, axes


def make_logarithmic(axes: Axes, axis: str, low: float, high: float) -> None:
    """Make an axis, ``x`` or ``y``, logarithmic, with plain numbers at the decades."""
    axes.set(**{f'{axis}scale': 'log'})
    axes.set(**{f'{axis}lim': (low, high)})
    along = axes.xaxis if axis == 'x' else axes.yaxis
    along.set_major_formatter(lambda value, _: f'{value:g}')
    along.set_minor_formatter(lambda value, _: '')


def draw_thresholds(axes: Axes, places: Sequence[float], order: int) -> None:
    """Draw a vertical line at the threshold, or the range of the classes' thresholds."""
    for place in places:
        axes.axvline(place, color=color('ink'), linewidth=1.4, linestyle=(0, (5, 2)), zorder=order)
    if len(places) > 1:
        axes.axvspan(min(places), max(places), color=color('ink'), alpha=0.12, linewidth=0,
                     zorder=order)


def inline_svg(figure: Figure, title: str) -> Markup:
    """Return a figure as an SVG element of a page, in the page's own colours.

    Args:
        figure: Figure drawn with ``color``, within ``chart_style``.
        title: Text alternative for screen readers.
    """
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None, 'Creator': None})
    text = file.getvalue()
    text = text[text.index('<svg'):]
    for useless in ('<metadata>.*?</metadata>', '<style.*?</style>', '<!--.*?-->'):
        text = re.sub(useless, '', text, flags=re.DOTALL)
    size = re.search(r'viewBox="[^"]*"', text)
    assert size is not None
    opening = Markup('<svg {} role="img" aria-label="{}">').format(Markup(size[0]), title)
    text = str(opening) + text[text.index('>') + 1:]
    # Identifiers are hashes of a shape, so equal ones denote the same shape.
    text = re.sub(r'<g id="[^"]*"', '<g', text).replace('xlink:href', 'href')
    text = re.sub(r' d="[^"]*"', lambda d: re.sub(r'(\.\d\d)\d+', r'\1', d[0]), text)
    text = re.sub(r'font-family: [^;"]*; ', '', text)  # the fonts of the page
    names = {light: name for name, light in palette().items()}
    text = re.sub(
        r'(fill|stroke): (#[0-9a-f]{6})',
        lambda found: f'{found[1]}: var(--{names[found[2]]})' if found[2] in names else found[0],
        text,
    )
    return Markup(re.sub(r'\n\s*', '\n', text))
