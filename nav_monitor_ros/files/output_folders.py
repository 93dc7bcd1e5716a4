"""Which files of an output folder may be replaced; checked before long work begins."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.paths import listed, reachable


def require_empty(folder: Path, what: str, *, holds_one: bool) -> None:
    """Check that an output folder is empty or does not exist.

    Args:
        folder: Output folder.
        what: What is written to it, such as ``bundle``, for the message.
        holds_one: Whether the folder already holds such an output.

    Raises:
        NavMonitorError: It holds something.
    """
    if not reachable(folder).is_dir() or not listed(folder):
        return
    article = 'an' if what[0] in 'aeiou' else 'a'
    holds = f'already holds {article} {what}' if holds_one else 'is not empty'
    raise NavMonitorError(
        f'{folder} {holds}; choose another output folder, or write there with --force (files that '
        f'do not belong to the {what} are kept)'
    )


def require_own(folder: Path, what: str, names: Iterable[str], own: Collection[str]) -> None:
    """Check that the files to be written replace only those of an earlier output.

    Args:
        folder: Output folder.
        what: As for ``require_empty``.
        names: Files to be written.
        own: Files in the folder that belong to an earlier output.

    Raises:
        NavMonitorError: Another file has such a name.
    """
    article = 'an' if what[0] in 'aeiou' else 'a'
    for name in sorted(names):
        if name not in own and os.path.lexists(folder / name):
            raise NavMonitorError(
                f'{folder / name} does not belong to {article} {what} and would be replaced; move '
                'it, or choose another output folder'
            )
