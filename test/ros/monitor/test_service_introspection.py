"""Events of the operators' services, for `ros2 service echo`."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy.service_introspection', reason='Humble has no service introspection')

from moody_feed import START, moody_arguments, python_path  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from service_msgs.msg import ServiceEventInfo  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

pytestmark = pytest.mark.ros

ENABLED, RESET = '/nav_monitor/set_enabled', '/nav_monitor/reset_alert'
RECEIVED, SENT = ServiceEventInfo.REQUEST_RECEIVED, ServiceEventInfo.RESPONSE_SENT


def listen(graph):
    graph.listen(SetBool.Event, f'{ENABLED}/_service_event')
    graph.listen(Trigger.Event, f'{RESET}/_service_event')


def events(graph, service):
    return graph.heard[f'{service}/_service_event']


def set_introspection(graph, state):
    request = SetParametersAtomically.Request(parameters=[Parameter(
        name='service_introspection', value=ParameterValue(type=4, string_value=state))])
    answer = graph.call(
        SetParametersAtomically, '/nav_monitor/set_parameters_atomically', request, START)
    return answer.result


def call_both(graph):
    graph.call(SetBool, ENABLED, SetBool.Request(data=True), START)
    graph.call(Trigger, RESET, Trigger.Request(), START)


def test_events_are_published_as_the_parameter_says(graph, moody_bundle):
    listen(graph)
    graph.start_monitor(
        *moody_arguments(moody_bundle, service_introspection='metadata'), env=python_path())
    graph.wait_reason('no_image', START)
    graph.wait(
        lambda: graph.node.count_publishers(f'{RESET}/_service_event'), 10, "the events' topics")
    call_both(graph)
    for service in (ENABLED, RESET):
        graph.wait(lambda service=service: len(events(graph, service)) >= 2, 10, 'the events')
        assert [event.info.event_type for event in events(graph, service)] == [RECEIVED, SENT]
        assert not any(event.request or event.response for event in events(graph, service))

    assert set_introspection(graph, 'contents').successful
    call_both(graph)
    graph.wait(lambda: len(events(graph, RESET)) >= 4, 10, 'the events with contents')
    graph.wait(lambda: len(events(graph, ENABLED)) >= 4, 10, 'the events with contents')
    received, sent = events(graph, ENABLED)[2:4]
    assert received.request[0].data is True and sent.response[0].success is True

    assert set_introspection(graph, 'disabled').successful
    call_both(graph)
    call_both(graph)
    assert len(events(graph, ENABLED)) == len(events(graph, RESET)) == 4


def test_there_are_no_events_by_default_and_other_values_are_refused(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    call_both(graph)
    for service in (ENABLED, RESET):
        assert graph.node.count_publishers(f'{service}/_service_event') == 0
    result = set_introspection(graph, 'everything')
    assert not result.successful
    assert 'it must be one of disabled, metadata, contents' in result.reason
