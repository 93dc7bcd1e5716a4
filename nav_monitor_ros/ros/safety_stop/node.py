"""The executable ``safety_stop``: forwards velocity commands while ``ood_alert`` is False."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped, Vector3
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger

from nav_monitor_ros.decision.velocity_gate import (
    ZERO,
    GateReason,
    GateRules,
    Velocity,
    VelocityGate,
)
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.ros import qos_overrides
from nav_monitor_ros.ros.declared_parameters import declare, plain, warn_of_unknown
from nav_monitor_ros.ros.message_age import received_age, stamp_age
from nav_monitor_ros.ros.parameter_requests import ParameterRequests
from nav_monitor_ros.ros.process.log import QueuedLog
from nav_monitor_ros.ros.process.process import StopRequest, run
from nav_monitor_ros.ros.process.spinning import serve
from nav_monitor_ros.ros.process.transport import use_udp_only
from nav_monitor_ros.ros.process.usage import Usage
from nav_monitor_ros.ros.qos import reliable, repeated
from nav_monitor_ros.ros.qos_overrides import OverridableTopics
from nav_monitor_ros.ros.safety_stop import alert_subscriptions
from nav_monitor_ros.ros.safety_stop.command_loops import CommandFeedback
from nav_monitor_ros.ros.safety_stop.diagnostics import (
    SafetyStopDiagnostics,
    SafetyStopState,
    TopicQos,
)
from nav_monitor_ros.ros.safety_stop.parameters import BY_NAME, SAFETY_STOP_PARAMETERS, check_all
from nav_monitor_ros.ros.safety_stop.qos_matching import TWIST, TWIST_STAMPED, without_deadline
from nav_monitor_ros.ros.topic_endpoints import check_distinct, gid
from nav_monitor_ros.ros.transport_delay import TransportDelay

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

RULES = tuple(GateRules.__dataclass_fields__)  # parameters of the same names
TOPICS = ('cmd_vel_in', 'cmd_vel', 'ood_alert', '~/stopped', '/diagnostics')
CHECKS = 2  # least number of clock checks in the time after which the loop counts as late
GOODBYE = 1.0  # longest wait for the last zero to be acknowledged and for the log, seconds
LOG_PERIOD = 1.0  # seconds between two lines about the same fault in commands


class SafetyStopNode(OverridableTopics, Node):
    """Node that forwards ``cmd_vel_in`` to ``cmd_vel`` unless the alert is raised or missing.

    One thread decides: it handles each event immediately, and a steady timer checks the clock.
    Each callback first informs the velocity gate that the loop is running, then acts, and logs
    last. The diagnostics run in another thread (``SafetyStopDiagnostics``).
    """

    _diagnostics: SafetyStopDiagnostics | None = None  # None if the constructor failed

    def __init__(self, name: str = 'safety_stop', **options: Any) -> None:
        """Create the node, with the robot stopped.

        Raises:
            NavMonitorError: A parameter has a wrong type or is out of range, or two topics are the
                same.
        """
        super().__init__(name, start_parameter_services=False, **options)
        self.log = QueuedLog(self.get_logger())
        check_distinct(self, TOPICS)
        self._values = check_all(declare(self, SAFETY_STOP_PARAMETERS))
        rules = GateRules(**{rule: self._values[rule] for rule in RULES})
        self._gate = VelocityGate(rules, time.monotonic())
        self._reason = GateReason.NO_ALERT_YET
        self._logged_reason: GateReason | None = None
        self._since = self._loop_time = time.monotonic()  # start of the reason, last loop turn
        self._sent = ZERO
        self._frame_id = ''  # of the newest command
        self._received = self._forwarded = self._not_finite = 0
        self._stale = self._stamped_wrong = self._came_back = 0
        self._alive = self._lost = 0  # publishers of the alert, by their liveliness
        self._times_late, self._longest_late = 0, 0.0  # seconds
        self._not_finite_logged = self._stamp_logged = self._late_logged = -math.inf
        self._alert_delay, self._command_delay = TransportDelay(), TransportDelay()
        self._alerts_late, self._delay_logged = 0, -math.inf
        self._feedback: CommandFeedback | None = None  # written by the thread of the diagnostics
        self._publisher_known = True  # whether the middleware says who published a command
        self._create_publishers()
        self._create_subscriptions()
        self.create_service(Trigger, '~/reset', self._reset)
        # By default, rclpy's timers follow the ROS clock and stop while a bag is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = 1.0 / self._values['rate']
        self.create_timer(period, self._repeat_regularly, clock=steady)
        self._clock_timer = self.create_timer(period, self._check_clock, clock=steady)
        self._set_clock_timer()
        self.add_on_set_parameters_callback(self._set_parameters)
        self._parameter_service = ParameterRequests(self)
        self._act()
        # A line for each given parameter, or file of parameters, without effect.
        self.unknown_parameters = warn_of_unknown(self, self.log, known=BY_NAME)
        self._diagnostics = SafetyStopDiagnostics(
            self, self._topic_qos(), self.log, self._state, self._set_feedback,
            self.unknown_parameters,
        )

    @property
    def names_to_come(self) -> list[str]:
        """Return the topic that the thread of the diagnostics creates."""
        return ['/diagnostics']

    def stop(self) -> None:
        """Send a last zero, wait until every subscriber has received it, and flush the log."""
        self._send(ZERO)
        self._stopped.publish(Bool(data=True))
        for publisher in (self._commands, self._stopped):
            publisher.wait_for_all_acked(Duration(seconds=GOODBYE))
        self.log.flush(GOODBYE)

    def destroy_node(self) -> None:
        """Destroy the node and stop the thread of the diagnostics."""
        if self._diagnostics is not None:
            self._diagnostics.close()
        super().destroy_node()

    def _create_publishers(self) -> None:
        rate = self._values['rate']
        self._stopped = self.create_publisher(
            Bool, '~/stopped', repeated(rate),
            qos_overriding_options=qos_overrides.of_an_alert(rate),
        )
        self._type = TwistStamped if self._values['stamped'] else Twist
        self._commands = self.create_publisher(
            self._type, 'cmd_vel', reliable(1),
            qos_overriding_options=qos_overrides.fixed(
                reliable(1), 'the base must receive the newest command, and zero'),
        )

    def _create_subscriptions(self) -> None:
        # rclpy serves ready entities in the order of creation: alerts before commands.
        self._alerts = alert_subscriptions.AlertSubscriptions(
            self, self._values['alert_timeout'], self.log,
            on_alert=self._alert_received,
            on_deadline_missed=self._deadline_missed,
            on_liveliness_changed=self._liveliness_changed,
            on_incompatible_qos=self._alert_qos_incompatible,
        )
        # No default listeners: the diagnostics report endpoints that do not match, with a remedy.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        self._incoming = self.create_subscription(
            self._type, 'cmd_vel_in', self._command_received, reliable(1), event_callbacks=quiet,
            qos_overriding_options=qos_overrides.reliability_only(),
        )

    def _topic_qos(self) -> TopicQos:
        return TopicQos(
            commands_in=self._incoming.topic_name,
            commands_out=self._commands.topic_name,
            alert=self._alerts.topic,
            kind=TWIST_STAMPED if self._values['stamped'] else TWIST,
            commands_requested=self._incoming.qos_profile,
            commands_offered=without_deadline(reliable(1)),
            alert_requested=reliable(alert_subscriptions.DEPTH),
        )

    # The alert.

    def _alert_received(self, message: Bool, info: Mapping[str, Any]) -> None:
        now = self._loop_ran()
        late = self._alert_delay.excess(info)
        self._gate.alert_received(message.data, now, age=received_age(info) + late)
        self._act()
        if late > self._values['alert_timeout']:
            self._alerts_late += 1
            self._log_late(self._alerts.topic, late, now)

    def _deadline_missed(self, _event: Any) -> None:
        self._loop_ran()
        self._gate.deadline_missed()
        self._act()

    def _liveliness_changed(self, event: Any) -> None:
        self._loop_ran()
        self._alive, self._lost = event.alive_count, event.not_alive_count
        self._gate.liveliness_changed(self._lost)
        self._act()

    def _alert_qos_incompatible(self, _event: Any) -> None:
        self._loop_ran()
        self.log.warning(
            f'a publisher of {self._alerts.topic} does not offer a deadline and a liveliness lease '
            f'within alert_timeout ({self._values["alert_timeout"]:g} s): its death is not noticed '
            'while another publisher is alive'
        )

    # The commands.

    def _command_received(self, message: Twist | TwistStamped, info: Mapping[str, Any]) -> None:
        self._publisher_known = info.get('publisher_gid') is not None  # since Kilted
        now = self._loop_ran()
        self._alerts.take_waiting()
        self._received += 1
        twist, age_by_stamp = message, 0.0
        if isinstance(message, TwistStamped):
            self._frame_id, twist = message.header.frame_id, message.twist
            age_by_stamp = stamp_age(message.header, self.get_clock())
        linear, angular = twist.linear, twist.angular
        requested = Velocity(
            (linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z)
        )
        late = self._command_delay.excess(info)
        age = max(received_age(info) + late, abs(age_by_stamp))
        if self._may_have_come_back(info):
            self._came_back += 1
        elif age > self._values['command_timeout']:
            self._stale += 1
            if abs(age_by_stamp) > self._values['command_timeout']:
                self._stamped_wrong += 1
                self._log_stamp(age_by_stamp, now)
        elif (velocity := self._gate.command_received(requested, now, age=age)) is not None:
            self._forwarded += 1
            self._send(velocity)
        self._act()
        if late > self._values['command_timeout']:
            self._log_late(self._incoming.topic_name, late, now)
        if not requested.is_finite:
            self._not_finite += 1
            self._log_not_finite(now)

    def _may_have_come_back(self, info: Mapping[str, Any]) -> bool:
        """Return whether this node may itself have sent a command, however long ago."""
        feedback = self._feedback
        if feedback is None:
            return False
        publisher = info.get('publisher_gid')
        return publisher is None or gid(publisher['data']) in feedback.publishers

    def _log_late(self, topic: str, late: float, now: float) -> None:
        if now - self._delay_logged < LOG_PERIOD:
            return
        self._delay_logged = now
        self.log.warning(
            f'a message on {topic} arrived {late:.1f} s later than usual and is discarded unless '
            'it stops the robot: the middleware resent it after a loss, or the clock of a machine '
            'was set'
        )

    def _log_stamp(self, age: float, now: float) -> None:
        if now - self._stamp_logged < LOG_PERIOD:
            return
        self._stamp_logged = now
        where = f'{age:.1f} s old' if age > 0 else f'{-age:.1f} s in the future'
        self.log.error(
            f'a command is {where} according to its stamp, which exceeds command_timeout: it is '
            f'discarded; let the publisher of {self._incoming.topic_name} and this node use the '
            'same clock (use_sim_time for both or neither), or leave the stamp at 0'
        )

    def _log_not_finite(self, now: float) -> None:
        if now - self._not_finite_logged < LOG_PERIOD:
            return
        self._not_finite_logged = now
        self.log.error(
            'a command contains NaN or infinity: it is replaced by zero; fix the publisher of '
            'cmd_vel_in'
        )

    # Deciding and acting.

    def _loop_ran(self) -> float:
        """Inform the gate that the loop is running; stop if it was late. Return the time."""
        now = self._loop_time = time.monotonic()
        pause = self._gate.loop_ran(now)
        self._gate.commands_come_back(self._feedback is not None and not self._publisher_known)
        if pause:
            self._act()
            self._times_late += 1
            self._longest_late = max(self._longest_late, pause)
            if now - self._late_logged >= LOG_PERIOD:
                self._late_logged = now
                self.log.warning(
                    f'the node was blocked for {pause:.2f} s ({self._times_late} times so far), '
                    'for example because its process was stopped or starved: alerts and commands '
                    'that arrived meanwhile are discarded'
                )
        return now

    def _set_clock_timer(self) -> None:
        """Have the clock checked as often as the rules need it, where ``rate`` is too slow."""
        period = self._gate.rules.late_after / CHECKS
        if period < 1.0 / self._values['rate']:
            self._clock_timer.timer_period_ns = int(period * 1e9)
            self._clock_timer.reset()
        else:
            self._clock_timer.cancel()

    def _check_clock(self) -> None:
        self._loop_ran()
        self._act()

    def _repeat_regularly(self) -> None:
        self._loop_ran()
        self._repeat()
        self._log_reason()

    def _act(self) -> None:
        """Act on an event immediately; the timer would be up to one period late."""
        before, first = self._reason, self._logged_reason is None
        self._reason = self._gate.update(time.monotonic())
        if first or (before is GateReason.PASSING) != (self._reason is GateReason.PASSING):
            self._repeat()
        self._log_reason()

    def _repeat(self) -> None:
        """Publish the messages that are repeated regularly."""
        now = time.monotonic()
        velocity = self._gate.timer_fired(now)
        self._reason = self._gate.update(now)
        if velocity is not None:
            self._send(velocity)
        self._stopped.publish(Bool(data=self._reason is not GateReason.PASSING))

    def _log_reason(self) -> None:
        """Log a new reason, after acting on it."""
        reason = self._reason
        if reason is self._logged_reason:
            return
        self._logged_reason, self._since = reason, time.monotonic()
        if reason is GateReason.PASSING:
            self.log.info('commands are forwarded')
        else:
            self.log.warning(f'stopped: {reason.value}')

    def _send(self, velocity: Velocity) -> None:
        twist = Twist(
            linear=Vector3(x=velocity.linear[0], y=velocity.linear[1], z=velocity.linear[2]),
            angular=Vector3(x=velocity.angular[0], y=velocity.angular[1], z=velocity.angular[2]),
        )
        if self._type is Twist:
            self._commands.publish(twist)
        else:
            header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
            self._commands.publish(TwistStamped(header=header, twist=twist))
        self._sent = velocity

    # Services, parameters, diagnostics.

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        reason = self._gate.reset(self._loop_ran())
        self._act()
        response.success = reason is GateReason.PASSING
        response.message = reason.value
        return response

    def _set_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        self._loop_ran()
        ours = {change.name: plain(change.value) for change in changes if change.name in BY_NAME}
        try:
            values = check_all({**self._values, **ours})
            self._gate.change_rules(**{rule: values[rule] for rule in RULES})
        except NavMonitorError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        self._set_clock_timer()
        self._act()
        return SetParametersResult(successful=True)

    def _set_feedback(self, feedback: CommandFeedback | None) -> None:
        self._feedback = feedback

    def _state(self) -> SafetyStopState:
        """Return the state; called from the diagnostics' thread, so it only reads."""
        now = time.monotonic()
        silence = self._gate.silence(now)
        late = now - self._loop_time > self._gate.rules.late_after
        reason = GateReason.GATE_LATE if late else self._reason
        return SafetyStopState(
            reason=reason,
            values={
                'stopped': reason is not GateReason.PASSING,
                'since_s': now - self._since,
                'alert_topic': self._alerts.topic,
                'alert_silent_s': 'never received' if silence is None else silence,
                'alert_publishers_alive': self._alive,  # among those that offer liveliness
                'alert_publishers_lost': self._lost,
                'alerts_late': self._alerts_late,
                'stop_mode': self._values['stop_mode'],
                'latch': self._values['latch'],
                'commands_topic': self._incoming.topic_name,
                'commands_received': self._received,
                'commands_forwarded': self._forwarded,
                'commands_not_finite': self._not_finite,
                'commands_stale': self._stale,
                'commands_came_back': self._came_back,
                'times_late': self._times_late,
                'longest_late_s': self._longest_late,
                'sent_linear_x': self._sent.linear[0],
                'sent_angular_z': self._sent.angular[2],
            },
            came_back=self._came_back,
            stamped_wrong=self._stamped_wrong,
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal arrives; its last command is zero.

    Returns:
        Exit status: 0 after a signal; 1 if the configuration cannot be used, and 70 if the node
        fails, after one line with the reason.
    """
    usage = Usage(
        'safety_stop',
        'Forwards velocity commands while ood_alert is False; stops the robot if it is True or '
        'missing.',
        '-r cmd_vel_in:=/cmd_vel_nav -r cmd_vel:=/cmd_vel_safe', SAFETY_STOP_PARAMETERS,
        'safety_stop.launch.py cmd_vel_in:=/cmd_vel_nav cmd_vel_out:=/cmd_vel_safe',
    )
    use_udp_only()
    return run('safety_stop', SafetyStopNode, _serve, args, usage)


def _serve(node: SafetyStopNode, stop: StopRequest) -> int:
    serve(node, stop.is_set, node.log, finish=node.stop)
    return 0


if __name__ == '__main__':
    sys.exit(main())
