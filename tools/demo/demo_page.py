"""Page that shows a run of the demo: one self-contained file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_chart import inline_timeline, timeline_file
from demo_record import Frame, Kind, Record, SegmentSummary, Summary
from run_page import TEMPLATES, ShownPicture, Tile

from nav_monitor_ros.views.pages.data_uris import data_uri
from nav_monitor_ros.views.pages.rendering import render

COMMANDS = (
    ('A shell in which everything below works', '. ./env.sh'),
    (
        'Your own camera, on a robot with ROS 2',
        'ros2 launch nav_monitor_ros monitor.launch.py bundle:=digits '
        'image_topic:=/camera/image_raw',
    ),
    ('The contents of the bundle used here', 'nav_monitor show {bundle}'),
    (
        'How well it separates other images, in numbers',
        'nav_monitor evaluate {bundle} --inside sample:digits --ood triangles=sample:triangles \\\n'
        '    --ood photographs=sample:photos --ood textures=sample:textures',
    ),
    ('A monitor for your own network', 'nav_monitor fit --help'),
    ('A longer run of this demo', 'python tools/demo/demo.py --seconds-per-segment 15'),
)


@dataclass(frozen=True)
class CapturedPicture:
    """Picture of the run, on disk."""

    path: Path  # PNG
    view: str  # overlay or activations
    segment: int  # position in the record
    moment: str  # moment that it shows, such as 'first alert'; '' for a typical one
    frame: Frame | None  # verdict on the image in it; None if that was not judged


def write_page(
    path: Path,
    *,
    record: Record,
    summary: Summary,
    pictures: Sequence[CapturedPicture],
    camera: str,
    bundle: str,
    rule: str,
) -> None:
    """Write the page, and its chart beside it as ``timeline.svg``.

    Args:
        path: Path of the page.
        record: Record of a finished run.
        summary: Summary of that run.
        pictures: Pictures to embed, in this order.
        camera: Human-readable size and rate of the camera.
        bundle: Name of the bundle used.
        rule: Sentence that describes how images raise the alert.
    """
    (path.parent / 'timeline.svg').write_bytes(timeline_file(record, summary))
    page = render(
        'demo.html', templates=TEMPLATES,
        headline=_headline(summary),
        lead=f'A camera process ({camera}) sent {summary.received + summary.lost} images over ROS '
        f"2 to the monitor, which judged {summary.judged} of them. The bundle '{bundle}' was "
        'fitted to handwritten digits only.',
        tiles=list(_tiles(summary)),
        rule=rule,
        chart=inline_timeline(record, summary),
        rows=[_row(segment) for segment in summary.segments],
        expectations=summary.expectations, all_met=summary.passed,
        overlays=list(_shown(record, pictures, 'overlay')),
        activations=list(_shown(record, pictures, 'activations')),
        commands=[(title, command.format(bundle=bundle)) for title, command in COMMANDS],
        footer=f'{summary.received} images reached the monitor: {summary.judged} were judged and '
        f'{summary.dropped} were replaced by a newer one before that. {summary.lost} were lost in '
        'transport. A plain ROS 2 node received everything on this page; the numbers are in '
        'summary.json.',
    )
    path.write_text(page, encoding='utf-8')


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    frames: int
    flagged: str
    expected: bool  # ood_alert
    reached: str
    is_never: bool
    relapses: int
    latency: str


def _headline(summary: Summary) -> str:
    if summary.passed:
        return 'Every alert came when it should'
    failed = sum(not expectation.met for expectation in summary.expectations)
    return f'{failed} of {len(summary.expectations)} expectations not met'


def _tiles(summary: Summary) -> Iterator[Tile]:
    strange = [s for s in summary.segments if s.kind == Kind.STRANGE.value and s.settled_ms]
    if strange:
        first = strange[0]
        yield Tile(
            f'{first.settled_ms:.0f} ms',
            f'from the first of the {first.name} to the alert ({first.settled_frames} images)',
            is_alert=True,
        )
    for silent in summary.segments:
        if silent.kind == Kind.SILENT.value and silent.settled_ms is not None:
            yield Tile(
                f'{silent.settled_ms:.0f} ms', "from the camera's death to the alert",
                is_alert=True,
            )
    known = sum(s.frames for s in summary.segments if s.kind == Kind.KNOWN.value)
    yield Tile(str(summary.false_alarms), f'false alarms in {known} images of digits')
    if summary.latency_ms_median is not None:
        yield Tile(
            f'{summary.latency_ms_median:.1f} ms',
            'from an image to its verdict, median '
            f'({summary.latency_ms_p99:.1f} ms at the 99th percentile)',
        )


def _row(segment: SegmentSummary) -> _Row:
    if segment.settled_ms is None:
        reached = 'never'
    elif not segment.settled_ms:
        reached = 'from the start'
    else:
        frames = f' ({segment.settled_frames} images)' if segment.settled_frames else ''
        reached = f'{segment.settled_ms:.0f} ms{frames}'
    share, latency = segment.flagged_share, segment.latency_ms_median
    return _Row(
        segment.kind, segment.name, segment.frames,
        '–' if share is None else f'{share:.1%}',
        segment.kind != Kind.KNOWN.value,
        reached, segment.settled_ms is None, segment.relapses,
        '–' if latency is None else f'{latency:.1f} ms',
    )


def _shown(
    record: Record, pictures: Iterable[CapturedPicture], view: str
) -> Iterator[ShownPicture]:
    for picture in pictures:
        if picture.view == view and not _is_repetition(record, picture.segment):
            yield ShownPicture(
                *_caption(record, picture), data_uri('image/png', picture.path.read_bytes()))


def _is_repetition(record: Record, number: int) -> bool:
    """Return whether a segment repeats known images between two segments of strange ones."""
    around = record.segments[max(0, number - 1) : number + 2 : 2]
    return (
        record.segments[number].kind is Kind.KNOWN
        and number > 0
        and all(segment.kind is Kind.STRANGE for segment in around)
        and len(around) == 2
    )


def _caption(record: Record, picture: CapturedPicture) -> tuple[str, str]:
    segment, frame = record.segments[picture.segment], picture.frame
    title = f'{segment.name}: {picture.moment}' if picture.moment else segment.name
    if frame is None:
        return title, 'The last image received, with the notice that no new image can be judged.'
    if picture.view == 'activations':
        return title, f'Activations for an image that is classified as “{frame.class_name}”.'
    after = (frame.stamp_ns - segment.start_ns) / 1e6
    verdict = 'not trusted' if frame.alert else 'trusted'
    text = f'Classified as “{frame.class_name}”, p = {frame.p_value:.2g}: {verdict}.'
    if picture.moment:
        # Pictures are drawn at a limited rate, so that this one may be slightly after the alert.
        text += f' First picture during the alert, {after:.0f} ms into the segment.'
    return title, text
