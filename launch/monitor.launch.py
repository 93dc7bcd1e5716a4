"""Start the monitor, and RViz if requested.

Usage:
    ros2 launch nav_monitor_ros monitor.launch.py bundle:=traffic_signs image_topic:=/cam/image_raw
"""

from __future__ import annotations

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import LogInfo, OpaqueFunction
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from nav_monitor_ros.ros import launch_files
from nav_monitor_ros.ros.launch_files import (
    BOOLEANS,
    OR_FILE,
    Argument,
    absolute_name,
    camera_names,
)

RESPAWN_DELAY = 2.0  # seconds
ARGUMENTS = (
    Argument(
        'image_topic', '/camera/image_raw',
        'Images to monitor. With image_transport compressed, its /compressed companion.',
    ),
    Argument(
        'cameras', '',
        'Comma-separated names of several cameras that one network monitors, such as front,rear'
        f'{OR_FILE}.',
    ),
    Argument(
        'image_topics', '/{camera}/image_raw',
        'With cameras, topic of each camera, in which {camera} stands for its name.',
    ),
    Argument(
        'image_transport', '', f'raw or compressed{OR_FILE}.', ('', 'raw', 'compressed'),
    ),
    Argument(
        'use_sim_time', '', f'Use the time of /clock for stamps not copied from images{OR_FILE}.',
        ('', *BOOLEANS),
    ),
    Argument('autostart', '', f'Configure and activate at start{OR_FILE}.', ('', *BOOLEANS)),
    launch_files.respawn(),
    *launch_files.monitor_arguments(),
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
        The monitor and, if requested, RViz or a message that it is not installed.

    Raises:
        RuntimeError: An argument cannot be used.
    """
    given = launch_files.values_of(ARGUMENTS, context)
    launch_files.check_names(given, 'namespace', 'node_name')
    monitor = launch_files.create_node(
        'monitor', given,
        name=given['node_name'],
        parameters=parameters(given),
        remappings=remappings(given),
        respawn_delay=RESPAWN_DELAY,
    )
    outer = context.launch_configurations.get('ros_namespace', '')
    return [
        *launch_files.warn_of_misspelt(ARGUMENTS, context),
        launch_files.cancel_useless_respawn(monitor), monitor, *rviz(given, outer),
    ]


def parameters(given: dict[str, str]) -> list[str | dict[str, ParameterValue]]:
    """Return the node's parameters in order of increasing precedence.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Parameter file, if one is given, and the arguments that are not empty.

    Raises:
        RuntimeError: The file does not exist, or the name of a camera is invalid.
    """
    return launch_files.node_parameters(
        given,
        texts=('bundle', 'backend', 'device', 'image_transport'),
        booleans=('autostart', 'use_sim_time'),
        lists={
            'cameras': camera_names(given['cameras']),
            'trusted_packages': launch_files.split_names(given['trusted_packages']),
        },
    )


def remappings(given: dict[str, str]) -> list[tuple[str, str]]:
    """Return the remappings of the image topics.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Pairs of the name in the code and the new name.

    Raises:
        RuntimeError: Several cameras would have the same topic.
    """
    names, topics = camera_names(given['cameras']), given['image_topics']
    if not names:
        return [('image', given['image_topic'])] if given['image_topic'] else []
    if topics and '{camera}' not in topics:
        raise RuntimeError(
            f'image_topics is {topics}; it must contain {{camera}}, which stands for the name'
        )
    return [(f'{name}/image', topics.replace('{camera}', name)) for name in names if topics]


def rviz(given: dict[str, str], outer: str) -> list[LaunchDescriptionEntity]:
    """Start RViz if it is requested and installed.

    Args:
        given: Values of the arguments, by name.
        outer: Namespace pushed by an including launch file.

    Returns:
        RViz if it is requested, or a message that it is not installed; otherwise nothing.
    """
    if not launch_files.is_true(given['rviz']):
        return []
    try:
        get_package_share_directory('rviz2')
    except PackageNotFoundError:
        return [LogInfo(msg='rviz2 is not installed: apt install ros-$ROS_DISTRO-rviz2')]
    namespace = absolute_name(given['namespace'], outer)
    node, images = absolute_name(given['node_name'], namespace), given['image_topic'] or 'image'
    if names := camera_names(given['cameras']):  # RViz shows the first camera
        images = (given['image_topics'] or '{camera}/image').replace('{camera}', names[0])
        node = f'{node}/{names[0]}'
    # The configuration has the names of the topics without any arguments.
    shown = {
        '/nav_monitor/overlay': f'{node}/overlay',
        '/nav_monitor/activations': f'{node}/activations',
        '/nav_monitor/activation_volume': f'{node}/activation_volume',
        '/camera/image_raw': absolute_name(images, namespace),
    }
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            name='rviz2_nav_monitor',
            arguments=['-d', launch_files.existing('rviz_config', given['rviz_config'])],
            remappings=list(shown.items()),
            output='both',
        )
    ]
