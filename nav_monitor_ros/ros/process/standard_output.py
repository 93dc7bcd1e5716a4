"""Standard output and error that never block the process, even if the terminal does."""

from __future__ import annotations

import faulthandler
import fcntl
import io
import os
import re
import select
import sys
import termios
import threading
import time
from collections import deque
from pathlib import Path

PIPE_BYTES = 1 << 20  # bytes kept while nobody reads; Linux's limit for unprivileged users
_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python 3.10 lacks on some systems
_STEP = 0.005  # seconds between checks whether everything was written
_COLOURS = re.compile(rb'\x1b\[[0-9;]*m')
_NOTICEABLE = 1.0  # duration of a blocked write beyond which a line reports it, seconds


class NonBlockingOutput:
    """Non-blocking pipes in front of file descriptors 1 and 2 that drop what does not fit.

    rclpy's logger, the middleware and inference engines write to standard error with the
    interpreter's lock held. If the terminal is paused (Ctrl-S), a pipe is full or the launching
    process is stopped, such a write blocks every thread, including those that publish the alert.
    With this class they write into a non-blocking pipe, and a separate thread copies its content to
    the original destination. While the destination blocks, up to 1 MiB is kept; later lines are
    dropped, and a line reports the loss.

    ``keep`` also writes the output to a file, from another thread: rcl writes its own log file with
    the interpreter's lock held as well, so that a hanging disk would block every thread.
    """

    def __init__(self) -> None:
        """Redirect both descriptors and Python's ``sys.stdout`` and ``sys.stderr``."""
        self._file: _LogFile | None = None
        if sys.__stderr__ is not None and os.isatty(2):
            # A pipe is not a terminal, so that the log would lose its colours.
            os.environ.setdefault('RCUTILS_COLORIZED_OUTPUT', '1')
        # A descriptor that was closed when the process began may belong to any file by now.
        begun = {1: sys.__stdout__, 2: sys.__stderr__}
        self._copies = [_redirected(number) for number, stream in begun.items() if stream]
        for copy in self._copies:
            stream = io.TextIOWrapper(
                io.BufferedWriter(_Dropping(copy.descriptor)),
                encoding='utf-8', errors='backslashreplace', line_buffering=True,
            )
            if copy.descriptor == 1:
                sys.stdout = stream
            else:
                sys.stderr = stream
                # A crash report must not depend on a thread that the crash has stopped.
                faulthandler.enable(file=copy.target)

    def keep(self, path: Path) -> None:
        """Write further output to a file as well, without its colours.

        Args:
            path: Path of the file; the thread that writes it creates it.
        """
        self._file = _LogFile(path)
        for copy in self._copies:
            copy.file = self._file

    def flush(self, timeout: float) -> bool:
        """Wait until everything written so far has reached its reader.

        Args:
            timeout: Maximum time to wait, seconds.

        Returns:
            Whether everything was written in time.
        """
        end = time.monotonic() + timeout
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        while not all(copy.is_idle for copy in (*self._copies, self._file) if copy is not None):
            if time.monotonic() >= end:
                return False
            time.sleep(_STEP)
        return True


class _Copy:
    """Thread that copies one pipe to one file descriptor."""

    def __init__(self, descriptor: int, source: int, target: int) -> None:
        self.descriptor = descriptor  # descriptor whose output is copied
        self.target = target
        self.file: _LogFile | None = None
        self._source = source
        self._busy = False
        name = f'nav_monitor output {descriptor}'
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_idle(self) -> bool:
        # The order matters: the thread becomes busy before it reads from the pipe.
        return not _waiting_bytes(self._source) and not self._busy

    def _run(self) -> None:
        readable = select.poll()
        readable.register(self._source, select.POLLIN)
        while True:
            readable.poll()
            self._busy = True
            data = os.read(self._source, 1 << 16)
            if self.file is not None:
                self.file.put(data)
            started = time.monotonic()
            _write(self.target, data)
            stuck = time.monotonic() - started
            if stuck > _NOTICEABLE and _waiting_bytes(self._source) > PIPE_BYTES // 2:
                _write(self.target, (
                    f'[the output was blocked for {stuck:.0f} s; lines may be missing below]\n'
                ).encode())
            self._busy = False


class _LogFile:
    """File that a separate thread writes, so that a hanging disk blocks no other thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._busy = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name='nav_monitor log file', daemon=True).start()

    def put(self, data: bytes) -> None:
        """Queue data to be written; data that does not fit is dropped."""
        with self._changed:
            if self._size + len(data) <= PIPE_BYTES:
                self._parts.append(data)
                self._size += len(data)
                self._changed.notify()

    @property
    def is_idle(self) -> bool:
        with self._changed:
            return not self._parts and not self._busy

    def _run(self) -> None:
        target: int | None = None
        while True:
            with self._changed:
                self._busy = False
                self._changed.wait_for(lambda: self._parts)
                self._busy = True
                data = b''.join(self._parts)
                self._parts.clear()
                self._size = 0
            try:
                if target is None:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                    target = os.open(self._path, flags, 0o644)
            except OSError:
                continue  # the folder existed when the process began
            _write(target, _COLOURS.sub(b'', data))


class _Dropping(io.RawIOBase):
    """Stream that writes what a descriptor accepts at once, and drops the rest."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data) -> int:
        try:
            os.write(self._descriptor, data)
        except OSError:  # full
            pass
        return len(data)


def open_standard_descriptors() -> None:
    """Open closed descriptors among 0, 1 and 2, so that no socket of this process becomes one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # returns the lowest free number


def _redirected(descriptor: int) -> _Copy:
    """Put a pipe in front of a descriptor."""
    target = os.dup(descriptor)
    source, sink = os.pipe()
    try:
        fcntl.fcntl(sink, _F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # the default of 64 KiB is enough, too
    os.set_blocking(sink, False)
    os.dup2(sink, descriptor)
    os.close(sink)
    return _Copy(descriptor, source, target)


def _waiting_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b'\0' * 4), sys.byteorder)


def _write(target: int, data: bytes) -> None:
    """Write all data, however long that takes; data that cannot be written is dropped."""
    while data:
        try:
            data = data[os.write(target, data):]
        except BlockingIOError:  # another process made the shared terminal non-blocking
            writable = select.poll()
            writable.register(target, select.POLLOUT)
            writable.poll()
        except OSError:  # a closed terminal or pipe, or a full disk
            return
