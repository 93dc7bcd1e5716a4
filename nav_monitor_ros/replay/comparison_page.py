"""Two runs as one page: both timelines, and the images on which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from html import escape

from nav_monitor_ros.data.bags.bag import Bag
from nav_monitor_ros.data.bags.storage import BagDamagedError
from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.replay.comparison import (
    Comparison,
    Difference,
    facts,
    lines,
    said,
    stretches,
)
from nav_monitor_ros.replay.page import photo_uri
from nav_monitor_ros.replay.verdict_log import Key, Run
from nav_monitor_ros.views.html_page import page, section
from nav_monitor_ros.views.timeline import STYLE, Mark, Tick, timeline_html

MOST_PICTURES = 60  # stretches that are shown; later ones are counted
_STYLE = STYLE + """
.facts { border-collapse: collapse; }
.facts th, .facts td { text-align: right; padding: 5px 14px; border-bottom: 1px solid var(--line); }
.facts th { overflow-wrap: anywhere; vertical-align: bottom; }
.facts th:first-child, .facts td:first-child { text-align: left; padding-left: 0; }
.runs h3 { font-size: 16px; margin: 12px 0 6px; }
.differences { display: grid; gap: 18px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.differences figure { margin: 0; }
.differences figcaption { color: var(--muted); font-size: 14px; }
.differences b { color: var(--ink); }
.differences figure:target { outline: 2px solid #d55e00; outline-offset: 6px;
  border-radius: 6px; }
.differences img { border-radius: 6px; display: block; margin-bottom: 6px; max-height: 420px; }
"""


def shown_keys(comparison: Comparison) -> list[Key]:
    """Return the images whose pictures the page shows, in the order of time."""
    return [
        stretch[0].key
        for topic in _topics(comparison)
        for stretch in list(stretches(_of(comparison, topic)))[:MOST_PICTURES]
    ]


def pictures_of(bag: Bag, keys: list[Key]) -> dict[Key, str]:
    """Return images of a bag as addresses that hold them.

    Args:
        bag: With the runs' images.
        keys: Of the images that are wanted; those that are not there are left out.
    """
    topics = {topic.name for topic in bag.image_topics}
    # The topic of a live monitor's recording is not known; a bag of one has no other.
    alias = next(iter(topics)) if len(topics) == 1 else ''
    wanted = {(topic if topic in topics else alias, stamp): (topic, stamp, again)
              for topic, stamp, again in reversed(keys)}
    found: dict[Key, str] = {}
    for index in range(len(bag)):
        if not wanted:
            break
        with suppress(BagDamagedError, ImageError):
            image = bag[index]
            key = wanted.pop((image.topic, image.stamp_ns), None)
            if key is not None:
                found[key] = photo_uri(image.decode().rgb())
    return found


def comparison_page(comparison: Comparison, pictures: Mapping[Key, str]) -> str:
    """Return the page.

    Args:
        comparison: Of two runs.
        pictures: Of images, as ``pictures_of`` finds them.
    """
    a, b = comparison.a, comparison.b
    rows = ''.join(
        f'<tr><td>{escape(name)}</td><td>{left}</td><td>{right}</td></tr>'
        for name, left, right in facts(comparison)
    )
    head = f'<tr><th></th><th>A: {escape(a.name)}</th><th>B: {escape(b.name)}</th></tr>'
    body = [section('Both runs', '', f'<table class="facts">{head}{rows}</table>')]
    for topic in _topics(comparison):
        body.append(section(
            topic or 'The camera',
            'Each mark is an image, or the most unusual one of those that share its place. Above '
            'the state stand the images of which the runs differ; the numbers are those below.',
            '<div class="runs">'
            f'<h3>A: {escape(a.name)}</h3>{_timeline(comparison, a, topic)}'
            f'<h3>B: {escape(b.name)}</h3>{_timeline(comparison, b, topic)}</div>',
        ))
        body.append(_differences(comparison, topic, pictures))
    return page(f'{a.name} and {b.name} compared', lines(comparison), '\n'.join(body), _STYLE)


def _topics(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys((*comparison.a.topics, *comparison.b.topics)))


def _of(comparison: Comparison, topic: str) -> list[Difference]:
    return [one for one in comparison.differences if one.key[0] == topic]


def _timeline(comparison: Comparison, run: Run, topic: str) -> str:
    begin_ns = comparison.begin_ns
    marks = [
        Mark(
            one.seconds, f'{one.seconds:.2f} s: {_kinds(one)}',
            f'{number}' if place == 0 and number <= MOST_PICTURES else '',
            _anchor(comparison, topic, number) if number <= MOST_PICTURES else '',
        )
        for number, stretch in enumerate(stretches(_of(comparison, topic)), 1)
        for place, one in enumerate(stretch)
    ]
    end_ns = max(
        frame.time_ns for each in (comparison.a, comparison.b) for frame in each.frames.values())
    return timeline_html([
        Tick((frame.time_ns - begin_ns) / 1e9, frame.state, frame.reason, frame.p_value,
             frame.class_name, frame.threshold)
        for (name, _, _), frame in run.frames.items() if name == topic
    ], marks, label='differs', end=(end_ns - begin_ns) / 1e9)


def _anchor(comparison: Comparison, topic: str, number: int) -> str:
    return f'difference-{_topics(comparison).index(topic) + 1}-{number}'


def _kinds(difference: Difference) -> str:
    return ', '.join(kind.replace('_', '-') for kind in difference.kinds)


def _differences(comparison: Comparison, topic: str, pictures: Mapping[Key, str]) -> str:
    found = list(stretches(_of(comparison, topic)))
    figures = ''.join(
        _figure(stretch, number, _anchor(comparison, topic, number), pictures)
        for number, stretch in enumerate(found[:MOST_PICTURES], 1)
    )
    left = len(found) - MOST_PICTURES
    told = 'Each is a stretch of images of which the runs differ in the same way; its first image '
    told += 'is shown, and what was said of it.'
    if left > 0:
        told += f' The first {MOST_PICTURES} are shown, {left} more are not.'
    content = f'<div class="differences">{figures}</div>' if found else '<p>Nowhere.</p>'
    return section('Where they differ', told if found else '', content)


def _figure(
    stretch: list[Difference], number: int, anchor: str, pictures: Mapping[Key, str]
) -> str:
    first, last = stretch[0], stretch[-1]
    count = len(stretch)
    when = f'{first.seconds:.2f} s'
    if count > 1:
        when += f' to {last.seconds:.2f} s, {count} images'
    uri = pictures.get(first.key)
    picture = f'<img src="{uri}" alt="the image at {first.seconds:.2f} s">' if uri else ''
    sides = ''.join(
        f'<br>{letter}: {escape(said(side)) if side else "has not got this image"}'
        for letter, side in (('A', first.a), ('B', first.b))
    )
    return (
        f'<figure id="{anchor}">{picture}<figcaption><b>{number} &middot; {when}: '
        f'{escape(_kinds(first))}</b>{sides}</figcaption></figure>'
    )
