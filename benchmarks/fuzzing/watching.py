"""Detection of an input's side effects: commands, files, memory and time."""

from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.target import Finding, TooSlowError

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class _Watch:
    """State of the audit hook, which cannot be removed."""

    folders: tuple[str, ...] = ()
    seen: list[str] = field(default_factory=list)
    installed: bool = False


_WATCH = _Watch()
_FORBIDDEN = {
    'os.system', 'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn', 'pty.spawn',
    'subprocess.Popen', 'socket.connect', 'socket.bind', 'pickle.find_class', 'ftplib.connect',
    'urllib.Request', 'os.remove', 'os.rename', 'os.chmod', 'shutil.rmtree', 'os.symlink',
}
_OPENING = {'open', 'sqlite3.connect', 'os.listdir', 'os.scandir'}
# Folders from which Python may import modules while an input is processed.
_LIBRARIES = tuple(
    {str(Path(path).resolve()) for path in (*sysconfig.get_paths().values(), ROOT, *sys.path)}
    | {'/proc', '/sys', '/dev/shm', '/usr/lib', '/usr/local/lib'}
)


def _audit(event: str, arguments: tuple) -> None:
    if not _WATCH.folders:
        return
    if event in _FORBIDDEN:
        removes = event.startswith(('os.re', 'shutil.'))
        if removes and (_is_inside(arguments[0]) or not os.path.isabs(arguments[0])):
            return  # removal of a temporary folder, or of a path relative to an open folder
        _WATCH.seen.append(f'{event}{arguments!r}'[:300])
    elif event in _OPENING and not isinstance(arguments[0], int) and arguments[0] is not None:
        path = os.fsdecode(arguments[0])
        if event == 'sqlite3.connect':
            path = path.removeprefix('file://').partition('?')[0]
        real = os.path.realpath(path)
        reads = event != 'open' or 'w' not in str(arguments[1] or 'r')
        if not _is_inside(real) and not (reads and real.startswith(_LIBRARIES)):
            _WATCH.seen.append(f'{event}: {real}')


def _is_inside(path: Any) -> bool:
    try:
        return os.path.realpath(os.fsdecode(path)).startswith(_WATCH.folders)
    except (TypeError, ValueError):
        return True  # relative to an open folder


@contextmanager
def watched(*folders: str | Path) -> Iterator[None]:
    """Watch for commands, connections, and files opened outside ``folders``.

    Raises:
        Finding: One of these happened.
    """
    if not _WATCH.installed:
        sys.addaudithook(_audit)
        _WATCH.installed = True
    _WATCH.seen.clear()
    _WATCH.folders = tuple(os.path.realpath(folder) for folder in folders)
    try:
        yield
    finally:
        _WATCH.folders = ()
        if _WATCH.seen:
            raise Finding('; '.join(_WATCH.seen[:3]))


def memory(name: str) -> int:
    """Return a value of /proc/self/status in bytes; 0 if it is not available."""
    try:
        text = Path('/proc/self/status').read_text()
    except OSError:
        return 0
    found = re.search(rf'^{name}:\s+(\d+) kB', text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


@contextmanager
def bounded_memory(most: int) -> Iterator[None]:
    """Check that a block uses at most ``most`` bytes of additional memory.

    Raises:
        Finding: The block uses more.
    """
    before = memory('VmRSS')
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    yield
    grown = memory('VmHWM') - before
    if grown > most:
        raise Finding(
            f'it took {grown >> 20} MiB, more than {most >> 20} (besides {before >> 20})')


@contextmanager
def bounded_time(seconds: float) -> Iterator[None]:
    """End a block after a limit of CPU time, in seconds.

    Raises:
        TooSlowError: The block took longer.
    """
    def interrupt(_number: int, _frame: object) -> None:
        raise TooSlowError(f'it took more than {seconds:g} s')

    old = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
