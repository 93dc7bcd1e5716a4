"""Running safety_stop, publishers of alerts and commands, and its recorded output."""

from __future__ import annotations

import json
import os
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import LATCHED
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

START = 60.0  # longest time for a process to start on a busy machine, seconds
SOON = 20.0  # longest time until a stop or a release is seen there, seconds
TOLD = os.environ.get('ROS_DISTRO') not in ('humble', 'iron', 'jazzy')  # reports who commands
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
OFFERED = {
    'deadline': Duration(seconds=0.3),
    'liveliness': LivelinessPolicy.MANUAL_BY_TOPIC,
    'liveliness_lease_duration': Duration(seconds=0.5),
}  # QoS that the monitor offers at its default rate


class AlertSource:
    """Publisher of ``ood_alert`` at 10 Hz in the test's process."""

    def __init__(self, graph, value, **offered):
        self.value = value  # None to publish nothing
        self.alive = False  # whether to assert liveliness while nothing is published
        self._publisher = graph.node.create_publisher(
            Bool,
            '/ood_alert',
            QoSProfile(
                depth=1,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
                **offered,
            ),
        )
        self._timer = graph.node.create_timer(0.1, self.say, clock=STEADY)

    def say(self):
        if self.value is not None:
            self._publisher.publish(Bool(data=self.value))
        elif self.alive:
            self._publisher.assert_liveliness()


class Driver:
    """Publisher of velocity commands at 20 Hz in the test's process."""

    def __init__(self, graph, x=1.0, z=0.5, *, kind=Twist):
        self.x, self.z = x, z  # x None to publish nothing
        self._kind = kind
        self._publisher = graph.driver.create_publisher(kind, '/cmd_vel_in', 1)
        self._timer = graph.node.create_timer(0.05, self._tick, clock=STEADY)

    def _tick(self):
        if self.x is None:
            return
        message = self._kind()
        twist = message
        if self._kind is TwistStamped:
            message.header.frame_id, twist = 'base_link', message.twist
        twist.linear.x, twist.angular.z = self.x, self.z
        self._publisher.publish(message)


class Bench:
    """Running gate and its recorded output."""

    def __init__(self, graph, kind=Twist):
        self.graph, self._kind = graph, kind
        graph.listen(kind, '/cmd_vel', 1)
        graph.listen(Bool, '/safety_stop/stopped', LATCHED)
        graph.listen(DiagnosticArray, '/diagnostics', QoSProfile(depth=10))

    def start(self, *arguments, output=None, **parameters):
        given = {'stamped': self._kind is TwistStamped, **parameters}
        settings = [
            argument for name, value in given.items()
            for argument in ('-p', f'{name}:={json.dumps(value)}')
        ]
        self.process = self.graph.start('safety_stop', *settings, *arguments, output=output)
        return self

    def said(self):
        """Return the log of the process."""
        return self.process.log.read_text()

    @property
    def sent(self):
        """Return (x, z) of all published velocities, oldest first."""
        twists = [getattr(message, 'twist', message) for message in self.graph.heard['/cmd_vel']]
        return [(twist.linear.x, twist.angular.z) for twist in twists]

    def wait_sent(self, x, z=None, timeout=SOON):
        """Wait for a velocity published after this call."""
        before = len(self.sent)
        z = 0.5 * x if z is None else z
        self.graph.wait(lambda: (x, z) in self.sent[before:], timeout, f'velocity {x}, {z}')

    def wait_reason(self, reason, timeout=SOON):
        """Wait until the newest diagnostics have this reason, or any if None; return the status."""
        heard = self.graph.heard['/diagnostics']

        def look():
            for message in reversed(heard[-1:]):
                [status] = message.status  # a second one would report unknown parameters
                assert status.name == '/safety_stop: gate'
                if reason in (None, status.message):
                    return status
            return None

        return self.graph.wait(look, timeout, f'reason {reason}')

    def newest(self):
        """Return the newest status of the gate, or None."""
        heard = self.graph.heard['/diagnostics']
        return heard[-1].status[0] if heard else None

    def answers(self, seconds):
        """Return whether a velocity was published within the last seconds."""
        times = self.graph.times['/cmd_vel']
        return bool(times) and time.monotonic() - times[-1] < seconds

    def wait_stop(self, reason=None):
        """Wait for a stop for this reason, or any if None; check that only zeros are published."""
        self.wait_stopped(True)
        self.wait_reason(reason)
        self.wait_sent(0.0)
        first = len(self.sent)
        self.graph.wait(lambda: len(self.sent) >= first + 10, SOON, 'ten more velocities')
        assert set(self.sent[first:]) == {(0.0, 0.0)}

    def wait_stopped(self, value):
        heard = self.graph.heard['/safety_stop/stopped']
        self.graph.wait(
            lambda: heard and heard[-1].data is value, SOON, f'~/stopped {value}')

    def reset(self):
        """Call ~/reset, again while a pause of this busy machine is the answer."""
        end = time.monotonic() + SOON
        while True:
            answer = self.graph.call(Trigger, '/safety_stop/reset', Trigger.Request())
            if answer.message != 'gate_late' or time.monotonic() > end:
                return answer.success, answer.message
            time.sleep(0.1)

    def set(self, **changes):
        """Change float or string parameters of the running node; return the results."""
        request = SetParameters.Request()
        for name, value in changes.items():
            held = (
                ParameterValue(type=3, double_value=value) if isinstance(value, float)
                else ParameterValue(type=4, string_value=value)
            )
            request.parameters.append(Parameter(name=name, value=held))
        return self.graph.call(SetParameters, '/safety_stop/set_parameters', request).results
