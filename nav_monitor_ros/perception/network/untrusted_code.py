"""Run code of a user's network, converting exceptions such as SystemExit to NavMonitorError."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.interrupt import Interrupted


@contextmanager
def foreign_code(where: str) -> Iterator[None]:
    """Convert whatever is not an ``Exception`` to a ``NavMonitorError``.

    ``SystemExit`` would silently end the process or a thread, and a network's own subclasses of
    ``BaseException`` would pass every handler.

    Args:
        where: Owner of the code, the start of the message.

    Raises:
        NavMonitorError: The code raised ``SystemExit`` or the like.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise stopped(where, error) from error


def stopped(where: str, error: BaseException) -> BaseException:
    """Return the error to raise for one that is not an ``Exception``.

    Args:
        where: Owner of the code, the start of the message.
        error: Exception that it raised.

    Returns:
        A ``NavMonitorError``; an interrupt by the user is returned unchanged.
    """
    if isinstance(error, Interrupted) or (
        # Without the command line's signal handlers, Ctrl-C raises it anywhere.
        isinstance(error, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        return error
    name, text = type(error).__name__, one_line(error, 200)
    return NavMonitorError(f'{where} raised {name if text == name else f"{name}: {text}"}')
