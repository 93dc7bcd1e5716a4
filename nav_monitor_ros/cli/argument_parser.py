"""Command-line parser that reports misspelt and repeated options by name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from nav_monitor_ros.cli.standard_streams import output_error_status
from nav_monitor_ros.errors import did_you_mean, printable


class ArgumentParser(argparse.ArgumentParser):
    """Parser that suggests the nearest option and accepts each option once unless it is a list."""

    def __init__(
        self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter, **options: Any
    ) -> None:
        """Accept the arguments of ``argparse.ArgumentParser``; texts keep their line breaks."""
        super().__init__(formatter_class=formatter_class, **options)

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
        """Print the usage and one line that states the error, and exit with status 2."""
        super().error(printable(message))

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
            actions = self._actions_of(name)
            if not actions:
                near = did_you_mean(name, self._option_string_actions)
                self.error(f"unknown option '{name}'{near}")
            (action, *others) = actions
            if others:
                continue  # an ambiguous prefix, which argparse reports
            if action in seen and isinstance(action, argparse._StoreAction):
                self.error(f'{"/".join(action.option_strings)} is given twice; give it only once')
            seen.add(action)

    def _actions_of(self, name: str) -> list[argparse.Action]:
        """Return the options that a name, or the prefix of a name, can refer to."""
        exact = self._option_string_actions.get(name)
        if exact is not None:
            return [exact]
        prefixed = {
            id(action): action for option, action in self._option_string_actions.items()
            if option.startswith(name)
        }
        return list(prefixed.values())

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
