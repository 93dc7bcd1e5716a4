"""Incidents on disk: one folder for each, in a folder of limited size."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nav_monitor_ros.decision.alert.ood_status import kind_text
from nav_monitor_ros.decision.alert.reason import Alert
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.atomic_folder import atomic_folder
from nav_monitor_ros.files.scratch_folder import remove_folder
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.incident_frames import IncidentRules, RecordedFrame
from nav_monitor_ros.runtime.incident_sheet import draw_sheet

VERDICTS = 'verdicts.json'
SHEET = 'sheet.png'
MEGABYTE = 1_000_000
LOSSLESS_PIXELS = 1_000_000  # images with more are written as JPEG
_NAME = r'\d{8}T\d{6}_\d{3}Z_[a-z_]+(_\d+)?'
_INCIDENT = re.compile(_NAME)
_UNFINISHED = re.compile(rf'\.({_NAME}|incident)\.\w+')  # while it is being written


def check_folder(folder: str, cameras: Iterable[str] = ()) -> None:
    """Check that incidents can be written to a folder, and remove incomplete ones from it.

    Args:
        folder: Folder, which is created if its parent exists.
        cameras: Names of several cameras, each of which has a subfolder.

    Raises:
        NavMonitorError: The folder cannot be written.
    """
    path = Path(os.path.expanduser(folder))
    try:
        path.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        for name in {'', *cameras}:
            remove_unfinished(path / name)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = getattr(error, 'strerror', None) or one_line(error)
        raise NavMonitorError(
            f'incident_folder {path} cannot be written to: {reason}; choose another one'
        ) from None


def write_incident(
    frames: Sequence[RecordedFrame],
    alert: Alert,
    rules: IncidentRules,
    when: datetime,
    bundle: Mapping[str, Any],
) -> Path:
    """Write one incident: a picture of each frame, the verdicts, and a contact sheet.

    Args:
        frames: Frames, at least one, oldest first.
        alert: Alert that rose.
        rules: Rules with the folder and its size limit, beyond which the oldest frames are left
            out.
        when: Time of the alert in UTC, which names the incident.
        bundle: Description of the monitor.

    Returns:
        Folder of the incident, which appears complete or not at all.

    Raises:
        OSError: The incident cannot be written.
    """
    parent = Path(os.path.expanduser(rules.folder))
    parent.mkdir(exist_ok=True)
    pictures: list[tuple[RecordedFrame, str, bytes]] = []
    room = rules.limit * MEGABYTE
    for frame in reversed(frames):
        suffix, data = _encoded(frame.image)
        room -= len(data)
        if room < 0 and pictures:
            break
        pictures.append((frame, suffix, data))
    pictures.reverse()
    folder = _new_folder(parent, when, alert)
    with ExitStack() as until_complete:
        with atomic_folder(folder) as scratch:
            until_complete.enter_context(_locked(scratch))
            entries = []
            for number, (frame, suffix, data) in enumerate(pictures):
                name = f'{number:03d}_{frame.stamp_ns}{suffix}'
                (scratch / name).write_bytes(data)
                entries.append({'picture': name, **_described(frame)})
            description = {
                'raised': when.isoformat(timespec='milliseconds'),
                'reason': alert.reason.value,
                'detail': alert.detail,
                'bundle': dict(bundle),
                'frames_left_out': len(frames) - len(pictures),
                'frames': entries,
            }
            (scratch / VERDICTS).write_text(
                json.dumps(description, indent=1, ensure_ascii=False) + '\n', encoding='utf-8'
            )
            sheet = draw_sheet([frame for frame, _, _ in pictures], when, alert)
            (scratch / SHEET).write_bytes(_png(sheet))
    return folder


def remove_oldest(folder: Path, limit: float, newest: Path | None = None) -> None:
    """Remove the oldest incidents until a folder's total size is at most ``limit`` megabytes.

    Only folders that have the name of an incident and contain verdicts are removed; links are not
    followed. Incidents that cannot be removed, such as another user's, are kept, and newer ones
    are removed instead. Those that another process is writing count, too.

    Args:
        folder: Folder of the incidents.
        limit: Largest total size, megabytes.
        newest: Incident that is kept in any case; by default the last one by name, which is not
            the newest if the clock was set back.

    Raises:
        OSError: The folder exceeds the limit, because some incidents cannot be removed.
    """
    remove_unfinished(folder)
    found = sorted(filter(_is_incident, folder.iterdir()))
    sizes = {path: _size(path) for path in found}
    total = sum(sizes.values()) + sum(map(_size, _unfinished(folder)))
    newest = found[-1] if newest is None and found else newest
    refused: OSError | None = None
    for path in found:
        if total <= limit * MEGABYTE:
            return
        if path == newest:
            continue
        try:
            shutil.rmtree(path)
        except FileNotFoundError:  # another process has removed it
            pass
        except OSError as error:
            refused = refused or error
            continue
        total -= sizes[path]
    if refused is not None and total > limit * MEGABYTE:
        raise refused


def _is_incident(path: Path) -> bool:
    if not _INCIDENT.fullmatch(path.name) or path.is_symlink():
        return False
    try:
        return (path / VERDICTS).is_file()
    except PermissionError:  # another user's folder
        return False


def remove_unfinished(folder: Path) -> None:
    """Remove incidents whose process ended while writing them."""
    for path in _unfinished(folder):
        with suppress(OSError):  # owned by another user
            if not any(map(_is_locked, path.iterdir())):
                remove_folder(path)


def _unfinished(folder: Path) -> list[Path]:
    """Return the incomplete incidents in a folder, which need not exist."""
    return [
        path for path in (folder.iterdir() if folder.is_dir() else ())
        if _UNFINISHED.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Mark a folder as being written, at most until this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_locked(path: Path) -> bool:
    """Return whether a process is writing a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:  # gone, or a link
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _size(folder: Path) -> int:
    """Return the size in bytes of all files below a folder, without following links."""
    return sum(
        os.lstat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(folder) for name in names
        if not os.path.islink(os.path.join(place, name))
    )


def _new_folder(parent: Path, when: datetime, alert: Alert) -> Path:
    name = f'{when:%Y%m%dT%H%M%S}_{when.microsecond // 1000:03d}Z_{alert.reason.value}'
    for number in range(1000):
        folder = parent / (f'{name}_{number}' if number else name)
        if not folder.exists():
            return folder
    raise OSError(f'{parent} contains a thousand incidents of the same millisecond')


def _described(frame: RecordedFrame) -> dict[str, Any]:
    verdict, alert = frame.verdict, frame.alert
    explanation = verdict.explanation
    return {
        'stamp_ns': frame.stamp_ns,
        'frame_id': frame.frame_id,
        'size': [frame.image.width, frame.image.height],
        'class': verdict.class_name,
        'confidence': verdict.confidence,
        'p_value': verdict.p_value,
        'p_threshold': verdict.threshold,
        'e_value': verdict.e_value,
        'flagged': verdict.is_ood,
        'decisive_score': verdict.decisive,
        'fired_score': verdict.fired_member,
        'evidence_kind': kind_text(verdict.evidence_kind),
        'flagged_kinds': list(map(kind_text, verdict.flagged_kinds)),
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


