"""Starts nodes as forks of a process that has imported torch and rclpy, which takes seconds.

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

from processes import with_default_signals

MAINS = {
    'camera': 'nav_monitor_ros.ros.camera.node',
    'monitor': 'nav_monitor_ros.ros.monitor.main',
    'safety_stop': 'nav_monitor_ros.ros.safety_stop.node',
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
    """The process of which nodes are forks; it ends when this process does."""

    def __init__(self) -> None:
        """Start it; it is ready after some seconds."""
        self._environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        self._lock = threading.Lock()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            with_default_signals(sys.executable, __file__, str(other.fileno())),
            pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, env=self._environment,
        )
        other.close()

    def can_start(self, program: str, environment: Mapping[str, str]) -> bool:
        """Return whether a fork does the same as the executable with these variables."""
        differing = {
            variable for variable, value in environment.items()
            if variable.startswith(READ_AT_START) and self._environment.get(variable) != value
        }
        return os.path.basename(program) in MAINS and differing <= {'PYTHONPATH'}

    def start(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], output: int
    ) -> WarmProcess:
        """Start an executable of the package.

        Args:
            program: Its path.
            arguments: The command line without the program.
            environment: All variables.
            output: File descriptor of both its standard output and its standard error.
        """
        reader, writer = os.pipe()
        order = {
            'argv': [program, *arguments], 'environment': dict(environment), 'folder': os.getcwd(),
        }
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode()], [output, writer])
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
        text, files, *_ = socket.recv_fds(orders, LONGEST, 2)
        if not text:
            os._exit(0)
        output, status = files
        pid = os.fork()
        if not pid:
            for other in (orders.fileno(), status, *statuses.values()):
                os.close(other)
            _become(json.loads(text), output)
            return
        statuses[pid] = status
        os.close(output)
        orders.send(str(pid).encode())


def _become(order: dict, output: int) -> None:
    """Give this process what the order says."""
    os.chdir(order['folder'])
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.environ.clear()
    os.environ.update(order['environment'])
    given = order['environment'].get('PYTHONPATH', '').split(os.pathsep)
    sys.argv = order['argv']
    sys.path[0] = os.path.dirname(sys.argv[0])
    sys.path[1:1] = [path for path in given if path and path not in sys.path]


if __name__ == '__main__':
    import gc
    import importlib

    import torch  # noqa: F401

    import nav_monitor_ros.bundle.networks
    import nav_monitor_ros.data.sources
    import nav_monitor_ros.perception.network.torch.classifier
    import nav_monitor_ros.runtime.monitor  # noqa: F401

    mains = {name: importlib.import_module(module) for name, module in MAINS.items()}
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(mains[os.path.basename(sys.argv[0])].main())
