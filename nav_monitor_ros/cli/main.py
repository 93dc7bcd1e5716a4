"""The command line ``nav_monitor``: its commands and their exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.logging import RichHandler

from nav_monitor_ros import __version__
from nav_monitor_ros.cli.argument_parser import ArgumentParser
from nav_monitor_ros.cli.benchmark import add_benchmark
from nav_monitor_ros.cli.compare import add_compare
from nav_monitor_ros.cli.console import (
    PlainConsole,
    PlainFormatter,
    accept_all_letters,
    naming_output_errors,
)
from nav_monitor_ros.cli.evaluate import add_evaluate
from nav_monitor_ros.cli.export import add_export
from nav_monitor_ros.cli.fit import add_fit
from nav_monitor_ros.cli.options.input_files import check_input_files
from nav_monitor_ros.cli.options.number_ranges import check_numbers
from nav_monitor_ros.cli.replay import add_replay
from nav_monitor_ros.cli.show import add_show
from nav_monitor_ros.cli.standard_streams import CLOSED_PIPE
from nav_monitor_ros.cli.train import add_train
from nav_monitor_ros.cli.tuning import add_tuning
from nav_monitor_ros.cli.view import add_view
from nav_monitor_ros.errors import NavMonitorError, describe_import_error, printable
from nav_monitor_ros.interrupt import EXIT_STATUS, requested, set_exit_message, written_message
from nav_monitor_ros.perception.network.working_folder import look_in


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 on success; 1 if ``compare --fail-on-difference`` found a difference; 2 if
        the input cannot be used, after one line with the reason; 130 if the command was
        interrupted, after one line that states what was written; 141 if the reader closed standard
        output, as a shell reports SIGPIPE.
    """
    accept_all_letters()
    options = make_parser().parse_args(arguments)
    set_exit_message(lambda: _interrupted(options))
    handler = RichHandler(console=PlainConsole(stderr=True), show_time=False, show_path=False)
    handler.setFormatter(PlainFormatter('%(message)s'))
    # On bad input, standard error has one line: the reason.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with suppress(OSError):  # the current folder may be gone
        look_in(Path.cwd())
    try:
        check_numbers(options)
        check_input_files(options)
        status = options.run(options) or 0
        with naming_output_errors():
            sys.stdout.flush()  # here, where a full disk can still be reported
        return status
    except NavMonitorError as error:
        if not requested():  # an interrupt may already have removed unfinished files
            print(f'nav_monitor {options.command}: {error}', file=sys.stderr)
            return 2
    except OSError as error:
        if not requested():
            return _failed(options.command, error)
    except ImportError as error:
        if not requested():
            reason = describe_import_error(error)
            print(f'nav_monitor {options.command}: {reason}', file=sys.stderr)
            return 2
    except SystemExit as error:  # raised by the code of a network or of a library
        if not requested():
            print(printable(
                f'nav_monitor {options.command}: imported code called sys.exit '
                f'(SystemExit: {error.code}); the code of a network must not do so'
            ), file=sys.stderr)
            return 2
    except KeyboardInterrupt:
        pass
    print(printable(_interrupted(options)), file=sys.stderr)
    return EXIT_STATUS


def _failed(command: str, error: OSError) -> int:
    """Report a system error and return the exit status."""
    if error.filename is None and isinstance(error, BrokenPipeError):
        return CLOSED_PIPE  # the reader of standard output has closed it
    reason = str(error)
    if error.filename is not None:
        reason = f'{os.fsdecode(error.filename)}: {error.strerror}'
    print(f'nav_monitor {command}: {printable(reason)}', file=sys.stderr)
    return 2


def _interrupted(options: argparse.Namespace) -> str:
    kept = getattr(options, 'checkpoint', None)
    if kept is not None and kept.is_dir():
        return f'interrupted; the same command resumes from {kept}'
    return written_message()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = ArgumentParser(
        prog='nav_monitor', description='Fit, evaluate and inspect monitors of image classifiers.',
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for add in (
        add_fit, add_evaluate, add_show, add_train, add_export, add_replay, add_compare, add_view,
        add_tuning, add_benchmark,
    ):
        add(commands)
    return parser
