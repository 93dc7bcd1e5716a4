"""Standard input, output and error of a process that may have been started without them."""

from __future__ import annotations

import os
import signal
import sys

CLOSED_PIPE = 128 + signal.SIGPIPE  # as a shell reports a process that SIGPIPE ended


def open_closed_streams() -> None:
    """Give closed standard descriptors something to refer to, before any file takes their numbers.

    What is written to a closed standard output fails, as for other programs; what is written to a
    closed standard error is dropped.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = open(1, 'w', encoding='utf-8', closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, 'w', encoding='utf-8', closefd=False)


def output_error_status(error: OSError) -> int:
    """Return the status of a command whose help could not be written to standard output.

    Says why on standard error, unless the reader is gone.
    """
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE
    print(f'nav_monitor: standard output: {error.strerror or error}', file=sys.stderr)
    return 2
