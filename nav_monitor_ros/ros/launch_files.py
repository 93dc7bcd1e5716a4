"""Functions that the launch files of this package share: arguments, parameters and respawn.

The launch system is imported inside the functions that need it, so that this module can be
imported without it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.camera_names import check_camera_names

if TYPE_CHECKING:
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, LogInfo, RegisterEventHandler
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = 'nav_monitor_ros'
# Exit statuses for an unusable configuration, which a restart would not fix: that of the
# executable, and that of ROS if RMW_IMPLEMENTATION names a middleware that is not installed.
UNUSABLE = (1, 102)
OR_FILE = "; empty: the parameter file's value"
# Other launch files, such as those of Nav2, use Python's spelling.
BOOLEANS = ('true', 'false', 'True', 'False')
_NAME_PART = re.compile('[A-Za-z_][A-Za-z0-9_]*')
LIKE = 0.8  # similarity of a misspelt argument to the one that was meant
MOST_LETTERS = 2  # that are missing or too many in a misspelt argument
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


class Argument(NamedTuple):
    """One launch argument."""

    name: str
    default: str | None  # None if the argument is required
    description: str
    choices: tuple[str, ...] = ()


def share_directory() -> str:
    """Return the installed share directory of this package."""
    from ament_index_python.packages import get_package_share_directory

    return str(get_package_share_directory(PACKAGE))


def bundle() -> Argument:
    """Return the argument for the bundle."""
    return Argument(
        'bundle', '',
        f'Fitted monitor: a folder, or traffic_signs, digits or corridor{OR_FILE}.',
    )


def params_file(name: str) -> Argument:
    """Return the argument for the parameter file.

    Args:
        name: Name of the default file in ``config``.
    """
    return Argument(
        'params_file', f'{share_directory()}/config/{name}',
        'Parameter file; the other arguments take precedence over it.',
    )


def respawn() -> Argument:
    """Return the argument for restarting the node."""
    return Argument(
        'respawn', 'true',
        'Restart the node when its process ends, unless the configuration cannot be used (exit '
        'status 1).', BOOLEANS,
    )


def log_level(levels: tuple[str, ...] = LOG_LEVELS) -> Argument:
    """Return the argument for the log level."""
    return Argument('log_level', 'info', 'Lowest severity to log.', levels)


def monitor_arguments(log_levels: tuple[str, ...] = LOG_LEVELS) -> tuple[Argument, ...]:
    """Return the arguments of every launch file that starts a monitor."""
    return (
        params_file('monitor.yaml'),
        bundle(),
        Argument('backend', '', f'auto, torch, onnxruntime or openvino{OR_FILE}.'),
        Argument('device', '', f'auto, cpu or cuda:N{OR_FILE}.'),
        Argument(
            'trusted_packages', '',
            'Comma-separated Python packages from which a bundle may import network code'
            f'{OR_FILE}.',
        ),
        Argument('namespace', '', 'Namespace of the node, and of ood_alert.'),
        Argument('node_name', 'nav_monitor', 'Name of the node.'),
        log_level(log_levels),
        Argument('rviz', 'false', 'Start RViz with the overlay and the activation maps.', BOOLEANS),
        Argument(
            'rviz_config', f'{share_directory()}/config/monitor.rviz', 'Configuration of RViz.'
        ),
    )


def declare_arguments(arguments: Sequence[Argument]) -> list[DeclareLaunchArgument]:
    """Declare arguments.

    Returns:
        Launch actions, in the same order.
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


