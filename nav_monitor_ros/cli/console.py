"""Output of the command line: tables, JSON files, and the progress of long work."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from nav_monitor_ros.errors import NavMonitorError, printable
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.interrupt import UndoOnInterrupt, raise_if_requested

_WIDTH = 160  # columns of output to a file or a pipe when COLUMNS is not set


def accept_all_letters() -> None:
    """Make standard output and error accept any text, with escapes for what they cannot encode.

    An ASCII or Latin-1 terminal cannot show every class name, and no terminal can show the bytes
    of a file name that are not valid text.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def say(text: object) -> None:
    """Print one line on standard output, with control characters in names escaped."""
    with naming_output_errors():
        print(printable(text))


@contextmanager
def naming_output_errors() -> Iterator[None]:
    """Report a failed write to standard output in one line, except for a closed pipe.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
        NavMonitorError: Standard output cannot be written for another reason.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NavMonitorError(f'standard output: {error.strerror or error}') from None


class PlainFormatter(logging.Formatter):
    """Formatter of log records that escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return printable(super().format(record))


class PlainConsole(Console):
    """Console that interprets neither markup nor escape sequences in what it prints."""

    def __init__(self, **options: Any) -> None:
        """Accept the options of ``rich.console.Console``."""
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as ``rich.console.Console`` does.

        Raises:
            NavMonitorError: Standard output cannot be written.
        """
        with nullcontext() if self.stderr else naming_output_errors():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Raise ``BrokenPipeError``, where rich would raise ``SystemExit``."""
        raise

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text with control characters escaped and without markup."""
        clean = '\n'.join(printable(line) for line in text.split('\n'))
        return super().render_str(clean, **{**options, 'markup': False, 'emoji': False})


def table_console() -> Console:
    """Return a console for standard output, wide enough not to break names in files and pipes."""
    console = PlainConsole()
    if not console.is_terminal and 'COLUMNS' not in os.environ:
        console = PlainConsole(width=_WIDTH)
    return console


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, complete or not at all, and print its name.

    Raises:
        NavMonitorError: The file cannot be written.
    """
    try:
        with atomic_file(path) as scratch:
            scratch.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    except OSError as error:
        raise NavMonitorError(f'cannot write {path}: {error.strerror}') from error
    say(f'wrote {path}')


class ProgressBars:
    """Progress bars on standard error, shown only if it is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), console=console or PlainConsole(stderr=True), transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        if self._progress.console.is_terminal:
            self._unfinished = UndoOnInterrupt(show_cursor)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress.live.is_started:  # stopping prints an empty line otherwise
            self._progress.stop()
            self._unfinished.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Update the progress of a task; a new task replaces the previous one.

        Raises:
            Interrupted: An interrupt was requested.
        """
        raise_if_requested()
        what = printable(what)
        if what not in self._tasks:
            for task in self._tasks.values():
                self._progress.remove_task(task)
            self._tasks = {what: self._progress.add_task(what, total=total)}
        self._progress.update(self._tasks[what], completed=done)


def show_cursor() -> None:
    """Show the cursor that a live display has hidden, on a terminal that accepts output."""
    if os.isatty(2) and select.select([], [2], [], 0)[1]:
        os.write(2, b'\r\x1b[2K\x1b[?25h')
