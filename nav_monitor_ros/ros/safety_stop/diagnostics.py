"""``/diagnostics`` of ``safety_stop``: the gate, who commands it, and who alerts it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.impl.implementation_singleton import rclpy_implementation
from std_msgs.msg import Header

from nav_monitor_ros.decision.velocity_gate import GateReason
from nav_monitor_ros.ros.messages import diagnostic, diagnostics_message, parameters_status
from nav_monitor_ros.ros.qos import reliable
from nav_monitor_ros.ros.safety_stop.topics import (
    BOOL,
    TWIST,
    TWIST_STAMPED,
    Neighbours,
    WayBack,
    publishers,
    subscribers,
    way_back,
)

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.qos import QoSProfile

    from nav_monitor_ros.ros.process.log import QueuedLog

PERIOD = 1.0  # seconds
_LEVELS = {
    GateReason.PASSING: DiagnosticStatus.OK,
    GateReason.LATCHED: DiagnosticStatus.WARN,
    GateReason.NO_ALERT_YET: DiagnosticStatus.STALE,
}  # every other reason is an error
_GRAVITY = (
    DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.STALE, DiagnosticStatus.ERROR,
)


@dataclass(frozen=True)
class GateTopics:
    """The gate's topics, resolved, and what it asks and offers of them."""

    incoming: str
    outgoing: str
    alert: str
    kind: str  # type of the commands
    commands_asked: QoSProfile
    commands_offered: QoSProfile
    alert_asked: QoSProfile


@dataclass(frozen=True)
class GateState:
    """How the gate is at a moment."""

    reason: GateReason
    values: Mapping[str, object]  # what people want to know besides, by name
    stamped_wrong: int  # commands since the start that were discarded for their stamp
    came_back: int  # commands since the start that may have been the gate's own


class GateDiagnostics:
    """Looks at the gate and its graph once a second, in a thread of its own, and tells people.

    The thread only reads: the gate never waits for it, and speaks and acts without it.
    """

    def __init__(
        self,
        node: Node,
        topics: GateTopics,
        log: QueuedLog,
        state: Callable[[], GateState],
        loop_found: Callable[[WayBack | None], None],
        unknown_parameters: Sequence[str] = (),
    ) -> None:
        """Create the publisher and start.

        Args:
            node: Owns it.
            topics: Of the gate.
            log: Gets what is wrong, once.
            state: Returns how the gate is; called from this thread.
            loop_found: Is told, from this thread, how commands may come back, or that they do not.
            unknown_parameters: What there is to say of parameters that nothing reads.
        """
        self._node, self._topics, self._log = node, topics, log
        self._state, self._loop_found = state, loop_found
        self._unknown = unknown_parameters
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', reliable(10))
        self._stamped_wrong = self._came_back = 0  # when last looked
        self._logged: dict[str, str] = {}  # the newest trouble of each part
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='safety_stop diagnostics', daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop looking; wait a moment for the look that is being taken."""
        self._closed.set()
        self._thread.join(PERIOD)

    def _run(self) -> None:
        while not self._closed.wait(PERIOD):
            try:
                self._publish()
            except rclpy_implementation.InvalidHandle:
                return  # the node was destroyed
            except Exception as error:
                self._report('diagnostics', f'diagnostics: {type(error).__name__}: {error}')

    def _publish(self) -> None:
        node, topics = self._node, self._topics
        state = self._state()
        other, remedy = (
            (TWIST, 'set stamped:=false') if topics.kind == TWIST_STAMPED
            else (TWIST_STAMPED, 'set stamped:=true')
        )
        remedies = {other: remedy, '': 'remap cmd_vel_in or cmd_vel'}
        alerts = publishers(
            node, topics.alert, BOOL, topics.alert_asked,
            {'': "remap ood_alert to the monitor's alert"},
        )
        sources = publishers(node, topics.incoming, topics.kind, topics.commands_asked, remedies)
        bases = subscribers(node, topics.outgoing, topics.kind, topics.commands_offered, remedies)
        way = way_back(node, topics.outgoing, topics.incoming)
        self._loop_found(way)
        stamped_wrong = state.stamped_wrong - self._stamped_wrong
        self._stamped_wrong = state.stamped_wrong
        came_back, self._came_back = state.came_back - self._came_back, state.came_back
        loop = ''
        if way:
            refused = (
                'no command passes' if state.reason is GateReason.COMMANDS_COME_BACK
                else f'commands from {way.last_node} are refused'
            )
            loop = f'commands may come back: {way.path}; {refused} until this loop is broken'
        self._report('alert', alerts.trouble)
        self._report('commands in', sources.trouble)
        self._report('commands out', bases.trouble)
        self._report('loop', loop)

        level = _LEVELS.get(state.reason, DiagnosticStatus.ERROR)
        troubles = []
        for found in (alerts, sources, bases):
            if found.trouble:
                troubles.append(found.trouble)
                level = max(level, _level(found), key=_GRAVITY.index)
        if loop:
            if state.reason is not GateReason.COMMANDS_COME_BACK:
                troubles.append(GateReason.COMMANDS_COME_BACK.value)
            troubles.append(f'{loop} ({came_back} refused since the last look)')
            level = max(level, DiagnosticStatus.ERROR, key=_GRAVITY.index)
        if stamped_wrong:
            troubles.append(
                f'{stamped_wrong} commands were discarded, older than command_timeout by their '
                'stamp, or as far in the future'
            )
            level = max(level, DiagnosticStatus.WARN, key=_GRAVITY.index)
        hints = [
            f'nobody {does} {topic}: {remedy}'
            for found, does, topic, remedy in (
                (alerts, 'publishes', topics.alert, 'start the monitor or remap ood_alert'),
                (sources, 'publishes', topics.incoming, 'start who commands or remap cmd_vel_in'),
                (bases, 'listens to', topics.outgoing, 'start the base or remap cmd_vel'),
            ) if not found.count and not found.trouble
        ]
        values = {
            **state.values,
            'alert_publishers': alerts.count,
            'commands_publishers': sources.count,
            'commands_subscribers': bases.count,
            'commands_may_return': way.path if way else '',
            'detail': '; '.join(troubles + hints),
        }
        message = '; '.join([state.reason.value, *troubles])
        parts = {'gate': (level, message, values)}
        if self._unknown:  # those given at the start, so that this part is there always or never
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

    def _report(self, part: str, text: str) -> None:
        """Say a trouble once."""
        if text and text != self._logged.get(part):
            self._log.warning(text)
        self._logged[part] = text


def _level(found: Neighbours) -> bytes:
    """Return how bad it is that somebody is not connected: worse where nobody else is."""
    return DiagnosticStatus.WARN if found.count else DiagnosticStatus.ERROR
