"""Start the monitor, and RViz if asked."""

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = get_package_share_directory('nav_monitor_ros')
BOOLEANS = ['true', 'false']
OR_FILE = "; empty: the parameter file's value"

# name, default, description, choices
ARGUMENTS = [
    ('image_topic', '/camera/image_raw',
     'Images to watch. With image_transport compressed, its /compressed companion.', None),
    ('image_transport', '', f'raw or compressed{OR_FILE}.', ['', 'raw', 'compressed']),
    ('params_file', f'{SHARE}/config/monitor.yaml', 'Parameter file.', None),
    ('bundle', '', f'Fitted monitor: a folder, or traffic_signs or digits{OR_FILE}.', None),
    ('device', '', f'auto, cpu or cuda:N{OR_FILE}.', None),
    ('namespace', '', 'Namespace of the node; ood_alert moves into it.', None),
    ('node_name', 'nav_monitor', 'Name of the node.', None),
    ('use_sim_time', 'false', 'Stamp what is not copied from images by /clock.', BOOLEANS),
    ('autostart', '', f'Configure and activate at start{OR_FILE}.', ['', *BOOLEANS]),
    ('respawn', 'true', 'Start the node again when its process ends.', BOOLEANS),
    ('log_level', 'info', 'Lowest severity that is logged.',
     ['debug', 'info', 'warn', 'error', 'fatal']),
    ('rviz', 'false', 'Start RViz with the overlay and the activations.', BOOLEANS),
    ('rviz_config', f'{SHARE}/config/monitor.rviz', 'Configuration of RViz.', None),
]


def generate_launch_description():
    """Declare the arguments; the nodes follow once their values are known."""
    declared = [
        DeclareLaunchArgument(
            name, default_value=default, description=description,
            **({'choices': choices} if choices else {}),
        )
        for name, default, description, choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context):
    """Return the actions for the arguments given."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    overrides = {'use_sim_time': given['use_sim_time'] == 'true'}
    for name in ('bundle', 'device', 'image_transport'):
        if given[name]:
            overrides[name] = given[name]
    if given['autostart']:
        overrides['autostart'] = given['autostart'] == 'true'
    monitor = Node(
        package='nav_monitor_ros',
        executable='monitor',
        name=given['node_name'],
        namespace=given['namespace'],
        parameters=[given['params_file'], overrides],
        remappings=[('image', given['image_topic'])],
        arguments=['--ros-args', '--log-level', given['log_level']],
        respawn=given['respawn'] == 'true',
        respawn_delay=2.0,
        output='screen',
        emulate_tty=True,
    )
    return [monitor, *rviz(given)]


def rviz(given):
    """Return RViz where it is wanted and installed, and a line that says so where it is not."""
    if given['rviz'] != 'true':
        return []
    try:
        get_package_share_directory('rviz2')
    except PackageNotFoundError:
        return [LogInfo(msg='rviz:=true, but rviz2 is not installed: install ros-$ROS_DISTRO-rviz2')]
    name = '/'.join(part for part in (given['namespace'].strip('/'), given['node_name']) if part)
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            name='rviz2_nav_monitor',
            arguments=['-d', given['rviz_config']],
            # The configuration shows /nav_monitor; another name or namespace is mapped onto it.
            remappings=[
                (f'/nav_monitor/{picture}', f'/{name}/{picture}')
                for picture in ('overlay', 'activations')
            ],
            output='screen',
        )
    ]
