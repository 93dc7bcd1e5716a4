"""Process of a node: one line if it cannot start, and an orderly end after any signal or error."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import (
    LoggingSeverity,
    get_logger,
    get_logger_effective_level,
    get_logging_directory,
    set_logger_level,
)
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.utf8_mode import require_utf8_mode
from nav_monitor_ros.ros.process.standard_output import NonBlockingOutput, open_standard_descriptors
from nav_monitor_ros.ros.process.transport import disable_type_lookup
from nav_monitor_ros.ros.process.unused_arguments import (
    describe_unused,
    describe_unused_files,
    refuse_outside_ros_args,
)
from nav_monitor_ros.ros.process.usage import Usage, asks_for_help

UNUSABLE = 1  # exit status: the configuration cannot be used, so a restart would not help
FAILED = 70  # exit status: the node failed while running; a restart may help
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 1000  # maximum length of an error's line, characters
LAST_LINES = 1.0  # maximum time for the last lines of output to reach their reader, seconds
# Variables of ROS's log that must be 0, 1 or empty; with any other value nothing is logged.
SWITCHES = (
    'RCUTILS_COLORIZED_OUTPUT', 'RCUTILS_LOGGING_USE_STDOUT', 'RCUTILS_LOGGING_BUFFERED_STREAM',
)
LAST_DOMAIN = 232  # beyond it, the middleware has no ports and terminates the process itself
# Errors that ROS raises for an invalid name, argument, file or environment variable.
_GIVEN = (
    NavMonitorError, NameValidationException, ParameterException, rclpy_implementation.RCLError,
)
_PLACE = re.compile(r',? at \S+\.(c|cpp|h|hpp):\d+')  # position in rcl's sources

N = TypeVar('N', bound=Node)


class StuckThreadError(Exception):
    """A thread does not end and would block the interpreter's shutdown, so the process must exit.

    Attributes:
        status: Exit status of the process.
    """

    def __init__(self, status: int) -> None:
        """Store the exit status."""
        super().__init__(status)
        self.status = status


class StopRequest:
    """Request to stop this process, made by a signal or by one of its threads.

    The interpreter's own C handler writes each signal into a socket, and waiting threads poll that
    socket. No Python code runs in a handler: a handler that sets a ``threading.Event`` deadlocks if
    the signal arrives while the main thread holds the event's lock.
    """

    def __init__(self) -> None:
        """Create the socket; no request has been made yet."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def listen(self) -> None:
        """Treat SIGINT, SIGTERM and SIGHUP as requests; must be called from the main thread.

        SIGHUP stays ignored if it was ignored, as under nohup. SIGINT does not: a shell sets it to
        be ignored for background jobs, and `ros2 launch` stops its nodes with it even when it runs
        as such a job.
        """
        for number in ENDING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def request(self) -> None:
        """Request the stop; may be called from any thread."""
        try:
            self._writer.send(b'\0')
        except BlockingIOError:
            pass  # the socket is full of earlier requests

    def is_set(self) -> bool:
        """Return whether a stop has been requested."""
        return self.wait(0.0)

    def wait(self, timeout: float) -> bool:
        """Wait for a request.

        Args:
            timeout: Maximum time to wait, seconds.

        Returns:
            Whether a stop has been requested.
        """
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        return bool(poll.poll(math.ceil(1000 * timeout)))  # the data stays unread, for all waiters


def run(
    name: str,
    make: Callable[[], N],
    serve: Callable[[N, StopRequest], int],
    args: Sequence[str] | None = None,
    usage: Usage | None = None,
) -> int:
    """Run a node until a stop is requested.

    Args:
        name: Name of the executable, for messages logged before the node exists.
        make: Function that creates the node.
        serve: Function that runs the node until a stop is requested and returns the exit status.
            Its exceptions end the process: ``NavMonitorError`` with ``UNUSABLE``,
            ``StuckThreadError`` immediately with its own status, any other with ``FAILED``.
        args: Command line, including the program's name; by default, that of the process.
        usage: Help to print for ``--help``.

    Returns:
        Exit status: that of ``serve``, or ``UNUSABLE`` or ``FAILED`` after the reason was logged.
        Without ``args``, the process ends with this status instead: shutting down the interpreter
        destroys what is left of ROS in any order while threads of the middleware still run, and
        rarely crashes, so that a node that should not be restarted would be.
    """
    if args is None:
        require_utf8_mode()
    if usage is not None and asks_for_help(sys.argv if args is None else args):
        with suppress(OSError):  # the reader has closed the pipe
            print(usage.text(), flush=True)
        return 0
    open_standard_descriptors()
    output = NonBlockingOutput()
    stop = StopRequest()
    stop.listen()
    stuck = False
    try:
        status = _run(name, make, serve, args, stop, output, usage)
    except StuckThreadError as error:
        status, stuck = error.status, True
    finally:
        output.flush(LAST_LINES)
    if stuck or args is None:
        os._exit(status)
    return status


def _run(
    name: str,
    make: Callable[[], N],
    serve: Callable[[N, StopRequest], int],
    args: Sequence[str] | None,
    stop: StopRequest,
    output: NonBlockingOutput,
    usage: Usage | None,
) -> int:
    try:
        refuse_outside_ros_args(
            sys.argv if args is None else args, usage.parameters if usage else ())
        _start_ros(sys.argv if args is None else args, name, output)
        node = make()
        _warn_of_unused_arguments(node, sys.argv if args is None else args)
    except _GIVEN as error:
        return _end(name, _reason(error), FAILED if _may_pass(error) else UNUSABLE)
    except BaseException as error:
        return _end(name, _failure(error), FAILED)
    try:
        status = serve(node, stop)
    except StuckThreadError:
        raise
    except NavMonitorError as error:
        return _end(name, _reason(error), UNUSABLE)
    except BaseException as error:
        return _end(name, _failure(error), FAILED)
    node.destroy_node()
    try_shutdown()
    return status


