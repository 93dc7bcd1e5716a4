"""Messages that the demo recorded, their summary per segment, and the expectations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

import numpy as np

ALERT_WITHIN = 1000.0  # ms from a strange segment's first image to True
# ms from the camera's end to True. The camera is killed: if it held a lock of Fast DDS's shared
# memory, the middleware waits for a second (docs/safety.md).
SILENT_WITHIN = 2000.0
CLEAR_WITHIN = 1000.0  # ms from a known segment's first image to False
CLEAR_WITHIN_AT_START = 2000.0  # the same while a newly started camera is being discovered
_FAR_AHEAD = 2**63  # ns


class Kind(str, Enum):
    """Kind of images in a segment."""

    KNOWN = 'known'  # images like those of the training
    STRANGE = 'strange'  # out-of-distribution images
    SILENT = 'silent'  # no images: the camera was killed


@dataclass(frozen=True)
class Segment:
    """Part of the run with images of one kind."""

    name: str
    kind: Kind
    start_ns: int  # stamp of the first image, or the time of the camera's end if silent
    starts_camera: bool = False  # whether the camera was started with this segment


@dataclass(frozen=True)
class Frame:
    """The monitor's verdict on one image."""

    stamp_ns: int  # stamp of the image
    class_name: str
    p_value: float
    flagged: bool  # whether this image alone is out-of-distribution
    state: str
    reason: str
    alert: bool
    latency_ms: float  # from the image's arrival at the monitor to the alert


@dataclass(frozen=True)
class Change:
    """Message on ``ood_alert`` with another value than the previous one."""

    heard_ns: int
    value: bool


@dataclass
class Record:
    """Messages received in one run, oldest first. Times are nanoseconds of the system clock."""

    segments: list[Segment] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    reason: str = ''  # reason in the newest status, with or without an image
    state: str = ''
    detail: str = ''
    p_value_threshold: float = 0.0
    # Counts of the monitor's diagnostics:
    received: int = 0  # images that reached the monitor
    judged: int = 0
    dropped: int = 0  # received images replaced by a newer one before they were judged
    lost: int = 0  # images that the middleware reports as lost in transport
    end_ns: int = 0  # 0 during the run

    @property
    def alert(self) -> bool | None:
        """Return the newest ``ood_alert``; None before the first."""
        return self.changes[-1].value if self.changes else None

    def hear_alert(self, value: bool, heard_ns: int) -> None:
        """Record a message on ``ood_alert``."""
        if value is not self.alert:
            self.changes.append(Change(heard_ns, value))

    def segment_number(self, stamp_ns: int) -> int:
        """Return the position of the segment that an image belongs to; -1 before the first."""
        earlier = [i for i, segment in enumerate(self.segments) if segment.start_ns <= stamp_ns]
        return earlier[-1] if earlier else -1

    def end_of(self, number: int) -> int:
        """Return when a segment ended; a time in the far future if it has not ended."""
        later = self.segments[number + 1 : number + 2]
        return later[0].start_ns if later else self.end_ns or _FAR_AHEAD

    def frames_of(self, number: int) -> list[Frame]:
        """Return the judged images of a segment."""
        start, end = self.segments[number].start_ns, self.end_of(number)
        return [frame for frame in self.frames if start <= frame.stamp_ns < end]

    def alert_at(self, time_ns: int) -> bool:
        """Return the value of ``ood_alert`` at a time; True before the first message."""
        values = [change.value for change in self.changes if change.heard_ns <= time_ns]
        return values[-1] if values else True

    def changes_in(self, number: int, value: bool) -> Iterator[Change]:
        """Yield the changes to ``value`` within a segment."""
        start, end = self.segments[number].start_ns, self.end_of(number)
        return (c for c in self.changes if c.value is value and start < c.heard_ns < end)


@dataclass(frozen=True)
class SegmentSummary:
    """Summary of one segment."""

    name: str
    kind: str
    seconds: float
    frames: int  # judged images
    flagged: int  # judged images that are out-of-distribution by themselves
    flagged_share: float | None  # None without judged images
    alert_was_up: bool  # value of ood_alert at the segment's first image
    settled_ms: float | None  # from the first image to the expected ood_alert; None if never
    settled_frames: int | None  # judged images until then, including the deciding one
    relapses: int  # changes of ood_alert to the wrong value after that
    latency_ms_median: float | None
    latency_ms_p99: float | None


@dataclass(frozen=True)
class Expectation:
    """Expectation about the run, and whether it was met."""

    text: str
    met: bool
    found: str


