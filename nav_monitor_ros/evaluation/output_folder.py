"""The output folder of an evaluation: its files, and whether they may be replaced."""

from __future__ import annotations

import json
from pathlib import Path

from nav_monitor_ros.files.output_folders import require_empty, require_own

METRICS, REPORT = 'metrics.json', 'report.html'
_KEYS = {'bundle', 'inside', 'images', 'false_alarms'}  # of every METRICS file


def check_output(folder: Path, *, force: bool = False) -> None:
    """Check that an evaluation may be written to a folder, before the work.

    Args:
        folder: Output folder.
        force: Allow a folder that holds an evaluation or other files; the latter are kept.

    Raises:
        NavMonitorError: The folder is not empty, or a file that does not belong to an evaluation
            would be replaced.
    """
    holds_one = _is_metrics(folder / METRICS)
    if not force:
        require_empty(folder, 'evaluation', holds_one=holds_one)
    written = (METRICS, REPORT)
    require_own(folder, 'evaluation', written, written if holds_one else ())


def _is_metrics(path: Path) -> bool:
    """Return whether a file holds the metrics of an evaluation."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) >= _KEYS
