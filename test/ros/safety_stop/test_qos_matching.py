"""Which publishers and subscribers are not connected to safety_stop, and what it says of them."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import (
    Twist,  # noqa: E402
    TwistStamped,  # noqa: E402
)
from rclpy.qos import (
    DurabilityPolicy,  # noqa: E402
    QoSProfile,  # noqa: E402
    ReliabilityPolicy,  # noqa: E402
)
from ros_harness import values  # noqa: E402
from safety_stop_bench import SOON, START, AlertSource, Bench, Driver  # noqa: E402
from std_msgs.msg import (
    Bool,  # noqa: E402
    String,  # noqa: E402
)

pytestmark = pytest.mark.ros


def test_commands_of_the_other_type_are_named_with_their_remedy(graph, bench):
    AlertSource(graph, False)
    Driver(graph, kind=TwistStamped)
    bench.start()
    expected = (
        '/driver publishes /cmd_vel_in as geometry_msgs/msg/TwistStamped, not '
        'geometry_msgs/msg/Twist: set stamped:=true'
    )
    status = graph.wait(
        lambda: (found := bench.newest()) and expected in found.message and found, START, expected)
    assert status.level == DiagnosticStatus.ERROR
    assert values(status)['commands_publishers'] == '0'
    seen = len(graph.heard['/diagnostics'])
    graph.wait(lambda: len(graph.heard['/diagnostics']) > seen + 2, SOON, 'more diagnostics')
    assert bench.said().count(expected) == 1


def test_stamped_commands_are_asked_for_where_plain_ones_come(graph):
    bench = Bench(graph, TwistStamped)
    Driver(graph, kind=Twist)
    bench.start()
    graph.wait(
        lambda: (found := bench.newest()) and 'set stamped:=false' in found.message, START,
        'the remedy')


def test_a_wrong_type_beside_a_right_one_is_a_warning_and_goes_when_it_is_gone(
    graph, bench, stranger
):
    AlertSource(graph, False)
    Driver(graph)
    wrong = stranger.create_publisher(String, '/cmd_vel_in', 1)
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest()) and 'std_msgs/msg/String' in found.message and found,
        START, 'the type')
    assert status.level == DiagnosticStatus.WARN
    assert 'remap cmd_vel_in or cmd_vel' in status.message
    bench.wait_sent(1.0)
    stranger.destroy_publisher(wrong)
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    ('kind', 'reliability', 'expected'),
    [
        (String, ReliabilityPolicy.RELIABLE,
         'publishes /ood_alert as std_msgs/msg/String, not std_msgs/msg/Bool: remap ood_alert'),
        (Bool, ReliabilityPolicy.BEST_EFFORT,
         'publishes /ood_alert with an incompatible QoS'),
    ],
)
def test_an_alert_that_cannot_be_heard_is_named(graph, bench, kind, reliability, expected):
    graph.node.create_publisher(kind, '/ood_alert', QoSProfile(depth=1, reliability=reliability))
    Driver(graph)
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest()) and expected in found.message and found, START, expected)
    assert status.level == DiagnosticStatus.ERROR
    assert status.message.startswith('no_alert_yet; ')
    graph.wait(lambda: expected in bench.said(), SOON, 'a line of the log')


def test_commands_of_a_best_effort_publisher_and_a_base_that_hears_nothing_are_named(
    graph, bench, stranger
):
    graph.node.create_publisher(
        Twist, '/cmd_vel_in', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    stranger.create_subscription(TwistStamped, '/cmd_vel', print, 1)
    graph.node.create_subscription(Twist, '/cmd_vel', print, QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    bench.start()
    status = graph.wait(
        lambda: (found := bench.newest())
        and found.message.count('with an incompatible QoS') == 2 and found,
        START, 'all three')
    assert 'Best effort publisher and reliable subscription' in status.message
    assert '/stranger subscribes to /cmd_vel as geometry_msgs/msg/TwistStamped' in status.message
    assert 'subscribes to /cmd_vel with an incompatible QoS' in status.message


def test_without_anybody_the_diagnostics_say_who_is_missing(graph, bench):
    bench.start()
    status = bench.wait_reason('no_alert_yet', START)
    assert values(status)['detail'] == (
        'no node publishes /ood_alert: start the monitor or remap ood_alert; '
        'no node publishes /cmd_vel_in: start the node that sends commands or remap cmd_vel_in'
    )


def test_a_publisher_that_bypasses_the_gate_is_named(graph, bench, stranger):
    AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0)
    other = stranger.create_publisher(Twist, '/cmd_vel', 1)
    expected = '/stranger also publishes /cmd_vel, so that commands bypass safety_stop'
    status = graph.wait(
        lambda: (found := bench.newest()) and expected in found.message and found, START, expected)
    assert status.level == DiagnosticStatus.WARN
    stranger.destroy_publisher(other)
    assert bench.wait_reason('passing').level == DiagnosticStatus.OK
    assert bench.said().count(expected) == 1


def test_a_second_gate_of_the_same_name_is_named(graph, bench):
    AlertSource(graph, False)
    Driver(graph)
    bench.start()
    bench.wait_sent(1.0)
    second = graph.start('safety_stop', '-r', 'ood_alert:=/other_alert')
    expected = 'another node named /safety_stop also publishes /cmd_vel'
    graph.wait(
        lambda: (found := bench.newest()) and expected in found.message, START, expected)
    second.terminate()
    second.wait(START)
    assert expected in bench.said()
