"""Play a bag into the monitor under simulated time.

Usage:
    ros2 launch nav_monitor_ros replay.launch.py bag:=drive topic:=/camera/image_raw loop:=true

The bag starts once the monitor is active, so that its first images are judged, too. To judge every
image, even on a slow machine, use ``nav_monitor replay``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessIO
from launch.launch_description_sources import PythonLaunchDescriptionSource

from nav_monitor_ros.ros import launch_files
from nav_monitor_ros.ros.launch_files import BOOLEANS, Argument, is_true, number

CLOCK_RATE = 100  # rate of /clock, Hz
# Part of the warning that the monitor logs when it has become active.
ACTIVE = b'no_image'
COMPRESSED = '/compressed'
# Passed on to monitor.launch.py; the log levels include that warning.
MONITOR_ARGUMENTS = launch_files.monitor_arguments(log_levels=('debug', 'info', 'warn'))
ARGUMENTS = (
    Argument('bag', None, 'Bag to play: its folder or one of its files.'),
    Argument(
        'topic', '/camera/image_raw',
        'Image topic of the bag; a topic that ends in /compressed contains compressed images.',
    ),
    Argument('rate', '1.0', 'Playback speed relative to the recording.'),
    Argument('loop', 'false', 'Play the bag repeatedly.', BOOLEANS),
    Argument('start_offset', '0.0', 'Seconds to skip at the beginning of the bag.'),
    Argument(
        'delay', '1.0',
        'Seconds from the activation of the monitor to the first image, in which it discovers the '
        'player.',
    ),
    Argument('everything', 'false', 'Play all topics of the bag, not only the images.', BOOLEANS),
    Argument('shutdown', 'true', 'Shut down at the end of the bag.', BOOLEANS),
    *MONITOR_ARGUMENTS,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, and start the processes once their values are known.

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
        The monitor, and the handler that starts the player once the monitor is active.

    Raises:
        RuntimeError: The bag does not exist, a number is invalid, or ros2 bag is not installed.
    """
    given = launch_files.values_of(ARGUMENTS, context)
    require_player()
    player = ExecuteProcess(cmd=command(given), name='ros2_bag_play', output='both')
    when_active = player_starter(player)
    actions = [
        *launch_files.warn_of_misspelt(ARGUMENTS, context),
        RegisterEventHandler(OnProcessIO(on_stdout=when_active, on_stderr=when_active)),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                f'{launch_files.share_directory()}/launch/monitor.launch.py'
            ),
            launch_arguments=monitor_arguments(given).items(),
        ),
    ]
    if is_true(given['shutdown']):
        ended = EmitEvent(event=Shutdown(reason='the bag has ended'))
        actions.insert(0, RegisterEventHandler(
            OnProcessExit(target_action=player, on_exit=[ended])))
    return actions


def command(given: dict[str, str]) -> list[str]:
    """Return the player's command line.

    Args:
        given: Values of the arguments, by name.

    Returns:
        ``ros2 bag play`` with its arguments.

    Raises:
        RuntimeError: The bag does not exist, or a number is invalid.
    """
    bag = Path(given['bag']).expanduser()
    if not bag.exists():
        raise RuntimeError(f'bag: there is no {bag}; give the folder of a bag, or a file of it')
    topics = [] if is_true(given['everything']) else ['--topics', given['topic']]
    return [
        # The bag comes first, because --topics consumes all words that follow it.
        'ros2', 'bag', 'play', str(bag),
        '--clock', str(CLOCK_RATE),
        '--rate', number(given, 'rate', least=1e-6),
        '--start-offset', number(given, 'start_offset'),
        '--delay', number(given, 'delay'),
        '--disable-keyboard-controls',
        *(['--loop'] if is_true(given['loop']) else []),
        *topics,
    ]


def monitor_arguments(given: dict[str, str]) -> dict[str, str]:
    """Return the arguments of the monitor's launch file.

    Args:
        given: Values of the arguments, by name.

    Returns:
        Values of the arguments of ``monitor.launch.py``, by name.
    """
    topic = given['topic']
    compressed = topic.endswith(COMPRESSED)
    return {
        **{argument.name: given[argument.name] for argument in MONITOR_ARGUMENTS},
        'image_topic': topic[: -len(COMPRESSED)] if compressed else topic,
        'image_transport': 'compressed' if compressed else 'raw',
        'use_sim_time': 'true',
        'respawn': 'false',  # the bag would not restart with it
    }


def player_starter(
    player: LaunchDescriptionEntity,
) -> Callable[[ProcessIO], list[LaunchDescriptionEntity] | None]:
    """Return the handler that starts the player once the monitor is active.

    Args:
        player: Action to start once.
    """
    waiting = [player]
    heard = b''

    def listen(event: ProcessIO) -> list[LaunchDescriptionEntity] | None:
        nonlocal heard
        heard = (heard + event.text)[-1000:]  # a line may arrive in parts
        if ACTIVE not in heard or not waiting:
            return None
        return [waiting.pop()]

    return listen


def require_player() -> None:
    """Check that bags can be played.

    Raises:
        RuntimeError: ``ros2 bag`` is not installed.
    """
    try:
        get_package_share_directory('ros2bag')
    except PackageNotFoundError:
        raise RuntimeError(
            'ros2 bag is not installed: apt install ros-$ROS_DISTRO-ros2bag '
            'ros-$ROS_DISTRO-rosbag2-storage-default-plugins'
        ) from None
