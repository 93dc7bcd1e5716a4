"""Incidents: the frames around a rising alert, kept in a folder that does not grow for ever."""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.decision.alert_reason import Alert
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.views.text import drawn_class, put_text, wrapped

VERDICTS = 'verdicts.json'
SHEET = 'sheet.png'
MEGABYTE = 1_000_000
MOST_BYTES = 64 * MEGABYTE  # of pixels that wait in memory
LOSSLESS_PIXELS = 1_000_000  # images with more are written as JPEG
_NAME = re.compile(r'\d{8}T\d{6}_\d{3}Z_[a-z_]+(_\d+)?')
_TILE = (160, 120)  # width and height of a picture on the sheet
_COLUMNS = 6
_LETTERS = 9  # height of capitals below them, pixels
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IncidentRules:
    """What is kept, and where."""

    folder: str = ''  # where incidents are written; empty: none are
    seconds: float = 5.0  # before the alert
    limit: float = 200.0  # megabytes in the folder, the oldest incidents go first
    rate: float = 5.0  # Hz, frames kept; the one that raises the alert always is
    interval: float = 10.0  # seconds between two incidents
    share: float = 1.0  # of MOST_BYTES, where several cameras keep frames


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame as it was judged."""

    arrived: float  # seconds, steady clock
    stamp_ns: int  # nanoseconds
    frame_id: str
    image: DecodedImage
    verdict: Verdict
    alert: Alert


class IncidentRing:
    """The last seconds in memory, bounded in time and in bytes."""

    def __init__(self) -> None:
        """Start empty."""
        self._moments: deque[tuple[Moment, int]] = deque()  # with the bytes that each keeps
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes that are kept."""
        return self._bytes

    def add(self, moment: Moment, rules: IncidentRules, *, important: bool = False) -> None:
        """Keep a frame, unless one was kept just before.

        Args:
            moment: The frame; its pixels are copied where they are part of a larger image.
            rules: How much is kept.
            important: Keep it anyway.
        """
        last = self._moments[-1][0].arrived if self._moments else -math.inf
        # A little early is on time: a camera's period is never exactly that of the rate.
        if not important and moment.arrived - last < 0.9 / rules.rate:
            return
        pixels = moment.image.pixels
        if held_bytes(pixels) > pixels.nbytes:
            moment = replace(moment, image=replace(moment.image, pixels=pixels.copy()))
        size = _size(moment)
        self._moments.append((moment, size))
        self._bytes += size
        oldest = moment.arrived - rules.seconds
        while len(self._moments) > 1 and (
            self._moments[0][0].arrived < oldest or self._bytes > MOST_BYTES * rules.share
        ):
            self._bytes -= self._moments.popleft()[1]

    def take(self) -> list[Moment]:
        """Return what is kept, oldest first, and begin anew."""
        moments = [moment for moment, _ in self._moments]
        self._moments.clear()
        self._bytes = 0
        return moments


