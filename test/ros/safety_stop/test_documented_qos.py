"""The table of topics of safety_stop in docs/safety.md, compared with a running node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, ReliabilityPolicy  # noqa: E402
from ros_harness import Graph  # noqa: E402
from safety_stop_bench import START  # noqa: E402

from nav_monitor_ros.ros.topic_endpoints import (  # noqa: E402
    node_name,
    publishers_of,
    subscribers_of,
)

pytestmark = pytest.mark.ros

NODE = '/safety_stop'
NUMBERS = {'three': 3, 'five': 5}
PAGE = Path(__file__).parents[3] / 'docs' / 'safety.md'


def documented():
    """Return the cells of each topic in the table, by the topic's name in code."""
    section = PAGE.read_text(encoding='utf-8').partition('\n## `safety_stop`\n')[2]
    table = section.partition('| topic or service')[2].partition('\n\n')[0]
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.split('\n')[2:]]
    return {re.match(r'`(.*?)`', row[0]).group(1): row for row in rows}


@pytest.fixture(scope='module')
def endpoints(tmp_path_factory):
    """Return the node's (publishers, subscriptions) of each documented topic."""
    graph = Graph(tmp_path_factory.mktemp('logs'))
    try:
        graph.start('safety_stop')
        names = [name for name, row in documented().items() if 'Trigger' not in row[1]]

        def found():
            ends = {}
            for name in names:
                topic = name.replace('~', NODE) if name[0] in '~/' else f'/{name}'
                ends[name] = [
                    [info for info in of(graph.node, topic) if node_name(info) == NODE]
                    for of in (publishers_of, subscribers_of)
                ]
            return ends if all(any(pair) for pair in ends.values()) else None

        yield graph.wait(found, START, 'every documented topic')
    finally:
        graph.stop()


def test_directions_types_and_reliability_are_those_of_the_table(endpoints):
    for name, (publishers, subscriptions) in endpoints.items():
        row = documented()[name]
        incoming = '(in)' in row[0]
        assert bool(subscriptions) is incoming and bool(publishers) is not incoming, name
        for info in (*publishers, *subscriptions):
            assert row[2].startswith('reliable, ')
            assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            latched = 'transient local' in row[2]
            assert (info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL) is latched


def test_the_two_subscriptions_to_the_alert_request_what_the_table_says(endpoints):
    _, subscriptions = endpoints['ood_alert']
    row = documented()['ood_alert'][2]
    assert 'with depth 1 requests a deadline and a liveliness lease of `alert_timeout`' in row
    profiles = [info.qos_profile for info in subscriptions]
    [plain] = [p for p in profiles if p.liveliness == LivelinessPolicy.AUTOMATIC]
    [watching] = [p for p in profiles if p.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC]
    half = Duration(seconds=0.5)  # alert_timeout
    assert watching.deadline == watching.liveliness_lease_duration == half
    assert plain.deadline.nanoseconds > 10**15  # none
    assert all(p.durability == DurabilityPolicy.VOLATILE for p in profiles)


def test_the_offered_deadline_and_lease_are_those_of_the_table(endpoints):
    [info] = endpoints['~/stopped'][0]
    deadline, lease, lifespan = (NUMBERS[word] for word in re.search(
        r'deadline of (\w+) periods of `rate`, a liveliness lease of (\w+) and a lifespan of (\w+)',
        documented()['~/stopped'][2]).groups())
    assert info.qos_profile.deadline == Duration(seconds=deadline / 20)
    assert info.qos_profile.liveliness_lease_duration == Duration(seconds=lease / 20)
    assert info.qos_profile.lifespan == Duration(seconds=lifespan / 20)
