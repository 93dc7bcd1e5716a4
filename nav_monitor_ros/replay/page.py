"""HTML page of a replay: a timeline for each camera, and the image at each alert."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from nav_monitor_ros.decision.alert.reason import Reason
from nav_monitor_ros.errors import one_line
from nav_monitor_ros.replay.replay import ReplayEvent
from nav_monitor_ros.views.pages.data_uris import photo_uri
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.pages.timeline import Mark, Tick, timeline

MOST_PICTURES = 60  # alerts shown; later ones are only counted


@dataclass(frozen=True)
class _ShownAlert:
    number: int  # number on its topic, from 1
    seconds: float  # since the first image
    reason: str
    detail: str
    verdict: str  # verdict on the image, '' without one
    picture: str  # data URI, '' without an image
    anchor: str  # its anchor on the page


@dataclass(frozen=True)
class _ShownCamera:
    topic: str
    summary: str
    timeline: Markup
    alert_count: int
    alerts: tuple[_ShownAlert, ...]
    not_shown: str  # note on alerts without a picture, '' if there are none


class ReplaySummary:
    """Collects the contents of the page: a few numbers per frame and a bounded number of images."""

    def __init__(self) -> None:
        """Start empty."""
        self._ticks: dict[str, list[Tick]] = {}
        self._alerts: dict[str, list[_ShownAlert]] = {}
        self._risen: dict[str, int] = {}
        self._begin_ns: int | None = None
        self._frames: Counter[str] = Counter()  # by topic
        self._unjudged: Counter[str] = Counter()  # by reason
        self._details: dict[str, str] = {}  # details of the first image of each reason
        self.frames = 0
        self.judged = 0
        self.flagged = 0

    def add(self, event: ReplayEvent) -> None:
        """Add an event."""
        if self._begin_ns is None:
            self._begin_ns = event.time_ns
        seconds = (event.time_ns - self._begin_ns) / 1e9
        verdict, alert, topic = event.verdict, event.alert, event.topic
        self.frames += event.image is not None
        self._frames[topic] += event.image is not None
        if event.image is not None and verdict is None:
            self._unjudged[alert.reason.value] += 1
            self._details.setdefault(alert.reason.value, alert.detail)
        self.judged += verdict is not None
        self.flagged += verdict is not None and verdict.is_ood
        self._ticks.setdefault(topic, []).append(Tick(
            seconds, alert.state, alert.reason.value,
            verdict.p_value if verdict else math.nan, verdict.class_name if verdict else '',
            verdict.threshold if verdict else math.nan,
        ))
        # Waiting for clear frames only follows an alert or the start.
        if event.changed and alert.value and alert.reason is not Reason.WARMING_UP:
            self._rise(event, seconds)

    @property
    def alerts(self) -> Mapping[str, int]:
        """Return the number of alerts by topic; a new reason counts as a new alert."""
        return {topic: self._risen.get(topic, 0) for topic in self._ticks}

    @property
    def unjudged(self) -> str:
        """Return how many images could not be judged and why, '' if all could."""
        return ', '.join(
            f'{count} {reason} ({one_line(self._details[reason])})'
            for reason, count in self._unjudged.most_common()
        )

    def page(self, title: str, lines: list[str]) -> str:
        """Return the page.

        Args:
            title: Title of the page.
            lines: Facts below the title.
        """
        cameras = []
        for topic, ticks in self._ticks.items():
            alerts = tuple(self._alerts.get(topic, ()))
            marks = [
                Mark(alert.seconds, f'{alert.seconds:.2f} s: {alert.reason}', f'{alert.number}',
                     alert.anchor)
                for alert in alerts
            ]
            cameras.append(_ShownCamera(
                topic, _summary(ticks, self._frames[topic]),
                timeline(ticks, marks, label='alerts'),
                self._risen.get(topic, 0), alerts, self._not_shown(topic),
            ))
        return render('replay.html', title=title, lines=lines, cameras=cameras)

    def _rise(self, event: ReplayEvent, seconds: float) -> None:
        topic = event.topic
        self._risen[topic] = self._risen.get(topic, 0) + 1
        shown = self._alerts.setdefault(topic, [])
        if len(shown) >= MOST_PICTURES:
            return
        alert, verdict = event.alert, event.verdict
        number = len(shown) + 1
        shown.append(_ShownAlert(
            number, seconds, alert.reason.value, alert.detail,
            '' if verdict is None else
            f'{verdict.class_name} at {verdict.confidence:.0%}, p = {verdict.p_value:.2g}; '
            f'{verdict.why}',
            '' if event.pixels is None else photo_uri(event.pixels.rgb()),
            f'alert-{list(self._ticks).index(topic) + 1}-{number}',
        ))

    def _not_shown(self, topic: str) -> str:
        left = self._risen.get(topic, 0) - len(self._alerts.get(topic, []))
        return f'The first {MOST_PICTURES} are shown, {left} more are not.' if left > 0 else ''


def _summary(ticks: list[Tick], frames: int) -> str:
    judged = [tick for tick in ticks if not math.isnan(tick.p_value)]
    flagged = sum(tick.p_value <= tick.threshold for tick in judged)
    trusted = sum(
        tick.reason in (Reason.IN_DISTRIBUTION.value, Reason.SUSPECT.value) for tick in ticks
    )
    return (
        f'{len(judged)} of {frames} images judged, recording of '
        f'{ticks[-1].seconds - ticks[0].seconds:.1f} s; '
        f'{flagged} flagged individually, perception trusted on {trusted}. Each dot is an image, '
        'or the most unusual of several at the same position, vermillion if flagged; p-values '
        'below 0.0001 are drawn at 0.0001. '
        ' The numbers are the alerts shown below.'
    )
