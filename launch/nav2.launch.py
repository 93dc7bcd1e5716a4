"""Start the monitor beside Nav2, in the charge of a lifecycle manager of Nav2.

Usage:
    ros2 launch nav_monitor_ros nav2.launch.py image_topic:=/camera/image_raw use_sim_time:=true

To be included in a bringup of Nav2, with its arguments namespace, use_sim_time, autostart and
params_file. The monitor does not activate itself: the lifecycle manager does, and notices by its
bond when the monitor dies.
"""

from __future__ import annotations

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from nav_monitor_ros.ros import launch_files
from nav_monitor_ros.ros.launch_files import BOOLEANS, Argument, is_true, number

RESPAWN_DELAY = 2.0  # seconds, as in Nav2
MANAGER = 'nav2_lifecycle_manager'
ARGUMENTS = (
    launch_files.params_file('monitor.yaml'),
    Argument('namespace', '', 'Namespace of the node, of ood_alert and of bond.'),
    Argument('use_sim_time', 'false', 'Use the time of /clock.', BOOLEANS),
    Argument('node_name', 'nav_monitor', 'Name of the node, and id of its bond.'),
    Argument('image_topic', '/camera/image_raw', 'Images to monitor.'),
    launch_files.bundle(),
    Argument(
        'bond_heartbeat_period', '0.1',
        "Period of the heartbeat of the monitor's bond in seconds; 0 for no bond.",
    ),
    launch_files.respawn(),
    launch_files.log_level(),
    Argument(
        'lifecycle_manager', 'true',
        'Start a lifecycle manager for the monitor alone. If false, name the monitor in node_names '
        'of another one.', BOOLEANS,
    ),
    Argument(
        'autostart', 'true', 'The lifecycle manager activates the monitor at start.', BOOLEANS,
    ),
    Argument(
        'bond_timeout', '4.0',
        'Seconds without a heartbeat after which the lifecycle manager considers the monitor dead; '
        '0 for no bond, which needs bond_heartbeat_period 0, too.',
    ),
    Argument(
        'bond_respawn_max_duration', '10.0',
        'Seconds for which the lifecycle manager waits for a monitor that died, to activate it '
        'again.',
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, and start the nodes once their values are known.

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
        The monitor and, if requested, its lifecycle manager.

    Raises:
        RuntimeError: An argument cannot be used, or Nav2 is not installed.
    """
    given = launch_files.values_of(ARGUMENTS, context)
    launch_files.check_names(given, 'namespace', 'node_name')
    monitor = launch_files.create_node(
        'monitor', given,
        name=given['node_name'],
        parameters=parameters(given),
        remappings=[('image', given['image_topic'])] if given['image_topic'] else [],
        respawn_delay=RESPAWN_DELAY,
    )
    return [
        *launch_files.warn_of_misspelt(ARGUMENTS, context),
        launch_files.cancel_useless_respawn(monitor), monitor, *manager(given),
    ]


def parameters(given: dict[str, str]) -> list[str | dict[str, ParameterValue]]:
    """Return the monitor's parameters in order of increasing precedence.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Parameter file, if one is given, and the arguments that are not empty.

    Raises:
        RuntimeError: The file does not exist, or a number is invalid.
    """
    files = launch_files.node_parameters(given, texts=('bundle',), booleans=('use_sim_time',))
    period = float(number(given, 'bond_heartbeat_period'))
    return [*files, {
        # Whatever the file says: two that are in charge would contradict each other.
        'autostart': ParameterValue(False, value_type=bool),
        'bond_heartbeat_period': ParameterValue(period, value_type=float),
    }]


def manager_parameters(given: dict[str, str]) -> dict[str, object]:
    """Return the parameters of the lifecycle manager.

    Args:
        given: Values of the arguments, by name.

    Raises:
        RuntimeError: A number is invalid, or only one side would have a bond.
    """
    timeout = float(number(given, 'bond_timeout'))
    period = float(number(given, 'bond_heartbeat_period'))
    if (timeout > 0) != (period > 0):
        raise RuntimeError(
            f'bond_timeout is {timeout:g} and bond_heartbeat_period is {period:g}: with a bond on '
            'one side only, the lifecycle manager would give up; set both to 0, or neither'
        )
    if timeout and timeout < 2 * period:
        raise RuntimeError(
            f'bond_timeout is {timeout:g}; it must be at least two periods of the heartbeat '
            f'(bond_heartbeat_period is {period:g})'
        )
    return {
        'use_sim_time': is_true(given['use_sim_time']),
        'autostart': is_true(given['autostart']),
        'node_names': [given['node_name']],
        'bond_timeout': timeout,
        'attempt_respawn_reconnection': True,
        'bond_respawn_max_duration': float(number(given, 'bond_respawn_max_duration')),
    }


def manager(given: dict[str, str]) -> list[LaunchDescriptionEntity]:
    """Return the lifecycle manager, if it is requested.

    Args:
        given: Values of the arguments, by name.

    Raises:
        RuntimeError: Nav2 is not installed, or a number is invalid.
    """
    if not is_true(given['lifecycle_manager']):
        return []
    own = manager_parameters(given)
    try:
        get_package_share_directory(MANAGER)
    except PackageNotFoundError:
        raise RuntimeError(
            f'{MANAGER} is not installed: apt install ros-$ROS_DISTRO-nav2-lifecycle-manager, or '
            'pass lifecycle_manager:=false'
        ) from None
    return [
        Node(
            package=MANAGER,
            executable='lifecycle_manager',
            name=f'lifecycle_manager_{given["node_name"]}',
            namespace=given['namespace'],
            parameters=[own],
            arguments=['--ros-args', '--log-level', given['log_level']],
            output='both',
        )
    ]
