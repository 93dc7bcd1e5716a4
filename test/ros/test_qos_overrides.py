"""QoS overrides of the nodes' topics: what takes effect, and what is refused."""

from __future__ import annotations

import json
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from moody_feed import BEST_EFFORT, START, Feed, moody_arguments, python_path  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy  # noqa: E402

from nav_monitor_ros.decision.alert.reason import Reason  # noqa: E402
from nav_monitor_ros.errors import NavMonitorError  # noqa: E402
from nav_monitor_ros.ros.monitor.node import MonitorNode  # noqa: E402
from nav_monitor_ros.ros.safety_stop.node import SafetyStopNode  # noqa: E402

pytestmark = pytest.mark.ros

OF_ROS = ('/parameter_events', '/rosout', '/nav_monitor/transition_event')


@pytest.fixture
def make(context):
    """Return a function that creates a node with parameters."""
    nodes = []

    def create(kind, **given):
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        nodes.append(kind(context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield create
    for node in nodes:
        node.destroy_node()


def qos(node, topic):
    return next(
        one.qos_profile for one in (*node.publishers, *node.subscriptions)
        if one.topic_name == topic)


def overrides(topic, entity, **policies):
    return {f'qos_overrides.{topic}.{entity}.{name}': value for name, value in policies.items()}


def test_every_topic_of_the_monitor_has_its_parameters(make):
    node = make(MonitorNode, bundle='digits', backend='torch', autostart=False)
    node.trigger_configure()
    node.trigger_activate()
    assert not node.failure
    without = []
    for entity, ones in (('publisher', node.publishers), ('subscription', node.subscriptions)):
        for one in ones:
            name = f'qos_overrides.{one.topic_name}.{entity}.depth'
            if one.topic_name in OF_ROS:
                continue
            if not node.has_parameter(name):
                without.append(name)
            else:
                assert node.get_parameter(name).value == one.qos_profile.depth
                assert node.describe_parameter(name).read_only
    assert without == []
    # A declared reliability would be fixed; that of the images follows the publishers.
    assert not node.has_parameter('qos_overrides./image.subscription.reliability')


def test_what_keeps_the_contract_takes_effect(make):
    node = make(MonitorNode, autostart=False, alert_rate=10.0, **{
        **overrides('/ood_alert', 'publisher', depth=5, deadline=500_000_000,
                    liveliness_lease_duration=200_000_000),
        **overrides('/nav_monitor/ood_status', 'publisher', durability='volatile', depth=20),
        **overrides('/diagnostics', 'publisher', reliability='best_effort'),
    })
    alert = qos(node, '/ood_alert')
    assert alert.depth == 5 and alert.reliability == ReliabilityPolicy.RELIABLE
    assert alert.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert alert.deadline.nanoseconds == 500_000_000
    assert alert.liveliness_lease_duration.nanoseconds == 200_000_000
    status = qos(node, '/nav_monitor/ood_status')
    assert status.depth == 20 and status.durability == DurabilityPolicy.VOLATILE
    assert qos(node, '/diagnostics').reliability == ReliabilityPolicy.BEST_EFFORT
    assert node._diagnostics._unknown == []


@pytest.mark.parametrize(('policies', 'said'), [
    ({'reliability': 'best_effort'}, 'reliability must be reliable'),
    ({'durability': 'volatile'}, 'durability must be transient_local'),
    ({'liveliness': 'automatic'}, 'liveliness must be manual_by_topic'),
    ({'deadline': 600_000_000}, 'deadline must be 200000000 to 500000000 ns'),
    ({'deadline': 100_000_000}, 'deadline must be 200000000 to 500000000 ns'),
    ({'liveliness_lease_duration': 0}, 'liveliness_lease_duration must be 200000000 to 500000000'),
    ({'history': 'keep_all'}, 'history must be keep_last'),
    ({'depth': 0}, 'depth'),
    ({'depth': 100_000}, 'depth must be 1 to 1000'),
    ({'reliability': 'certain'}, 'Unexpected QoS override'),
    ({'depth': 'deep'}, 'depth'),
])
@pytest.mark.parametrize('topic', ['/ood_alert', '/front/ood_alert'])
def test_what_would_break_the_alert_is_refused_in_one_line(make, topic, policies, said):
    cameras = ['front', 'rear'] if 'front' in topic else ['']
    with pytest.raises(NavMonitorError) as caught:
        make(MonitorNode, autostart=False, cameras=cameras,
             **overrides(topic, 'publisher', **policies))
    text = str(caught.value)
    assert text.startswith(f'qos_overrides of {topic}: ') and said in text and '\n' not in text


@pytest.mark.parametrize(('topic', 'entity', 'policies', 'said'), [
    ('/cmd_vel', 'publisher', {'durability': 'transient_local'}, 'cannot be changed'),
    ('/cmd_vel', 'publisher', {'depth': 10}, 'cannot be changed'),
    ('/ood_alert', 'subscription', {'reliability': 'best_effort'}, 'cannot be changed'),
    ('/cmd_vel_in', 'subscription', {'depth': 10}, 'depth 1'),
    ('/cmd_vel_in', 'subscription', {'durability': 'transient_local'}, 'volatile'),
    ('/safety_stop/stopped', 'publisher', {'reliability': 'best_effort'}, 'must be reliable'),
])
def test_what_would_break_safety_stop_is_refused(make, topic, entity, policies, said):
    with pytest.raises(NavMonitorError, match=f'^qos_overrides of {topic}: .*{said}'):
        make(SafetyStopNode, **overrides(topic, entity, **policies))


def test_commands_may_be_received_from_best_effort_publishers(make):
    node = make(
        SafetyStopNode, **overrides('/cmd_vel_in', 'subscription', reliability='best_effort'))
    assert qos(node, '/cmd_vel_in').reliability == ReliabilityPolicy.BEST_EFFORT


def test_a_misspelt_override_is_named_and_one_for_later_is_not(make):
    given = {
        **overrides('/ood_alerts', 'publisher', depth=5),
        **overrides('/ood_alert', 'publisher', lifespan=5),
        **overrides('/image', 'subscription', depth=2),
        **overrides('/nav_monitor/prediction', 'publisher', depth=2),
        **overrides('/diagnostics', 'publisher', depth=2),
        **overrides('/clock', 'subscription', depth=2),
    }
    node = make(MonitorNode, autostart=False, **given)
    lines = node._diagnostics._unknown
    assert len(lines) == 2
    assert 'no topic /ood_alerts; did you mean /ood_alert?' in lines[0]
    assert 'no publisher of /ood_alert with an overridable policy lifespan' in lines[1]


def test_an_override_that_is_refused_when_configuring_leaves_the_node_unconfigured(make):
    topic = '/nav_monitor/prediction'
    node = make(MonitorNode, bundle='digits', backend='torch', autostart=False,
                **overrides(topic, 'publisher', depth=100_000))
    node.trigger_configure()
    assert node.failure.startswith(f'qos_overrides of {topic}: ')
    assert node._alerts.alert.reason is Reason.MODEL_ERROR
    # Parameters that take effect when the node is configured can be set.
    (answer,) = node.set_parameters([Parameter('bundle', value='traffic_signs')])
    assert answer.successful, answer.reason


def test_an_unusable_override_ends_the_process_with_one_line_and_status_1(graph, moody_bundle):
    for topic, entity, policies in (
        ('/ood_alert', 'publisher', {'reliability': 'best_effort'}),
        ('/image', 'subscription', {'durability': 'transient_local'}),  # known at activation
    ):
        arguments = [
            argument for name, value in overrides(topic, entity, **policies).items()
            for argument in ('-p', f'{name}:={json.dumps(value)}')]
        monitor = graph.start(
            'monitor', *moody_arguments(moody_bundle), *arguments, env=python_path())
        assert monitor.wait(START) == 1
        lines = [
            line for line in monitor.log.read_text().splitlines()
            if 'ERROR' in line or 'FATAL' in line]
        assert len(lines) == 1 and f'qos_overrides of {topic}: ' in lines[0], lines


def test_the_reliability_of_the_images_follows_the_publishers_unless_it_is_set(
    graph, moody_bundle
):
    name = 'qos_overrides./image.subscription.reliability'
    graph.start_monitor(
        *moody_arguments(moody_bundle), '-p', f'{name}:=reliable', env=python_path())
    Feed(graph, BEST_EFFORT)
    graph.wait_reason('no_image', START)
    time.sleep(2.0)
    assert graph.reason == 'no_image'  # a reliable subscription does not match it
    reliable = Feed(graph)
    graph.wait_alert(False, 10)
    assert reliable.stamps
