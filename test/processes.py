"""How tests start processes and kill them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def with_default_signals(*command: str) -> list[str]:
    """Return a command whose process does not ignore SIGINT, SIGTERM and SIGHUP.

    A shell without job control makes its background jobs ignore SIGINT, and ``nohup`` does the same
    with SIGHUP; their child processes, including tests, inherit this.
    """
    return ['env', '--default-signal=INT,TERM,HUP', *command]


def kill_between_messages(process, timeout: float = 5.0) -> float:
    """Kill a node with SIGKILL while all of its threads sleep, and return when (steady clock).

    A process that is killed while it sends through Fast DDS's shared memory may hold a lock that
    delays what others send (docs/architecture.md). That is a fault of its own.

    Args:
        process: A ``Popen`` of the node.
        timeout: Seconds after which it is killed even if it is busy.
    """
    threads = Path(f'/proc/{process.pid}/task')
    end = time.monotonic() + timeout
    with suppress(OSError):  # it has ended
        while time.monotonic() < end and not all(_sleeps(thread) for thread in threads.iterdir()):
            pass
    killed = time.monotonic()
    process.kill()
    return killed


def _sleeps(thread: Path) -> bool:
    try:
        state = (thread / 'stat').read_text().rpartition(')')[2].split()[0]
    except OSError:  # the thread has ended
        return True
    return state in 'SZ'
