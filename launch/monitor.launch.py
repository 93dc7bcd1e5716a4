"""Start the monitor, and RViz if asked.

Usage:
    ros2 launch nav_monitor_ros monitor.launch.py bundle:=traffic_signs image_topic:=/cam/image_raw
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity, events
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import process
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.runtime.camera_names import check_camera_names

SHARE = get_package_share_directory('nav_monitor_ros')
# Exit statuses of a configuration that cannot be used, which a new start would not mend: the
# executable's, and that of ROS where RMW_IMPLEMENTATION names nothing that is installed.
UNUSABLE = (1, 102)
RESPAWN_DELAY = 2.0  # seconds
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
        'image_topic', '/camera/image_raw',
        'Images to watch. With image_transport compressed, its /compressed companion.',
    ),
    Argument(
        'cameras', '',
        'Names of several cameras that one network watches, with commas between: front,rear'
        f'{OR_FILE}.',
    ),
    Argument(
        'image_topics', '/{camera}/image_raw',
        'With cameras, the topic of each, in which {camera} stands for its name.',
    ),
    Argument(
        'image_transport', '', f'raw or compressed{OR_FILE}.', ('', 'raw', 'compressed'),
    ),
    Argument(
        'params_file', f'{SHARE}/config/monitor.yaml',
        'Parameter file; the arguments below take precedence over it.',
    ),
    Argument('bundle', '', f'Fitted monitor: a folder, or traffic_signs or digits{OR_FILE}.'),
    Argument('backend', '', f'auto, torch, onnxruntime or openvino{OR_FILE}.'),
    Argument('device', '', f'auto, cpu or cuda:N{OR_FILE}.'),
    Argument(
        'trusted_packages', '',
        'Python packages whose network code a bundle may import, with commas between'
        f'{OR_FILE}.',
    ),
    Argument('namespace', '', 'Namespace of the node; ood_alert moves into it.'),
    Argument('node_name', 'nav_monitor', 'Name of the node.'),
    Argument(
        'use_sim_time', '', f'Stamp what is not copied from images by /clock{OR_FILE}.',
        ('', *BOOLEANS),
    ),
    Argument('autostart', '', f'Configure and activate at start{OR_FILE}.', ('', *BOOLEANS)),
    Argument(
        'respawn', 'true',
        'Start the node again when its process ends, unless by a configuration that cannot be '
        'used (exit status 1).', BOOLEANS,
    ),
    Argument(
        'log_level', 'info', 'Lowest severity that is logged.',
        ('debug', 'info', 'warn', 'error', 'fatal'),
    ),
    Argument('rviz', 'false', 'Start RViz with the overlay and the activations.', BOOLEANS),
    Argument('rviz_config', f'{SHARE}/config/monitor.rviz', 'Configuration of RViz.'),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the nodes follow once their values are known.

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
    """Choose what to run.

    Args:
        context: Holds the arguments given.

    Returns:
        The monitor, and RViz or why there is none.

    Raises:
        RuntimeError: A file that was asked for is not there.
    """
    given = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in ARGUMENTS
    }
    monitor = Node(
        package='nav_monitor_ros',
        executable='monitor',
        name=given['node_name'],
        namespace=given['namespace'],
        parameters=parameters(given),
        remappings=remappings(given),
        arguments=['--ros-args', '--log-level', given['log_level']],
        respawn=is_true(given['respawn']),
        respawn_delay=RESPAWN_DELAY,
        output='both',
        emulate_tty=True,
    )
    outer = context.launch_configurations.get('ros_namespace', '')
    return [not_again(monitor), monitor, *rviz(given, outer)]


def listed(value: str) -> list[str]:
    """Take names apart.

    Args:
        value: With commas between; brackets and quotes, as parameter files have them, may be there.

    Returns:
        The names; none where the argument is empty.
    """
    names = (name.strip(' \'"') for name in value.strip(' []').split(','))
    return [name for name in names if name]


def camera_names(given: dict[str, str]) -> list[str]:
    """Take the names of several cameras apart.

    Args:
        given: Values of the arguments, by name.

    Returns:
        The names; none where the argument is empty.

    Raises:
        RuntimeError: Topics cannot be named after them.
    """
    names = listed(given['cameras'])
    try:
        check_camera_names(names)
    except NavMonitorError as error:
        raise RuntimeError(str(error)) from None
    return names


def remappings(given: dict[str, str]) -> list[tuple[str, str]]:
    """Say where the images come from.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Pairs of the node's name and the one given.

    Raises:
        RuntimeError: Several cameras would have one topic.
    """
    names, topics = camera_names(given), given['image_topics']
    if not names:
        return [('image', given['image_topic'])] if given['image_topic'] else []
    if topics and '{camera}' not in topics:
        raise RuntimeError(
            f'image_topics is {topics}; it must hold {{camera}}, which stands for the name of each'
        )
    return [(f'{name}/image', topics.replace('{camera}', name)) for name in names if topics]


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
    """
    # Typed, because launch would turn a bundle called 2024 into a number.
    overrides = {
        name: ParameterValue(given[name], value_type=str)
        for name in ('bundle', 'backend', 'device', 'image_transport')
        if given[name]
    }
    overrides.update(
        (name, ParameterValue(is_true(given[name]), value_type=bool))
        for name in ('autostart', 'use_sim_time')
        if given[name]
    )
    for name, names in (
        ('cameras', camera_names(given)), ('trusted_packages', listed(given['trusted_packages'])),
    ):
        if names:
            overrides[name] = ParameterValue(names, value_type=list[str])
    files = [existing('params_file', given['params_file'])] if given['params_file'] else []
    return [*files, overrides] if overrides else files


def rviz(given: dict[str, str], outer: str) -> list[LaunchDescriptionEntity]:
    """Show the pictures where that is wanted and possible.

    Args:
        given: Values of the arguments, by name.
        outer: Namespace that a launch file around this one has pushed.

    Returns:
        RViz; a line that says so where it is not installed; nothing where it is not wanted.
    """
    if not is_true(given['rviz']):
        return []
    try:
        get_package_share_directory('rviz2')
    except PackageNotFoundError:
        return [LogInfo(msg='rviz2 is not installed: apt install ros-$ROS_DISTRO-rviz2')]
    namespace = absolute(given['namespace'], outer)
    node, images = absolute(given['node_name'], namespace), given['image_topic'] or 'image'
    if names := camera_names(given):  # RViz shows the first of several cameras
        images = (given['image_topics'] or '{camera}/image').replace('{camera}', names[0])
        node = f'{node}/{names[0]}'
    # The configuration names the topics as they are without any argument.
    shown = {
        '/nav_monitor/overlay': f'{node}/overlay',
        '/nav_monitor/activations': f'{node}/activations',
        '/nav_monitor/activation_volume': f'{node}/activation_volume',
        '/camera/image_raw': absolute(images, namespace),
    }
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            name='rviz2_nav_monitor',
            arguments=['-d', existing('rviz_config', given['rviz_config'])],
            remappings=list(shown.items()),
            output='both',
        )
    ]


def absolute(name: str, namespace: str) -> str:
    """Resolve a name as ROS does.

    Args:
        name: Absolute, or relative to the namespace; empty for the namespace itself.
        namespace: Itself taken from the root.

    Returns:
        The absolute name, without a slash at its end.
    """
    parts = name if name.startswith('/') else f'{namespace}/{name}'
    return '/' + '/'.join(part for part in parts.split('/') if part)


def existing(argument: str, value: str) -> str:
    """Check that a file is there: launch only warns, and a monitor would run on its defaults.

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