def held_bytes(array: np.ndarray) -> int:
    """Return how much memory an array keeps from being given back: all of what it is a view of."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    while isinstance(owner, memoryview) and owner.obj is not None:
        owner = owner.obj
    if isinstance(owner, np.ndarray):
        return owner.nbytes
    try:
        return max(array.nbytes, memoryview(owner).nbytes)
    except TypeError:  # memory of a library that does not say how much it is
        return array.nbytes


def _size(moment: Moment) -> int:
    """Return the bytes that a frame keeps; what the monitor has anyway does not count."""
    told = moment.verdict.explanation
    own = () if told is None else (told.pattern, told.nearest, told.values, told.z)
    return held_bytes(moment.image.pixels) + sum(map(held_bytes, own))


class IncidentRecorder:
    """Keeps the last frames and has them written by a thread of its own when the alert rises.

    Whatever goes wrong with a disk goes wrong in that thread: it is counted and logged once, and
    whoever judges frames never waits. Safe to use from several threads.
    """

    def __init__(self, bundle: Mapping[str, Any]) -> None:
        """Start without frames and without a thread.

        Args:
            bundle: What to note of the monitor in each incident, as JSON takes it.
        """
        self._bundle = bundle
        self._ring = IncidentRing()
        self._lock = threading.Lock()
        self._rose: Alert | None = None
        self._last = -math.inf
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None
        self._trouble = ''
        self.written = 0
        self.failed = 0
        self.left_out = 0  # incidents that came while another was being written

    def alert_rose(self, alert: Alert) -> None:
        """Remember that the alert rose; the incident is written with ``frame`` or ``flush``."""
        self._rose = alert

    def frame(self, moment: Moment, rules: IncidentRules) -> None:
        """Take a judged frame in; the incident that it raised is written."""
        if not rules.folder:
            self._rose = None
            return
        with self._lock:
            self._ring.add(moment, rules, important=self._rose is not None)
        self._flush(rules, moment.arrived)

    def flush(self, rules: IncidentRules, now: float) -> None:
        """Write the incident of an alert that no judged frame raised; to be called regularly."""
        rose = self._rose
        if rose is not None and rose.reason.value != 'ood':  # that frame is about to come
            self._flush(rules, now)

    def close(self, timeout: float) -> None:
        """Write what is waiting, for so many seconds at most."""
        thread = self._thread
        if thread is not None:
            try:
                self._jobs.put(None, timeout=timeout)
            except queue.Full:
                return
            thread.join(timeout)

    def _flush(self, rules: IncidentRules, now: float) -> None:
        rose, self._rose = self._rose, None
        if rose is None or not rules.folder or now - self._last < rules.interval:
            return
        with self._lock:
            moments = self._ring.take()
        if not moments:
            return
        self._last = now
        try:
            self._jobs.put_nowait(_Job(moments, rose, rules, datetime.now(timezone.utc)))
        except queue.Full:
            self.left_out += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name='nav_monitor incidents', daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                folder = write_incident(job.moments, job.alert, job.rules, job.when, self._bundle)
                remove_oldest(Path(os.path.expanduser(job.rules.folder)), job.rules.limit)
            except Exception as error:  # a full disk, a folder that is gone, a broken image
                self.failed += 1
                trouble = f'no incident written: {one_line(error, 500)}'
                if trouble != self._trouble:
                    _log.error(trouble)
                self._trouble = trouble
            else:
                self.written += 1
                self._trouble = ''
                _log.info('incident written: %s', folder)


@dataclass(frozen=True, eq=False)
class _Job:
    moments: Sequence[Moment]
    alert: Alert
    rules: IncidentRules
    when: datetime


def check_folder(folder: str) -> None:
    """Check that incidents can be written to a folder; it is made if its parent is there.

    Raises:
        NavMonitorError: They cannot.
    """
    path = Path(os.path.expanduser(folder))
    try:
        path.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise NavMonitorError(
            f'incident_folder {path} cannot be written to: {error.strerror}; name another one'
        ) from None


def write_incident(
    moments: Sequence[Moment],
    alert: Alert,
    rules: IncidentRules,
    when: datetime,
    bundle: Mapping[str, Any],
) -> Path:
    """Write one incident: a picture of each frame, their verdicts, and a sheet of all of them.

    Args:
        moments: At least one, oldest first.
        alert: The one that rose.
        rules: For the folder, and its limit, beyond which the oldest frames are left out.
        when: UTC; names the incident.
        bundle: What to note of the monitor.

    Returns:
        The incident's folder, which appears complete or not at all.

    Raises:
        OSError: The disk does not take it.
    """
    parent = Path(os.path.expanduser(rules.folder))
    parent.mkdir(exist_ok=True)
    pictures: list[tuple[Moment, str, bytes]] = []
    room = rules.limit * MEGABYTE
    for moment in reversed(moments):
        suffix, data = _encoded(moment.image)
        room -= len(data)
        if room < 0 and pictures:
            break
        pictures.append((moment, suffix, data))
    pictures.reverse()
    scratch = Path(tempfile.mkdtemp(prefix='.incident.', dir=parent))
    try:
        entries = []
        for number, (moment, suffix, data) in enumerate(pictures):
            name = f'{number:03d}_{moment.stamp_ns}{suffix}'
            (scratch / name).write_bytes(data)
            entries.append({'picture': name, **_described(moment)})
        told = {
            'raised': when.isoformat(timespec='milliseconds'),
            'reason': alert.reason.value,
            'detail': alert.detail,
            'bundle': dict(bundle),
            'frames_left_out': len(moments) - len(pictures),
            'frames': entries,
        }
        (scratch / VERDICTS).write_text(
            json.dumps(told, indent=1, ensure_ascii=False) + '\n', encoding='utf-8'
        )
        (scratch / SHEET).write_bytes(_png(_sheet([moment for moment, _, _ in pictures])))
        scratch.chmod(0o755)
        return _named(scratch, parent, when, alert)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_oldest(folder: Path, limit: float) -> None:
    """Remove the oldest incidents until the folder's are within so many megabytes.

    Only folders that are named as incidents and hold their verdicts are counted or removed; links
    are not followed. The newest one always stays.
    """
    found = sorted(
        path for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        and (path / VERDICTS).is_file()
    )
    sizes = [
        sum(file.lstat().st_size for file in path.iterdir() if not file.is_symlink())
        for path in found
    ]
    total = sum(sizes)
    for path, size in zip(found[:-1], sizes[:-1], strict=True):
        if total <= limit * MEGABYTE:
            return
        shutil.rmtree(path)
        total -= size


def _named(scratch: Path, parent: Path, when: datetime, alert: Alert) -> Path:
    name = f'{when:%Y%m%dT%H%M%S}_{when.microsecond // 1000:03d}Z_{alert.reason.value}'
    for number in range(1000):
        folder = parent / (f'{name}_{number}' if number else name)
        if not folder.exists():
            return scratch.rename(folder)
    raise OSError(f'{parent} holds a thousand incidents of one millisecond')


def _described(moment: Moment) -> dict[str, Any]:
    verdict, alert = moment.verdict, moment.alert
    explanation = verdict.explanation
    return {
        'stamp_ns': moment.stamp_ns,
        'frame_id': moment.frame_id,
        'size': [moment.image.width, moment.image.height],
        'class': verdict.class_name,
        'confidence': verdict.confidence,
        'p_value': verdict.p_value,
        'p_threshold': verdict.threshold,
        'e_value': verdict.e_value,
        'flagged': verdict.is_ood,
        'decisive_score': verdict.decisive,
        'fired_score': verdict.strongest_member,
        'why': verdict.why,
        'scores': {
            name: {'score': value.score, 'p_value': value.p_value}
            for name, value in verdict.scores.items()
        },
        'nearest_pattern_distance': None if explanation is None else explanation.distance,
        'deviating_neurons': [] if explanation is None else [
            {'index': n.index, 'value': n.value, 'z': n.z} for n in explanation.neurons
        ],
        'alert': alert.value,
        'state': alert.state.value,
        'reason': alert.reason.value,
        'detail': alert.detail,
    }


def _encoded(image: DecodedImage) -> tuple[str, bytes]:
    bgr = cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2BGR)
    suffix = '.png' if image.width * image.height <= LOSSLESS_PIXELS else '.jpg'
    done, data = cv2.imencode(suffix, bgr)
    if not done:
        raise OSError(f'an image of {image.width}x{image.height} cannot be encoded')
    return suffix, data.tobytes()


def _png(rgb: np.ndarray) -> bytes:
    return cv2.imencode('.png', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def _sheet(moments: Sequence[Moment]) -> np.ndarray:
    """Return all frames small on one picture, uint8 (H, W, 3) RGB, each with what was said."""
    width, height = _TILE
    line, gap = 18, 8
    caption = 4 * line + 4
    columns = min(_COLUMNS, len(moments))
    rows = math.ceil(len(moments) / columns)
    sheet = np.full(
        (rows * (height + caption + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8
    )
    for number, moment in enumerate(moments):
        top = gap + number // columns * (height + caption + gap)
        left = gap + number % columns * (width + gap)
        scale = min(width / moment.image.width, height / moment.image.height)
        size = (
            max(1, round(moment.image.width * scale)), max(1, round(moment.image.height * scale))
        )
        small = DecodedImage(
            cv2.resize(moment.image.pixels, size, interpolation=cv2.INTER_AREA),
            moment.image.order,
        ).rgb()
        sheet[top:top + height, left:left + width] = 40
        y, x = top + (height - size[1]) // 2, left + (width - size[0]) // 2
        sheet[y:y + size[1], x:x + size[0]] = small
        seconds = moment.arrived - moments[-1].arrived
        ink = (213, 94, 0) if moment.verdict.is_ood else (0, 114, 178)
        for place, text in enumerate(_captions(moment, seconds)):
            put_text(
                sheet, text, left, top + height + 16 + place * line, _LETTERS,
                ink if place < 2 else (60, 60, 60), room=width,
            )
    return sheet


def _captions(moment: Moment, seconds: float) -> tuple[str, ...]:
    """Return the lines below a picture: the first two are said of every frame and fit."""
    verdict = moment.verdict
    name = drawn_class(verdict.class_name.replace('_', ' '), verdict.class_index)
    return (
        f'{seconds:+.2f} s, p {verdict.p_value:.2g}',
        f'{"flagged" if verdict.is_ood else "usual"}, {moment.alert.state.value}',
        *wrapped(name, _TILE[0], _LETTERS, 2),
    )
