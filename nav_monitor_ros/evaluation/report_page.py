"""An evaluation as one HTML page, which needs no network and no JavaScript."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIGHLIGHTED = 5  # scores drawn in colour besides the default
PICTURE_SIDE = 96  # pixels, about
CONFIDENCE = 0.95  # of the band around the measured shares
_BINS = 32
_TOLERANCE = 0.0015  # by which a thinned curve may be off, as a share of the panel
_FLOOR = 1e-12  # smallest p-value that is drawn

# Light and dark colours. The figures are drawn in the light ones, which the page then replaces.
_COLORS = {
    'ink': ('#1d232b', '#e6e9ed'),
    'muted': ('#5d6875', '#9aa4b0'),
    'line': ('#d9dee5', '#3a4048'),
    'grey': ('#a9b1bb', '#6b7480'),
    'blue': ('#0072B2', '#4aa6e0'),
    'vermillion': ('#D55E00', '#ff8a3d'),
    'orange': ('#E69F00', '#f2b632'),
    'green': ('#009E73', '#2cc79c'),
    'purple': ('#CC79A7', '#e29cc2'),
    'brown': ('#7F5B2E', '#c09a68'),
}


@dataclass(frozen=True)
class Picture:
    """One wrongly judged image."""

    source: str  # name of its source
    pixels: np.ndarray  # uint8 (H, W, 3) RGB or (H, W)
    predicted: str  # class name
    confidence: float
    p_value: float


@dataclass(frozen=True)
class ReportData:
    """What a report shows."""

    title: str  # name of the bundle
    lines: tuple[str, ...]  # facts, one sentence each
    inside: str  # name of the in-distribution source
    default: str  # name of the default score
    scores: Mapping[str, Mapping[str, np.ndarray]]
    # source -> score -> float64 (N,), larger is more unusual; the in-distribution source is first
    p_values: Mapping[str, Mapping[str, np.ndarray]]  # the same; other libraries' scores have none
    areas: Mapping[str, Mapping[str, float]]  # OOD source -> score -> AUROC
    flagged: Mapping[str, Mapping[str, float]]
    # source -> score -> share of its images that are flagged, each by its class's threshold
    thresholds: Mapping[str, tuple[float, float]]
    # score -> p-values at or below which frames are flagged, the lowest and the highest of a class
    tables: tuple[tuple[str, list[str], list[list[str]]], ...]
    # (caption, headings, rows of text); the first column names the row
    missed: tuple[Picture, ...]  # out-of-distribution images that were not flagged
    false_alarms: tuple[Picture, ...]  # in-distribution images that were flagged


@dataclass(frozen=True)
class _Look:
    """How a curve is drawn, in the figure and in its legend."""

    color: str  # key of _COLORS
    width: float
    dashes: tuple[float, ...] = ()  # on, off, ..., in points; nothing for a solid line

    def options(self, order: int) -> dict[str, Any]:
        """Return what matplotlib's ``plot`` wants."""
        return {
            'color': _light(self.color), 'linewidth': self.width, 'zorder': order,
            'linestyle': (0, self.dashes) if self.dashes else '-',
        }


_DEFAULT = _Look('blue', 3.0)
_REST = _Look('grey', 0.7)
_OTHERS = (
    _Look('vermillion', 1.8, (7, 2.5)),
    _Look('green', 1.8, (2, 1.8)),
    _Look('purple', 1.8, (9, 2, 2, 2)),
    _Look('orange', 1.8, (14, 3)),
    _Look('brown', 1.8, (6, 2, 1.5, 2, 1.5, 2)),
)

