"""Start the gate that stops velocity commands while ood_alert is True or silent.

Usage:
    ros2 launch nav_monitor_ros safety_stop.launch.py cmd_vel_in:=cmd_vel_raw cmd_vel_out:=cmd_vel
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity, events
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import process
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory('nav_monitor_ros')
# Exit statuses of a configuration that cannot be used, which a new start would not mend: the
# executable's, and that of ROS where RMW_IMPLEMENTATION names nothing that is installed.
UNUSABLE = (1, 102)
RESPAWN_DELAY = 1.0  # seconds
OR_FILE = "; empty: the parameter file's value"
# Other launch files, Nav2's among them, write Python's spelling.
BOOLEANS = ('true', 'false', 'True', 'False')


class Argument(NamedTuple):
    """One launch argument; a tuple, since launch hides this module from ``dataclass``."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument(
        'params_file', f'{SHARE}/config/safety_stop.yaml',
        'Parameter file; the arguments below take precedence over it.',
    ),
    Argument('namespace', '', 'Namespace of the node; ood_alert is looked for in it.'),
    Argument('cmd_vel_in', 'cmd_vel_in', 'Commands to let through or not.'),
    Argument('cmd_vel_out', 'cmd_vel', 'Where they go; nobody else may publish there.'),
    Argument('stamped', '', f'Commands are TwistStamped{OR_FILE}.', ('', *BOOLEANS)),
    Argument(
        'respawn', 'true',
        'Start the node again when its process ends, unless by a configuration that cannot be '
        'used (exit status 1).', BOOLEANS,
    ),
    Argument(
        'use_sim_time', '', f'Stamp commands by /clock{OR_FILE}.', ('', *BOOLEANS),
    ),
    Argument(
        'log_level', 'info', 'Lowest severity that is logged.',
        ('debug', 'info', 'warn', 'error', 'fatal'),
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node follows once their values are known.

    Returns:
        What ``ros2 launch`` runs.
    """
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Start the node.

    Args:
        context: Holds the arguments given.

    Returns:
        The node, and what keeps it from being started again in vain.

    Raises:
        RuntimeError: The parameter file is not there, or what goes out would come in again.
    """
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    gate = Node(
        package='nav_monitor_ros',
        executable='safety_stop',
        name='safety_stop',
        namespace=given['namespace'],
        parameters=parameters(given),
        remappings=remappings(given),
        arguments=['--ros-args', '--log-level', given['log_level']],
        respawn=is_true(given['respawn']),
        respawn_delay=RESPAWN_DELAY,
        output='both',
        emulate_tty=True,
    )
    return [not_again(gate), gate]


def not_again(node: Node) -> RegisterEventHandler:
    """Keep a node from being started again and again with what it cannot use.

    Args:
        node: That is respawned.

    Returns:
        What calls the respawn off, in the delay before it, where the exit status says so.
    """

    def ended(event: process.ProcessExited, _context: LaunchContext) -> EmitEvent | None:
        if event.returncode not in UNUSABLE:
            return None
        its = events.matches_action(node)
        return EmitEvent(event=process.ShutdownProcess(process_matcher=its))

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))


def parameters(given: dict[str, str]) -> list[str | dict[str, ParameterValue]]:
    """Collect the node's parameters, those that take precedence last.

    Args:
        given: Values of the arguments, by name.

    Returns:
        The parameter file if there is one, and the arguments that are not empty.

    Raises:
        RuntimeError: There is no such file.
    """
    overrides = {
        name: ParameterValue(is_true(given[name]), value_type=bool)
        for name in ('stamped', 'use_sim_time')
        if given[name]
    }
    files = [existing('params_file', given['params_file'])] if given['params_file'] else []
    return [*files, overrides] if overrides else files


def remappings(given: dict[str, str]) -> list[tuple[str, str]]:
    """Say where the commands come from and go to.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Pairs of the node's name and the one given.

    Raises:
        RuntimeError: Both are the same, so that the gate would hear itself.
    """
    incoming, outgoing = given['cmd_vel_in'] or 'cmd_vel_in', given['cmd_vel_out'] or 'cmd_vel'
    if incoming == outgoing:
        raise RuntimeError(
            f'cmd_vel_in and cmd_vel_out are both {incoming}; give the commands another name '
            'before the gate'
        )
    return [('cmd_vel_in', incoming), ('cmd_vel', outgoing)]


def existing(argument: str, value: str) -> str:
    """Check that a file is there: launch only warns, and the node would run on its defaults.

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


def is_true(value: str) -> bool:
    """Read one of ``BOOLEANS``.

    Args:
        value: As it was given.

    Returns:
        What it says.
    """
    return value.lower() == 'true'
