"""Verdicts of one run of a monitor: from a replay, or read from a run's output files."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nav_monitor_ros.data.bags.bag import BagDamagedError, open_bag
from nav_monitor_ros.data.bags.bag_folder import METADATA
from nav_monitor_ros.decision.alert.ood_status import kind_text
from nav_monitor_ros.decision.alert.reason import State
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.paths import listed, reachable
from nav_monitor_ros.files.untrusted_yaml import read_yaml
from nav_monitor_ros.replay.replay import ReplayEvent

NODE = 'nav_monitor'
_STATUS = 'ood_status'
_STATUS_TYPE = 'diagnostic_msgs/msg/DiagnosticArray'
_BAG_FILES = ('.mcap', '.db3')
_NEEDED = {'topic', 'stamp_ns', 'time_ns', 'alert', 'state', 'reason', 'class', 'p_value'}

_LARGEST_TIME = (1 << 63) - 1  # nanoseconds
Key = tuple[str, int, int]  # topic, stamp in nanoseconds, earlier occurrences on the topic


@dataclass(frozen=True)
class RunFrame:
    """Verdict of a run on one image."""

    time_ns: int  # time of the verdict, on the recorder's clock
    alert: bool
    state: State
    reason: str
    class_name: str  # '' if the image could not be judged
    confidence: float  # softmax probability; NaN if the image could not be judged
    p_value: float  # NaN if the image could not be judged
    threshold: float  # threshold: p-values at or below it are flagged
    flagged: bool
    evidence: float  # in [0, 1]
    evidence_kind: str = ''  # '' unless the image is flagged, and in runs of older versions


@dataclass(frozen=True)
class Run:
    """A run: its name, and its images in order."""

    name: str
    frames: Mapping[Key, RunFrame]
    bag: str = ''  # bag of the images, if known
    silences: Sequence[tuple[str, RunFrame]] = ()  # topic, and the output between images

    @property
    def topics(self) -> tuple[str, ...]:
        """Return the topics of the images; '' for an unknown one."""
        return tuple(dict.fromkeys(topic for topic, _, _ in self.frames))

    @property
    def judged(self) -> int:
        """Return the number of judged images."""
        return sum(bool(frame.class_name) for frame in self.frames.values())

    def of_topics(self, wanted: Collection[str]) -> Run:
        """Return the run restricted to some topics.

        Args:
            wanted: Names of topics; a leading slash may be left out. All topics if empty.

        Raises:
            NavMonitorError: It has none of them; the message lists those that it has.
        """
        names = {name.strip('/') for name in wanted}
        kept = {key: frame for key, frame in self.frames.items() if key[0].strip('/') in names}
        if names and not kept:
            raise NavMonitorError(
                f'{self.name} has no verdicts on --topic {", ".join(wanted)}; it has those on '
                f'{", ".join(topic or "one unnamed topic" for topic in self.topics)}'
            )
        silences = [one for one in self.silences if one[0].strip('/') in names]
        return replace(self, frames=kept, silences=silences) if names else self


def is_run(path: Path) -> bool:
    """Return whether a path denotes output of a run rather than a bundle."""
    if reachable(path).is_dir():
        return reachable(path / METADATA).exists() or any(
            file.suffix in _BAG_FILES for file in listed(path))
    return path.suffix in ('.csv', *_BAG_FILES)


def run_of(name: str, events: Iterable[ReplayEvent], bag: str = '') -> Run:
    """Return a run from the events of a replay.

    Args:
        name: Name of the run.
        events: Events of a replay.
        bag: Bag of the images.
    """
    return _collected(name, (
        (event.topic, None if event.image is None else event.image.stamp_ns, _frame_of(event))
        for event in events
    ), bag)


def read_run(path: Path, report: Callable[[str], None] = lambda problem: None) -> Run:
    """Read a run from the table or the bag of a replay, or from a recording of a live monitor.

    Args:
        path: Path of the table or the bag.
        report: Called with a description of unreadable parts of a damaged bag, if any.

    Raises:
        NavMonitorError: It does not exist, cannot be read, or holds no verdicts.
    """
    if not reachable(path).exists():
        raise NavMonitorError(f'{path} does not exist')
    run = _read_table(path) if path.suffix == '.csv' else _read_bag(path, report)
    if not run.frames:
        raise NavMonitorError(f'{path} holds no verdict')
    return run


def _collected(
    name: str, frames: Iterable[tuple[str, int | None, RunFrame]], bag: str = ''
) -> Run:
    """Return a run; stamps repeat if a bag was looped, and silence has none."""
    seen: Counter[tuple[str, int]] = Counter()
    found, silences = {}, []
    for topic, stamp_ns, frame in frames:
        if stamp_ns is None:
            silences.append((topic, frame))
        else:
            found[topic, stamp_ns, seen[topic, stamp_ns]] = frame
            seen[topic, stamp_ns] += 1
    return Run(name, found, bag, silences)


def _frame_of(event: ReplayEvent) -> RunFrame:
    alert, verdict = event.alert, event.verdict
    return RunFrame(
        event.time_ns, alert.value, alert.state, alert.reason.value,
        verdict.class_name if verdict else '', verdict.confidence if verdict else math.nan,
        verdict.p_value if verdict else math.nan, verdict.threshold if verdict else math.nan,
        verdict is not None and verdict.is_ood, event.evidence,
        '' if verdict is None else kind_text(verdict.evidence_kind),
    )


def _frame_from(values: Mapping[str, str], reason: str, time_ns: int) -> RunFrame:
    """Return a frame from strings, by the columns of a replay's table."""
    p_value = _number(values.get('p_value'))
    if values.get('p_value') and not 0 < p_value <= 1:
        raise ValueError(f"p_value is {one_line(values['p_value'], 40)}, not above 0 and at most 1")
    return RunFrame(
        time_ns, _truth('alert', values['alert']), State(values['state']), reason,
        values.get('class', ''), _number(values.get('confidence')), p_value,
        _number(values.get('threshold')),
        _truth('flagged', values.get('flagged') or 'false'), _number(values.get('evidence')),
        values.get('evidence_kind') or '',
    )


