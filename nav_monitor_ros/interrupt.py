"""Ctrl-C, SIGTERM and SIGHUP as a request that long work checks for between its steps.

An exception from a signal handler may be raised anywhere: in a destructor, in a callback or in
third-party code, which then hangs or crashes. Therefore no handler in this module raises. A thread
records the signal, and the work ends at its next call of ``raise_if_requested``. The thread ends
the process itself if the work does not reach such a call in time (during a single long call or an
import), or when a second signal arrives.

A signal that the caller has set to be ignored stays ignored, as in every well-behaved program: a
shell without job control sets SIGINT to be ignored in its background jobs, so that a Ctrl-C meant
for the foreground does not end them, and ``nohup`` does the same with SIGHUP.
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

EXIT_STATUS = 130  # exit status of an interrupted process
GRACE = 1.0  # time for the work to reach its next check, seconds
_PATIENCE = 0.7  # time that an immediate exit waits for output that is being moved into place, s
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
    """The process was interrupted; only ``raise_if_requested`` raises this."""


class UndoOnInterrupt:
    """Step to undo if the process is interrupted before it is complete: a file, a child process."""

    def __init__(self, undo: Callable[[], None]) -> None:
        """Register the step.

        Args:
            undo: Function that undoes the step; called, possibly from another thread, only if the
                process is interrupted.
        """
        _unfinished[id(self)] = undo

    def close(self) -> None:
        """Unregister the step, because it is complete or has been undone."""
        _unfinished.pop(id(self), None)

    def __enter__(self) -> UndoOnInterrupt:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def requested() -> bool:
    """Return whether the process was interrupted."""
    return _requested


def raise_if_requested() -> None:
    """End long work if the process was interrupted.

    Raises:
        Interrupted: The process was interrupted.
    """
    if _requested:
        raise Interrupted


@contextmanager
def finish_uninterrupted(path: Path) -> Iterator[None]:
    """Protect the step that moves complete output into place from being cut short by a signal.

    Args:
        path: Path of the output, which the exit message reports as written.

    Raises:
        Interrupted: The process was interrupted before the step began.
    """
    with _committing:
        raise_if_requested()
        yield
        if _listening and path not in _written:
            _written.append(path)


def written_message() -> str:
    """Return an interrupted command's message about its output."""
    if not _written:
        return 'interrupted; nothing was written'
    named = ', '.join(map(str, _written[:_MOST_NAMED]))
    more = len(_written) - _MOST_NAMED
    return f'interrupted; already written: {named}' + (f' and {more} more' if more > 0 else '')


def handle_signals() -> None:
    """Treat signals as requests from now on; must be called from a command's main thread."""
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
    """Restore this module's handlers after a library has set its own."""
    if _listening:
        handle_signals()


def set_exit_message(text: Callable[[], str]) -> None:
    """Set the message that an interrupted command prints; by default ``written_message``."""
    global _explain
    _explain = text


def exit_process(status: int) -> NoReturn:
    """End the process of a command that has finished.

    The interpreter is not shut down: that takes seconds, during which nothing handles signals, and
    runs the destructors of third-party libraries.
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
    """Undo unfinished steps and end the process at once with ``EXIT_STATUS``.

    Args:
        tell: Whether to print the exit message on standard error.
    """
    _ending.acquire(timeout=_PATIENCE)  # two threads must not undo the same steps
    if _committing.acquire(timeout=_PATIENCE):
        _committing.release()
    for undo in list(_unfinished.values())[::-1]:
        with suppress(Exception):
            undo()
    # Python's streams are avoided, because other threads may hold their locks; a blocked terminal
    # is skipped.
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
    """Do nothing: the interpreter has already notified the watching thread."""


def _watch(heard: int) -> None:
    """Record signals, and end the process if the work does not end in time."""
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
    except Exception:  # a failing message must not prevent the exit
        return 'interrupted'
