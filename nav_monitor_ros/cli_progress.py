"""What the command line gives: tables, files of figures, and the progress of long work."""

from __future__ import annotations

import json
import os
import select
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from nav_monitor_ros.atomic_files import atomic_file
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.interrupt import Unfinished, check

_WIDTH = 160  # columns where nobody watches and none are asked for


def table_console() -> Console:
    """Return a console for standard output that breaks no name when a file or a pipe reads it."""
    console = Console()
    if not console.is_terminal and 'COLUMNS' not in os.environ:
        console = Console(width=_WIDTH)
    return console


def write_json(path: Path, content: object) -> None:
    """Write a file of figures, complete or not at all, and say so.

    Raises:
        NavMonitorError: It cannot be written.
    """
    try:
        with atomic_file(path) as scratch:
            scratch.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror}') from error
    print(f'wrote {path}')


class ProgressBars:
    """Shows how far the work is, on standard error and only where somebody watches."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), console=console or Console(stderr=True), transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        if self._progress.console.is_terminal:
            self._unfinished = Unfinished(show_cursor)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:  # stopping prints an empty line otherwise
            self._progress.stop()
            self._unfinished.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say how far a piece of work is; a new one takes the place of the last.

        Raises:
            Interrupted: The work was asked to end.
        """
        check()
        if what not in self._tasks:
            for task in self._tasks.values():
                self._progress.remove_task(task)
            self._tasks = {what: self._progress.add_task(what, total=total)}
        self._progress.update(self._tasks[what], completed=done)


def show_cursor() -> None:
    """Show the cursor again that a live display hides, on a terminal that takes it."""
    if os.isatty(2) and select.select([], [2], [], 0)[1]:
        os.write(2, b'\r\x1b[2K\x1b[?25h')
