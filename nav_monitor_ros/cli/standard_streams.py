"""Standard input, output and error of a process that may have been started without them."""

from __future__ import annotations

import os
import signal
import sys

CLOSED_PIPE = 128 + signal.SIGPIPE  # exit status that a shell reports for SIGPIPE


def open_closed_streams() -> None:
    """Open closed standard descriptors, before any other file is given their numbers.

    Writing to a closed standard output fails, as in other programs; text written to a closed
    standard error is dropped.
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
    """Return the exit status of a command whose help could not be written to standard output.

    Prints the reason on standard error, unless the reader has closed the pipe.
    """
    if isinstance(error, BrokenPipeError):
        return CLOSED_PIPE
    print(f'nav_monitor: standard output: {error.strerror or error}', file=sys.stderr)
    return 2
