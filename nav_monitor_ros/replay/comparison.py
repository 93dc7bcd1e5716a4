"""Compare the verdicts of two runs over the same images, frame by frame."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.replay.verdict_log import Key, Run, RunFrame

CLASS, FLAGGED, ALERT, REASON, P_VALUE, MISSING = (
    'class', 'flagged', 'alert', 'reason', 'p_value', 'missing')
_ROUNDED = 1e-4  # powers of ten, differences of p-values due to rounding in files
_CHANGES = {
    CLASS: 'another class', FLAGGED: 'flagged by only one run', ALERT: 'another alert',
    REASON: 'another reason', MISSING: 'missing in one run',
}
_SIDES = ('alert', 'reason', 'class_name', 'confidence', 'p_value', 'flagged',
          'evidence_kind', 'evidence')
COLUMNS = (
    'topic', 'stamp_ns', 'seconds', 'differs',
    *(f'{side}_{name}' for name in _SIDES for side in ('a', 'b')),
)


@dataclass(frozen=True)
class Difference:
    """An image on which two runs differ."""

    key: Key
    seconds: float  # since the first image of either run
    a: RunFrame | None  # None if the run lacks the image
    b: RunFrame | None
    kinds: tuple[str, ...]  # what differs, in the words above


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    a: Run
    b: Run
    begin_ns: int  # when the first image of either run was received
    common: int  # images in both runs
    differences: tuple[Difference, ...]  # in the order of time
    farthest: tuple[float, float]  # the largest change of a p-value, in powers of ten, and seconds

    def count(self, kind: str) -> int:
        """Return the number of images with this difference."""
        return sum(kind in difference.kinds for difference in self.differences)

    def only(self, name: str, run: str) -> int:
        """Return the number of images for which a fact holds in only one run.

        Args:
            name: ``alert`` or ``flagged``.
            run: ``a`` or ``b``.
        """
        return sum(
            name in difference.kinds and bool(getattr(getattr(difference, run), name))
            for difference in self.differences
        )

    def alone(self, run: str) -> int:
        """Return how many images only one run, ``a`` or ``b``, has."""
        return sum(
            MISSING in difference.kinds and getattr(difference, run) is not None
            for difference in self.differences
        )

    @property
    def agreement(self) -> float:
        """Return the share of common images on which both runs agree."""
        differ = len(self.differences) - self.count(MISSING)
        return 1.0 - differ / self.common


def compare_runs(a: Run, b: Run, *, tolerance: float = math.inf) -> Comparison:
    """Compare two runs, image by image.

    Classes are compared by name. Two runs with one topic each are compared whatever its name.

    Args:
        a: Reference run.
        b: Run to compare with it.
        tolerance: Powers of ten by which a p-value may change without counting as a difference.

    Raises:
        NavMonitorError: They have no image in common.
    """
    pairs = paired_topics(a, b)
    a, b = _renamed(a, {of_a: of_a or of_b for of_a, of_b in pairs}), _renamed(
        b, {of_b: of_a or of_b for of_a, of_b in pairs})
    common = [key for key in a.frames if key in b.frames]
    if not common:
        several = max(len(a.topics), len(b.topics)) > 1
        raise NavMonitorError(
            f'{_described(a)} and {_described(b)} have no image in common; '
            + ('name with --topic which of their topics belong together, one of each run'
               if several else 'were they judged from the same bag?')
        )
    times = {key: frame.time_ns for run in (b, a) for key, frame in run.frames.items()}
    begin_ns = min(times.values())
    differences, farthest = [], (0.0, 0.0)
    for key in sorted(times, key=lambda one: (times[one], one)):
        seconds = (times[key] - begin_ns) / 1e9
        of_a, of_b = a.frames.get(key), b.frames.get(key)
        if of_a is not None and of_b is not None:
            change = _p_change(of_a, of_b)
            farthest = max(farthest, (change, seconds), key=lambda found: found[0])
            kinds = tuple(_kinds(of_a, of_b, change, tolerance))
        else:
            kinds = (MISSING,)
        if kinds:
            differences.append(Difference(key, seconds, of_a, of_b, kinds))
    return Comparison(a, b, begin_ns, len(common), tuple(differences), farthest)


def paired_topics(a: Run, b: Run) -> list[tuple[str, str]]:
    """Return the topics of two runs that have different names and the same images.

    A replay names images by their topic, a recording of a live node by the camera's name or not at
    all. Two runs with one topic each belong together. Among several, two topics do if they share
    stamps only with each other, or else if the last part of one name is a part of the other.
    """
    of_a = [topic for topic in a.topics if topic not in b.topics]
    of_b = [topic for topic in b.topics if topic not in a.topics]
    if len(a.topics) == len(b.topics) == 1:
        return list(zip(of_a, of_b, strict=True))
    stamps = {
        side: {topic: {key[1] for key in run.frames if key[0] == topic} for topic in topics}
        for side, run, topics in (('a', a, of_a), ('b', b, of_b))
    }

    def share_stamps(one: str, other: str) -> bool:
        return not stamps['a'][one].isdisjoint(stamps['b'][other])

    return _matched(of_a, of_b, share_stamps) or _matched(
        of_a, of_b, lambda one, other: share_stamps(one, other) and (
            one.rpartition('/')[2] in other.split('/')
            or other.rpartition('/')[2] in one.split('/')),
    )


def _matched(
    of_a: Sequence[str], of_b: Sequence[str], belong: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Return the pairs of names that belong only to each other."""
    found = [(one, other) for one in of_a for other in of_b if belong(one, other)]
    ones, others = Counter(one for one, _ in found), Counter(other for _, other in found)
    return [pair for pair in found if ones[pair[0]] == others[pair[1]] == 1]


