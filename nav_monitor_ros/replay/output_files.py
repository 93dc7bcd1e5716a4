"""Output files of a replay: a bag with the node's topics, and a table of all frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.ood_status import (
    MOST_LABELS,
    kind_text,
    status_level,
    status_values,
)
from nav_monitor_ros.decision.verdict import Verdict
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.files.atomic_folder import atomic_folder
from nav_monitor_ros.files.paths import reachable
from nav_monitor_ros.replay.replay import ReplayEvent
from nav_monitor_ros.replay.verdict_log import NODE
from nav_monitor_ros.views.overlay import draw_overlay

COLUMNS = (
    'topic', 'stamp_ns', 'time_ns', 'alert', 'state', 'reason', 'detail', 'evidence', 'class',
    'class_index', 'confidence', 'p_value', 'threshold', 'flagged', 'fired_score',
    'evidence_kind', 'flagged_kinds',
)
_VERSION: Literal[8] = 8  # rosbag2 metadata version, the newest that Humble can read

# vision_msgs is not one of the standard message packages;
# https://github.com/ros-perception/vision_msgs, 4.x
_VISION = {
    'vision_msgs/msg/ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'vision_msgs/msg/Classification': (
        'std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n'
    ),
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name\n',
    'vision_msgs/msg/LabelInfo': (
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
    ),
}


class TableWriter:
    """Writes one CSV line per event; the file appears when it is complete."""

    def __init__(self, path: Path, score_names: Sequence[str] = ()) -> None:
        """Start the file.

        Args:
            path: Path of the file; an existing file is replaced at the end.
            score_names: Names of the scores that verdicts list; each gets two columns.

        Raises:
            NavMonitorError: It cannot be written.
        """
        self._path = path
        self._names = tuple(score_names)
        if reachable(path).is_dir():
            raise NavMonitorError(f'{path} cannot be written: it is a folder')
        with _naming_errors(path):
            with ExitStack() as resources:
                scratch = resources.enter_context(atomic_file(path))
                self._file = resources.enter_context(
                    scratch.open('w', newline='', encoding='utf-8'))
                self._resources = resources.pop_all()
        self._writer = csv.writer(self._file)
        self._writer.writerow([
            *COLUMNS, *(f'{kind}/{name}' for name in self._names for kind in ('score', 'p_value')),
        ])

    def write(self, event: ReplayEvent) -> None:
        """Add an event; missing fields stay empty."""
        alert, verdict = event.alert, event.verdict
        fields = self._verdict_fields(verdict) if verdict else [''] * (9 + 2 * len(self._names))
        with _naming_errors(self._path):
            self._writer.writerow([
                event.topic, event.image.stamp_ns if event.image else '', event.time_ns,
                _word(alert.value), alert.state.value, alert.reason.value, alert.detail,
                repr(event.evidence), *fields,
            ])

    def __enter__(self) -> TableWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, or remove it after an error."""
        with _naming_errors(self._path):
            self._resources.__exit__(kind, error, trace)

    def _verdict_fields(self, verdict: Verdict) -> list[object]:
        values = [verdict.scores[name] for name in self._names]
        return [
            verdict.class_name, verdict.class_index, repr(verdict.confidence),
            repr(verdict.p_value), repr(verdict.threshold), _word(verdict.is_ood),
            verdict.fired_member, kind_text(verdict.evidence_kind),
            ' '.join(map(kind_text, verdict.flagged_kinds)),
            *(repr(number) for value in values for number in (value.score, value.p_value)),
        ]


def _word(value: bool) -> str:
    return 'true' if value else 'false'


