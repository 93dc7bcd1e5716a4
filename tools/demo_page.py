"""The page that shows a run of the demo: one file, which needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from demo_chart import draw_timeline
from demo_record import Expectation, Frame, Kind, Record, SegmentSummary, Summary

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nav_monitor_ros: a run of the demo</title>
<style>
:root {
  --blue: #0072B2; --vermillion: #D55E00; --ink: #1d232b; --muted: #5d6875;
  --line: #d9dee5; --page: #f5f6f8; --card: #ffffff; --dark: #181a1e;
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
header { background: var(--dark); color: #f0f2f5; padding: 44px 24px 92px; }
header > * { max-width: 1120px; margin-left: auto; margin-right: auto; }
main, footer { max-width: 1168px; margin-left: auto; margin-right: auto; }
header .name { font: 600 14px/1 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  color: #a0a6b0; margin-bottom: 18px; }
h1 { font-size: clamp(28px, 4.6vw, 44px); line-height: 1.15; letter-spacing: -0.02em;
  margin-top: 0; margin-bottom: 14px; }
header p { color: #c5cad2; font-size: 18px; margin-top: 0; margin-bottom: 0; }
main { padding: 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 16px; margin-top: -60px; }
.tile { background: var(--card); border-radius: 12px; padding: 18px 20px;
  box-shadow: 0 1px 2px #0002, 0 6px 20px #0000000f; border-top: 4px solid var(--blue); }
.tile.strange { border-top-color: var(--vermillion); }
.tile b { display: block; font-size: 32px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 14px; line-height: 1.35; display: block; }
section { margin-top: 48px; }
h2 { font-size: 22px; letter-spacing: -0.01em; margin: 0 0 6px; }
section > p { color: var(--muted); margin: 0 0 16px; max-width: 76ch; }
.card { background: var(--card); border-radius: 12px; padding: 16px;
  box-shadow: 0 1px 2px #0002; overflow-x: auto; }
.chart img { display: block; width: 100%; min-width: 820px; }
table { border-collapse: collapse; width: 100%; min-width: 720px; font-size: 15px;
  font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--muted); font-size: 13px;
  border-bottom: 1px solid var(--line); padding: 6px 12px 10px; vertical-align: bottom; }
td { text-align: right; white-space: nowrap; padding: 9px 12px;
  border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; }
td:first-child { font-weight: 600; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%;
  background: var(--blue); margin-right: 9px; }
.dot.strange { background: var(--vermillion); border-radius: 1px; }
.dot.silent { background: #fff; border: 2px solid var(--muted); }
.bad { color: var(--vermillion); font-weight: 700; }
.pictures { display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.pictures.small { grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
figure { margin: 0; background: var(--card); border-radius: 12px; overflow: hidden;
  box-shadow: 0 1px 2px #0002; }
figure img { display: block; width: 100%; background: var(--dark); }
figcaption { padding: 12px 16px 14px; font-size: 14px; color: var(--muted); line-height: 1.4; }
figcaption b { display: block; color: var(--ink); font-size: 15px; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--muted); font-size: 15px; }
ul.checks { list-style: none; padding: 0; margin: 10px 0 0; font-size: 15px; }
ul.checks li { padding: 3px 0 3px 28px; position: relative; }
ul.checks li::before { content: "\\2713"; position: absolute; left: 4px; color: var(--blue);
  font-weight: 700; }
ul.checks li.bad::before { content: "\\2717"; color: var(--vermillion); }
ul.checks span { color: var(--muted); font-weight: 400; }
dl { margin: 0; }
dt { font-size: 15px; margin-top: 14px; }
dt:first-child { margin-top: 0; }
dd { margin: 6px 0 0; }
pre { margin: 0; background: var(--dark); color: #e7eaee; border-radius: 8px; padding: 12px 16px;
  overflow-x: auto; font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.93em; }
footer { padding: 40px 24px 56px; color: var(--muted); font-size: 14px; }
@media (max-width: 860px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
@media (max-width: 560px) {
  header { padding: 30px 16px 84px; }
  header p { font-size: 16px; }
  main { padding: 0 16px; }
  .tile { padding: 14px; }
  .tile b { font-size: 25px; }
  .pictures { grid-template-columns: 1fr; }
}
</style>
</head>
<body>
<header>
<div class="name">nav_monitor_ros</div>
<h1>$headline</h1>
<p>$lead</p>
</header>
<main>
<div class="tiles">$tiles</div>

<section>
<h2>The run, image by image</h2>
<p>Each point is one camera image. Its p-value says how many of the training-like images are as
unusual: 0.01 means one in a hundred. Images at or below the threshold are flagged. $rule Losing the
camera raises it too.</p>
<div class="card chart">
<img alt="p-value of each image over time, and ood_alert" src="$chart">
</div>
</section>

<section>
<h2>Segment by segment</h2>
<p>The delay is measured by a node of its own, over DDS: from the stamp of the segment's first image
until <code>ood_alert</code> was heard to be as it should.</p>
<div class="card"><table>
<thead><tr><th>segment</th><th>images judged</th><th>flagged</th><th>ood_alert should be</th>
<th>it was so after</th><th>wrong changes after</th><th>median latency</th></tr></thead>
<tbody>
$rows
</tbody></table></div>
$checks
</section>

<section>
<h2>What the monitor showed</h2>
<p>The topic <code>~/overlay</code>: the answer and whether to believe it; below the image, which
neurons are on in this image and in the nearest pattern of the training (differences marked), the
p-value of each score, and the neurons that deviate most.</p>
<div class="pictures">
$overlays
</div>
</section>

<section>
<h2>Inside the network</h2>
<p>The topic <code>~/activations</code>: the maps of one layer, strongest first, on a scale fixed by
the training images; magenta is above what is usual there.</p>
<div class="pictures small">
$activations
</div>
</section>

<section>
<h2>How to go on</h2>
<div class="card"><dl>
$commands
</dl></div>
</section>
</main>
<footer>$footer</footer>
</body>
</html>
""")

