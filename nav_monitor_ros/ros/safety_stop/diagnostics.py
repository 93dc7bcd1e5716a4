"""``/diagnostics`` of ``safety_stop``: its state, and the endpoints of its topics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.impl.implementation_singleton import rclpy_implementation
from std_msgs.msg import Header

from nav_monitor_ros.decision.velocity_gate import GateReason
from nav_monitor_ros.ros.messages import diagnostic, diagnostics_message, parameters_status
from nav_monitor_ros.ros.process.transport import SHARED_MEMORY, uses_shared_memory
from nav_monitor_ros.ros.qos import reliable
from nav_monitor_ros.ros.safety_stop.command_loops import CommandFeedback, find_feedback
from nav_monitor_ros.ros.safety_stop.qos_matching import (
    BOOL,
    TWIST,
    TWIST_STAMPED,
    MatchedEndpoints,
    match_publishers,
    match_subscribers,
)
from nav_monitor_ros.ros.topic_endpoints import node_name, publishers_of

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from nav_monitor_ros.ros.process.log import QueuedLog

PERIOD = 1.0  # seconds
MOST_NAMES = 5  # largest number of nodes that one line names
_LEVELS = {
    GateReason.PASSING: DiagnosticStatus.OK,
    GateReason.LATCHED: DiagnosticStatus.WARN,
    GateReason.NO_ALERT_YET: DiagnosticStatus.STALE,
}  # every other reason is an error
_SEVERITY = (
    DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.STALE, DiagnosticStatus.ERROR,
)


@dataclass(frozen=True)
class TopicQos:
    """Resolved topics of ``safety_stop``, and the QoS that it requests and offers."""

    commands_in: str
    commands_out: str
    alert: str
    kind: str  # type of the commands
    commands_requested: QoSProfile
    commands_offered: QoSProfile
    alert_requested: QoSProfile


@dataclass(frozen=True)
class SafetyStopState:
    """State of ``safety_stop`` at one time."""

    reason: GateReason
    values: Mapping[str, object]  # further values of the diagnostics, by name
    stamped_wrong: int  # commands since the start that were discarded because of their stamp
    came_back: int  # commands since the start that safety_stop itself may have sent


@dataclass
class _Summary:
    """Level and message that summarize the findings."""

    level: bytes
    troubles: list[str] = field(default_factory=list)

    def add(self, trouble: str, level: bytes) -> None:
        self.troubles.append(trouble)
        self.level = max(self.level, level, key=_SEVERITY.index)


class SafetyStopDiagnostics:
    """Thread that checks the node's state and the ROS graph once per second and publishes both.

    The thread only reads: the node neither waits for it nor depends on it.
    """

    def __init__(
        self,
        node: Node,
        topics: TopicQos,
        log: QueuedLog,
        state: Callable[[], SafetyStopState],
        on_feedback: Callable[[CommandFeedback | None], None],
        unknown_parameters: Sequence[str] = (),
    ) -> None:
        """Create the publisher and start the thread.

        Args:
            node: Node that owns the publisher.
            topics: Topics of the node.
            log: Log, to which each problem is written once.
            state: Function that returns the node's state; called from this thread.
            on_feedback: Function called from this thread with the path on which commands may
                return, or None if there is none.
            unknown_parameters: A line for each given parameter that is unknown.
        """
        self._node, self._topics, self._log = node, topics, log
        self._state, self._on_feedback = state, on_feedback
        self._unknown = unknown_parameters
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', reliable(10))
        self._stamped_wrong = self._came_back = 0  # at the last publication
        self._logged: dict[str, str] = {}  # the latest problem of each part
        self._shared_memory = uses_shared_memory()  # of the participant, which exists by now
        self._log_once('transport', SHARED_MEMORY if self._shared_memory else '')
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='safety_stop diagnostics', daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; wait at most one period for a publication in progress."""
        self._closed.set()
        self._thread.join(PERIOD)

    def _run(self) -> None:
        while not self._closed.wait(PERIOD):
            try:
                self._publish()
            except rclpy_implementation.InvalidHandle:
                return  # the node was destroyed
            except Exception as error:
                self._log_once('diagnostics', f'diagnostics: {type(error).__name__}: {error}')

    def _publish(self) -> None:
        node, topics = self._node, self._topics
        state = self._state()
        alerts, sources, bases = self._match_endpoints()
        feedback = find_feedback(node, topics.commands_out, topics.commands_in)
        self._on_feedback(feedback)
        summary = _Summary(_LEVELS.get(state.reason, DiagnosticStatus.ERROR))
        for part, found in (
            ('alert', alerts), ('commands in', sources), ('commands out', bases),
        ):
            self._log_once(part, found.trouble)
            if found.trouble:
                # An error if no other endpoint is connected.
                level = DiagnosticStatus.WARN if found.count else DiagnosticStatus.ERROR
                summary.add(found.trouble, level)
        self._add_feedback(summary, state, feedback)
        self._add_bypass(summary)
        self._add_stamps(summary, state)
        if self._shared_memory:
            summary.add(SHARED_MEMORY, DiagnosticStatus.WARN)
        hints = [
            f'no node {verb} {topic}: {remedy}'
            for found, verb, topic, remedy in (
                (alerts, 'publishes', topics.alert, 'start the monitor or remap ood_alert'),
                (sources, 'publishes', topics.commands_in,
                 'start the node that sends commands or remap cmd_vel_in'),
                (bases, 'subscribes to', topics.commands_out, 'start the base or remap cmd_vel'),
            ) if not found.count and not found.trouble
        ]
        values = {
            **state.values,
            'alert_publishers': alerts.count,
            'commands_publishers': sources.count,
            'commands_subscribers': bases.count,
            'commands_may_return': feedback.path if feedback else '',
            'detail': '; '.join(summary.troubles + hints),
        }
        message = '; '.join([state.reason.value, *summary.troubles])
        parts = {'gate': (summary.level, message, values)}
        if self._unknown:  # found at the start, so this part is published either always or never
            parts['parameters'] = parameters_status(self._unknown)
        name = node.get_fully_qualified_name()
        self._publisher.publish(
            diagnostics_message(
                Header(stamp=node.get_clock().now().to_msg()),
                [
                    diagnostic(f'{name}: {part}', 'safety_stop', *status)
                    for part, status in parts.items()
                ],
            )
        )

    def _match_endpoints(self) -> tuple[MatchedEndpoints, MatchedEndpoints, MatchedEndpoints]:
        """Return publishers of the alert and of commands, and subscribers of the commands."""
        node, topics = self._node, self._topics
        other, remedy = (
            (TWIST, 'set stamped:=false') if topics.kind == TWIST_STAMPED
            else (TWIST_STAMPED, 'set stamped:=true')
        )
        remedies = {other: remedy, '': 'remap cmd_vel_in or cmd_vel'}
        return (
            match_publishers(
                node, topics.alert, BOOL, topics.alert_requested,
                {'': "remap ood_alert to the monitor's alert"},
            ),
            match_publishers(
                node, topics.commands_in, topics.kind, topics.commands_requested, remedies
            ),
            match_subscribers(
                node, topics.commands_out, topics.kind, topics.commands_offered, remedies
            ),
        )

    def _add_feedback(
        self, summary: _Summary, state: SafetyStopState, feedback: CommandFeedback | None
    ) -> None:
        refused, self._came_back = state.came_back - self._came_back, state.came_back
        if feedback is None:
            self._log_once('loop', '')
            return
        effect = (
            'all commands are refused' if state.reason is GateReason.COMMANDS_COME_BACK
            else f'commands from {feedback.last_node} are refused'
        )
        loop = f'commands may return: {feedback.path}; {effect} until this loop is removed'
        self._log_once('loop', loop)
        if state.reason is not GateReason.COMMANDS_COME_BACK:
            summary.add(GateReason.COMMANDS_COME_BACK.value, DiagnosticStatus.ERROR)
        summary.add(f'{loop} ({refused} refused in the last second)', DiagnosticStatus.ERROR)

    def _add_bypass(self, summary: _Summary) -> None:
        """Report other nodes that publish to the base, since the gate cannot stop these."""
        node, topic = self._node, self._topics.commands_out
        name = node.get_fully_qualified_name()
        names = [node_name(info) for info in publishers_of(node, topic)]
        others = sorted({found for found in names if found != name})
        if names.count(name) > 1:  # one of them is this node
            others.insert(0, f'another node named {name}')
        bypass = (
            f'{", ".join(others[:MOST_NAMES])} also publish{"es" if len(others) == 1 else ""} '
            f'{topic}, so that commands bypass safety_stop: let them publish cmd_vel_in instead'
        ) if others else ''
        self._log_once('bypass', bypass)
        if bypass:
            summary.add(bypass, DiagnosticStatus.WARN)

    def _add_stamps(self, summary: _Summary, state: SafetyStopState) -> None:
        discarded = state.stamped_wrong - self._stamped_wrong
        self._stamped_wrong = state.stamped_wrong
        if discarded:
            summary.add(
                f'{discarded} commands were discarded because their stamps differ from the '
                "node's clock by more than command_timeout", DiagnosticStatus.WARN,
            )

    def _log_once(self, part: str, text: str) -> None:
        if text and text != self._logged.get(part):
            self._log.warning(text)
        self._logged[part] = text
