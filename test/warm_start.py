"""Starts executables as forks of a process that has imported torch, which takes seconds.

A fork runs an executable's own ``main`` as a separate process with its own arguments, environment,
working folder and output. It cannot change what an interpreter reads when it starts:
``Starter.can_start`` tells whether the executable has to be started instead.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from processes import with_default_signals

COMMAND = {'nav_monitor': 'nav_monitor_ros.cli.command'}
NODES = {
    'camera': 'nav_monitor_ros.ros.camera.node',
    'monitor': 'nav_monitor_ros.ros.monitor.main',
    'safety_stop': 'nav_monitor_ros.ros.safety_stop.node',
}
# What the executables import late, and takes long.
LATE_IMPORTS = {
    'nav_monitor': (
        'nav_monitor_ros.bundle.networks', 'nav_monitor_ros.bundle.saving',
        'nav_monitor_ros.evaluation.evaluate', 'nav_monitor_ros.fitting.train',
    ),
    'monitor': (
        'nav_monitor_ros.bundle.networks', 'nav_monitor_ros.data.sources',
        'nav_monitor_ros.perception.network.torch.classifier', 'nav_monitor_ros.runtime.monitor',
    ),
}
LONGEST = 1 << 20  # bytes of one order
# Variables that the loader, the interpreter or the libraries of this process have already read.
READ_AT_START = (
    'LD_', 'LC_', 'LANG', 'PYTHON', 'OMP_', 'OPENBLAS_', 'MKL_', 'RMW_', 'ROS_SECURITY',
)


class WarmProcess:
    """A process that a ``Starter`` forked; used as ``subprocess.Popen``."""

    def __init__(self, pid: int, status: int, program: str) -> None:
        """Take a process, and the file descriptor from which its exit status can be read."""
        self.pid = pid
        self.returncode: int | None = None
        self.args = [program]
        self._status = status

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while the process runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            # The starter may have reaped it since.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            text = os.read(self._status, 16)
            os.close(self._status)
            assert text, 'the starter of nodes has ended'
            self.returncode = int(text)
        return self.returncode


class Starter:
    """The process of which executables are forks; it ends when this process does."""

    def __init__(
        self, mains: Mapping[str, str], environment: Mapping[str, str] = os.environ
    ) -> None:
        """Start it; it is ready after some seconds.

        Args:
            mains: Module of each executable, which has a function ``main``.
            environment: Its variables.
        """
        self._mains = dict(mains)
        self._environment = {**environment, 'OMP_NUM_THREADS': '1'}
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            with_default_signals(
                sys.executable, __file__, str(other.fileno()), json.dumps(self._mains)
            ),
            pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, env=self._environment,
        )
        other.close()

    def can_start(self, program: str, environment: Mapping[str, str]) -> bool:
        """Return whether a fork does the same as the executable with these variables."""
        differing = {
            variable for variable, value in environment.items()
            if variable.startswith(READ_AT_START) and self._environment.get(variable) != value
        }
        return os.path.basename(program) in self._mains and differing <= {'PYTHONPATH'}

    def start(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: int,
        *,
        errors: int | None = None,
        folder: str | None = None,
    ) -> WarmProcess:
        """Start an executable.

        Args:
            program: Its path.
            arguments: The command line without the program.
            environment: All variables.
            output: File descriptor of its standard output.
            errors: File descriptor of its standard error; by default, the same.
            folder: Its working folder; by default, that of this process.
        """
        reader, writer = os.pipe()
        order = {
            'argv': [program, *arguments], 'environment': dict(environment),
            'folder': os.getcwd() if folder is None else folder,
        }
        files = [output, output if errors is None else errors, writer]
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode()], files)
            pid = int(self._socket.recv(16))
        os.close(writer)
        return WarmProcess(pid, reader, program)


# ------------------------------------------------------------------ in the starter


def _serve(orders: socket.socket) -> None:
    """Fork a process for each order, until the other end is closed; returns in each fork."""
    statuses: dict[int, int] = {}
    while True:
        readable = select.select([orders], [], [], 0.05 if statuses else None)[0]
        while statuses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            os.write(statuses[pid], str(os.waitstatus_to_exitcode(status)).encode())
            os.close(statuses.pop(pid))
        if not readable:
            continue
        text, files, *_ = socket.recv_fds(orders, LONGEST, 3)
        if not text:
            os._exit(0)
        *output, status = files
        pid = os.fork()
        if not pid:
            for other in (orders.fileno(), status, *statuses.values()):
                os.close(other)
            _become(json.loads(text), output)
            return
        statuses[pid] = status
        for other in output:
            os.close(other)
        orders.send(str(pid).encode())


def _become(order: dict, output: Sequence[int]) -> None:
    """Give this process what the order says."""
    os.chdir(order['folder'])
    for number, given in enumerate(output, 1):
        os.dup2(given, number)
        os.close(given)
    os.environ.clear()
    os.environ.update(order['environment'])
    given = order['environment'].get('PYTHONPATH', '').split(os.pathsep)
    sys.argv = order['argv']
    sys.path[0] = os.path.dirname(sys.argv[0])
    sys.path[1:1] = [path for path in given if path and path not in sys.path]


if __name__ == '__main__':
    import gc
    import importlib

    given = json.loads(sys.argv[2])
    mains = {name: importlib.import_module(module) for name, module in given.items()}
    for name in mains:
        for late in LATE_IMPORTS.get(name, ()):
            importlib.import_module(late)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(mains[os.path.basename(sys.argv[0])].main())
