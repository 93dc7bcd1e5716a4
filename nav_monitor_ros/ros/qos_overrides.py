"""Parameters ``qos_overrides.*``: which policies of a topic users may change, and how far.

An override that would break what a topic promises is refused, because its subscribers rely on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import NameValidationException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from nav_monitor_ros.errors import NavMonitorError, did_you_mean, one_line

if TYPE_CHECKING:
    from rclpy.node import Node

    _Base = Node
else:
    _Base = object

PREFIX = 'qos_overrides.'
MOST_DEPTH = 1000  # largest depth of a queue, messages
LEAST_PERIODS, MOST_PERIODS = 2, 5  # limits of an alert's deadline and lease, in its periods
_KINDS = (
    QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY,
)
_OF_AN_ALERT = (
    *_KINDS, QoSPolicyKind.DEADLINE, QoSPolicyKind.LIVELINESS,
    QoSPolicyKind.LIVELINESS_LEASE_DURATION,
)
_OF_ROS = ('/parameter_events', '/rosout', '/clock')  # rclpy creates them, some with own overrides

Problem = Callable[[QoSProfile], str]  # what is wrong with an overridden profile; '' if nothing


def ordinary() -> QoSOverridingOptions:
    """Return the options of a topic that promises nothing but its newest messages."""
    return _options(_KINDS, _queue_problem)


def of_an_alert(rate: float) -> QoSOverridingOptions:
    """Return the options of a topic that is repeated, and whose silence means something.

    Args:
        rate: Rate at which it is repeated, Hz.
    """
    def problem(profile: QoSProfile) -> str:
        if profile.reliability != ReliabilityPolicy.RELIABLE:
            return 'reliability must be reliable: a lost True would not be sent again'
        if profile.durability != DurabilityPolicy.TRANSIENT_LOCAL:
            return 'durability must be transient_local: late subscribers expect the last message'
        if profile.liveliness != LivelinessPolicy.MANUAL_BY_TOPIC:
            return 'liveliness must be manual_by_topic: a hung node would seem alive'
        for name, given in (
            ('deadline', profile.deadline),
            ('liveliness_lease_duration', profile.liveliness_lease_duration),
        ):
            periods = given.nanoseconds * 1e-9 * rate
            if not LEAST_PERIODS * (1 - 1e-6) <= periods <= MOST_PERIODS * (1 + 1e-6):
                return (
                    f'{name} must be {LEAST_PERIODS / rate * 1e9:.0f} to '
                    f'{MOST_PERIODS / rate * 1e9:.0f} ns, which are {LEAST_PERIODS} to '
                    f'{MOST_PERIODS} periods of the topic'
                )
        return _queue_problem(profile)

    return _options(_OF_AN_ALERT, problem)


def of_images(node: Node, topic: str) -> QoSOverridingOptions:
    """Return the options of a subscription whose reliability follows that of the publishers.

    Args:
        node: Node that owns the subscription.
        topic: Resolved name of the topic.
    """
    # A declared default would hold the reliability that was right for the first publishers.
    follows = fixed_reliability(node, topic) is None
    kinds = [kind for kind in _KINDS if not (follows and kind == QoSPolicyKind.RELIABILITY)]

    def problem(profile: QoSProfile) -> str:
        if profile.durability != DurabilityPolicy.VOLATILE:
            return 'durability must be volatile: images from before the start must not be judged'
        return _queue_problem(profile)

    return _options(kinds, problem)


def fixed_reliability(node: Node, topic: str) -> ReliabilityPolicy | None:
    """Return the reliability that is set for the subscription to a topic; None if none is."""
    given = _overrides(node).get(f'{PREFIX}{topic}.subscription.reliability')
    known = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}
    if given is None:
        return None
    if given not in known:
        raise NavMonitorError(
            f"qos_overrides of {topic}: reliability is '{given}'; it must be reliable or "
            'best_effort'
        )
    return known[given]


def reliability_only() -> QoSOverridingOptions:
    """Return the options of a subscription that keeps only the newest message."""
    def problem(profile: QoSProfile) -> str:
        if profile.depth != 1 or profile.history != HistoryPolicy.KEEP_LAST:
            return 'history must be keep_last and depth 1: older messages must not be used'
        if profile.durability != DurabilityPolicy.VOLATILE:
            return 'durability must be volatile: messages from before the start must not be used'
        return ''

    return _options(_KINDS, problem)


def fixed(profile: QoSProfile, why: str) -> QoSOverridingOptions:
    """Return the options of a topic whose policies cannot be changed.

    Args:
        profile: Profile of the topic.
        why: Reason, for the message.
    """
    unchanged = _values(profile)

    def problem(overridden: QoSProfile) -> str:
        same = _values(overridden) == unchanged
        return '' if same else f'its policies cannot be changed: {why}'

    return _options(_KINDS, problem)


class OverridableTopics(_Base):
    """Mixin for an rclpy node all of whose topics have ``qos_overrides`` parameters.

    Topics are created with ``ordinary`` overrides unless others are given.
    """

    def create_publisher(
        self, msg_type: Any, topic: str, qos_profile: Any, **more: Any
    ) -> Any:
        """Create a publisher; see rclpy.

        Raises:
            NavMonitorError: An override is invalid, or would break what the topic promises.
        """
        with self._overriding(topic, more):
            return super().create_publisher(msg_type, topic, qos_profile, **more)

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, qos_profile: Any, **more: Any
    ) -> Any:
        """Create a subscription; see rclpy.

        Raises:
            NavMonitorError: As for ``create_publisher``.
        """
        with self._overriding(topic, more):
            return super().create_subscription(msg_type, topic, callback, qos_profile, **more)

    @contextmanager
    def _overriding(self, topic: str, more: dict[str, Any]) -> Iterator[None]:
        if topic in _OF_ROS:
            yield
            return
        more.setdefault('qos_overriding_options', ordinary())
        name = self.resolve_topic_name(topic)
        try:
            yield
        except Exception as error:
            if not any(given.startswith(f'{PREFIX}{name}.') for given in _overrides(self)):
                raise
            reason = str(error).rpartition('are not valid: ')[2]
            raise NavMonitorError(f'qos_overrides of {name}: {one_line(reason)}') from error


def describe_useless(
    node: Node, names: Sequence[str], to_come: Sequence[str] = ()
) -> dict[str, str]:
    """Return a line for each override without effect.

    Args:
        node: Node with the topics that it creates at start.
        names: Names of parameters that are not declared.
        to_come: Names in the code of topics that the node creates later; ``~/`` stands for all
            below its own name.

    Returns:
        Line for each name that begins with ``qos_overrides.``; '' if it will have an effect.
    """
    own = f'{node.get_fully_qualified_name()}/'
    made = {one.topic_name for one in node.publishers}
    made |= {one.topic_name for one in node.subscriptions}
    later = set(_resolved(node, [name for name in to_come if not name.endswith('/')]))
    policies = [kind.name.lower() for kind in _KINDS]
    lines = {}
    for name in filter(lambda one: one.startswith(PREFIX), names):
        topic, _, rest = name.removeprefix(PREFIX).partition('.')
        entity, _, policy = rest.partition('.')
        coming = topic.removesuffix('/compressed') in later or (
            '~/' in to_come and topic.startswith(own))
        if topic in _OF_ROS or (topic not in made and coming and policy in policies):
            lines[name] = ''
            continue
        if topic in made or coming:
            what = f'no {entity} of {topic} with an overridable policy {policy or "(none given)"}'
        else:
            what = f'no topic {topic}{did_you_mean(topic, sorted(made | later))}'
        lines[name] = f'parameter {name} has no effect: this node has {what}'
    return lines


def _resolved(node: Node, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        # Names that are used later are checked where they are used.
        with suppress(ValueError, NameValidationException, rclpy_implementation.RCLError):
            yield node.resolve_topic_name(name)


def _options(kinds: Sequence[QoSPolicyKind], problem: Problem) -> QoSOverridingOptions:
    return QoSOverridingOptions(kinds, callback=_checker(problem))


def _checker(problem: Problem) -> Callable[[QoSProfile], SetParametersResult]:
    def check(profile: QoSProfile) -> SetParametersResult:
        reason = problem(profile)
        return SetParametersResult(successful=not reason, reason=reason)

    return check


def _queue_problem(profile: QoSProfile) -> str:
    # With keep_all, a subscriber that hangs would fill the queue and then block the publisher.
    if profile.history != HistoryPolicy.KEEP_LAST:
        return 'history must be keep_last: with keep_all, a subscriber that hangs blocks this node'
    if not 1 <= profile.depth <= MOST_DEPTH:
        return f'depth must be 1 to {MOST_DEPTH}'
    return ''


def _values(profile: QoSProfile) -> tuple[Any, ...]:
    return tuple(getattr(profile, kind.name.lower()) for kind in _KINDS)


def _overrides(node: Any) -> dict[str, Any]:
    return {
        name: given.value for name, given in node._parameter_overrides.items()
        if name.startswith(PREFIX)
    }