COMMANDS = (
    ('A shell in which everything below works', '. ./env.sh'),
    (
        'Your own camera, on a robot with ROS 2',
        'ros2 launch nav_monitor_ros monitor.launch.py bundle:=digits '
        'image_topic:=/camera/image_raw',
    ),
    ('What is in the monitor that has run here', 'nav_monitor show {bundle}'),
    (
        'How well it tells other images apart, in numbers',
        'nav_monitor evaluate {bundle} --inside sample:digits --ood triangles=sample:triangles \\\n'
        '    --ood photographs=sample:photos --ood textures=sample:textures',
    ),
    ('A monitor for your own network', 'nav_monitor fit --help'),
    ('This demo again, longer', 'python tools/demo.py --seconds-per-segment 15'),
)


@dataclass(frozen=True)
class CapturedPicture:
    """A picture of the run, on disk."""

    path: Path  # PNG
    view: str  # overlay or activations
    segment: int  # position in the record
    moment: str  # what is special about it, or nothing
    frame: Frame | None  # what was said of the image it shows; None where nothing could be judged


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
    """Write the page; its chart is written beside it too, as ``timeline.svg``.

    Args:
        path: The page.
        record: A finished run.
        summary: Of that run.
        pictures: To embed, in this order.
        camera: Its size and rate, for people.
        bundle: Name of the bundle that judged.
        rule: How images raise the alert, a sentence for people.
    """
    chart = draw_timeline(record, summary)
    (path.parent / 'timeline.svg').write_bytes(chart)
    page = PAGE.substitute(
        headline=_headline(summary),
        rule=escape(rule),
        lead=escape(
            f'A camera process ({camera}) played {summary.received + summary.lost} images to the '
            f'monitor, which judged {summary.judged} of them, over '
            f"ROS 2; the bundle '{bundle}' knows handwritten digits and nothing else."
        ),
        tiles=''.join(_tiles(summary)),
        chart=_data_uri('image/svg+xml', chart),
        rows='\n'.join(_row(segment) for segment in summary.segments),
        checks=_checks(summary.expectations),
        overlays='\n'.join(_figures(record, pictures, 'overlay')),
        activations='\n'.join(_figures(record, pictures, 'activations')),
        commands='\n'.join(
            f'<dt>{escape(title)}</dt><dd><pre>{escape(command.format(bundle=bundle))}</pre></dd>'
            for title, command in COMMANDS
        ),
        footer=escape(
            f'{summary.received} images reached the monitor: {summary.judged} were judged, '
            f'{summary.dropped} replaced by a newer one before that; {summary.lost} were lost on '
            'the way. Everything on this page was received by a plain ROS 2 node; the numbers are '
            'in summary.json.'
        ),
    )
    path.write_text(page, encoding='utf-8')


