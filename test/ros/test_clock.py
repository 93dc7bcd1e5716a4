"""A node under simulated time: what it says where the images' stamps are not of its clock."""

from __future__ import annotations

import re
import time

import pytest

pytest.importorskip('rclpy')

import moody  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from moody_feed import START, Feed, moody_arguments, python_path  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


def test_a_stale_stamp_is_told_what_is_wrong_with_the_clock(graph, tmp_path):
    bundle = moody.make_bundle(tmp_path / 'moody')
    graph.start_monitor(*moody_arguments(bundle, use_sim_time=True), env=python_path())
    feed = Feed(graph)

    def detail(text, timeout=START):
        """Wait until the newest status is of a stale stamp with this text; return all of it."""

        def look():
            said = values(graph.statuses[-1].status[0]).get('detail', '') if graph.statuses else ''
            return said if graph.reason == 'stale_image' and text in said else ''

        return graph.wait(look, timeout, f'a detail with "{text}"')

    said = detail('stamp')
    assert 'use_sim_time is set, but nothing publishes /clock: play the bag with --clock' in said
    assert 'use_sim_time for a bag' not in said

    # A clock that is not the images'.
    ahead = 3600  # seconds
    publisher = graph.node.create_publisher(Clock, '/clock', 1)

    def tick():
        seconds, nanoseconds = divmod(time.time_ns() + ahead * 10**9, 10**9)
        publisher.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    graph.node.create_timer(0.02, tick)
    # Before its first message the clock stands at zero.
    said = detail("s behind the node's clock; use_sim_time is set, so the clock is /clock")
    assert re.search(r'360\d\.\d s behind', said) and 'stamp the images with it' in said
    ahead = 0
    graph.wait_trusted(START)

    # The wall clock, and images of another time.
    request = SetParameters.Request(parameters=[Parameter(
        name='use_sim_time',
        value=ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=False),
    )])
    assert graph.call(SetParameters, '/nav_monitor/set_parameters', request).results[0].successful
    feed.play(lambda stamp: feed.normal(stamp - 100 * 10**9))
    said = detail('100.0 s behind')
    assert "set the camera's clock, use_sim_time for a bag" in said
