"""Page that shows a drive: one self-contained file with a top view, a video and the last images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from drive_record import DriveRecord, Sight
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from run_page import TEMPLATES, ShownPicture, Tile

from nav_monitor_ros.sim.robot.kinematics import ROBOT
from nav_monitor_ros.sim.world.shapes import Thing
from nav_monitor_ros.sim.world.world import World
from nav_monitor_ros.views.pages.charts import chart_style, color, inline_svg
from nav_monitor_ros.views.pages.data_uris import data_uri, photo_uri
from nav_monitor_ros.views.pages.rendering import render

VIDEO = 'drive.webm'
FILMED = 30.0  # s at the end of a drive that the video shows
_VIDEO = 400, 300  # pixels
BEFORE = 2.5  # s before the alert from which images are shown
SHOWN = 8  # images in the row
SPEED = 'speed in m/s'
_BANNER = 24  # pixels
_GO, _STOP = (0, 114, 178), (213, 94, 0)  # RGB


def write_drive_page(path: Path, record: DriveRecord, world: World, rate: float) -> None:
    """Write the page, and the video beside it.

    Args:
        path: Path of the page.
        record: Of a finished drive.
        world: The world in which the robot drove.
        rate: Images per second of the camera.
    """
    assert world.unknown is not None
    kind = world.unknown.kind.replace('_', '-')
    alert, last = record.first_alert, record.sights[-1]
    video = path.parent / VIDEO
    write_video(video, record, rate)
    overlay = record.nearest_overlay(alert.stamp_ns if alert else last.stamp_ns)
    page = render(
        'drive.html', templates=TEMPLATES,
        headline=headline(record, kind),
        lead=f'A simulated robot drove through a corridor at up to {ROBOT.speed:g} m/s. Its camera '
        f'sent {len(record.sights)} images over ROS 2 to the monitor; safety_stop passed the '
        f"driver's commands while ood_alert was False. The network was trained without any "
        f'{kind}, and so was the monitor.',
        tiles=list(_tiles(record, kind)),
        top_view=inline(
            lambda: top_view(
                world, np.array([(s.x, s.y) for s in record.sights]), start='start'),
            'the corridor from above'),
        chart=inline(lambda: _chart(record), 'p-value, speed and distance over time'),
        row=[_shown(record, sight) for sight in _row(record)],
        overlay=photo_uri(overlay[1]) if overlay else '',
        video=data_uri('video/webm', video.read_bytes()),
        kind=kind, threshold=f'{record.p_threshold:.2g}',
    )
    path.write_text(page, encoding='utf-8')


def headline(record: DriveRecord, kind: str) -> str:
    """Return what came of the drive, in one sentence."""
    if record.touched:
        return f'The robot drove into the {kind}'
    if record.first_alert is None:
        return f'The robot did not stop for the {kind}'
    return f'The robot stopped {record.gap:.2f} m before a {kind}, which it had never seen'


def _tiles(record: DriveRecord, kind: str) -> Iterator[Tile]:
    alert = record.first_alert
    seconds = record.sights[-1].time
    driven = float(np.sum(np.hypot(
        np.diff([s.x for s in record.sights]), np.diff([s.y for s in record.sights]))))
    yield Tile(f'{driven:.0f} m', f'driven in {seconds:.0f} s')
    if alert is not None:
        yield Tile(
            f'{alert.gap:.1f} m', f'from the {kind} when the alert became True', is_alert=True)
    yield Tile(f'{record.gap:.2f} m', f'from the {kind} at the end', is_alert=True)
    yield Tile(str(record.false_stops), 'other stops for unusual images')


def _row(record: DriveRecord) -> list[Sight]:
    """Return images from shortly before the alert until the end, evenly spaced."""
    alert = record.first_alert or record.sights[-1]
    near = [s for s in record.sights if s.time >= alert.time - BEFORE]
    places = np.unique(np.linspace(0, len(near) - 1, min(SHOWN, len(near))).round().astype(int))
    return [near[place] for place in places if near[place].stamp_ns in record.images]


def _shown(record: DriveRecord, sight: Sight) -> ShownPicture:
    alert = record.first_alert
    moment = 0.0 if alert is None else sight.time - alert.time
    title = 'the alert' if sight is alert else f'{moment:+.1f} s'
    return ShownPicture(
        title, f'{sight.class_name}, p = {sight.p_value:.2g}, {sight.gap:.1f} m'
        + (', flagged' if sight.flagged else ''), photo_uri(record.images[sight.stamp_ns]))


def write_video(path: Path, record: DriveRecord, rate: float) -> None:
    """Write the last of the camera's images with a banner that says what the monitor decided."""
    size = None
    writer: cv2.VideoWriter | None = None
    sights = {sight.stamp_ns: sight for sight in record.sights}
    newest: Sight | None = None
    for stamp in sorted(record.images)[-round(FILMED * rate):]:
        newest = sights.get(stamp, newest)
        image = cv2.resize(record.images[stamp], _VIDEO, interpolation=cv2.INTER_LINEAR)
        frame = np.concatenate([_banner(newest, image.shape[1]), image])
        if writer is None:
            size = frame.shape[1], frame.shape[0]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'VP80'), rate, size)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    if writer is not None:
        writer.release()


