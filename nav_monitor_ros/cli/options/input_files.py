"""Files that options name: a folder in the place of one is told before anything is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable

_FILES = ('weights', 'classes', 'preprocess', 'params')


def check_input_files(options: argparse.Namespace) -> None:
    """Check that no folder is given where a file is meant.

    Raises:
        NavMonitorError: One is; the message names the option.
    """
    for name in _FILES:
        given = getattr(options, name, None)
        for path in given if isinstance(given, list) else [given]:
            if isinstance(path, Path) and reachable(path).is_dir():
                raise NavMonitorError(f'--{name} {path} is a folder; name a file')
