"""HTML page comparing two runs: both timelines, and the images on which they differ."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from markupsafe import Markup

from nav_monitor_ros.data.bags.bag import Bag
from nav_monitor_ros.data.bags.storage import BagDamagedError
from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.exif_orientation import IGNORE
from nav_monitor_ros.replay.comparison import (
    Comparison,
    Difference,
    facts,
    frame_text,
    lines,
    stretches,
)
from nav_monitor_ros.replay.verdict_log import Key, Run
from nav_monitor_ros.views.pages.data_uris import photo_uri
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.pages.timeline import Mark, Tick, timeline

MOST_PICTURES = 60  # stretches shown; later ones are only counted


@dataclass(frozen=True)
class _ShownStretch:
    number: int
    anchor: str  # its anchor on the page
    seconds: float  # time of its first image since the first image of either run
    when: str
    kinds: str  # what differs
    sides: tuple[tuple[str, str], ...]  # letter of the run, its verdict on the first image
    picture: str  # data URI of the first image, '' without one


@dataclass(frozen=True)
class _ShownCamera:
    topic: str
    runs: tuple[tuple[str, str, Markup], ...]  # letter, name, timeline
    explanation: str
    stretches: tuple[_ShownStretch, ...]


def shown_keys(comparison: Comparison) -> list[Key]:
    """Return the images that the page shows, ordered by time."""
    return [
        stretch[0].key
        for topic in _topics(comparison)
        for stretch in list(stretches(_of(comparison, topic)))[:MOST_PICTURES]
    ]


def pictures_of(bag: Bag, keys: list[Key], exif: str = IGNORE) -> dict[Key, str]:
    """Return images of a bag as data URIs.

    Args:
        bag: Bag with the images of the runs.
        keys: Keys of the requested images; missing ones are left out.
        exif: ``apply`` rotates images according to their EXIF orientation, ``ignore`` does not.
    """
    topics = {topic.name for topic in bag.image_topics}
    # The topic of a live monitor's recording is unknown; a bag with a single topic has only that
    # one.
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
                found[key] = photo_uri(image.decode(exif=exif).rgb())
    return found


def comparison_page(comparison: Comparison, pictures: Mapping[Key, str]) -> str:
    """Return the page.

    Args:
        comparison: Comparison of two runs.
        pictures: Data URIs of images, from ``pictures_of``.
    """
    runs = (('A', comparison.a), ('B', comparison.b))
    cameras = []
    for topic in _topics(comparison):
        found = list(stretches(_of(comparison, topic)))
        cameras.append(_ShownCamera(
            topic,
            tuple((letter, run.name, _timeline(comparison, run, topic)) for letter, run in runs),
            _explanation(len(found)),
            tuple(
                _shown(stretch, number, _anchor(comparison, topic, number), pictures)
                for number, stretch in enumerate(found[:MOST_PICTURES], 1)
            ),
        ))
    names = [run.name for _, run in runs]
    return render(
        'comparison.html', title=f'{names[0]} and {names[1]} compared', lines=lines(comparison),
        names=names, facts=facts(comparison), cameras=cameras,
    )


def _topics(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys((*comparison.a.topics, *comparison.b.topics)))


def _of(comparison: Comparison, topic: str) -> list[Difference]:
    return [one for one in comparison.differences if one.key[0] == topic]


def _timeline(comparison: Comparison, run: Run, topic: str) -> Markup:
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
    said = [(key[0], frame) for key, frame in run.frames.items()]
    # A recording of a node also tells of the time before the first image and after the last.
    said += [one for one in run.silences if begin_ns <= one[1].time_ns <= end_ns]
    return timeline([
        Tick((frame.time_ns - begin_ns) / 1e9, frame.state, frame.reason, frame.p_value,
             frame.class_name, frame.threshold)
        for name, frame in sorted(said, key=lambda one: one[1].time_ns) if name == topic
    ], marks, label='differs', end=(end_ns - begin_ns) / 1e9)


def _anchor(comparison: Comparison, topic: str, number: int) -> str:
    return f'difference-{_topics(comparison).index(topic) + 1}-{number}'


def _kinds(difference: Difference) -> str:
    return ', '.join(kind.replace('_', '-') for kind in difference.kinds)


def _explanation(count: int) -> str:
    if not count:
        return ''
    shown = (
        'Each entry is a stretch of images on which the runs differ in the same way; the first '
        'image is shown, with the verdict of each run.'
    )
    left = count - MOST_PICTURES
    return shown + f' The first {MOST_PICTURES} are shown, {left} more are not.' * (left > 0)


def _shown(
    stretch: list[Difference], number: int, anchor: str, pictures: Mapping[Key, str]
) -> _ShownStretch:
    first, last = stretch[0], stretch[-1]
    when = f'{first.seconds:.2f} s'
    if len(stretch) > 1:
        when += f' to {last.seconds:.2f} s, {len(stretch)} images'
    return _ShownStretch(
        number, anchor, first.seconds, when, _kinds(first),
        tuple(
            (letter, frame_text(side) if side else 'does not have this image')
            for letter, side in (('A', first.a), ('B', first.b))
        ),
        pictures.get(first.key, ''),
    )