@dataclass(frozen=True)
class Summary:
    """Summary of a run."""

    segments: tuple[SegmentSummary, ...]
    expectations: tuple[Expectation, ...]
    received: int
    judged: int
    dropped: int
    lost: int
    latency_ms_median: float | None
    latency_ms_p99: float | None
    p_value_threshold: float

    @property
    def passed(self) -> bool:
        """Return whether every expectation was met."""
        return all(expectation.met for expectation in self.expectations)

    @property
    def false_alarms(self) -> int:
        """Return how often the alert was raised during known images."""
        return sum(s.relapses for s in self.segments if s.kind == Kind.KNOWN.value)

    def as_mapping(self) -> dict[str, object]:
        """Return all values as types that JSON supports."""
        return {'passed': self.passed, 'false_alarms': self.false_alarms, **asdict(self)}


def summarise(record: Record) -> Summary:
    """Return the summary of a finished run."""
    segments = tuple(_summarise(record, number) for number in range(len(record.segments)))
    median, p99 = _latencies(record.frames)
    return Summary(
        segments=segments,
        expectations=tuple(_expectations(record, segments)),
        received=record.received,
        judged=record.judged,
        dropped=record.dropped,
        lost=record.lost,
        latency_ms_median=median,
        latency_ms_p99=p99,
        p_value_threshold=record.p_value_threshold,
    )


def _summarise(record: Record, number: int) -> SegmentSummary:
    segment, end_ns = record.segments[number], record.end_of(number)
    frames = record.frames_of(number)
    wanted = segment.kind is not Kind.KNOWN
    was_up = record.alert_at(segment.start_ns)
    settled_ns = (
        segment.start_ns
        if was_up is wanted
        else next((change.heard_ns for change in record.changes_in(number, wanted)), None)
    )
    count = None
    if settled_ns is not None and segment.kind is not Kind.SILENT:
        first = next((i for i, frame in enumerate(frames) if frame.alert is wanted), None)
        count = 0 if settled_ns == segment.start_ns else first + 1 if first is not None else None
    relapses = 0
    if settled_ns is not None:
        wrong = record.changes_in(number, not wanted)
        relapses = sum(change.heard_ns > settled_ns for change in wrong)
    flagged = sum(frame.flagged for frame in frames)
    median, p99 = _latencies(frames)
    return SegmentSummary(
        name=segment.name,
        kind=segment.kind.value,
        seconds=(end_ns - segment.start_ns) / 1e9,
        frames=len(frames),
        flagged=flagged,
        flagged_share=flagged / len(frames) if frames else None,
        alert_was_up=was_up,
        settled_ms=None if settled_ns is None else (settled_ns - segment.start_ns) / 1e6,
        settled_frames=count,
        relapses=relapses,
        latency_ms_median=median,
        latency_ms_p99=p99,
    )


def _latencies(frames: Sequence[Frame]) -> tuple[float | None, float | None]:
    if not frames:
        return None, None
    values = [frame.latency_ms for frame in frames]
    return float(np.median(values)), float(np.percentile(values, 99))


def _expectations(
    record: Record, summaries: Sequence[SegmentSummary]
) -> Iterator[Expectation]:
    first = record.changes[0].value if record.changes else None
    yield Expectation(
        'ood_alert is True from the start, before the first image',
        first is True and bool(summaries) and summaries[0].alert_was_up,
        'no message was received' if first is None else f'the first value was {first}',
    )
    for segment, summary in zip(record.segments, summaries, strict=True):
        if segment.kind is Kind.KNOWN:
            limit = CLEAR_WITHIN_AT_START if segment.starts_camera else CLEAR_WITHIN
            yield _settles(summary, False, limit)
            yield Expectation(
                f'{segment.name}: no false alarm', summary.relapses == 0,
                f'ood_alert became True {summary.relapses} times',
            )
        else:
            limit = SILENT_WITHIN if segment.kind is Kind.SILENT else ALERT_WITHIN
            yield _settles(summary, True, limit)
            yield Expectation(
                f'{segment.name}: ood_alert stays True', summary.relapses == 0,
                f'it became False {summary.relapses} times',
            )


def _settles(summary: SegmentSummary, value: bool, limit: float) -> Expectation:
    silent = summary.kind == Kind.SILENT.value
    since = "the camera's end" if silent else 'the first image'
    found = summary.settled_ms
    return Expectation(
        f'{summary.name}: ood_alert is {value} within {limit / 1000:g} s of {since}',
        found is not None and found <= limit,
        'never' if found is None else f'after {found:.0f} ms',
    )
