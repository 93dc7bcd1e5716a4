"""Check of the input files that options name: a folder is refused before anything is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import reachable

_FILES = ('weights', 'classes', 'preprocess', 'params')


def check_input_files(options: argparse.Namespace) -> None:
    """Check that no option for a file names a folder.

    Raises:
        NavMonitorError: An option names a folder; the message names the option.
    """
    for name in _FILES:
        given = getattr(options, name, None)
        for path in given if isinstance(given, list) else [given]:
            if isinstance(path, Path) and reachable(path).is_dir():
                raise NavMonitorError(f'--{name} {path} is a folder; name a file')
