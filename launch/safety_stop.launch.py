"""Start safety_stop, which stops velocity commands while ood_alert is True or missing.

Usage:
    ros2 launch nav_monitor_ros safety_stop.launch.py cmd_vel_in:=cmd_vel_raw cmd_vel_out:=cmd_vel
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction
from launch_ros.parameter_descriptions import ParameterValue

from nav_monitor_ros.ros import launch_files
from nav_monitor_ros.ros.launch_files import BOOLEANS, OR_FILE, Argument

RESPAWN_DELAY = 1.0  # seconds
ARGUMENTS = (
    launch_files.params_file('safety_stop.yaml'),
    Argument('namespace', '', 'Namespace of the node and of ood_alert.'),
    Argument('cmd_vel_in', 'cmd_vel_in', 'Topic of the incoming commands.'),
    Argument(
        'cmd_vel_out', 'cmd_vel',
        'Topic of the outgoing commands; no other node may publish on it.',
    ),
    Argument('stamped', '', f'Commands are TwistStamped{OR_FILE}.', ('', *BOOLEANS)),
    launch_files.respawn(),
    Argument(
        'use_sim_time', '', f'Use the time of /clock for stamps{OR_FILE}.', ('', *BOOLEANS),
    ),
    launch_files.log_level(),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, and start the node once their values are known.

    Returns:
        Launch description for ``ros2 launch``.
    """
    declared = launch_files.declare_arguments(ARGUMENTS)
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Create the actions for the given arguments.

    Args:
        context: Context with the values of the arguments.

    Returns:
        The node, and the handler that cancels a useless respawn.

    Raises:
        RuntimeError: The parameter file does not exist, or both topics are the same.
    """
    given = launch_files.values_of(ARGUMENTS, context)
    launch_files.check_names(given, 'namespace')
    node = launch_files.create_node(
        'safety_stop', given,
        name='safety_stop',
        parameters=parameters(given),
        remappings=remappings(given),
        respawn_delay=RESPAWN_DELAY,
    )
    return [
        *launch_files.warn_of_misspelt(ARGUMENTS, context),
        launch_files.cancel_useless_respawn(node), node,
    ]


def parameters(given: dict[str, str]) -> list[str | dict[str, ParameterValue]]:
    """Return the node's parameters in order of increasing precedence.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Parameter file, if one is given, and the arguments that are not empty.

    Raises:
        RuntimeError: The file does not exist.
    """
    return launch_files.node_parameters(given, booleans=('stamped', 'use_sim_time'))


def remappings(given: dict[str, str]) -> list[tuple[str, str]]:
    """Return the remappings of the command topics.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Pairs of the name in the code and the new name.

    Raises:
        RuntimeError: Both topics are the same, so that the node would receive its own commands.
    """
    incoming, outgoing = given['cmd_vel_in'] or 'cmd_vel_in', given['cmd_vel_out'] or 'cmd_vel'
    if incoming == outgoing:
        raise RuntimeError(
            f'cmd_vel_in and cmd_vel_out are both {incoming}; give one of them another name'
        )
    return [('cmd_vel_in', incoming), ('cmd_vel', outgoing)]
