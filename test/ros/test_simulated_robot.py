"""The simulated robot in real time, as a process of its own. Needs MuJoCo."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('mujoco')
pytestmark = pytest.mark.ros

from geometry_msgs.msg import PoseStamped, Twist  # noqa: E402
from processes import with_default_signals  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile  # noqa: E402
from ros_harness import LATCHED  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool, Float32  # noqa: E402

from nav_monitor_ros.sim.camera.rendering import CAMERA  # noqa: E402
from nav_monitor_ros.sim.robot.kinematics import ROBOT  # noqa: E402

START = 60.0  # longest time to the first image, seconds
ALERT = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, deadline=Duration(seconds=0.3),
    liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=Duration(seconds=0.5))
COMMAND = [sys.executable, '-m', 'nav_monitor_ros.ros.simulated_robot', '--ros-args']


class Robot:
    """The process, what it published, and a relay of its driver's commands."""

    def __init__(self, graph, log, *parameters):
        self.graph = graph
        self.relays = False
        graph.listen(Image, '/image', 1)
        graph.listen(PoseStamped, '/simulated_robot/pose', 10)
        graph.listen(Float32, '/simulated_robot/gap', 10)
        graph.listen(Bool, '/simulated_robot/touched', LATCHED)
        velocities = graph.driver.create_publisher(Twist, 'cmd_vel', 1)
        graph.driver.create_subscription(
            Twist, 'cmd_vel_in', lambda m: self.relays and velocities.publish(m), 1)
        graph.listen(Twist, '/cmd_vel_in', 10)
        with log.open('wb') as written:
            self.process = subprocess.Popen(
                with_default_signals(*COMMAND, *parameters), stdin=subprocess.DEVNULL,
                stdout=written, stderr=subprocess.STDOUT,
                env={**os.environ, **graph.domain.environment, 'OMP_NUM_THREADS': '1'})
        graph.wait(lambda: self.images, START, f'an image; {log.read_text()}')

    @property
    def images(self):
        return self.graph.heard['/image']

    @property
    def places(self):
        poses = self.graph.heard['/simulated_robot/pose']
        return np.array([(m.pose.position.x, m.pose.position.y) for m in poses])

    def moved_in(self, seconds):
        first = len(self.places)
        time.sleep(seconds)
        places = self.places[first:]
        return float(np.hypot(*(places[-1] - places[0])))

    def fail(self, fault):
        value = ParameterValue(type=4, string_value=fault)
        request = SetParameters.Request(parameters=[Parameter(name='fault', value=value)])
        results = self.graph.call(SetParameters, '/simulated_robot/set_parameters', request).results
        assert results[0].successful


@pytest.fixture
def start(graph, tmp_path):
    robots = []

    def started(*parameters):
        robots.append(Robot(graph, tmp_path / 'robot.log', *parameters))
        return robots[-1]

    yield started
    for robot in robots:
        robot.process.terminate()
        assert robot.process.wait(20) == 0


def test_the_robot_moves_as_cmd_vel_says_and_stands_without_it(start):
    robot = start('-p', 'seed:=3')
    image = robot.images[-1]
    assert (image.width, image.height, image.encoding) == (CAMERA.width, CAMERA.height, 'rgb8')
    assert np.frombuffer(image.data, np.uint8).std() > 5
    robot.graph.wait(
        lambda: any(m.linear.x > 0.1 for m in robot.graph.heard['/cmd_vel_in']), 20, 'a command')
    assert robot.moved_in(1.0) == 0
    robot.relays = True
    robot.graph.wait(lambda: robot.moved_in(0.5) > 0.05, 20, 'the robot to drive')
    assert robot.moved_in(3.0) > 0.3
    robot.relays = False
    # Without commands, the base stops: 0.5 s until the command is too old, and 0.5 s of braking.
    time.sleep(3.0)
    assert robot.moved_in(1.0) < 1e-3
    assert not any(m.data for m in robot.graph.heard['/simulated_robot/touched'])


def test_a_robot_that_nothing_stops_drives_into_the_object(start):
    robot = start('-p', 'seed:=1', '-p', 'kind:=ball', '-p', 'approach:=4.0')
    gap, touched = (robot.graph.heard[f'/simulated_robot/{topic}'] for topic in ('gap', 'touched'))
    robot.graph.wait(lambda: gap and touched, 20, 'what really happens')
    assert gap[-1].data > 1.0
    robot.relays = True
    robot.graph.wait(lambda: touched[-1].data, 90, 'contact')
    assert robot.graph.heard['/simulated_robot/gap'][-1].data < ROBOT.radius


def test_faults_of_the_camera(start):
    robot = start('-p', 'seed:=3')
    robot.relays = True

    def after(fault, seconds=2.0):
        """Return the images of a fault, from half a second after it has begun."""
        robot.fail(fault)
        time.sleep(0.7)
        first = len(robot.images)
        time.sleep(seconds)
        return robot.images[first:]

    usual = after('none')
    assert len({bytes(m.data) for m in usual}) == len(usual) > 5
    assert after('silent') == []
    frozen = after('frozen')
    assert len(frozen) > 5 and len({bytes(m.data) for m in frozen}) == 1
    assert all(not any(m.data) for m in after('dark'))
    assert all(len(m.data) < m.step * m.height for m in after('damaged'))
    slow = after('slow', 3.0)
    assert 0 < len(slow) < 0.5 * CAMERA.rate * 3.0
    assert len({bytes(m.data) for m in after('none')}) > 5  # it has recovered
    moving = robot.moved_in(1.0)
    assert moving > 0.05  # the faults are the camera's alone


@pytest.mark.parametrize(('parameter', 'words'), [
    ('kind:=dragon', 'parameter kind'), ('seed:=-1', 'parameter seed'),
])
def test_an_invalid_parameter_ends_it_with_one_line(graph, parameter, words):
    ended = subprocess.run(
        [*COMMAND, '-p', parameter], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, **graph.domain.environment})
    assert ended.returncode == 1
    assert words in ended.stderr and 'Traceback' not in ended.stderr


def test_it_is_no_loop_of_commands_for_safety_stop(start):
    """One node that listens to cmd_vel and publishes cmd_vel_in is refused as a relay."""
    robot = start('-p', 'seed:=3')
    gate = robot.graph.start('safety_stop')
    alert = robot.graph.driver.create_publisher(Bool, 'ood_alert', ALERT)
    robot.graph.driver.create_timer(0.05, lambda: alert.publish(Bool(data=False)))
    robot.graph.wait(lambda: robot.moved_in(0.5) > 0.05, START, 'the robot to drive')
    time.sleep(3.0)  # in which safety_stop looks at the graph
    assert robot.moved_in(1.0) > 0.05
    assert 'commands may return' not in gate.log.read_text()
