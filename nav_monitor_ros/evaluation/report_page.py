"""Report of an evaluation: one HTML page, without network access or JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.report_data import Picture, ReportData
from nav_monitor_ros.evaluation.report_figures import (
    REST,
    LegendEntry,
    LineStyle,
    calibrated_p_values,
    draw_calibration,
    draw_histogram,
    draw_roc,
    line_styles,
    operating_point_of,
    roc_legend,
)
from nav_monitor_ros.evaluation.roc_curves import Curve, roc_curve
from nav_monitor_ros.evaluation.tables import TERMS
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.views.pages.charts import chart_style
from nav_monitor_ros.views.pages.data_uris import data_uri
from nav_monitor_ros.views.pages.rendering import render

PICTURE_SIDE = 96  # pixels, approximately


@dataclass(frozen=True)
class _Calibration:
    size: int | None  # number of images for the band of the default, None without its p-values
    figure: Markup
    legend: list[LegendEntry]
    rest: list[str]  # scores drawn in grey


@dataclass(frozen=True)
class _Separation:
    source: str
    images: int
    images_inside: int
    roc_figures: tuple[tuple[str, Markup], ...] = ()  # title, figure; none without scores
    roc_legend: Sequence[LegendEntry] = ()
    rest: Sequence[str] = ()  # scores drawn in grey
    histogram: Markup = Markup()
    histogram_legend: Sequence[LegendEntry] = ()


@dataclass(frozen=True)
class _Thumbnail:
    source: str
    predicted: str
    confidence: float
    p_value: float
    uri: str
    width: int  # pixels
    height: int


def write_report(path: Path, data: ReportData) -> None:
    """Write a report atomically.

    NaN scores are left out of its figures.

    Args:
        path: HTML file to write; an existing one is replaced.
        data: Contents of the report. Names and facts may be any text.

    Raises:
        NavMonitorError: The file cannot be written.
    """
    with chart_style():
        # File names may contain bytes that are not UTF-8.
        page = _page(data).encode('utf-8', errors='backslashreplace')
    try:
        with atomic_file(path) as scratch:
            scratch.write_bytes(page)
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror or error}') from error


def _page(data: ReportData) -> str:
    outside = [name for name in data.scores if name != data.inside]
    styles = line_styles(data)
    return render(
        'evaluation.html', title=f'{data.title}: evaluation', name=data.title, lines=data.lines,
        result=data.result, warning=data.warning,
        inside=data.inside, default=data.default, tables=data.tables,
        terms=TERMS, bound=data.bound, calibration=_calibration(data, styles),
        separations=[_separation(data, name, styles) for name in outside],
        missed=_thumbnails(data.missed), false_alarms=_thumbnails(data.false_alarms),
    )


def _calibration(data: ReportData, styles: Mapping[str, LineStyle]) -> _Calibration | None:
    p_values = calibrated_p_values(data, styles)
    if not p_values:
        return None
    figure, legend = draw_calibration(data, p_values, styles)
    size = len(p_values[data.default]) if data.default in p_values else None
    return _Calibration(size, figure, legend, [s for s in p_values if styles[s] is REST])


def _separation(
    data: ReportData, source: str, styles: Mapping[str, LineStyle]
) -> _Separation:
    images, images_inside = (
        len(next(iter(data.scores[name].values()), ())) for name in (source, data.inside)
    )
    curves = _curves(data, source)
    if not curves:
        return _Separation(source, images, images_inside)
    shown = {score: style for score, style in styles.items() if score in curves}
    at = operating_point_of(data, source)
    low = min(0.1, 1 / max(1, images_inside))
    histogram, histogram_legend = draw_histogram(data, source)
    return _Separation(
        source, images, images_inside,
        roc_figures=(
            ('ROC curves', draw_roc(curves, shown, at, None, f'ROC curves for {source}')),
            ('ROC curves where false alarms are rare',
             draw_roc(curves, shown, at, low, f'ROC curves for {source}, logarithmic')),
        ),
        roc_legend=roc_legend(data, source, shown, at),
        rest=[score for score, style in shown.items() if style is REST],
        histogram=histogram, histogram_legend=histogram_legend,
    )


def _curves(data: ReportData, source: str) -> dict[str, Curve]:
    """Return the ROC curve of each score that has one."""
    found = {}
    for score, normal in data.scores[data.inside].items():
        curve = roc_curve(normal, data.scores[source].get(score, np.empty(0)))
        if curve is not None:
            found[score] = curve
    return found


def _thumbnails(pictures: Iterable[Picture]) -> list[_Thumbnail]:
    found = []
    for picture in pictures:
        content, height, width = _png(picture.pixels)
        found.append(_Thumbnail(
            picture.source, picture.predicted, picture.confidence, picture.p_value,
            data_uri('image/png', content), width, height,
        ))
    return found


def _png(pixels: np.ndarray) -> tuple[bytes, int, int]:
    """Return an image of about ``PICTURE_SIDE`` as a PNG file, with its height and width."""
    image = np.ascontiguousarray(pixels)
    if image.ndim == 3:
        image = image[:, :, 0] if image.shape[2] == 1 else image[:, :, 2::-1]
    side = max(image.shape[:2])
    if side > PICTURE_SIDE:
        height, width = (max(1, round(n * PICTURE_SIDE / side)) for n in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    else:
        # By an integer factor, so that all pixels have the same size.
        times = max(1, PICTURE_SIDE // side)
        image = image.repeat(times, axis=0).repeat(times, axis=1)
    encoded = cv2.imencode('.png', image)[1].tobytes()
    return encoded, image.shape[0], image.shape[1]
