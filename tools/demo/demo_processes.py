"""Processes of the demo, which run the package's executables, and their shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nav_monitor_ros import interrupt

SHARED_MEMORY = 256 << 20  # bytes; three processes take 32 MB each


class DemoError(Exception):
    """The demo cannot continue; the text states in one line why, and how to fix it."""


class Processes:
    """Processes of the package's executables, run as ROS would run them."""

    def __init__(self, logs: Path) -> None:
        """Find the executables.

        Raises:
            DemoError: The executables were not found.
        """
        self._folder = _executables()
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._unfinished: dict[str, interrupt.UndoOnInterrupt] = {}

    def start(self, name: str, parameters: Mapping[str, str], module: str = '') -> None:
        """Start a node; its output is appended to its log.

        Args:
            name: Name of the executable, or of the node if it is a module.
            parameters: Parameters of the node.
            module: Module that is run instead of an executable.
        """
        arguments = [text for p in parameters.items() for text in ('-p', f'{p[0]}:={p[1]}')]
        program = [sys.executable, '-m', module] if module else [str(self._folder / name)]
        with self._log(name).open('ab') as log:
            process = subprocess.Popen(
                [*program, '--ros-args', *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_NUM_THREADS': '1'},
            )
        self._running[name] = process
        self._unfinished[name] = interrupt.UndoOnInterrupt(process.kill)

    def kill(self, name: str) -> None:
        """Kill an executable, as in a crash."""
        process = self._running.pop(name)
        process.kill()
        process.wait()
        self._unfinished.pop(name).close()

    def check(self) -> None:
        """Check that all processes are running.

        Raises:
            DemoError: A process has ended.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = self._log(name).read_text(errors='replace').strip().splitlines()
                raise DemoError(
                    f'{name} ended with status {process.returncode}: '
                    f'{lines[-1] if lines else "it printed nothing"}'
                )

    def stop(self) -> None:
        """Stop all processes."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        for unfinished in self._unfinished.values():
            unfinished.close()
        self._unfinished.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f'{name}.log'


def _executables() -> Path:
    """Return the folder in which ``ros2 run`` would find the package's executables."""
    prefixes = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if prefix]
    for prefix in prefixes:
        folder = Path(prefix) / 'lib' / 'nav_monitor_ros'
        if (folder / 'monitor').exists():
            return folder
    raise DemoError(
        'the package is not in AMENT_PREFIX_PATH: '
        "run 'make setup' once, then '. ./env.sh' in this shell (or 'make demo')"
    )


def use_large_shared_memory() -> None:
    """Use shared memory that is large enough for images, unless the user chose another profile.

    With Fast DDS's default segments of 512 kB, a busy machine lost whole seconds of overlays.
    """
    profile = _executables().parents[1] / 'share/nav_monitor_ros/config/fastdds.xml'
    shared = Path('/dev/shm')
    if not shared.is_dir() or shutil.disk_usage(shared).free < SHARED_MEMORY:
        return
    # Only one of the names is set: Fast DDS 3 also reads the older one, and warns about the second.
    older = os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy')
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
    if not any(name in os.environ for name in names):
        os.environ[names[0] if older else names[1]] = str(profile)
