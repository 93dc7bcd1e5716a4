"""What an operator does: lifecycle, switching off, bags."""

from __future__ import annotations

import time

import pytest

pytest.importorskip('rclpy')

from fault_robot import START, Feed, Robot, change_state  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

pytestmark = pytest.mark.ros


def test_the_monitor_is_deactivated_cleaned_up_and_configured_again(robot):
    graph = robot.graph
    graph.client(ChangeState, '/nav_monitor/change_state', START)  # found before the clock runs
    robot.stands(
        'lifecycle: deactivated', ['inactive'], 0.1,
        lambda: change_state(graph, Transition.TRANSITION_DEACTIVATE),
    )
    robot.recovers('activated', lambda: change_state(graph, Transition.TRANSITION_ACTIVATE))

    def clean_up():
        change_state(graph, Transition.TRANSITION_DEACTIVATE)
        change_state(graph, Transition.TRANSITION_CLEANUP)

    def set_up():
        robot.stays_stopped(1.0)
        change_state(graph, Transition.TRANSITION_CONFIGURE)
        robot.stays_stopped(0.5)
        change_state(graph, Transition.TRANSITION_ACTIVATE)

    robot.stands('lifecycle: cleaned up', ['inactive'], 0.1, clean_up)
    robot.recovers('configured and activated', set_up)


def test_the_monitor_is_switched_off(robot):
    def enable(value):
        return robot.graph.call(
            SetBool, '/nav_monitor/set_enabled', SetBool.Request(data=value)
        )

    robot.graph.client(SetBool, '/nav_monitor/set_enabled', START)
    robot.stands('~/set_enabled false', ['disabled'], 0.1, lambda: enable(False))
    robot.stays_stopped(0.5)
    robot.recovers('~/set_enabled true', lambda: enable(True))


class Player:
    """Plays a bag as ros2 bag play --clock does: images and /clock, by a clock of its own."""

    def __init__(self, robot):
        self._robot = robot
        self._publisher = robot.graph.node.create_publisher(Clock, '/clock', 10)
        self._offset = -1_700_000_000 * 10**9 + 86_400 * 10**9
        self._paused_at = None
        robot.feed = Feed(robot.graph)
        robot.feed.now = self._stamp
        robot.feed.play(self._normal)

    def pause(self):
        self._paused_at = time.time_ns() + self._offset
        self._robot.feed.play(None)

    def resume(self):
        self._offset, self._paused_at = self._paused_at - time.time_ns(), None
        self._robot.feed.play(self._normal)

    def jump_back(self):
        self._offset -= 60 * 10**9

    def _stamp(self):
        return time.time_ns() + self._offset

    def _normal(self, stamp):
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp, 10**9)
        self._publisher.publish(message)
        return self._robot.feed.normal(stamp)


def test_a_bag_is_paused_and_looped(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, feed=False, use_sim_time=True)
    bag = Player(robot)
    robot.stands('bag paused (use_sim_time)', ['stale_image'], 0.6, bag.pause)
    robot.stays_stopped(1.0)
    robot.recovers('bag resumed', bag.resume)
    robot.stands(
        'bag looped (clock jumps back 60 s)', ['warming_up', 'stale_image'], 0.2, bag.jump_back
    )
    robot.recovers('on its own')
