"""Profiles of Fast DDS for this package's nodes, unless the user has chosen another."""

from __future__ import annotations

import os
from pathlib import Path

from rclpy.utilities import get_rmw_implementation_identifier

from nav_monitor_ros.bundle.shipped import find_shared_file

SHARED_MEMORY = (
    'the middleware uses shared memory, so another process that is stopped can block this node for '
    'seconds; use UDP only: unset the profile, or see config/fastdds_udp.xml'
)
# Variables by which a user chooses transports or peers.
_CHOICES = (
    'FASTDDS_BUILTIN_TRANSPORTS', 'FASTDDS_DEFAULT_PROFILES_FILE',
    'FASTRTPS_DEFAULT_PROFILES_FILE', 'ROS_STATIC_PEERS',
)
# Files in the working folder that Fast DDS reads.
_FILES = ('DEFAULT_FASTDDS_PROFILES.xml', 'DEFAULT_FASTRTPS_PROFILES.xml')
_SEGMENTS = ('/dev/shm/fastdds_', '/dev/shm/fastrtps_')  # files that Fast DDS maps


def use_udp_only() -> None:
    """Set the environment so that Fast DDS uses UDP without shared memory.

    Processes that send to the same process through the shared memory of Fast DDS share a lock. One
    that is stopped while it holds the lock (SIGSTOP, a debugger, swapping) blocks the others: each
    publication waits for a second.

    To be called before rclpy is initialised. Profiles, transports and peers chosen by the user are
    kept. With other middleware nothing changes: it would not read the profile that restricts the
    discovery in place of the user's variables.
    """
    if not _is_fast_dds() or _has_chosen():
        return
    localhost = (
        os.environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '').upper() == 'LOCALHOST'
        or os.environ.get('ROS_LOCALHOST_ONLY') == '1'
    )
    profile = find_shared_file(f'config/fastdds_udp{"_localhost" if localhost else ""}.xml')
    if profile is None:
        return
    if localhost:
        # With LOCALHOST, rmw_fastrtps adds shared memory to every profile; this one restricts
        # discovery by itself.
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'SYSTEM_DEFAULT'
        os.environ.pop('ROS_LOCALHOST_ONLY', None)
    _set_profile(profile)


def disable_type_lookup() -> None:
    """Set the environment so that Fast DDS runs without its type lookup service.

    ROS does not use the service, and a thread of it crashes a process (SIGSEGV) that destroys its
    participant just after it has discovered another one. See ``use_udp_only``, whose profile
    includes this one.
    """
    if not _is_fast_dds() or _has_chosen():
        return
    profile = find_shared_file('config/fastdds_no_type_lookup.xml')
    if profile is not None:
        _set_profile(profile)


def uses_shared_memory() -> bool:
    """Return whether Fast DDS has mapped shared memory into this process; False if unknown."""
    try:
        maps = Path('/proc/self/maps').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return False
    return any(segment in maps for segment in _SEGMENTS)


def _is_fast_dds() -> bool:
    return 'fastrtps' in get_rmw_implementation_identifier()


def _has_chosen() -> bool:
    return any(os.environ.get(name) for name in _CHOICES) or any(map(os.path.exists, _FILES))


def _set_profile(profile: Path) -> None:
    old = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    os.environ[f'{"FASTRTPS" if old else "FASTDDS"}_DEFAULT_PROFILES_FILE'] = str(profile)