@contextmanager
def _naming_errors(path: Path) -> Iterator[None]:
    """Convert a system error into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise NavMonitorError(f'{path} cannot be written: {error.strerror or error}') from None


class BagWriter:
    """Writes the node's topics to an MCAP bag, with the recorder's times and the images' stamps.

    With one camera the topics are those of the node, ``/ood_alert`` and ``/nav_monitor/...``; with
    several, each camera's topics are below its own image topic.
    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[str],
        class_names: Sequence[str],
        *,
        overlay: bool = False,
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Start the bag.

        Args:
            folder: Folder of the bag; it must not exist, and appears when it is complete.
            topics: Image topics.
            class_names: Class names of the network, for ``~/label_info``.
            overlay: Whether to write the overlays too.
            about: Description of the bag, for its metadata.

        Raises:
            NavMonitorError: The folder exists or cannot be written, or rosbags is not installed.
        """
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
        except ImportError:
            raise NavMonitorError(
                "writing bags needs rosbags: pip install 'nav_monitor_ros[bags]', or rosbags itself"
            ) from None
        if reachable(folder).exists():
            raise NavMonitorError(f'{folder} exists; name another folder, or remove it first')
        self._store = _typestore()
        self._folder = folder
        with _naming_errors(folder), ExitStack() as resources:
            scratch = resources.enter_context(atomic_folder(folder))
            scratch.rmdir()  # the writer creates its folder and names its file after it
            self._writer = Writer(scratch, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
            for key, value in {'topics': ' '.join(topics), **(about or {})}.items():
                self._writer.set_custom_data(key, value)
            self._writer.open()
            resources.push(self._end)
            self._resources = resources.pop_all()
        self._class_names = tuple(class_names)
        self._overlay = overlay
        self._topics = {topic: self._add(topic, len(topics) > 1) for topic in topics}
        self._labelled: set[str] = set()

    def write(self, event: ReplayEvent) -> None:
        """Add the messages that the node would have published."""
        connections, alert, verdict = self._topics[event.topic], event.alert, event.verdict
        at, header = event.time_ns, self._header(event)
        if event.topic not in self._labelled:
            self._labelled.add(event.topic)
            self._put(connections['label_info'], at, self._label_info(header))
        self._put(connections['ood_alert'], at, self._new('std_msgs/msg/Bool', alert.value))
        self._put(connections['ood_status'], at, self._status(event, header))
        if verdict is None:
            return
        self._put(connections['prediction'], at, self._new(
            'vision_msgs/msg/Classification', header, [
                self._new('vision_msgs/msg/ObjectHypothesis', str(index), probability)
                for index, probability in verdict.top
            ]))
        score = -float(np.log10(verdict.p_value))
        self._put(connections['ood_score'], at, self._new('std_msgs/msg/Float32', score))
        if self._overlay and event.pixels is not None:
            picture = draw_overlay(event.pixels.rgb(), verdict, alert)
            encoded = cv2.imencode('.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].reshape(-1)
            self._put(connections['overlay'], at, self._new(
                'sensor_msgs/msg/CompressedImage', header, 'rgb8; jpeg compressed bgr8', encoded))

    def __enter__(self) -> BagWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the bag, or remove it after an error."""
        with _naming_errors(self._folder):
            self._resources.__exit__(kind, error, trace)

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()

    def _add(self, topic: str, several: bool) -> dict[str, Any]:
        from rosbags.interfaces import (
            Qos,
            QosDurability,
            QosHistory,
            QosLiveliness,
            QosReliability,
            QosTime,
        )

        root = topic if several else ''
        kinds = {
            'ood_alert': (f'{root}/ood_alert', 'std_msgs/msg/Bool', True),
            'ood_status': (
                f'{root}/{NODE}/ood_status', 'diagnostic_msgs/msg/DiagnosticArray', True),
            'label_info': (f'{root}/{NODE}/label_info', 'vision_msgs/msg/LabelInfo', True),
            'prediction': (f'{root}/{NODE}/prediction', 'vision_msgs/msg/Classification', False),
            'ood_score': (f'{root}/{NODE}/ood_score', 'std_msgs/msg/Float32', False),
        }
        if self._overlay:
            kinds['overlay'] = (
                f'{root}/{NODE}/overlay/compressed', 'sensor_msgs/msg/CompressedImage', False)
        endless = QosTime(sec=9223372036, nsec=854775807)
        connections = {}
        for key, (name, kind, latched) in kinds.items():
            durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
            quality = Qos(
                QosHistory.KEEP_LAST, 1 if latched else 10, QosReliability.RELIABLE, durability,
                endless, endless, QosLiveliness.AUTOMATIC, endless, False,
            )
            connections[key] = (kind, self._writer.add_connection(
                name, kind, typestore=self._store, offered_qos_profiles=[quality]))
        return connections

    def _put(self, connection: tuple[str, Any], time_ns: int, message: Any) -> None:
        kind, place = connection
        data = self._store.serialize_cdr(message, kind)
        with _naming_errors(self._folder):
            self._writer.write(place, time_ns, data)

    def _new(self, kind: str, *fields: Any) -> Any:
        return self._store.types[kind](*fields)

    def _header(self, event: ReplayEvent) -> Any:
        stamp_ns = event.image.stamp_ns if event.image else event.time_ns
        time = self._new('builtin_interfaces/msg/Time', *divmod(stamp_ns, 1_000_000_000))
        return self._new('std_msgs/msg/Header', time, event.image.frame_id if event.image else '')

    def _label_info(self, header: Any) -> Any:
        classes = [
            self._new('vision_msgs/msg/VisionClass', index, name)
            for index, name in enumerate(self._class_names[:MOST_LABELS])
        ]
        return self._new('vision_msgs/msg/LabelInfo', header, classes, 0.0)

    def _status(self, event: ReplayEvent, header: Any) -> Any:
        values = status_values(event.alert, event.verdict, {
            'evidence': event.evidence, 'calibration_stale': event.calibration_stale or 'no',
        })
        status = self._new(
            'diagnostic_msgs/msg/DiagnosticStatus', status_level(event.alert), f'/{NODE}: ood',
            event.alert.reason.value, header.frame_id,
            [self._new('diagnostic_msgs/msg/KeyValue', *pair) for pair in values.items()],
        )
        return self._new('diagnostic_msgs/msg/DiagnosticArray', header, [status])


@lru_cache(maxsize=1)
def _typestore() -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in _VISION.items():
        store.register(get_types_from_msg(definition, name))
    return store
