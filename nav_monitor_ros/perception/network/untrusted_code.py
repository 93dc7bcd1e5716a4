"""Code of a user's network: what it raises becomes the one error class, SystemExit included."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.interrupt import Interrupted


@contextmanager
def foreign_code(where: str) -> Iterator[None]:
    """Turn whatever is not an ``Exception`` into a ``NavMonitorError``.

    ``SystemExit`` would end the process or a thread without a word, and classes of a network's own
    below ``BaseException`` would pass every handler.

    Args:
        where: What the code belongs to, the start of the message.

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
        where: What the code belongs to, the start of the message.
        error: What it raised.

    Returns:
        A ``NavMonitorError``; an interrupt of the user as it is.
    """
    if isinstance(error, Interrupted) or (
        # Without the command line's handling of signals, Ctrl-C raises it anywhere.
        isinstance(error, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        return error
    name, text = type(error).__name__, one_line(error, 200)
    return NavMonitorError(f'{where} raised {name if text == name else f"{name}: {text}"}')