def _headline(summary: Summary) -> str:
    if summary.passed:
        return 'Every alert came where it should'
    failed = sum(not expectation.met for expectation in summary.expectations)
    return f'{failed} of {len(summary.expectations)} expectations not met'


def _tiles(summary: Summary) -> Iterator[str]:
    strange = [s for s in summary.segments if s.kind == Kind.STRANGE.value and s.settled_ms]
    if strange:
        first = strange[0]
        yield _tile(
            f'{first.settled_ms:.0f} ms',
            f'from the first of the {first.name} to the alert ({first.settled_frames} images)',
            'strange',
        )
    for silent in summary.segments:
        if silent.kind == Kind.SILENT.value and silent.settled_ms is not None:
            yield _tile(
                f'{silent.settled_ms:.0f} ms', "from the camera's death to the alert", 'strange'
            )
    known = sum(s.frames for s in summary.segments if s.kind == Kind.KNOWN.value)
    yield _tile(str(summary.false_alarms), f'false alarms in {known} images of digits', '')
    if summary.latency_ms_median is not None:
        yield _tile(
            f'{summary.latency_ms_median:.1f} ms',
            f'from image to alert, median ({summary.latency_ms_p99:.1f} ms at the 99th percentile)',
            '',
        )


def _tile(number: str, text: str, kind: str) -> str:
    return f'<div class="tile {kind}"><b>{escape(number)}</b><span>{escape(text)}</span></div>'


def _row(segment: SegmentSummary) -> str:
    share = '–' if segment.flagged_share is None else f'{segment.flagged_share:.1%}'
    if segment.settled_ms is None:
        settled = '<span class="bad">never</span>'
    elif not segment.settled_ms:
        settled = 'it was already'
    else:
        frames = f' ({segment.settled_frames} images)' if segment.settled_frames else ''
        settled = f'{segment.settled_ms:.0f} ms{frames}'
    relapses = str(segment.relapses)
    latency = segment.latency_ms_median
    cells = (
        f'<span class="dot {segment.kind}"></span>{escape(segment.name)}',
        str(segment.frames),
        share,
        'False' if segment.kind == Kind.KNOWN.value else 'True',
        settled,
        f'<span class="bad">{relapses}</span>' if segment.relapses else relapses,
        '–' if latency is None else f'{latency:.1f} ms',
    )
    return '<tr>' + ''.join(f'<td>{cell}</td>' for cell in cells) + '</tr>'


def _checks(expectations: Sequence[Expectation]) -> str:
    met = sum(expectation.met for expectation in expectations)
    items = ''.join(
        f'<li{"" if e.met else " class=bad"}>{escape(e.text)} <span>({escape(e.found)})</span></li>'
        for e in expectations
    )
    opened = '' if met == len(expectations) else ' open'
    return (
        f'<details{opened}><summary>{met} of {len(expectations)} expectations met</summary>'
        f'<ul class="checks">{items}</ul></details>'
    )


def _figures(
    record: Record, pictures: Iterable[CapturedPicture], view: str
) -> Iterator[str]:
    for picture in pictures:
        if picture.view == view and not _is_repetition(record, picture.segment):
            title, text = _caption(record, picture)
            source = _data_uri('image/png', picture.path.read_bytes())
            yield (
                f'<figure><img alt="{escape(title)}" src="{source}">'
                f'<figcaption><b>{escape(title)}</b>{escape(text)}</figcaption></figure>'
            )


def _is_repetition(record: Record, number: int) -> bool:
    """Return whether a segment is known images again, with more strange ones to come."""
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
        return title, 'The last image there was, and that nothing can be judged any more.'
    if picture.view == 'activations':
        return title, f'What the network makes of an image that it calls “{frame.class_name}”.'
    after = (frame.stamp_ns - segment.start_ns) / 1e6
    verdict = 'not to be believed' if frame.alert else 'to be believed'
    text = f'Classified as “{frame.class_name}”, p = {frame.p_value:.2g}: {verdict}.'
    if picture.moment:
        # Pictures are drawn at a limited rate, so that this one may be a little after the alert.
        text += f' The first picture under the alert, {after:.0f} ms into the segment.'
    return title, text


def _data_uri(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'
