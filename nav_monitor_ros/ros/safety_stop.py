"""The executable ``safety_stop``: lets velocity commands through while ``ood_alert`` is False."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger

from nav_monitor_ros.decision.gate import ZERO, Gate, GateReason, GateRules, Velocity
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros.messages import diagnostic, diagnostics_message
from nav_monitor_ros.ros.parameters import declare, plain
from nav_monitor_ros.ros.qos import latched, reliable
from nav_monitor_ros.ros.safety_stop_parameters import BY_NAME, SAFETY_STOP_PARAMETERS, check_all

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

RULES = tuple(GateRules.__dataclass_fields__)  # parameters of the same names
DEADLINE_PERIODS = 3  # offered deadline of ~/stopped, in periods of its repetition
LEASE_PERIODS = 5  # its liveliness lease
DIAGNOSTICS_PERIOD = 1.0  # seconds
GOODBYE = 1.0  # seconds that the last zero may take to reach everybody
LOG_PERIOD = 1.0  # seconds between two lines about the same fault of the commands
ALERTS_KEPT = 10  # so that one publisher's False cannot push another's True out of the queue

_LEVELS = {
    GateReason.PASSING: DiagnosticStatus.OK,
    GateReason.LATCHED: DiagnosticStatus.WARN,
    GateReason.NO_ALERT_YET: DiagnosticStatus.STALE,
}  # every other reason is an error


class SafetyStopNode(Node):
    """Forwards ``cmd_vel_in`` to ``cmd_vel`` unless the alert is raised, silent or lost.

    The alert is subscribed to twice. The first subscription asks for nothing that a publisher
    might not offer, so it hears every publisher, and the gate's own clock measures its silence.
    The second one asks for a deadline and a liveliness lease and is there for their events only:
    where a publisher does not offer them, it is not connected, and nothing else is lost. Both are
    volatile: the alert is repeated anyway, and a late joiner must not take for news the False that
    a monitor, hung since, said long ago.

    One thread; what is heard is answered at once, and a steady timer looks at the clock.
    """

    def __init__(self, name: str = 'safety_stop', **options: Any) -> None:
        """Start stopped.

        Raises:
            NavMonitorError: A parameter has a wrong type or is out of range.
        """
        super().__init__(name, **options)
        self._values = check_all(declare(self, SAFETY_STOP_PARAMETERS))
        rules = GateRules(**{rule: self._values[rule] for rule in RULES})
        self._gate = Gate(rules, time.monotonic())
        self._said: GateReason | None = None
        self._since = time.monotonic()  # of the reason said, steady seconds
        self._sent = ZERO
        self._frame_id = ''  # of the newest command
        self._received = self._forwarded = self._not_finite = 0
        self._alive = self._lost = 0  # publishers of the alert, by their liveliness
        self._create_publishers()
        self._type = TwistStamped if self._values['stamped'] else Twist
        self._commands = self.create_publisher(self._type, 'cmd_vel', reliable(1))
        self.create_subscription(self._type, 'cmd_vel_in', self._command_heard, reliable(1))
        self._alerts = self.create_subscription(
            Bool, 'ood_alert', self._alert_heard, reliable(ALERTS_KEPT)
        )
        self._watch_alert()
        self.create_service(Trigger, '~/reset', self._reset)
        # rclpy's timers follow the ROS clock unless told otherwise, and stop with a paused bag.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / self._values['rate'], self._tick, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=steady)
        self.add_on_set_parameters_callback(self._set_parameters)
        self._answer()

    def stop(self) -> None:
        """Send zero for the last time, and wait until everybody has it."""
        self._send(ZERO)
        self._stopped.publish(Bool(data=True))
        for publisher in (self._commands, self._stopped):
            publisher.wait_for_all_acked(Duration(seconds=GOODBYE))

    def _create_publishers(self) -> None:
        rate = self._values['rate']
        self._stopped = self.create_publisher(
            Bool,
            '~/stopped',
            latched(
                deadline=Duration(seconds=DEADLINE_PERIODS / rate),
                liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
                liveliness_lease_duration=Duration(seconds=LEASE_PERIODS / rate),
            ),
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', reliable(10))

    # The alert.

    def _watch_alert(self) -> None:
        """Subscribe to the alert's deadline and liveliness, as far as the middleware has them."""
        timeout = Duration(seconds=self._values['alert_timeout'])
        profile = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            deadline=timeout,
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=timeout,
        )
        events = SubscriptionEventCallbacks(
            deadline=self._deadline_missed,
            liveliness=self._liveliness_changed,
            incompatible_qos=self._offers_too_little,
        )
        try:
            self.create_subscription(
                Bool, 'ood_alert', lambda message: None, profile, event_callbacks=events
            )
        except UnsupportedEventTypeError:
            self.get_logger().warning(
                'this middleware tells of no missed deadline or lost liveliness: ood_alert is '
                'watched for silence only'
            )

    def _alert_heard(self, message: Bool) -> None:
        self._gate.alert_heard(message.data, time.monotonic())
        self._answer()

    def _deadline_missed(self, _event: Any) -> None:
        self._gate.deadline_missed()
        self._answer()

    def _liveliness_changed(self, event: Any) -> None:
        self._alive, self._lost = event.alive_count, event.not_alive_count
        self._gate.liveliness_changed(self._lost)
        self._answer()

    def _offers_too_little(self, _event: Any) -> None:
        self.get_logger().warning(
            f'a publisher of {self._alerts.topic_name} offers no deadline and liveliness within '
            f'alert_timeout ({self._values["alert_timeout"]:g} s): it is watched for silence only, '
            'and not for its death while another one speaks'
        )

    # The commands.

    def _command_heard(self, message: Twist | TwistStamped) -> None:
        self._received += 1
        twist = message
        if isinstance(message, TwistStamped):
            self._frame_id, twist = message.header.frame_id, message.twist
        linear, angular = twist.linear, twist.angular
        asked = Velocity(
            (linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z)
        )
        if not asked.is_finite:
            self._not_finite += 1
            self.get_logger().error(
                'a command holds NaN or infinity: it counts as zero; mend who publishes cmd_vel_in',
                throttle_duration_sec=LOG_PERIOD,
            )
        velocity = self._gate.command(asked, time.monotonic())
        if velocity is not None:
            self._forwarded += 1
            self._send(velocity)
        self._answer()

    def _tick(self) -> None:
        velocity = self._gate.tick(time.monotonic())
        if velocity is not None:
            self._send(velocity)
        self._say()
        self._stopped.publish(Bool(data=self._said is not GateReason.PASSING))

    def _answer(self) -> None:
        """Act at once on what was heard; the timer would be up to a period late."""
        before = self._said
        self._say()
        if (before is GateReason.PASSING) != (self._said is GateReason.PASSING) or before is None:
            self._tick()

    def _say(self) -> None:
        now = time.monotonic()
        reason, before = self._gate.look(now), self._said
        if reason is before:
            return
        self._said, self._since = reason, now
        # A call of its own for each severity, because rclpy refuses one that changes it.
        if reason is GateReason.PASSING:
            self.get_logger().info('commands pass')
        else:
            self.get_logger().warning(f'stopped: {reason.value}')

    def _send(self, velocity: Velocity) -> None:
        self._sent = velocity
        twist = Twist(
            linear=Vector3(x=velocity.linear[0], y=velocity.linear[1], z=velocity.linear[2]),
            angular=Vector3(x=velocity.angular[0], y=velocity.angular[1], z=velocity.angular[2]),
        )
        if self._type is Twist:
            self._commands.publish(twist)
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._commands.publish(TwistStamped(header=header, twist=twist))

    # Services, parameters, diagnostics.

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        reason = self._gate.reset(time.monotonic())
        self._answer()
        response.success = reason is GateReason.PASSING
        response.message = reason.value
        return response

    def _set_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        ours = {change.name: plain(change.value) for change in changes if change.name in BY_NAME}
        try:
            values = check_all({**self._values, **ours})
            self._gate.change_rules(**{rule: values[rule] for rule in RULES})
        except NavMonitorError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        self._answer()
        return SetParametersResult(successful=True)

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        reason = self._gate.look(now)
        silence = self._gate.silence(now)
        name = self.get_fully_qualified_name()
        values = {
            'stopped': reason is not GateReason.PASSING,
            'since_s': now - self._since,
            'alert_topic': self._alerts.topic_name,
            'alert_silent_s': 'never heard' if silence is None else silence,
            'alert_publishers': self.count_publishers(self._alerts.topic_name),
            'alert_publishers_alive': self._alive,  # of those that offer liveliness
            'alert_publishers_lost': self._lost,
            'stop_mode': self._values['stop_mode'],
            'latch': self._values['latch'],
            'commands_received': self._received,
            'commands_forwarded': self._forwarded,
            'commands_not_finite': self._not_finite,
            'sent_linear_x': self._sent.linear[0],
            'sent_angular_z': self._sent.angular[2],
        }
        level = _LEVELS.get(reason, DiagnosticStatus.ERROR)
        self._diagnostics.publish(
            diagnostics_message(
                Header(stamp=self.get_clock().now().to_msg()),
                [diagnostic(f'{name}: gate', 'safety_stop', level, reason.value, values)],
            )
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the last thing it sends is zero.

    Returns:
        0 after a signal; 1 if a parameter cannot be used or the node fails, after one line that
        says why.
    """
    # Own handlers: rclpy's would close the middleware before the last zero is out.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = SafetyStopNode()
    except NavMonitorError as error:
        rclpy.logging.get_logger('safety_stop').fatal(str(error))
        rclpy.shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    status = 0
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    except Exception as error:
        node.get_logger().fatal(f'failed: {type(error).__name__}: {error}')
        status = 1
    node.stop()
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return status


if __name__ == '__main__':
    sys.exit(main())
