"""Ctrl-C, SIGTERM and SIGHUP as a request that long work checks for between its steps.

An exception from a signal handler may be raised anywhere: in a destructor, in a callback, in the
middle of foreign code, which then hangs or crashes. So no handler raises here. A thread notes the
signal, and the work ends where it next calls ``raise_if_requested``. The thread ends the process
itself if the work does not get there in time (a single long call, an import), or when a second
signal arrives.

A signal that the caller has set to be ignored stays ignored, as it is for every well-behaved
program: a shell without job control starts its background jobs so that a Ctrl-C meant for the
foreground does not end them, and ``nohup`` does it with SIGHUP.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from nav_monitor_ros.errors import printable

EXIT_STATUS = 130  # with which an interrupted process ends
GRACE = 1.5  # seconds in which the work has to come to a check
_PATIENCE = 0.7  # seconds that an end at once waits for output that is being put in its place
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_NAMED = 3

_listening = False
_requested = False
_unfinished: dict[int, Callable[[], None]] = {}
_written: list[Path] = []
_committing = threading.RLock()
_ending = threading.Lock()
_explain: Callable[[], str] | None = None


class Interrupted(KeyboardInterrupt):
    """The work was asked to end; raised by ``raise_if_requested`` and by nothing else."""


class UndoOnInterrupt:
    """What has to be undone if the process ends before it is complete: a file, a child process."""

    def __init__(self, undo: Callable[[], None]) -> None:
        """Begin.

        Args:
            undo: Is called, perhaps by another thread, only if the process is interrupted.
        """
        _unfinished[id(self)] = undo

    def close(self) -> None:
        """Say that it is complete, or has been undone."""
        _unfinished.pop(id(self), None)

    def __enter__(self) -> UndoOnInterrupt:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def requested() -> bool:
    """Tell whether the process was asked to end."""
    return _requested


def raise_if_requested() -> None:
    """Let long work end here if it was asked to.

    Raises:
        Interrupted: It was.
    """
    if _requested:
        raise Interrupted


@contextmanager
def finish_uninterrupted(path: Path) -> Iterator[None]:
    """Put complete output in its place: what is begun within is not cut short by a signal.

    Args:
        path: Of the output; is told as written.

    Raises:
        Interrupted: Before anything is done, if the process was asked to end.
    """
    with _committing:
        raise_if_requested()
        yield
        if _listening and path not in _written:
            _written.append(path)


def written_message() -> str:
    """Return what an interrupted command has to say of its output."""
    if not _written:
        return 'interrupted; nothing was written'
    named = ', '.join(map(str, _written[:_MOST_NAMED]))
    more = len(_written) - _MOST_NAMED
    return f'interrupted; already written: {named}' + (f' and {more} more' if more > 0 else '')


def handle_signals() -> None:
    """Take signals as requests from now on; for the main thread of a command."""
    global _listening
    if not _listening:
        _listening = True
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(heard,), name='interrupts', daemon=True).start()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore)


def handle_signals_again() -> None:
    """Take signals back from a library that has set handlers of its own."""
    if _listening:
        handle_signals()


def set_exit_message(text: Callable[[], str]) -> None:
    """Say what an interrupted command prints; by default, what it has written."""
    global _explain
    _explain = text


def exit_process(status: int) -> NoReturn:
    """End the process of a command that has come to its end by itself.

    The interpreter is not taken down: that costs seconds, in which nothing listens to signals, and
    runs the destructors of foreign libraries.
    """
    if _requested:
        exit_now()
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def exit_now(*, tell: bool = False) -> NoReturn:
    """End the process at once: undo what is unfinished, with the status of an interrupt.

    Args:
        tell: Say on standard error what was written.
    """
    _ending.acquire(timeout=_PATIENCE)  # two threads would undo each other's work
    if _committing.acquire(timeout=_PATIENCE):
        _committing.release()
    for undo in list(_unfinished.values())[::-1]:
        with suppress(Exception):
            undo()
    # Not through Python's streams, whose locks others may hold; and not to a blocked terminal.
    if tell:
        with suppress(OSError, ValueError):
            if select.select([], [2], [], 0)[1]:
                encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
                said = f'{printable(_last_words())}\n'
                os.write(2, said.encode(encoding, 'backslashreplace'))
    with suppress(Exception):
        if threading.current_thread() is threading.main_thread():
            sys.stdout.flush()
    os._exit(EXIT_STATUS)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the interpreter has told the thread that watches."""


def _watch(heard: int) -> None:
    """Note signals, and end the process where the work does not."""
    global _requested
    deadline = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([heard], [], [], left)[0]:
            exit_now(tell=True)
        for number in os.read(heard, 64):
            if number not in _SIGNALS:
                continue
            if _requested:
                exit_now(tell=True)
            _requested = True
            deadline = time.monotonic() + GRACE


def _last_words() -> str:
    try:
        return _explain() if _explain else written_message()
    except Exception:  # the end must not fail for it
        return 'interrupted'