def _banner(sight: Sight | None, width: int) -> np.ndarray:
    stopped = sight is None or sight.alert
    banner = np.full((_BANNER, width, 3), _STOP if stopped else _GO, np.uint8)
    if sight is None:
        text = 'STOP   starting'
    elif stopped:
        text = f'STOP   {sight.reason.replace("_", " ")}   p = {sight.p_value:.2g}'
    else:
        text = f'DRIVE   {sight.class_name}   p = {sight.p_value:.2g}   {sight.speed:.2f} m/s'
    cv2.putText(banner, text, (8, 17), cv2.FONT_HERSHEY_DUPLEX, 0.45, (255, 255, 255), 1,
                cv2.LINE_AA)
    return banner


def inline(draw: Callable[[], Figure], name: str) -> Markup:
    """Return a figure as SVG for a page; ``name`` describes it to those who do not see it."""
    with chart_style():
        return inline_svg(draw(), name)


def top_view(world: World, path: np.ndarray, *, start: str = '') -> Figure:
    """Return the world from above, with the robot's path.

    Args:
        world: World with an unknown object.
        path: Positions of the robot until it ended, (N, 2), m.
        start: Name of the first one.
    """
    matplotlib.rcParams.update({'font.size': 10, 'text.color': color('ink')})
    figure = Figure(figsize=(8.0, 5.2), facecolor='none')
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_facecolor('none')
    axes.set_aspect('equal')
    axes.axis('off')
    for x0, y0, x1, y1 in world.plan.rectangles:
        axes.add_patch(Rectangle(
            (x0, y0), x1 - x0, y1 - y0, facecolor=color('cool'), edgecolor='none'))
    for wall in world.plan.walls:
        axes.plot(*zip(wall.start, wall.end, strict=True), color=color('muted'), linewidth=1.5)
    for thing in (*world.doors, *world.things):
        _draw_thing(axes, thing, color('line'), color('muted'))
    assert world.unknown is not None
    _draw_thing(axes, world.unknown, color('vermillion'), color('vermillion'))
    axes.plot(*path.T, color=color('blue'), linewidth=2.2)
    axes.add_patch(Circle(path[-1], ROBOT.radius, facecolor=color('blue'), edgecolor='none'))
    axes.annotate(
        start, path[0], textcoords='offset points', xytext=(4, 6), color=color('muted'))
    axes.annotate(
        world.unknown.kind.replace('_', '-'), (world.unknown.x, world.unknown.y),
        textcoords='offset points', xytext=(8, 10), color=color('vermillion'))
    around = np.vstack([path, [(world.unknown.x, world.unknown.y)]])
    low, high = around.min(0) - 2.0, around.max(0) + 2.0
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    return figure


def _draw_thing(axes: object, thing: Thing, face: str, edge: str) -> None:
    for hull in thing.outlines:
        axes.add_patch(Polygon(hull, facecolor=face, edgecolor=edge, linewidth=0.8))  # type: ignore[attr-defined]


def _chart(record: DriveRecord) -> Figure:
    matplotlib.rcParams.update({
        'font.size': 10, 'axes.edgecolor': color('muted'), 'text.color': color('ink'),
        'axes.labelcolor': color('ink'), 'xtick.color': color('muted'),
        'ytick.color': color('muted')})
    figure = Figure(figsize=(11.6, 4.6), facecolor='none')
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={'hspace': 0.08})
    times = np.array([s.time for s in record.sights])
    flagged = np.array([s.flagged for s in record.sights])
    p_values = np.maximum([s.p_value for s in record.sights], 1e-4)
    for mask, name, which in ((~flagged, 'image', 'blue'), (flagged, 'flagged', 'vermillion')):
        upper.semilogy(times[mask], p_values[mask], '.', markersize=4, color=color(which),
                       label=name)
    upper.axhline(record.p_threshold, color=color('muted'), linewidth=1, linestyle='--')
    upper.set_ylabel('p-value')
    upper.legend(loc='lower left', frameon=False, ncol=2)
    lower.plot(times, [s.speed for s in record.sights], color=color('blue'), label=SPEED)
    gaps = np.array([s.gap if math.isfinite(s.gap) else np.nan for s in record.sights])
    lower.plot(times, np.minimum(gaps, 3.0), color=color('vermillion'),
               label='distance from the unknown object in m, at most 3')
    lower.set_ylim(top=3.9)
    lower.set_xlabel('seconds')
    lower.legend(loc='upper left', frameon=False, ncol=2)
    alert = record.first_alert
    for axes in (upper, lower):
        axes.set_facecolor('none')
        if alert is not None:
            axes.axvline(alert.time, color=color('vermillion'), linewidth=1)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.97, bottom=0.12)
    return figure
