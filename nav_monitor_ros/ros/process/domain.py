"""Exclusive ROS domains for tests, benchmarks and the demo, on a machine with other ROS programs.

A domain is reserved by a lock on a file in the temporary folder. All checkouts share these locks,
and Linux releases a lock when its process ends for whatever reason. Programs that do not use the
locks are detected by the ports of their participants.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from nav_monitor_ros.errors import NavMonitorError

# 0 is the default domain; above 101, the ports overlap with Linux's ephemeral ports.
DOMAINS = range(1, 102)
# Port numbering of RTPS, the protocol of Fast DDS, Cyclone DDS and Connext.
_FIRST_PORT = 7400
_PORTS_OF_A_DOMAIN = 250
_SOCKETS = ('/proc/net/udp', '/proc/net/udp6')
_LOCKS = 'nav_monitor_ros_domains'
# Each process takes domains in its own random order and continues in it, so that a released domain
# stays unused for a while before it is taken again.
_order = itertools.cycle(random.sample(DOMAINS, len(DOMAINS)))


class Domain:
    """A ROS domain that is locked until it is closed, or until the process ends."""

    def __init__(self, number: int, lock: int) -> None:
        """Store the lock.

        Args:
            number: Number of the domain.
            lock: File descriptor that holds the lock.
        """
        self.number = number
        self._lock = lock

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which a child process joins the domain, on this host only."""
        return {'ROS_DOMAIN_ID': str(self.number), **_discovery()}

    def close(self) -> None:
        """Release the domain."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Domain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def take_domain(candidates: Iterable[int] | None = None) -> Domain:
    """Lock a domain that is not locked and has no participants.

    From then on, the ROS nodes of this process and of its children are discovered on this host
    only.

    Args:
        candidates: Domains to choose from; all by default.

    Raises:
        NavMonitorError: All of them are in use.
    """
    stay_on_this_host()
    if candidates is None:
        candidates = itertools.islice(_order, len(DOMAINS))
    for number in candidates:
        lock = _try_lock(number)
        if lock is None:
            continue
        if is_silent(number):
            return Domain(number, lock)
        os.close(lock)
    raise NavMonitorError(
        f'every ROS domain is in use: end other ROS programs, or the processes that hold the files '
        f'in {_lock_folder()}'
    )


def stay_on_this_host() -> None:
    """Restrict the discovery of ROS nodes of this process and its children to this host."""
    for name in ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER'):
        os.environ.pop(name, None)
    os.environ.update(_discovery())


def is_silent(number: int) -> bool:
    """Return whether no participant of a domain runs on this host, judging by its ports."""
    first = _FIRST_PORT + _PORTS_OF_A_DOMAIN * number
    return not any(first <= port < first + _PORTS_OF_A_DOMAIN for port in _bound_ports())


def _discovery() -> dict[str, str]:
    discovery = {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    if os.environ.get('ROS_DISTRO') == 'humble':
        # Later distributions warn about this variable.
        discovery['ROS_LOCALHOST_ONLY'] = '1'
    return discovery


def _bound_ports() -> set[int]:
    """Return the UDP ports that are in use on this host; none if Linux does not report them."""
    ports = set()
    for name in _SOCKETS:
        try:
            lines = Path(name).read_text(encoding='ascii').splitlines()[1:]
        except OSError:  # no IPv6, or not Linux
            continue
        ports |= {int(line.split()[1].rpartition(':')[2], 16) for line in lines}
    return ports


def _lock_folder() -> Path:
    return Path(tempfile.gettempdir()) / _LOCKS


def _try_lock(number: int) -> int | None:
    """Return a descriptor that locks the domain, or nothing if another process has the lock."""
    folder = _lock_folder()
    try:
        folder.mkdir()
        folder.chmod(0o1777)  # other users take domains too
    except FileExistsError:
        pass
    path = folder / str(number)
    try:
        # First without O_CREAT, which Linux refuses for another user's file in such a folder.
        lock = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT)
        os.fchmod(lock, 0o644)
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
