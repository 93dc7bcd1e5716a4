"""A node as a process: started in one line or not at all, ended by a signal, whatever happens."""

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
from rclpy.utilities import remove_ros_args, try_shutdown

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.files.utf8_mode import require_utf8_mode
from nav_monitor_ros.ros.process.remappings import describe_unused
from nav_monitor_ros.ros.process.standard_output import NonBlockingOutput, open_standard_descriptors
from nav_monitor_ros.ros.process.usage import Usage, asks_for_help

UNUSABLE = 1  # exit status: what was given cannot be used; the same start would end the same way
FAILED = 70  # exit status: the node failed while it ran; started again it may live
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 1000  # characters of an error's line
LAST_LINES = 1.0  # seconds that the last lines of output may take to reach their reader
# Variables of ROS's log that it takes only as 0, 1 or empty, and without which nothing is logged.
SWITCHES = (
    'RCUTILS_COLORIZED_OUTPUT', 'RCUTILS_LOGGING_USE_STDOUT', 'RCUTILS_LOGGING_BUFFERED_STREAM',
)
LAST_DOMAIN = 232  # beyond it the middleware has no ports, and ends the process itself
# What ROS raises where a name, an argument, a file or a variable that it was given is wrong.
_GIVEN = (
    NavMonitorError, NameValidationException, ParameterException, rclpy_implementation.RCLError,
)
_PLACE = re.compile(r',? at \S+\.(c|cpp|h|hpp):\d+')  # in rcl's sources

N = TypeVar('N', bound=Node)


class StuckThreadError(Exception):
    """A thread does not end, and would hold the end of the interpreter, too."""

    def __init__(self, status: int) -> None:
        """Have the process end without it.

        Args:
            status: The exit status.
        """
        super().__init__(status)
        self.status = status


class StopRequest:
    """The wish that this process ends, from a signal or from one of its threads.

    A signal is written into a socket by the interpreter's own C handler, and whoever waits looks
    at that socket. No Python runs in a handler: one that sets a ``threading.Event`` stops for ever
    if the signal comes while the main thread holds the event's lock.
    """

    def __init__(self) -> None:
        """Create a wish that nobody has yet."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and a lost terminal for the wish; from the main thread only.

        SIGHUP stays ignored where it was, as under nohup. SIGINT does not: a shell makes what it
        starts in the background ignore it, and `ros2 launch` there ends its nodes by it.
        """
        for number in ENDING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def request(self) -> None:
        """Ask for the end, from any thread."""
        try:
            self._writer.send(b'\0')
        except BlockingIOError:
            pass  # full of wishes

    def is_set(self) -> bool:
        """Return whether the process is to end."""
        return self.wait(0.0)

    def wait(self, timeout: float) -> bool:
        """Wait for the wish.

        Args:
            timeout: Seconds.

        Returns:
            Whether the process is to end.
        """
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        return bool(poll.poll(math.ceil(1000 * timeout)))  # what was sent stays there, for all


def run(
    name: str,
    make: Callable[[], N],
    serve: Callable[[N, StopRequest], int],
    args: Sequence[str] | None = None,
    usage: Usage | None = None,
) -> int:
    """Run a node until its process is asked to end.

    Args:
        name: Of the executable, for messages of before there is a node.
        make: Creates the node.
        serve: Is given the node and the wish to end; returns the exit status. What it raises ends
            the process: ``NavMonitorError`` as unusable, ``StuckThreadError`` at once, anything
            else as failed.
        args: The command line with the program's name; that of the process if there is none.
        usage: Is printed for ``--help``.

    Returns:
        The exit status: ``serve``'s; ``UNUSABLE`` or ``FAILED`` after one line that says why.
    """
    if args is None:
        require_utf8_mode()
    if usage is not None and asks_for_help(sys.argv if args is None else args):
        with suppress(OSError):  # nobody reads on
            print(usage.text(), flush=True)
        return 0
    open_standard_descriptors()
    output = NonBlockingOutput()
    stop = StopRequest()
    stop.listen()
    try:
        return _run(name, make, serve, args, stop, output)
    except StuckThreadError as error:
        output.flush(LAST_LINES)
        os._exit(error.status)
    finally:
        output.flush(LAST_LINES)