def _start_ros(args: Sequence[str], name: str, output: NonBlockingOutput) -> None:
    """Initialise ROS without its signal handlers, which would shut it down too early.

    Raises:
        NavMonitorError: An argument or an environment variable is invalid, or the log folder
            cannot be used.
    """
    _check_switches()
    disable_type_lookup()
    domain = os.environ.get('ROS_DOMAIN_ID', '')
    if domain.isdecimal() and int(domain) > LAST_DOMAIN:
        raise NavMonitorError(f'ROS_DOMAIN_ID is {domain}; it must be 0 to {LAST_DOMAIN}')
    for one in args:
        if one.encode('utf-8', 'replace').decode('utf-8') != one:
            raise NavMonitorError(f"argument '{one}' is not UTF-8 text, which ROS requires")
    own_file = []
    if not {'--enable-external-lib-logs', '--disable-external-lib-logs'} & set(args):
        # rcl writes its log file with the interpreter's lock held, so that a hanging disk would
        # block every thread.
        own_file = ['--ros-args', '--disable-external-lib-logs', '--']
        output.keep(_log_folder() / f'{name}_{os.getpid()}_{time.time_ns() // 10**6}.log')
    set_logger_level('rcl', LoggingSeverity.FATAL)  # only this package's line is logged
    warnings.filterwarnings('ignore', 'Failed to fini', RuntimeWarning)  # of rclpy, like rcl's log
    try:
        rclpy.init(
            args=[*args[:1], *own_file, *args[1:]],
            signal_handler_options=SignalHandlerOptions.NO,
        )
    except rclpy_implementation.UnknownROSArgsError as error:
        raise NavMonitorError(
            f'unknown ROS arguments {one_line(error)}; after --ros-args come -p NAME:=VALUE, '
            '-r FROM:=TO, --params-file FILE and the like'
        ) from error
    except rclpy_implementation.RCLError as error:
        if 'logging' not in str(error):
            raise
        raise _no_log_folder(error) from error
    finally:
        # The arguments may have set another level.
        if get_logger_effective_level('rcl') == LoggingSeverity.FATAL:
            set_logger_level('rcl', LoggingSeverity.UNSET)


def _may_pass(error: Exception) -> bool:
    """Return whether an error is due to the machine: no network yet, a peer without an address.

    With SROS 2 it is more likely to be due to the keystore.
    """
    return (
        isinstance(error, rclpy_implementation.RCLError)
        and 'error creating node' in str(error)
        and not _is_secured()
    )


def _is_secured() -> bool:
    return os.environ.get('ROS_SECURITY_ENABLE', 'false') != 'false'


def _warn_of_unused_arguments(node: Any, args: Sequence[str]) -> None:
    log = getattr(node, 'log', node.get_logger())
    files = describe_unused_files(node, args)
    for line in [*files, *describe_unused(node, args, getattr(node, 'names_to_come', ()))]:
        log.warning(line)
    getattr(node, 'unknown_parameters', []).extend(files)  # for its diagnostics


def _check_switches() -> None:
    """Check the environment variables that configure ROS's log.

    Raises:
        NavMonitorError: Some are invalid; they are removed from the environment, so that the error
            can be logged.
    """
    wrong = {
        name: value for name in SWITCHES
        if (value := os.environ.get(name, '')) not in ('', '0', '1')
    }
    for name in wrong:
        del os.environ[name]
    if wrong:
        given = ', '.join(f"{name} is '{value}'" for name, value in wrong.items())
        raise NavMonitorError(f'{given}; it must be 0, 1 or empty')


def _log_folder() -> Path:
    """Return the folder of ROS's logs.

    Raises:
        NavMonitorError: The folder cannot be created or is not writable.
    """
    try:
        folder = get_logging_directory()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError, rclpy_implementation.RCLError) as error:
        raise _no_log_folder(error) from error
    return folder


def _no_log_folder(error: BaseException) -> NavMonitorError:
    given = os.environ.get('ROS_LOG_DIR')
    return NavMonitorError(
        f'{_reason(error)}; set ROS_LOG_DIR'
        f'{f" (now {given})" if given else ""} to a writable folder'
    )


def _reason(error: BaseException) -> str:
    """Return an error in one line, without positions in the sources of ROS."""
    text = _PLACE.sub('', str(error)).replace('failed to initialize rcl: ', '')
    if isinstance(error, rclpy_implementation.RCLError):
        text = text.replace(
            'error not set',
            'ROS_SECURITY_ENABLE is set: see that ROS_SECURITY_KEYSTORE holds the enclave'
            if _is_secured() else 'ROS gives no reason',
        )
    return one_line(text or type(error).__name__, LONGEST)


def _failure(error: BaseException) -> str:
    """Return an unexpected error as one line, followed by its traceback for developers."""
    lines = ''.join(traceback.format_exception(error)).rstrip()
    return f'failed: {type(error).__name__}: {_reason(error)}\n{lines}'


def _end(name: str, reason: str, status: int) -> int:
    """Log why the process ends, and shut ROS down."""
    get_logger(name).fatal(reason)
    with suppress(Exception):  # ROS may fail to shut down if its start was not completed
        try_shutdown()
    return status