_Curve = tuple[np.ndarray, np.ndarray]

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title: evaluation</title>
<style>
:root { color-scheme: light dark; --page: #f5f6f8; --card: #ffffff; --head: #181a1e; $light }
@media (prefers-color-scheme: dark) {
  :root { --page: #121417; --card: #1c1f24; --head: #0b0c0e; $dark }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header { background: var(--head); color: #f0f2f5; padding: 40px 24px 36px; }
header > * { max-width: 1120px; margin-left: auto; margin-right: auto; }
header .name { font: 600 14px/1 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  color: #a0a6b0; margin-bottom: 18px; }
h1 { font-size: clamp(26px, 4.4vw, 40px); line-height: 1.15; letter-spacing: -0.02em;
  margin-top: 0; margin-bottom: 14px; overflow-wrap: anywhere; }
header ul { list-style: none; padding: 0; margin-top: 0; margin-bottom: 0; color: #c5cad2;
  overflow-wrap: anywhere; }
nav { margin-top: 20px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 4px 20px; }
nav a { color: #8cc6ee; overflow-wrap: anywhere; }
main, footer { max-width: 1168px; margin-left: auto; margin-right: auto; }
main { padding: 0 24px; }
section { margin-top: 44px; }
h2 { font-size: 22px; letter-spacing: -0.01em; margin: 0 0 6px; overflow-wrap: anywhere; }
section > p { color: var(--muted); margin: 0 0 16px; max-width: 80ch; }
.card { background: var(--card); border-radius: 12px; padding: 16px; margin-top: 16px;
  box-shadow: 0 1px 2px #0002; }
.plots { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 310px), 1fr)); }
figure { margin: 0; min-width: 0; }
.plots figcaption { font-weight: 600; font-size: 15px; margin-bottom: 4px; }
.plots figure > svg { display: block; width: 100%; max-width: 460px; height: auto; margin: 0 auto;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
.sides { display: grid; gap: 20px; grid-template-columns: minmax(0, 1fr); }
.plots.wide > figure > svg { max-width: 560px; }
.key { list-style: none; margin: 12px 0 0; padding: 0; font-size: 14px; display: grid;
  gap: 3px 24px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.key li { display: flex; gap: 10px; align-items: baseline; min-width: 0; }
.key svg { flex: none; align-self: center; }
.key b, .key i { font-weight: 400; font-style: normal; overflow-wrap: anywhere; min-width: 0; }
.key .default b { font-weight: 700; }
.key span { color: var(--muted); margin-left: auto; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.rest { color: var(--muted); font-size: 13px; margin: 10px 0 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 8px; overflow-wrap: anywhere; }
th { text-align: right; font-weight: 600; color: var(--muted); font-size: 13px; min-width: 80px;
  border-bottom: 1px solid var(--line); padding: 4px 10px 8px; vertical-align: bottom; }
td { text-align: right; white-space: nowrap; padding: 6px 10px;
  border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; max-width: 17em;
  min-width: 132px; white-space: normal; background: var(--card); overflow-wrap: anywhere;
  padding-left: 0; }
tr.default td { font-weight: 700; }
.pictures { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); }
.pictures figure { background: var(--card); border-radius: 10px; padding: 14px 8px 10px;
  box-shadow: 0 1px 2px #0002; }
.pictures .frame { height: 100px; display: flex; align-items: center; justify-content: center; }
.pictures img { display: block; image-rendering: pixelated; outline: 1px solid var(--line); }
.pictures figcaption { font-size: 13px; line-height: 1.35; color: var(--muted);
  text-align: center; margin-top: 8px; overflow-wrap: anywhere; }
.pictures b { color: var(--ink); }
footer { padding: 40px 24px 56px; color: var(--muted); font-size: 14px; }
@media (max-width: 560px) {
  header { padding: 28px 16px; }
  main { padding: 0 12px; }
  .card { padding: 12px; }
  .pictures { grid-template-columns: repeat(auto-fill, minmax(108px, 1fr)); }
  th:first-child, td:first-child { max-width: 9.5em; }
}
@media (min-width: 861px) {
  .sides { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); }
  .plots.wide { grid-template-columns: 1.3fr 1fr; gap: 32px; }
}
@media print { section { break-inside: avoid; } .card { box-shadow: none; } }
</style>
</head>
<body>
<header>
<div class="name">nav_monitor_ros</div>
<h1>$title</h1>
<ul>$lines</ul>
<nav>$links</nav>
</header>
<main>
$sections
</main>
<footer>A p-value says how many in-distribution images are as unusual as this one: 0.01 means one in
a hundred. AUROC is the probability that an out-of-distribution image scores higher than an
in-distribution one: 50 % is guessing. Everything on this page lies in this one file.</footer>
</body>
</html>
""")


def require_matplotlib() -> None:
    """Check that reports can be written, before hours of work go into one.

    Raises:
        NavMonitorError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NavMonitorError(
            "the report needs matplotlib: pip install 'nav_monitor_ros[report]'"
        ) from None


def write_report(path: Path, data: ReportData) -> None:
    """Write a report, complete or not at all.

    Scores that are not a number are left out of its figures.

    Args:
        path: The page, an HTML file; an old one is replaced.
        data: What it shows. Names and facts may be any text.

    Raises:
        NavMonitorError: matplotlib is not installed, or the file cannot be written.
    """
    require_matplotlib()
    import matplotlib
    import matplotlib.figure

    with matplotlib.rc_context():
        # What a user has set for plots of their own does not count here.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'lines.scale_dashes': False,
            'hatch.linewidth': 0.6,
        })
        # File names may hold bytes that are no UTF-8.
        page = _page(data).encode('utf-8', errors='backslashreplace')
    try:
        with atomic_file(path) as scratch:
            scratch.write_bytes(page)
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror or error}') from error


def _page(data: ReportData) -> str:
    outside = [name for name in data.scores if name != data.inside]
    curves = {name: _curves(data, name) for name in outside}
    looks = _looks(data)
    sections = [  # (place, title, content)
        *((f'table-{n}', 'In numbers', _table(data, *t)) for n, t in enumerate(data.tables[:1])),
        ('calibration', f'Do p-values keep their word on {data.inside}?',
         _calibration(data, looks)),
        *(
            (f'source-{n}', f'{name} against {data.inside}',
             _separation(data, name, curves[name], looks))
            for n, name in enumerate(outside)
        ),
        *(
            [('missed', 'Out-of-distribution images that were not flagged',
              '<p>Those with the largest p-values: the worst misses.</p>'
              + _pictures(data.missed))] if outside else []
        ),
        ('false-alarms', f'Images of {data.inside} that were flagged',
         '<p>Those with the smallest p-values: the worst false alarms.</p>'
         + _pictures(data.false_alarms)),
    ]
    if data.tables[1:]:
        content = ''.join(_table(data, *table) for table in data.tables[1:])
        sections.append(('tables', 'All tables', content))
    return _PAGE.substitute(
        title=escape(data.title),
        light=' '.join(f'--{name}: {light};' for name, (light, _) in _COLORS.items()),
        dark=' '.join(f'--{name}: {dark};' for name, (_, dark) in _COLORS.items()),
        lines=''.join(f'<li>{escape(line)}</li>' for line in data.lines),
        links=''.join(f'<a href="#{at}">{escape(title)}</a>' for at, title, _ in sections),
        sections='\n'.join(
            f'<section id="{at}"><h2>{escape(title)}</h2>{content}</section>'
            for at, title, content in sections
        ),
    )


# ------------------------------------------------------------------ text and pictures


def _table(data: ReportData, caption: str, headings: Sequence[str], rows: list[list[str]]) -> str:
    head = ''.join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = []
    for row in rows:
        kind = ' class="default"' if row and row[0].split(',')[0] == data.default else ''
        cells = ''.join(f'<td>{escape(cell)}</td>' for cell in row)
        body.append(f'<tr{kind}>{cells}</tr>')
    return (
        f'<div class="card scroll"><table><caption>{escape(caption)}</caption>'
        f'<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _pictures(pictures: Iterable[Picture]) -> str:
    figures = []
    for picture in pictures:
        content, height, width = _png(picture.pixels)
        source = base64.b64encode(content).decode('ascii')
        figures.append(
            f'<figure><div class="frame"><img alt="{escape(picture.source)}" width="{width}" '
            f'height="{height}" src="data:image/png;base64,{source}"></div>'
            f'<figcaption><b>{escape(picture.source)}</b><br>“{escape(picture.predicted)}”, '
            f'{picture.confidence:.1%}<br>p = {picture.p_value:.2g}</figcaption></figure>'
        )
    if not figures:
        return '<div class="card">none</div>'
    return f'<div class="pictures">{"".join(figures)}</div>'


def _png(pixels: np.ndarray) -> tuple[bytes, int, int]:
    """Return a picture of about ``PICTURE_SIDE``, as a PNG file, with its height and width."""
    image = np.ascontiguousarray(pixels)
    if image.ndim == 3:
        image = image[:, :, 0] if image.shape[2] == 1 else image[:, :, 2::-1]
    side = max(image.shape[:2])
    if side > PICTURE_SIDE:
        height, width = (max(1, round(n * PICTURE_SIDE / side)) for n in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    else:
        # By a whole number, so that every pixel is as large as the others.
        times = max(1, PICTURE_SIDE // side)
        image = image.repeat(times, axis=0).repeat(times, axis=1)
    encoded = cv2.imencode('.png', image)[1].tobytes()
    return encoded, image.shape[0], image.shape[1]


def _key(entries: Iterable[tuple[str, str, str, bool]]) -> str:
    """Return a legend of (swatch, name, number, whether it is the default's)."""
    return '<ul class="key">' + ''.join(
        f'<li{" class=default" if default else ""}>{swatch}<b>{escape(name)}</b>'
        f'<span>{escape(number)}</span></li>'
        for swatch, name, number, default in entries
    ) + '</ul>'


def _swatch(inner: str) -> str:
    return f'<svg width="40" height="12" viewBox="0 0 40 12" aria-hidden="true">{inner}</svg>'


def _line_swatch(look: _Look) -> str:
    dashes = f' stroke-dasharray="{" ".join(map(str, look.dashes))}"' if look.dashes else ''
    return _swatch(
        f'<line x1="1" y1="6" x2="39" y2="6" stroke-width="{look.width}" '
        f'style="stroke: var(--{look.color})"{dashes}/>'
    )


def _rest(names: Sequence[str]) -> str:
    if not names:
        return ''
    return f'<p class="rest">Thin grey lines: {escape(", ".join(names))}.</p>'


# ------------------------------------------------------------------ one source against another


def _curves(data: ReportData, name: str) -> dict[str, _Curve]:
    """Return the ROC curve of each score that has one."""
    found = {}
    for score, normal in data.scores[data.inside].items():
        curve = _roc(normal, data.scores[name].get(score, np.empty(0)))
        if curve is not None:
            found[score] = curve
    return found


def _roc(normal: np.ndarray, strange: np.ndarray) -> _Curve | None:
    """Return false and true positive rates, from none flagged to all; None without images."""
    normal, strange = normal[~np.isnan(normal)], strange[~np.isnan(strange)]
    if not len(normal) or not len(strange):
        return None
    _, places = np.unique(np.concatenate([normal, strange]), return_inverse=True)
    places = places.reshape(-1)
    rates = [
        np.bincount(part, minlength=places.max() + 1)[::-1].cumsum() / len(part)
        for part in (places[:len(normal)], places[len(normal):])
    ]
    return np.append(0.0, rates[0]), np.append(0.0, rates[1])


def _looks(data: ReportData) -> dict[str, _Look]:
    """Return a look for each score, the same in all figures; the last ones drawn come first."""
    def mean(score: str) -> float:
        values = [by_score[score] for by_score in data.areas.values() if score in by_score]
        return float(np.mean(values)) if values else 0.0

    names = list(data.scores[data.inside])
    others = sorted((name for name in names if name != data.default), key=lambda n: -mean(n))
    looks = {data.default: _DEFAULT} if data.default in names else {}
    looks.update(zip(others, _OTHERS[:HIGHLIGHTED], strict=False))
    return {**looks, **{name: _REST for name in others if name not in looks}}


def _separation(
    data: ReportData,
    name: str,
    curves: Mapping[str, _Curve],
    looks: Mapping[str, _Look],
) -> str:
    sizes = [len(next(iter(data.scores[n].values()), ())) for n in (name, data.inside)]
    if not curves:
        return '<div class="card">No image here has a score.</div>'
    at = _operating_point(data, name)
    shown = {score: look for score, look in looks.items() if score in curves}
    coloured = [score for score, look in shown.items() if look is not _REST]
    areas = data.areas.get(name, {})
    entries = [
        (_line_swatch(shown[score]), score,
         f'AUROC {_percent(areas[score])}' if score in areas else '', score == data.default)
        for score in coloured
    ]
    if at is not None:
        dot = '<circle cx="20" cy="6" r="4.5" style="fill: var(--blue)"/>'
        entries.append((
            _swatch(dot), f'{data.default} as calibrated',
            f'{_percent(at[0])}, {_percent(at[1])}', False,
        ))
    histogram = _histogram(data, name)
    rates = (
        ('How many are found, at what price',
         _draw_roc(curves, shown, at, None, f'ROC curves for {name}')),
        ('The same where false alarms are rare',
         _draw_roc(curves, shown, at, min(0.1, 1 / max(1, sizes[1])),
                   f'ROC curves for {name}, logarithmic')),
    )
    return (
        f'<p>Images: {sizes[0]} of {escape(name)}, {sizes[1]} of {escape(data.inside)}. '
        'The coloured scores are the default and those with the best mean AUROC over all '
        'sources.</p><div class="card sides"><div><div class="plots">'
        f'{"".join(_figure_of(*rate) for rate in rates)}</div>'
        f'{_key(entries)}{_rest([s for s in shown if s not in coloured])}</div>'
        f'<div class="plots">{_figure_of(f"The default score, {data.default}", histogram)}</div>'
        '</div>'
    )


def _figure_of(title: str, content: str) -> str:
    return f'<figure><figcaption>{escape(title)}</figcaption>{content}</figure>'


def _operating_point(data: ReportData, name: str) -> tuple[float, float] | None:
    """Return the shares of both sources that the default score flags as it is calibrated."""
    false, true = (data.flagged.get(n, {}).get(data.default) for n in (data.inside, name))
    return None if false is None or true is None else (false, true)


def _draw_roc(
    curves: Mapping[str, _Curve],
    looks: Mapping[str, _Look],
    at: tuple[float, float] | None,
    low: float | None,
    title: str,
) -> str:
    """Draw ROC curves; from the false positive rate ``low`` on a logarithmic axis, if given."""
    figure, axes = _figure()
    grid = np.linspace(0, 1, 200) if low is None else np.geomspace(low, 1, 200)
    axes.plot(*_thin((grid, grid), low, _TOLERANCE), color=_light('muted'), linewidth=0.9,
              linestyle=(0, (1, 2)), zorder=1)
    for order, score in enumerate(reversed(list(looks)), start=2):
        look = looks[score]
        tolerance = 2 * _TOLERANCE if look is _REST else _TOLERANCE
        axes.plot(*_thin(curves[score], low, tolerance), **look.options(order))
    if at is not None:
        axes.plot(at[0] if low is None else max(at[0], low), at[1], marker='o', markersize=8,
                  color=_light('blue'), clip_on=False, zorder=100)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(-0.02, 1.02)
    if low is not None:
        _logarithmic(axes, 'x', low / 1.15, 1.1)
    axes.set_xlabel('false positive rate' + (' (logarithmic)' if low else ''))
    axes.set_ylabel('true positive rate')
    return _svg(figure, title)


def _thin(curve: _Curve, low: float | None, tolerance: float) -> _Curve:
    """Return the vertices that a curve needs to look the same.

    Args:
        curve: x and y, float (N,), neither ever falling, in [0, 1].
        low: Where a logarithmic x axis begins; None for a linear one.
        tolerance: How far the curve may be off, in panel widths.
    """
    x, y = curve
    u = x
    if low is not None:
        # A straight line between two vertices is none on this axis.
        more = np.geomspace(low, 1, 200)
        x, y = np.append(x, more), np.append(y, np.interp(more, x, y))
        order = np.lexsort([y, x])
        x, y = np.maximum(x[order], low), y[order]
        u = 1 - np.log(x) / np.log(low)
    kept = _vertices(u, y, tolerance)
    return x[kept], y[kept]


def _vertices(x: np.ndarray, y: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which vertices of a line to keep (Douglas and Peucker, 1973), bool (N,)."""
    kept = np.zeros(len(x), bool)
    kept[[0, -1]] = True
    open_parts = [(0, len(x) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        across, up = x[last] - x[first], y[last] - y[first]
        right, above = x[first:last] - x[first], y[first:last] - y[first]
        length = np.hypot(across, up)
        off = abs(across * above - up * right) / length if length else np.hypot(right, above)
        furthest = first + int(off.argmax())
        if off.max() > tolerance:
            kept[furthest] = True
            open_parts += [(first, furthest), (furthest, last)]
    return kept


def _histogram(data: ReportData, name: str) -> str:
    """Return the default score of two sources, an SVG and its legend."""
    found = [data.p_values.get(n, {}).get(data.default) for n in (data.inside, name)]
    has_p = all(values is not None for values in found)
    lines = _lines(data) if has_p else []
    if has_p:
        values = [-np.log10(np.clip(_numbers(v), _FLOOR, 1)) for v in found if v is not None]
        line = -np.log10(max(lines)) if lines else None
    else:
        values = [_numbers(data.scores[n].get(data.default, ())) for n in (data.inside, name)]
        line = None
    figure, axes = _figure(left=0.95)
    edges = _edges(np.concatenate(values), line)
    drawn = [
        np.histogram(v, edges)[0] / max(1, len(v)) if len(v) else np.zeros(len(edges) - 1)
        for v in values
    ]
    low = min([0.1, *(1 / len(v) for v in values if len(v))]) / 1.6
    axes.stairs(drawn[0], edges, baseline=low, fill=True, facecolor=_light('blue'), alpha=0.45,
                linewidth=0, zorder=2)
    axes.stairs(drawn[0], edges, baseline=low, color=_light('blue'), linewidth=1, zorder=3)
    axes.stairs(drawn[1], edges, baseline=low, edgecolor=_light('vermillion'), linewidth=1.6,
                fill=True, facecolor='none', hatch='////', zorder=4)
    _draw_thresholds(axes, [-np.log10(line) for line in lines], 5)
    _logarithmic(axes, 'y', low, 1.3)
    axes.yaxis.set_major_formatter(lambda share, _: f'{100 * share:g} %')
    axes.set_ylabel('share of the images')
    axes.set_xlim(edges[0], edges[-1])
    if has_p:
        axes.set_xticks(range(int(edges[-1]) + 1))
        axes.xaxis.set_major_formatter(lambda x, _: f'{10.0 ** -round(x):g}')
        axes.set_xlabel('p-value: unusual images are on the right')
    else:
        axes.set_xlabel('score: unusual images are on the right')
    box = '<rect x="1" y="1" width="38" height="10" stroke-width="1.4" style="{}"/>'
    stripes = ''.join(f'<path d="M{x} 11 l10 -10"/>' for x in (4, 12, 20, 28))
    swatches = (
        _swatch(box.format('fill: var(--blue); fill-opacity: 0.45; stroke: var(--blue)')),
        _swatch(box.format('fill: none; stroke: var(--vermillion)')
                + f'<g style="stroke: var(--vermillion)">{stripes}</g>'),
    )
    at = _operating_point(data, name)
    notes = ['' if at is None else f'flagged: {_percent(share)}' for share in (at or (0, 0))]
    svg = _svg(figure, f'Histogram of {data.default} for {data.inside} and {name}')
    return svg + _key(
        (swatch, source, note, False)
        for swatch, source, note in zip(swatches, (data.inside, name), notes, strict=True)
    )


def _edges(values: np.ndarray, line: float | None) -> np.ndarray:
    """Return edges of bins around all values, one of them at the threshold, which is above 0."""
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


def _calibration(data: ReportData, looks: Mapping[str, _Look]) -> str:
    """Return the section that holds the p-values of in-distribution images against their word."""
    measured = {
        score: np.sort(_numbers(data.p_values[data.inside][score]))
        for score in looks if score in data.p_values.get(data.inside, {})
    }
    measured = {score: values for score, values in measured.items() if len(values)}
    if not measured:
        return '<div class="card">No score here has p-values.</div>'
    size = max(map(len, measured.values()))
    thresholds = _lines(data)
    smallest = [float(v[0]) for v in measured.values() if v[0] > 0]
    low = max(_FLOOR, min([0.1, 1 / size, *thresholds, *smallest]) / 1.6)
    grid = np.unique(np.append(np.geomspace(low, 1, 240), thresholds))
    figure, axes = _figure(width=5.4, height=4.3, left=0.95)
    axes.plot([low, 1], [low, 1], color=_light('ink'), linewidth=1, linestyle=(0, (1, 2)),
              zorder=40)
    for order, score in enumerate(reversed(list(measured)), start=2):
        counts = np.searchsorted(measured[score], grid, 'right')
        shares = counts / len(measured[score])
        if score == data.default:
            _draw_band(axes, grid, counts, len(measured[score]), low)
        axes.plot(grid, np.maximum(shares, low / 10), drawstyle='steps-post',
                  **looks[score].options(order + 3))
    _draw_thresholds(axes, thresholds, 30)
    for axis in 'xy':
        _logarithmic(axes, axis, low, 1.0)
    for text, place, side in (('more alarms than p says', (0.04, 0.94), 'left'),
                              ('fewer alarms than p says', (0.97, 0.05), 'right')):
        axes.text(*place, text, transform=axes.transAxes, ha=side, va='center', fontsize=10,
                  color=_light('muted'), zorder=50)
    axes.set_xlabel('p-value (logarithmic)')
    axes.set_ylabel('share of images at or below it')
    coloured = [score for score in measured if looks[score] is not _REST]
    entries = [(_line_swatch(looks[s]), s, '', s == data.default) for s in coloured]
    band = ''
    if data.default in measured:
        patch = '<rect width="40" height="12" style="fill: var(--blue); fill-opacity: 0.18"/>'
        entries.insert(1, (_swatch(patch), f'{CONFIDENCE:.0%} interval of {data.default}', '',
                           False))
        band = (
            f' The band is the exact {CONFIDENCE:.0%} interval (Clopper and Pearson, for each '
            f"p-value by itself) of the default's true share, given "
            f'{len(measured[data.default])} images.'
        )
    text = (
        'How to read it: a p-value keeps its word where its curve is on the dotted diagonal or '
        'below it, because then at most a share p of these in-distribution images has a p-value '
        'of p or less; where the whole band is above the diagonal, there are more false alarms '
        'than promised.'
    )
    svg = _svg(figure, f'Shares of {data.inside} by p-value, against the diagonal')
    return (
        f'<p>{text}{escape(band)}</p><div class="card"><div class="plots wide">'
        f'<figure>{svg}</figure>'
        f'<div>{_key(entries)}{_rest([s for s in measured if s not in coloured])}</div>'
        '</div></div>'
    )


def _draw_band(axes: Axes, grid: np.ndarray, counts: np.ndarray, size: int, low: float) -> None:
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    # The limits at no and at all images are 0 and 1; the formula has no value there.
    least = np.where(counts > 0, beta.ppf(tail, np.maximum(counts, 1), size - counts + 1), 0)
    most = np.where(
        counts < size, beta.ppf(1 - tail, counts + 1, np.maximum(size - counts, 1)), 1
    )
    axes.fill_between(grid, np.maximum(least, low / 10), most, step='post', linewidth=0,
                      color=_light('blue'), alpha=0.18, zorder=1)


# ------------------------------------------------------------------ drawing


def _lines(data: ReportData) -> list[float]:
    """Return the default score's thresholds that can be drawn: one, or the limits of several."""
    return sorted({p for p in data.thresholds.get(data.default, ()) if 0 < p < 1})


def _draw_thresholds(axes: Axes, lines: Sequence[float], order: int) -> None:
    """Draw the threshold, or the range in which those of the classes lie."""
    if not lines:
        return
    for line in lines:
        axes.axvline(line, color=_light('ink'), linewidth=1.4, linestyle=(0, (5, 2)), zorder=order)
    if len(lines) > 1:
        axes.axvspan(min(lines), max(lines), color=_light('ink'), alpha=0.12, linewidth=0,
                     zorder=order)
    axes.annotate('thresholds by class' if len(lines) > 1 else 'threshold',
                  (lines[0], 1), (0, 3), xycoords=('data', 'axes fraction'),
                  textcoords='offset points', ha='center', color=_light('ink'), fontsize=10)


def _light(name: str) -> str:
    return _COLORS[name][0]


def _percent(share: float) -> str:
    return f'{100 * share:.2f} %'


def _numbers(values: Any) -> np.ndarray:
    """Return the finite ones, float64 (M,)."""
    array = np.asarray(values, np.float64).reshape(-1)
    return array[np.isfinite(array)]


def _figure(
    width: float = 4.5, height: float = 3.9, left: float = 0.72
) -> tuple[Any, Axes]:
    """Return an empty figure, sizes in inches; ``left`` is the room for the y axis' numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor='none')
    right, bottom, top = 0.14, 0.55, 0.26
    axes = figure.add_axes((
        left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height
    ))
    axes.set_facecolor('none')
    axes.grid(color=_light('line'), linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which='both', color=_light('muted'), labelcolor=_light('muted'), labelsize=10)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set_color(_light('muted'))
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(_light('ink'))
        axis.label.set_fontsize(11)
    return figure, axes


def _logarithmic(axes: Axes, axis: str, low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers at the decades."""
    axes.set(**{f'{axis}scale': 'log'})
    axes.set(**{f'{axis}lim': (low, high)})
    along = axes.xaxis if axis == 'x' else axes.yaxis
    along.set_major_formatter(lambda value, _: f'{value:g}')
    along.set_minor_formatter(lambda value, _: '')


def _svg(figure: Any, title: str) -> str:
    """Return a figure as an SVG element of the page, in the page's own colours."""
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None, 'Creator': None})
    text = file.getvalue()
    text = text[text.index('<svg'):]
    for useless in ('<metadata>.*?</metadata>', '<style.*?</style>', '<!--.*?-->'):
        text = re.sub(useless, '', text, flags=re.DOTALL)
    size = re.search(r'viewBox="[^"]*"', text)
    assert size is not None
    opening = f'<svg {size[0]} role="img" aria-label="{escape(title)}">'
    text = opening + text[text.index('>') + 1:]
    # Names are unique on the page, or stand for the same shape: they are hashes of it.
    text = re.sub(r'<g id="[^"]*"', '<g', text).replace('xlink:href', 'href')
    text = re.sub(r' d="[^"]*"', lambda d: re.sub(r'(\.\d\d)\d+', r'\1', d[0]), text)
    text = re.sub(r'font-family: [^;"]*; ', '', text)  # the page's own
    names = {light.lower(): name for name, (light, _) in _COLORS.items()}
    text = re.sub(
        r'(fill|stroke): (#[0-9a-f]{6})',
        lambda found: f'{found[1]}: var(--{names[found[2]]})' if found[2] in names else found[0],
        text,
    )
    return re.sub(r'\n\s*', '\n', text)
