"""Command-line parser that reports misspelt and repeated options by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from nav_monitor_ros.cli.standard_streams import output_error_status
from nav_monitor_ros.errors import did_you_mean, printable


class ArgumentParser(argparse.ArgumentParser):
    """Parser that suggests the nearest option and accepts each option once unless it is a list.

    Options cannot be abbreviated: a word that was never an option, or that a later version might
    add, would otherwise be taken for another option that happens to begin with it.
    """

    def __init__(
        self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter,
        allow_abbrev: bool = False, **options: Any,
    ) -> None:
        """Accept the arguments of ``argparse.ArgumentParser``; texts keep their line breaks."""
        super().__init__(formatter_class=formatter_class, allow_abbrev=allow_abbrev, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments of a command, after its option names have been checked.

        argparse reports a missing option before a misspelt one, and uses the last of several
        values without a message.
        """
        if args is not None and self._subparsers is None:
            self._check_options(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print one line of usage and one that states the error, and exit with status 2."""
        self.exit(2, f'{self._usage_line()}\n{self.prog}: error: {printable(message)}\n')

    def _usage_line(self) -> str:
        """Return the usage in one line, with the arguments that are required or positional."""
        shown = [one for one in self._actions if one.required or not one.option_strings]
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, shown, [])
        line = ' '.join(formatter.format_help().split())
        if self._subparsers is None:
            line += f' [OPTIONS] (see {self.prog} --help)'
        return line

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a help text or an error; argparse would ignore a failed write."""
        stream = file or sys.stderr
        try:
            stream.write(message)
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                raise SystemExit(output_error_status(error)) from None

    def _check_options(self, arguments: Sequence[str]) -> None:
        seen: set[argparse.Action] = set()
        for name in _option_names(arguments):
            action = self._option_string_actions.get(name)
            if action is None:
                self.error(f"unknown option '{name}'{self._suggestion(name)}")
            if action in seen and isinstance(action, argparse._StoreAction):
                self.error(f'{"/".join(action.option_strings)} is given twice; give it only once')
            seen.add(action)

    def _suggestion(self, name: str) -> str:
        """Return the options that an unknown one may stand for, those that it abbreviates first."""
        longer = [option for option in self._option_string_actions if option.startswith(name)]
        if name == '--' or not longer:
            return did_you_mean(name, self._option_string_actions)
        return f'; did you mean {" or ".join(longer)}?'

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is not among an argument's choices, and suggest the nearest."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            choices: Iterable[Any] = action.choices or ()
            error.message += did_you_mean(str(value), map(str, choices))
            raise


def _option_names(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the names of options as argparse recognises them: text with a space is a value."""
    for argument in arguments:
        if argument == '--':
            return
        name = argument.partition('=')[0]
        if name.startswith('--') and ' ' not in name:
            yield name