def _renamed(run: Run, names: Mapping[str, str]) -> Run:
    return replace(run, frames={
        (names.get(key[0], key[0]), *key[1:]): frame for key, frame in run.frames.items()
    }, silences=[(names.get(topic, topic), frame) for topic, frame in run.silences])


def summary_table(comparison: Comparison) -> Table:
    """Return a report for the terminal."""
    a, b = comparison.a, comparison.b
    table = Table(title='Two runs', title_justify='left')
    table.add_column('')
    for run in (a, b):
        table.add_column(run.name, justify='right', overflow='fold')
    for name, left, right in facts(comparison):
        table.add_row(name, left, right)
    return table


def facts(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return the rows of a table of both runs: a heading, and the values of A and B."""
    a, b = comparison.a, comparison.b

    def row(name: str, count: Callable[[Run, str], int]) -> tuple[str, str, str]:
        return name, str(count(a, 'a')), str(count(b, 'b'))

    def counted(name: str) -> Callable[[Run, str], int]:
        return lambda run, _: sum(getattr(frame, name) for frame in run.frames.values())

    return [
        row('images', lambda run, _: len(run.frames)),
        row('images only in this run', lambda _, side: comparison.alone(side)),
        row('judged', lambda run, _: run.judged),
        row('flagged', counted('flagged')),
        row('flagged only by this run', lambda _, side: comparison.only(FLAGGED, side)),
        row('alert True', counted('alert')),
        row('alert True only in this run', lambda _, side: comparison.only(ALERT, side)),
    ]


def reasons(run: Run) -> str:
    """Return the reasons given for the images of a run, each with its count."""
    counts = Counter(frame.reason for frame in run.frames.values())
    return ', '.join(f'{count} {one_line(reason)}' for reason, count in counts.most_common())


def lines(comparison: Comparison) -> list[str]:
    """Return a summary in sentences."""
    same = comparison.common - len(comparison.differences) + comparison.count(MISSING)
    found = [
        f'{comparison.common} images in both runs, {same} of them with the same verdict and alert '
        f'({comparison.agreement:.1%})'
    ]
    topics = list(dict.fromkeys((*comparison.a.topics, *comparison.b.topics)))
    if len(topics) > 1:
        found += [_topic_line(comparison, topic) for topic in topics]
    changed = [
        f'{words} on {comparison.count(kind)}' for kind, words in _CHANGES.items()
        if comparison.count(kind)
    ]
    if changed:
        found.append(', '.join(changed))
    change, seconds = comparison.farthest
    if change > _ROUNDED:
        much = f'{comparison.count(P_VALUE)} beyond the tolerance; ' * bool(
            comparison.count(P_VALUE))
        found.append(
            f'p-values: {much}the largest change is by a factor of {10**change:.3g}, at '
            f'{seconds:.2f} s'
        )
    if comparison.differences:
        first = comparison.differences[0]
        where = f' of {first.key[0]}' if len(topics) > 1 else ''
        found.append(
            f'the first difference is at {first.seconds:.2f} s{where}: '
            f'{_description(comparison, first)}')
    else:
        found.append('no difference')
    return found


def _topic_line(comparison: Comparison, topic: str) -> str:
    """Return the agreement of the runs on the images of one topic."""
    name = topic or 'an unnamed topic'
    for run, other in ((comparison.a, comparison.b), (comparison.b, comparison.a)):
        if topic not in other.topics:
            return f'{name}: only in {run.name}; --topic says which topics are compared'
    common = sum(key[0] == topic and key in comparison.b.frames for key in comparison.a.frames)
    differ = sum(
        one.key[0] == topic and MISSING not in one.kinds for one in comparison.differences)
    return (
        f'{name}: {common} images in both runs, {common - differ} of them with the same verdict '
        'and alert'
    )


def difference_table(comparison: Comparison) -> str:
    """Return one CSV line per image on which the runs differ, with the header ``COLUMNS``."""
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(COLUMNS)
    for difference in comparison.differences:
        topic, stamp_ns, _ = difference.key
        sides = [difference.a, difference.b]
        writer.writerow([
            topic, stamp_ns, f'{difference.seconds:.6f}', ' '.join(difference.kinds),
            *('' if side is None else _text(getattr(side, name))
              for name in _SIDES for side in sides),
        ])
    return content.getvalue()


def stretches(differences: Sequence[Difference], gap: float = 1.0) -> Iterator[list[Difference]]:
    """Yield consecutive differences of a camera of the same kind.

    Args:
        differences: Differences of one topic, ordered by time.
        gap: Largest gap between two of them, seconds.
    """
    stretch: list[Difference] = []
    for difference in differences:
        if stretch and (
            difference.kinds != stretch[-1].kinds or difference.seconds - stretch[-1].seconds > gap
            or _outcome(difference) != _outcome(stretch[-1])
        ):
            yield stretch
            stretch = []
        stretch.append(difference)
    if stretch:
        yield stretch


def _outcome(difference: Difference) -> tuple[object, ...]:
    return tuple(
        side and (side.alert, side.flagged, side.class_name)
        for side in (difference.a, difference.b)
    )


def _kinds(a: RunFrame, b: RunFrame, change: float, tolerance: float) -> Iterator[str]:
    if a.class_name != b.class_name:
        yield CLASS
    if a.flagged != b.flagged:
        yield FLAGGED
    if a.alert != b.alert:
        yield ALERT
    if a.reason != b.reason:
        yield REASON
    if change > tolerance:
        yield P_VALUE


def _p_change(a: RunFrame, b: RunFrame) -> float:
    """Return by how many powers of ten the p-value changed; 0 if a run has none."""
    if math.isnan(a.p_value) or math.isnan(b.p_value):
        return 0.0
    return abs(math.log10(a.p_value) - math.log10(b.p_value))


def _description(comparison: Comparison, difference: Difference) -> str:
    names = comparison.a.name, comparison.b.name
    if difference.a is None or difference.b is None:
        lacking = names[difference.a is not None]
        return f'{lacking} has no image with stamp {difference.key[1]}'
    return '; '.join(
        f'{name}: {frame_text(side)}' for name, side in zip(names, (difference.a, difference.b),
                                                      strict=True))


def frame_text(frame: RunFrame) -> str:
    """Return a run's verdict on an image, one line."""
    alert = f'alert {frame.alert}, {frame.reason}'
    if not frame.class_name:
        return alert
    kind = frame.evidence_kind.replace('_', ' ')
    flagged = f', flagged ({kind})' if kind else ', flagged'
    return (
        f'{frame.class_name} at {frame.confidence:.0%}, p = {frame.p_value:.2g}'
        f'{flagged * frame.flagged}; {alert}'
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return '' if isinstance(value, float) and math.isnan(value) else str(value)


def _described(run: Run) -> str:
    topics = ', '.join(topic or 'one camera' for topic in run.topics)
    return f'{run.name} ({len(run.frames)} images of {topics})'
