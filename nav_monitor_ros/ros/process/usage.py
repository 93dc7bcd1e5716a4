"""Help text of an executable: its purpose, an example and its parameters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from nav_monitor_ros.runtime.parameter_definition import Parameter

_FLAGS = {'-h', '--help'}


@dataclass(frozen=True)
class Usage:
    """Help of one executable."""

    executable: str
    about: str
    example: str  # arguments after --ros-args
    parameters: Sequence[Parameter]
    launch: str = ''  # launch file and arguments that start it

    def text(self) -> str:
        """Return the help, ready to be printed."""
        lines = [
            f'usage: ros2 run nav_monitor_ros {self.executable} '
            '[--ros-args [-p NAME:=VALUE] [-r FROM:=TO] [--params-file FILE] ...]',
            '', *textwrap.wrap(self.about, 88), '',
            'examples:' if self.launch else 'example:',
            f'  ros2 run nav_monitor_ros {self.executable} --ros-args {self.example}',
            *([f'  ros2 launch nav_monitor_ros {self.launch}'] if self.launch else []),
            '', 'parameters (type, default):',
        ]
        for parameter in self.parameters:
            lines.append(f'  {parameter.name} ({parameter.type}, {parameter.default!r})')
            lines += textwrap.wrap(
                parameter.text.replace('`', ''), 88, initial_indent=' ' * 6,
                subsequent_indent=' ' * 6)
        return '\n'.join(lines)


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Return whether the help is requested, before ``--ros-args``."""
    own = list(arguments[1:])
    if '--ros-args' in own:
        own = own[: own.index('--ros-args')]
    return not _FLAGS.isdisjoint(own)
