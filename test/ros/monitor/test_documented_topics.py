"""Names, types and quality of service in docs/reference.md, held against a node's own endpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from nav_monitor_ros.ros.messages import label_info_message  # noqa: E402
from nav_monitor_ros.ros.monitor.node import MonitorNode  # noqa: E402
from nav_monitor_ros.ros.process.domain import take_domain  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[3]
ROW = re.compile(r'^\| ((?:`[~/\w]+`(?:, )?)+) \| (`\w+/\w+`[^|]*) \| ([^|]+) \|', re.MULTILINE)
OF_ROS = {'/parameter_events', '/rosout', '/nav_monitor/transition_event'}


def documented() -> dict[str, tuple[str, str]]:
    """Return the monitor's topics with type and quality of service, as the first tables say."""
    text = (ROOT / 'docs' / 'reference.md').read_text(encoding='utf-8')
    table = text[text.index('| subscribed topic |'):text.index('| service |')]
    return {
        name: (kind, qos)
        for names, kind, qos in ROW.findall(table) for name in re.findall(r'`([^`]+)`', names)
    }


@pytest.fixture(scope='module')
def node():
    with take_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain.number)
        given = {'bundle': 'digits', 'backend': 'torch', 'alert_rate': 20.0}
        node = MonitorNode(
            context=context,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        try:
            node.trigger_configure()
            node.trigger_activate()
            assert not node.failure
            yield node
        finally:
            node.announce_shutdown()
            node.stop(5.0)
            node.destroy_node()
            rclpy.shutdown(context=context)


def kind_of(endpoint) -> str:
    return f'{endpoint.msg_type.__module__.partition(".")[0]}/{endpoint.msg_type.__name__}'


def test_every_topic_is_documented_with_its_type(node):
    topics = {node.resolve_topic_name(name): kind for name, (kind, _) in documented().items()}
    made = {one.topic_name: kind_of(one) for one in (*node.publishers, *node.subscriptions)}
    made = {
        topic: kind for topic, kind in made.items()
        if topic not in OF_ROS and not topic.endswith('/compressed')
    }
    assert set(made) == set(topics)
    assert [f'{topic}: {kind}' for topic, kind in made.items() if kind not in topics[topic]] == []


def test_every_topic_offers_or_asks_for_what_is_documented(node):
    endpoints = {one.topic_name: one for one in (*node.publishers, *node.subscriptions)}
    wrong = []
    for name, (_, text) in documented().items():
        topic = node.resolve_topic_name(name)
        for suffix, pattern in (('', r'depth (\d+)'), ('/compressed', r'compressed: (\d+)')):
            depth = re.search(pattern, text)
            if depth is None and suffix:
                continue
            qos = endpoints[topic + suffix].qos_profile
            latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
            if (
                qos.reliability != ReliabilityPolicy.RELIABLE or not text.startswith('reliable')
                or latched != ('transient local' in text) or qos.depth != int(depth[1])
            ):
                wrong.append(f'{name}{suffix}: {text}: {qos}')
    assert not wrong


def test_compressed_pictures_are_documented(node):
    compressed = {
        one.topic_name for one in node.publishers if one.topic_name.endswith('/compressed')
    }
    told = {
        f'{node.resolve_topic_name(name)}/compressed'
        for name, (_, text) in documented().items() if 'compressed:' in text
    }
    assert compressed == told


def test_the_alerts_deadline_and_lease_are_as_documented(node):
    (alert,) = [one for one in node.publishers if one.topic_name == '/ood_alert']
    text = documented()['ood_alert'][1]
    assert 'a deadline of three periods of `alert_rate`' in text and 'lease of five' in text
    assert 'a lifespan of five' in text
    period = 1e9 / 20.0
    assert alert.qos_profile.deadline.nanoseconds == 3 * period
    assert alert.qos_profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    assert alert.qos_profile.liveliness_lease_duration.nanoseconds == 5 * period
    assert alert.qos_profile.lifespan.nanoseconds == 5 * period


def test_as_many_classes_are_named_as_the_message_can_number():
    named = label_info_message(Header(), [f'c{n}' for n in range(70_000)]).class_map
    assert len(named) == 65_536 and (named[-1].class_id, named[-1].class_name) == (65_535, 'c65535')
    assert len(label_info_message(Header(), ['a', 'b']).class_map) == 2
