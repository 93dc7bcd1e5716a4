"""Node that drives the simulated robot in real time: camera and base over ROS 2.

    python -m nav_monitor_ros.ros.simulated_robot --ros-args -p kind:=plant -p seed:=3

It publishes ``image`` and the commands of a driver that sees nothing (``cmd_vel_in``, as for
``safety_stop``), and moves as ``cmd_vel`` says. ``~/pose``, ``~/gap`` (m to the unknown object) and
``~/touched`` say what really happens. The parameter ``fault`` makes the camera fail.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32

from nav_monitor_ros.decision.velocity_gate import ZERO, Velocity
from nav_monitor_ros.ros.declared_parameters import declare
from nav_monitor_ros.ros.messages import byte_array
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.process.process import StopRequest, run
from nav_monitor_ros.ros.process.spinning import serve
from nav_monitor_ros.ros.process.usage import Usage
from nav_monitor_ros.runtime.parameter_definition import Parameter
from nav_monitor_ros.sim.camera.rendering import CAMERA
from nav_monitor_ros.sim.encounters import APPROACH, draw_encounter
from nav_monitor_ros.sim.moving_robot import MovingRobot
from nav_monitor_ros.sim.world.mjcf import compile_world
from nav_monitor_ros.sim.world.unknown_objects import UNKNOWN
from nav_monitor_ros.sim.world.world import draw_world

NOTHING = 'nothing'  # no unknown object
NO_FAULT, FROZEN, SILENT, DARK, DAMAGED, SLOW = (
    'none', 'frozen', 'silent', 'dark', 'damaged', 'slow')
COMMAND_TIMEOUT = 0.5  # s after which the base stops without a command
LONGEST_STEP = 0.25  # s; after a longer pause of this process, the world has stood still
_SLOWED = 5  # with the fault ``slow``, every so many images are published

PARAMETERS: tuple[Parameter, ...] = (
    Parameter('seed', 'int', 0, 'Of world, object and camera.', low=0, read_only=True),
    Parameter('kind', 'string', NOTHING, 'Unknown object on the path.',
              choices=(NOTHING, *UNKNOWN), read_only=True),
    Parameter('pieces', 'int', 2, 'Straight pieces of the corridor.', low=1, high=8,
              read_only=True),
    Parameter('approach', 'float', APPROACH, 'Path between the start and the unknown object.',
              low=1.0, high=200.0, unit='m', read_only=True),
    Parameter('fault', 'string', NO_FAULT, 'Fault of the camera.',
              choices=(NO_FAULT, FROZEN, SILENT, DARK, DAMAGED, SLOW)),
)


class SimulatedRobotNode(Node):
    """Camera, base and driver of one robot in one world."""

    def __init__(self) -> None:
        """Draw the world and put the robot at its start.

        Raises:
            NavMonitorError: A parameter is invalid, or the simulator is not installed.
        """
        super().__init__('simulated_robot')
        values = declare(self, PARAMETERS)
        if values['kind'] == NOTHING:
            compiled, start = compile_world(draw_world(values['seed'], pieces=values['pieces'])), 0
        else:
            encounter = draw_encounter(
                values['kind'], values['seed'], pieces=values['pieces'],
                approach=values['approach'])
            compiled, start = encounter.compiled, encounter.start
        self._robot = MovingRobot(compiled, seed=values['seed'], start=start)
        self._last: float | None = None  # time of the last step
        self._command, self._commanded = ZERO, -math.inf
        self._frozen: np.ndarray | None = None
        self._count = 0
        reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._images = self.create_publisher(Image, 'image', reliable)
        # A node of its own, as on a real robot: one node that listens to cmd_vel and publishes
        # cmd_vel_in looks like a loop of commands, which safety_stop cuts.
        self._driver = Node('simulated_driver')
        self._wanted = self._driver.create_publisher(Twist, 'cmd_vel_in', reliable)
        self._pose = self.create_publisher(PoseStamped, '~/pose', reliable)
        self._gap = self.create_publisher(Float32, '~/gap', reliable)
        self._touched = self.create_publisher(Bool, '~/touched', latched)
        self.create_subscription(Twist, 'cmd_vel', self._heard, reliable)
        self.create_timer(
            1 / CAMERA.rate, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._touched.publish(Bool(data=False))
        self.get_logger().info(
            f'driving through world {self._robot.world.seed}, unknown object: {values["kind"]}')

    def close(self) -> None:
        """Release the graphics library and the driver's node."""
        self._robot.close()
        self._driver.destroy_node()

    def _heard(self, message: Twist) -> None:
        self._command = Velocity(
            (message.linear.x, message.linear.y, message.linear.z),
            (message.angular.x, message.angular.y, message.angular.z))
        self._commanded = time.monotonic()

    def _followed(self) -> Velocity:
        """Return the command that the base follows: none is followed for long."""
        fresh = time.monotonic() - self._commanded < COMMAND_TIMEOUT
        return self._command if fresh else ZERO

    def _tick(self) -> None:
        now = time.monotonic()
        touched = self._robot.touched
        if self._last is not None:
            self._robot.move(self._followed, min(now - self._last, LONGEST_STEP))
        self._last = now
        wanted = self._robot.wanted()
        command = Twist()
        command.linear.x, command.angular.z = wanted.linear[0], wanted.angular[2]
        self._wanted.publish(command)
        stamp = self.get_clock().now().to_msg()
        pose = PoseStamped()
        pose.header.stamp, pose.header.frame_id = stamp, 'map'
        state = self._robot.state
        pose.pose.position.x, pose.pose.position.y = state.pose.x, state.pose.y
        pose.pose.orientation.z = math.sin(state.pose.yaw / 2)
        pose.pose.orientation.w = math.cos(state.pose.yaw / 2)
        self._pose.publish(pose)
        self._gap.publish(Float32(data=self._robot.gap))
        if self._robot.touched and not touched:
            self._touched.publish(Bool(data=True))
        message = self._image(self._seen(), stamp)
        if message is not None:
            self._images.publish(message)

    def _seen(self) -> np.ndarray:
        """Return the image that a camera with the current fault delivers."""
        fault = self.get_parameter('fault').value
        image = self._robot.look()
        if fault != FROZEN:
            self._frozen = None
        elif self._frozen is None:
            self._frozen = image
        if fault == DARK:
            return np.zeros_like(image)
        return image if self._frozen is None else self._frozen

    def _image(self, pixels: np.ndarray, stamp: object) -> Image | None:
        fault = self.get_parameter('fault').value
        self._count += 1
        if fault == SILENT or (fault == SLOW and self._count % _SLOWED):
            return None
        height, width = pixels.shape[:2]
        message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        message.header.stamp, message.header.frame_id = stamp, 'camera'
        data = byte_array(np.ascontiguousarray(pixels))
        message.data = data[: len(data) // 2] if fault == DAMAGED else data
        return message


def main(args: list[str] | None = None) -> int:
    """Drive until a signal arrives.

    Returns:
        Exit status: 0 on success; 1 if a parameter is invalid or the simulator is not installed,
        and 70 if the node fails, after one line with the reason.
    """
    usage = Usage(
        'simulated_robot', 'Drives a simulated robot with a camera through a corridor.',
        '-p kind:=plant -p seed:=3', PARAMETERS,
    )
    return run('simulated_robot', SimulatedRobotNode, _drive, args, usage)


def _drive(node: SimulatedRobotNode, stop: StopRequest) -> int:
    serve(node, stop.is_set, QueuedLog(node.get_logger()), finish=node.close)
    return 0


if __name__ == '__main__':
    sys.exit(main())