def _run(
    name: str,
    make: Callable[[], N],
    serve: Callable[[N, StopRequest], int],
    args: Sequence[str] | None,
    stop: StopRequest,
    output: NonBlockingOutput,
) -> int:
    try:
        _start_ros(sys.argv if args is None else args, name, output)
        node = make()
        _warn_of_unused_remappings(node, sys.argv if args is None else args)
    except _GIVEN as error:
        return _end(name, _reason(error), UNUSABLE)
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
    """Initialise ROS with these arguments; its own handlers of signals would close it too early.

    Raises:
        NavMonitorError: An argument is not ROS's, or the logs have no place.
    """
    _check_switches()
    domain = os.environ.get('ROS_DOMAIN_ID', '')
    if domain.isdecimal() and int(domain) > LAST_DOMAIN:
        raise NavMonitorError(f'ROS_DOMAIN_ID is {domain}; it must be 0 to {LAST_DOMAIN}')
    for one in args:
        if one.encode('utf-8', 'replace').decode('utf-8') != one:
            raise NavMonitorError(f"argument '{one}' is no UTF-8 text, and ROS takes no other")
    own_file = []
    if not {'--enable-external-lib-logs', '--disable-external-lib-logs'} & set(args):
        # rcl writes its file with the interpreter's lock held: a disk that hangs would stop all.
        own_file = ['--ros-args', '--disable-external-lib-logs', '--']
        output.keep(_log_folder() / f'{name}_{os.getpid()}_{time.time_ns() // 10**6}.log')
    set_logger_level('rcl', LoggingSeverity.FATAL)  # one line is enough, and it is ours
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
        if get_logger_effective_level('rcl') == LoggingSeverity.FATAL:  # or the arguments chose
            set_logger_level('rcl', LoggingSeverity.UNSET)
    others = remove_ros_args(list(args))[1:]
    if others:
        raise NavMonitorError(
            f"unknown argument '{others[0]}'; parameters and remappings follow --ros-args: "
            '--ros-args -p NAME:=VALUE -r FROM:=TO'
        )


def _warn_of_unused_remappings(node: Any, args: Sequence[str]) -> None:
    log = getattr(node, 'log', node.get_logger())
    for line in describe_unused(node, args, getattr(node, 'names_to_come', ())):
        log.warning(line)


def _check_switches() -> None:
    """Check the variables on which ROS's log depends.

    Raises:
        NavMonitorError: Some are wrong; they are taken out of the environment, so that this can be
            logged.
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
        NavMonitorError: There is none, or it cannot be written to.
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
        f'{f" (now {given})" if given else ""} to a folder that can be written'
    )


def _reason(error: BaseException) -> str:
    """Return an error in one line, without the places in the sources of ROS."""
    text = _PLACE.sub('', str(error)).replace('failed to initialize rcl: ', '')
    if isinstance(error, rclpy_implementation.RCLError):
        secured = os.environ.get('ROS_SECURITY_ENABLE', 'false') != 'false'
        text = text.replace(
            'error not set',
            'ROS_SECURITY_ENABLE is set: see that ROS_SECURITY_KEYSTORE holds the enclave'
            if secured else 'ROS gives no reason',
        )
    return one_line(text or type(error).__name__, LONGEST)


def _failure(error: BaseException) -> str:
    """Return what nobody expected: one line, and the traceback for whoever mends it."""
    lines = ''.join(traceback.format_exception(error)).rstrip()
    return f'failed: {type(error).__name__}: {_reason(error)}\n{lines}'


def _end(name: str, reason: str, status: int) -> int:
    """Say why the process ends, and leave ROS."""
    get_logger(name).fatal(reason)
    with suppress(Exception):  # what was not completed may fail to end, too
        try_shutdown()
    return status
