"""The output folder of an evaluation: its files, and whether they may be replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import listed, reachable

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
    if not reachable(folder).is_dir() or not listed(folder):
        return
    own = _is_metrics(folder / METRICS)
    if not force:
        holds = 'already holds an evaluation' if own else 'is not empty'
        raise NavMonitorError(
            f'{folder} {holds}; choose another output folder, or write there with --force (files '
            'that do not belong to the evaluation are kept)'
        )
    for name in (METRICS, REPORT):
        if not own and os.path.lexists(folder / name):
            raise NavMonitorError(
                f'{folder / name} does not belong to an evaluation and would be replaced; move it, '
                'or choose another output folder'
            )


def _is_metrics(path: Path) -> bool:
    """Return whether a file holds the metrics of an evaluation."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) >= _KEYS
