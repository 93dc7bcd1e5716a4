"""What the launch files of this package share: arguments, parameters and respawn.

The launch system is imported inside the functions that need it, so that this module can be
imported where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.camera_names import check_camera_names

if TYPE_CHECKING:
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, RegisterEventHandler
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'nav_monitor_ros'
# Exit statuses of a configuration that cannot be used, which a new start would not mend: the
# executable's, and that of ROS where RMW_IMPLEMENTATION names nothing that is installed.
UNUSABLE = (1, 102)
OR_FILE = "; empty: the parameter file's value"
# Other launch files, Nav2's among them, write Python's spelling.
BOOLEANS = ('true', 'false', 'True', 'False')
_NAME_PART = re.compile('[A-Za-z_][A-Za-z0-9_]*')
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


class Argument(NamedTuple):
    """One launch argument."""

    name: str
    default: str | None  # None where one has to be given
    description: str
    choices: tuple[str, ...] = ()


def share_directory() -> str:
    """Return the installed share directory of this package."""
    from ament_index_python.packages import get_package_share_directory

    return str(get_package_share_directory(PACKAGE))


def params_file(name: str) -> Argument:
    """Return the argument for the parameter file.

    Args:
        name: Of the default file in ``config``.
    """
    return Argument(
        'params_file', f'{share_directory()}/config/{name}',
        'Parameter file; the other arguments take precedence over it.',
    )


def respawn() -> Argument:
    """Return the argument for starting the node again."""
    return Argument(
        'respawn', 'true',
        'Start the node again when its process ends, unless by a configuration that cannot be '
        'used (exit status 1).', BOOLEANS,
    )


def log_level(levels: tuple[str, ...] = LOG_LEVELS) -> Argument:
    """Return the argument for the log level."""
    return Argument('log_level', 'info', 'Lowest severity that is logged.', levels)


def monitor_arguments(log_levels: tuple[str, ...] = LOG_LEVELS) -> tuple[Argument, ...]:
    """Return the arguments that every launch file with a monitor has."""
    return (
        params_file('monitor.yaml'),
        Argument('bundle', '', f'Fitted monitor: a folder, or traffic_signs or digits{OR_FILE}.'),
        Argument('backend', '', f'auto, torch, onnxruntime or openvino{OR_FILE}.'),
        Argument('device', '', f'auto, cpu or cuda:N{OR_FILE}.'),
        Argument(
            'trusted_packages', '',
            'Comma-separated Python packages from which a bundle may import network code'
            f'{OR_FILE}.',
        ),
        Argument('namespace', '', 'Namespace of the node; ood_alert moves into it.'),
        Argument('node_name', 'nav_monitor', 'Name of the node.'),
        log_level(log_levels),
        Argument('rviz', 'false', 'Start RViz with the overlay and the activations.', BOOLEANS),
        Argument(
            'rviz_config', f'{share_directory()}/config/monitor.rviz', 'Configuration of RViz.'
        ),
    )


def declare_arguments(arguments: Sequence[Argument]) -> list[DeclareLaunchArgument]:
    """Declare arguments.

    Returns:
        The actions of launch, in the same order.
    """
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in arguments
    ]


def values_of(arguments: Sequence[Argument], context: LaunchContext) -> dict[str, str]:
    """Return the values of the arguments, by name."""
    from launch.substitutions import LaunchConfiguration

    return {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in arguments
    }


def create_node(
    executable: str,
    given: Mapping[str, str],
    *,
    name: str,
    parameters: Sequence[str | dict[str, ParameterValue]],
    remappings: Sequence[tuple[str, str]],
    respawn_delay: float,
) -> Node:
    """Create the action that runs one of this package's nodes.

    Args:
        executable: Its name.
        given: Values of the arguments, by name: ``namespace``, ``log_level`` and ``respawn``.
        name: Of the node.
        parameters: Files and values, those that take precedence last.
        remappings: Pairs of the name in code and the one given.
        respawn_delay: Seconds before the node is started again.
    """
    from launch_ros.actions import Node

    return Node(
        package=PACKAGE,
        executable=executable,
        name=name,
        namespace=given['namespace'],
        parameters=list(parameters),
        remappings=list(remappings),
        arguments=['--ros-args', '--log-level', given['log_level']],
        respawn=is_true(given['respawn']),
        respawn_delay=respawn_delay,
        output='both',
        emulate_tty=True,
    )


def cancel_useless_respawn(node: Node) -> RegisterEventHandler:
    """Keep a node from being started again and again with a configuration that it cannot use.

    Args:
        node: One that is respawned.

    Returns:
        The handler that cancels the respawn, in the delay before it, where the exit status says so.
    """
    from launch import events
    from launch.actions import EmitEvent, RegisterEventHandler
    from launch.event_handlers import OnProcessExit
    from launch.events import process

    def ended(event: process.ProcessExited, _context: LaunchContext) -> EmitEvent | None:
        if event.returncode not in UNUSABLE:
            return None
        its = events.matches_action(node)
        return EmitEvent(event=process.ShutdownProcess(process_matcher=its))

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def node_parameters(
    given: Mapping[str, str],
    *,
    texts: Sequence[str] = (),
    booleans: Sequence[str] = (),
    lists: Mapping[str, Sequence[str]] | None = None,
) -> list[str | dict[str, ParameterValue]]:
    """Return a node's parameters, those that take precedence last.

    Args:
        given: Values of the arguments, by name.
        texts: Names of arguments that are parameters of type string.
        booleans: Names of arguments that are parameters of type bool.
        lists: Values of parameters of type string array, by name.

    Returns:
        The parameter file if there is one, and what is not empty. Typed, because launch would turn
        a bundle called 2024 into a number.

    Raises:
        RuntimeError: There is no such file.
    """
    from launch_ros.parameter_descriptions import ParameterValue

    overrides = {
        name: ParameterValue(given[name], value_type=str) for name in texts if given[name]
    }
    overrides.update(
        (name, ParameterValue(is_true(given[name]), value_type=bool))
        for name in booleans if given[name]
    )
    overrides.update(
        (name, ParameterValue(list(names), value_type=list[str]))
        for name, names in (lists or {}).items() if names
    )
    files = [existing('params_file', given['params_file'])] if given['params_file'] else []
    return [*files, overrides] if overrides else [*files]


def split_names(value: str) -> list[str]:
    """Split comma-separated names; brackets and quotes, as in parameter files, may be there."""
    names = (name.strip(' \'"') for name in value.strip(' []').split(','))
    return [name for name in names if name]


def camera_names(value: str) -> list[str]:
    """Split comma-separated names of cameras.

    Raises:
        RuntimeError: A topic cannot be named after one of them.
    """
    names = split_names(value)
    try:
        check_camera_names(names)
    except NavMonitorError as error:
        raise RuntimeError(str(error)) from None
    return names


def check_names(given: Mapping[str, str], *arguments: str) -> None:
    """Check the parts of names: launch_ros would report a wrong one over several lines.

    Args:
        given: Values of the arguments, by name.
        arguments: Those that hold a namespace or the name of a node; empty ones are not checked.

    Raises:
        RuntimeError: A part of a name has other characters than ROS allows.
    """
    for argument in arguments:
        parts = given[argument].strip('/').split('/') if given[argument] else []
        if not all(_NAME_PART.fullmatch(part) for part in parts if parts != ['']):
            raise RuntimeError(
                f"{argument}: '{given[argument]}' is no name in ROS; each part of it has letters, "
                'digits and underscores, and does not begin with a digit'
            )


def existing(argument: str, value: str) -> str:
    """Check that a file exists: launch only warns, and the node would run on its defaults.

    Args:
        argument: Name of the launch argument that names the file.
        value: The file.

    Returns:
        Its path.

    Raises:
        RuntimeError: There is no such file.
    """
    path = Path(value).expanduser()
    if not path.is_file():
        raise RuntimeError(f'{argument}: there is no file {path}; give an existing one')
    return str(path)


def number(given: Mapping[str, str], name: str, *, least: float = 0.0) -> str:
    """Check a number.

    Args:
        given: Values of the arguments, by name.
        name: Of the argument.
        least: Its smallest value.

    Returns:
        What was given.

    Raises:
        RuntimeError: It is no number, or too small.
    """
    try:
        value = float(given[name])
    except ValueError:
        value = float('nan')
    if not least <= value < float('inf'):
        raise RuntimeError(f"{name}: '{given[name]}' is no number of at least {least:g}")
    return given[name]


def absolute_name(name: str, namespace: str) -> str:
    """Resolve a name as ROS does.

    Args:
        name: Absolute, or relative to the namespace; empty for the namespace itself.
        namespace: Itself relative to the root.

    Returns:
        The absolute name, without a slash at its end.
    """
    parts = name if name.startswith('/') else f'{namespace}/{name}'
    return '/' + '/'.join(part for part in parts.split('/') if part)


def is_true(value: str) -> bool:
    """Return the meaning of one of ``BOOLEANS``."""
    return value.lower() == 'true'