def warn_of_misspelt(arguments: Sequence[Argument], context: LaunchContext) -> list[LogInfo]:
    """Return a warning for each argument given to launch that resembles one of a launch file.

    launch ignores unknown arguments, so that ``bundel:=mine`` would start the default bundle.
    Arguments that resemble no known one may belong to a launch file that includes this one.

    Args:
        arguments: Arguments of the launch file.
        context: Context with all given arguments.
    """
    from launch.actions import LogInfo

    known = [argument.name for argument in arguments]
    lines = []
    for name in context.launch_configurations:
        near = difflib.get_close_matches(name.lower(), known, 1, LIKE)
        # A prefix (robot_namespace) is no slip of the finger.
        other = near and abs(len(near[0]) - len(name)) > MOST_LETTERS and (
            name in near[0] or near[0] in name)
        if name not in known and near and not other:
            lines.append(
                f'WARNING: {name} is not an argument of this launch file; did you mean {near[0]}?'
            )
    return [LogInfo(msg=line) for line in lines]


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
        executable: Name of the executable.
        given: Values of the arguments, by name: ``namespace``, ``log_level`` and ``respawn``.
        name: Name of the node.
        parameters: Files and values; later ones take precedence.
        remappings: Pairs of the name in the code and the new name.
        respawn_delay: Seconds before the node is restarted.
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
    """Prevent a node from being restarted repeatedly with an unusable configuration.

    Args:
        node: Node that launch respawns.

    Returns:
        Handler that cancels the respawn during its delay if the exit status is in ``UNUSABLE``.
    """
    from launch import events
    from launch.actions import EmitEvent, RegisterEventHandler
    from launch.event_handlers import OnProcessExit
    from launch.events import process

    def ended(event: process.ProcessExited, _context: LaunchContext) -> EmitEvent | None:
        if event.returncode not in UNUSABLE:
            return None
        matcher = events.matches_action(node)
        return EmitEvent(event=process.ShutdownProcess(process_matcher=matcher))

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def node_parameters(
    given: Mapping[str, str],
    *,
    texts: Sequence[str] = (),
    booleans: Sequence[str] = (),
    lists: Mapping[str, Sequence[str]] | None = None,
) -> list[str | dict[str, ParameterValue]]:
    """Return a node's parameters in order of increasing precedence.

    Args:
        given: Values of the arguments, by name.
        texts: Names of the arguments for parameters of type string.
        booleans: Names of the arguments for parameters of type bool.
        lists: Values of parameters of type string array, by name.

    Returns:
        Parameter file, if one is given, and the values that are not empty. The values are typed,
        because launch would turn a bundle named 2024 into a number.

    Raises:
        RuntimeError: The parameter file does not exist.
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
    """Split comma-separated names; brackets and quotes are allowed, as in parameter files."""
    names = (name.strip(' \'"') for name in value.strip(' []').split(','))
    return [name for name in names if name]


def camera_names(value: str) -> list[str]:
    """Split comma-separated names of cameras.

    Raises:
        RuntimeError: A name is not valid in a topic.
    """
    names = split_names(value)
    try:
        check_camera_names(names)
    except NavMonitorError as error:
        raise RuntimeError(str(error)) from None
    return names


def check_names(given: Mapping[str, str], *arguments: str) -> None:
    """Check the parts of names; launch_ros would report an invalid name over several lines.

    Args:
        given: Values of the arguments, by name.
        arguments: Names of the arguments with a namespace or the name of a node; empty values are
            not checked.

    Raises:
        RuntimeError: A part of a name has characters that ROS does not allow.
    """
    for argument in arguments:
        parts = given[argument].strip('/').split('/') if given[argument] else []
        if not all(_NAME_PART.fullmatch(part) for part in parts if parts != ['']):
            raise RuntimeError(
                f"{argument}: '{given[argument]}' is not a valid ROS name; each part must consist "
                'of letters, digits and underscores, and must not begin with a digit'
            )


def existing(argument: str, value: str) -> str:
    """Check that a file exists; launch only warns, and the node would use its defaults.

    Args:
        argument: Name of the launch argument.
        value: Value of the launch argument: the path of the file.

    Returns:
        Path with ``~`` expanded.

    Raises:
        RuntimeError: The file does not exist.
    """
    path = Path(value).expanduser()
    if not path.is_file():
        raise RuntimeError(f'{argument}: there is no file {path}; pass the path of an existing one')
    return str(path)


def number(given: Mapping[str, str], name: str, *, least: float = 0.0) -> str:
    """Check a number.

    Args:
        given: Values of the arguments, by name.
        name: Name of the argument.
        least: Smallest allowed value.

    Returns:
        Value of the argument, unchanged.

    Raises:
        RuntimeError: The value is not a finite number, or too small.
    """
    try:
        value = float(given[name])
    except ValueError:
        value = float('nan')
    if not least <= value < float('inf'):
        raise RuntimeError(f"{name}: '{given[name]}' is not a number of at least {least:g}")
    return given[name]


def absolute_name(name: str, namespace: str) -> str:
    """Resolve a name as ROS does.

    Args:
        name: Name, absolute or relative to the namespace; '' for the namespace itself.
        namespace: Namespace, relative to the root.

    Returns:
        Absolute name, without a trailing slash.
    """
    parts = name if name.startswith('/') else f'{namespace}/{name}'
    return '/' + '/'.join(part for part in parts.split('/') if part)


def is_true(value: str) -> bool:
    """Return the meaning of one of ``BOOLEANS``."""
    return value.lower() == 'true'
