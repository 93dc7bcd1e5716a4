"""Scripts of the executable ``camera``: segments to play one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.untrusted_yaml import read_yaml

LONGEST_SEGMENT = 10**6  # seconds


@dataclass(frozen=True)
class Segment:
    """Images to play for a given time."""

    name: str
    source: ImageSource
    seconds: float  # 0: each image once

    def frames(self, rate: float, hold: int) -> int:
        """Return the number of frames of the segment."""
        return round(self.seconds * rate) if self.seconds else len(self.source) * hold


def read_script(path: Path, rate: float) -> list[Segment]:
    """Read the segments of a script.

    Args:
        path: YAML file with a list of mappings with ``name``, ``source`` and ``seconds``.
        rate: Playback rate, images per second.

    Raises:
        NavMonitorError: The file is missing or malformed, a source cannot be opened, or a segment
            is shorter than one frame.
    """
    entries = read_yaml(path)
    if not isinstance(entries, list) or not entries:
        raise NavMonitorError(f'script {path} is not a list of segments')
    segments = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or set(entry) != {'name', 'source', 'seconds'}:
            raise NavMonitorError(
                f'script {path}: segment {number} must have name, source and seconds'
            )
        seconds = entry['seconds']
        known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (known and 0 < seconds <= LONGEST_SEGMENT):
            raise NavMonitorError(
                f'script {path}: segment {number} must last more than 0 and at most '
                f'{LONGEST_SEGMENT} seconds'
            )
        if not round(seconds * rate):
            raise NavMonitorError(
                f'script {path}: segment {number} lasts {seconds:g} s, less than one frame at '
                f'{rate:g} Hz; set it to {1 / rate:.2g} s or more'
            )
        segments.append(
            Segment(str(entry['name']), open_source(str(entry['source'])), float(seconds))
        )
    return segments