def _number(text: str | None) -> float:
    return float(text) if text else math.nan


def _truth(column: str, text: str) -> bool:
    """Return a boolean in any spelling that spreadsheet programs save."""
    word = text.strip().lower()
    if word not in ('true', 'false'):
        raise ValueError(f'{column} is {one_line(text, 40)!r}, neither true nor false')
    return word == 'true'


def _time(row: Mapping[str, str], column: str) -> int:
    """Return a time of a table in nanoseconds, which must fit into 64 bits as in ROS."""
    text = row[column]
    value = int(text) if len(text) <= len(str(_LARGEST_TIME)) + 1 else _LARGEST_TIME + 1
    if not abs(value) <= _LARGEST_TIME:
        raise ValueError(f'{column} is {one_line(text, 40)}, not within 64 bits')
    return value


def _read_table(path: Path) -> Run:
    def frames() -> Iterator[tuple[str, int | None, RunFrame]]:
        with path.open(newline='', encoding='utf-8-sig') as stream:  # spreadsheets add a BOM
            reader = csv.DictReader(stream)
            missing = _NEEDED - set(reader.fieldnames or ())
            if missing:
                raise NavMonitorError(
                    f'{path} is not a table of a replay: it has no column '
                    f'{", ".join(sorted(missing))}'
                )
            for row in reader:
                try:
                    frame = _frame_from(row, row['reason'], _time(row, 'time_ns'))
                    stamp_ns = _time(row, 'stamp_ns') if row['stamp_ns'] else None
                    yield row['topic'], stamp_ns, frame
                except (ValueError, TypeError) as error:
                    raise ValueError(f'line {reader.line_num}: {one_line(error)}') from None

    try:
        return _collected(path.stem, frames())
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise NavMonitorError(f'{path} is not a table of a replay: {one_line(error)}') from None


def _read_bag(path: Path, report: Callable[[str], None]) -> Run:
    about = _about(path)
    known = about.get('topics', '').split(' ')

    def frames() -> Iterator[tuple[str, int | None, RunFrame]]:
        with open_bag(path, types=[_STATUS_TYPE]) as bag:
            topics = [
                topic.name for topic in bag.image_topics if topic.name.endswith(f'/{_STATUS}')]
            if not topics:
                raise NavMonitorError(
                    f'bag {path} cannot be read: it is damaged ({bag.damage}), and no topic '
                    f'{_STATUS} is found' if bag.damage
                    else f'bag {path} has no topic {_STATUS}: no monitor ran there'
                )
            bag.select(topics)
            try:
                for message in bag:
                    topic = _image_topic(message.topic, topics, known)
                    for status in message.message.status:
                        values = {pair.key: pair.value for pair in status.values}
                        values['threshold'] = values.get('p_threshold', '')
                        values['flagged'] = values.get('frame_is_ood', '')
                        if 'cameras' in values:
                            continue  # the combined status; each camera has its own
                        of_an_image = _is_of_an_image(status.message, values)
                        yield topic, message.stamp_ns if of_an_image else None, _frame_from(
                            values, status.message, message.received_ns)
            except BagDamagedError as error:
                report(str(error))

    try:
        return _collected(path.stem, frames(), about.get('bag', ''))
    except (KeyError, ValueError) as error:  # another node's status under the same name
        raise NavMonitorError(
            f'bag {path} cannot be read: its {_STATUS} was not written by this monitor: '
            f'{one_line(error)}'
        ) from None


def _image_topic(status: str, statuses: Collection[str], known: Sequence[str]) -> str:
    """Return the name for the images of a status topic.

    A replay of several topics writes ``TOPIC/nav_monitor/ood_status``, a node with several cameras
    ``/NODE/CAMERA/ood_status``, one with a single camera ``/NAMESPACE/NODE/ood_status``.

    Args:
        status: Status topic.
        statuses: All status topics of the bag.
        known: Image topics recorded by a replay.
    """
    place = status.removesuffix(f'/{_STATUS}')
    above, _, last = place.rpartition('/')
    if last == NODE or len(statuses) == 1:
        place = above
    return place or (known[0] if len(known) == 1 else '')


def _is_of_an_image(reason: str, values: Mapping[str, str]) -> bool:
    """Return whether a status refers to an image and not to silence after one."""
    return 'class' in values or reason in ('bad_image', 'inference_error') or (
        reason == 'stale_image' and 'stamp' in values.get('detail', ''))


def _about(path: Path) -> dict[str, str]:
    """Return the metadata that a replay stored about its bag."""
    metadata = path / METADATA
    if not metadata.is_file():
        return {}
    described = read_yaml(metadata)
    try:
        about = described['rosbag2_bagfile_information'].get('custom_data') or {}
        return {str(key): str(value) for key, value in about.items()}
    except (KeyError, TypeError, AttributeError):
        return {}
