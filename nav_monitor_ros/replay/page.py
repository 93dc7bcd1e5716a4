"""A replay as one page: a timeline for each camera, and what was seen at each alert."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from nav_monitor_ros.decision.alert_reason import Reason
from nav_monitor_ros.errors import one_line
from nav_monitor_ros.replay.replay import ReplayEvent
from nav_monitor_ros.views.html_page import page, section
from nav_monitor_ros.views.timeline import STYLE, Mark, Tick, timeline_html

MOST_PICTURES = 60  # alerts that are shown; later ones are counted
_SIDE = 420  # pixels, longer side of a picture
_LEAST_SIDE = 192  # pixels, about, of a small one
_PIXELS_SEEN = 96  # pixels, longer side of images that are shown pixel by pixel
_STYLE = STYLE + """
.alerts { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.alerts figure { margin: 0; }
.alerts figcaption { color: var(--muted); font-size: 14px; }
.alerts b { color: var(--ink); }
.alerts img, .alerts .none { border-radius: 6px; display: block; margin-bottom: 6px; }
.alerts img { max-height: 420px; }
.alerts .none { border: 1px dashed var(--line); color: var(--muted); width: 100%; height: 160px;
  display: grid; place-content: center; }
.alerts figure:target { outline: 2px solid #d55e00; outline-offset: 6px; border-radius: 6px; }
"""


@dataclass(frozen=True)
class _ShownAlert:
    seconds: float  # since the first image
    reason: str
    anchor: str  # its place on the page
    html: str


class ReplaySummary:
    """Collects what the page shows; a few numbers a frame and a bounded number of pictures."""

    def __init__(self) -> None:
        """Begin empty."""
        self._ticks: dict[str, list[Tick]] = {}
        self._alerts: dict[str, list[_ShownAlert]] = {}
        self._risen: dict[str, int] = {}
        self._begin_ns: int | None = None
        self._frames: Counter[str] = Counter()  # by topic
        self._unjudged: Counter[str] = Counter()  # by reason
        self._details: dict[str, str] = {}  # of the first one of each reason
        self.frames = 0
        self.judged = 0
        self.flagged = 0

    def add(self, event: ReplayEvent) -> None:
        """Take an event in."""
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
        # To wait for clear frames is what follows an alert, or the start.
        if event.changed and alert.value and alert.reason is not Reason.WARMING_UP:
            self._rise(event, seconds)

    @property
    def alerts(self) -> Mapping[str, int]:
        """Return how many alerts there were, by topic: True for another reason than before."""
        return {topic: self._risen.get(topic, 0) for topic in self._ticks}

    @property
    def unjudged(self) -> str:
        """Return how many images could not be judged and why, '' where all could."""
        return ', '.join(
            f'{count} {reason} ({one_line(self._details[reason])})'
            for reason, count in self._unjudged.most_common()
        )

    def page(self, title: str, lines: list[str]) -> str:
        """Return the page.

        Args:
            title: Its heading.
            lines: Facts below it.
        """
        body = []
        for topic, ticks in self._ticks.items():
            marks = [
                Mark(alert.seconds, f'{alert.seconds:.2f} s: {alert.reason}', f'{number}',
                     alert.anchor)
                for number, alert in enumerate(self._alerts.get(topic, []), 1)
            ]
            body.append(section(
                topic, _told(ticks, self._frames[topic]),
                timeline_html(ticks, marks, label='alerts'),
            ))
            body.append(section(
                f'Alerts: {self._risen.get(topic, 0)}', self._left_out(topic),
                self._pictures(topic),
            ))
        return page(title, lines, '\n'.join(body), _STYLE)

    def _rise(self, event: ReplayEvent, seconds: float) -> None:
        topic = event.topic
        self._risen[topic] = self._risen.get(topic, 0) + 1
        shown = self._alerts.setdefault(topic, [])
        if len(shown) >= MOST_PICTURES:
            return
        alert, verdict = event.alert, event.verdict
        number = len(shown) + 1
        what = (
            f'<b>{number} &middot; {seconds:.2f} s: {escape(alert.reason.value)}</b> '
            f'{escape(alert.detail)}'
        )
        if verdict is not None:
            what += (
                f'<br>{escape(verdict.class_name)} at {verdict.confidence:.0%}, '
                f'p = {verdict.p_value:.2g}; {escape(verdict.why)}'
            )
        picture = '<div class="none">no image</div>'
        if event.pixels is not None:
            uri = photo_uri(event.pixels.rgb())
            picture = f'<img src="{uri}" alt="the image at {seconds:.2f} s">'
        anchor = f'alert-{list(self._ticks).index(topic) + 1}-{number}'
        shown.append(_ShownAlert(
            seconds, alert.reason.value, anchor,
            f'<figure id="{anchor}">{picture}<figcaption>{what}</figcaption></figure>',
        ))

    def _pictures(self, topic: str) -> str:
        shown = self._alerts.get(topic, [])
        if not shown:
            return '<p>None.</p>'
        return f'<div class="alerts">{"".join(alert.html for alert in shown)}</div>'

    def _left_out(self, topic: str) -> str:
        left = self._risen.get(topic, 0) - len(self._alerts.get(topic, []))
        return f'The first {MOST_PICTURES} are shown, {left} more are not.' if left > 0 else ''


def _told(ticks: list[Tick], frames: int) -> str:
    judged = [tick for tick in ticks if not math.isnan(tick.p_value)]
    flagged = sum(tick.p_value <= tick.threshold for tick in judged)
    trusted = sum(
        tick.reason in (Reason.IN_DISTRIBUTION.value, Reason.SUSPECT.value) for tick in ticks
    )
    return (
        f'{len(judged)} of {frames} images judged in {ticks[-1].seconds - ticks[0].seconds:.1f} s, '
        f'{flagged} flagged one by one, perception trusted on {trusted}. Each mark is an image, or '
        'the most unusual one of those that share its place; p-values are drawn down to 0.0001, in '
        'vermillion where they flag. A number is an alert, shown below.'
    )


def photo_uri(picture: np.ndarray) -> str:
    """Return a small copy of a photograph, uint8 (H, W, 3) RGB, as an address that holds it."""
    scale = min(1.0, _SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    if max(picture.shape[:2]) <= _PIXELS_SEEN:
        # Each pixel as a square, and with its own colour, which JPEG would share among four.
        times = max(1, _LEAST_SIDE // max(picture.shape[:2]))
        enlarged = picture.repeat(times, axis=0).repeat(times, axis=1)
        encoded = cv2.imencode('.png', cv2.cvtColor(enlarged, cv2.COLOR_RGB2BGR))[1]
        return 'data:image/png;base64,' + base64.b64encode(encoded.tobytes()).decode()
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    return 'data:image/jpeg;base64,' + base64.b64encode(encoded.tobytes()).decode()
