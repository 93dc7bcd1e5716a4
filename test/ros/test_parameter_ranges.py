"""Numeric ranges in the descriptors of the nodes' parameters, and what is beyond them."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.parameter import Parameter as RosParameter  # noqa: E402

from nav_monitor_ros.ros.camera.parameters import CAMERA_PARAMETERS  # noqa: E402
from nav_monitor_ros.ros.declared_parameters import declare, described  # noqa: E402
from nav_monitor_ros.ros.monitor.node import MonitorNode  # noqa: E402
from nav_monitor_ros.ros.safety_stop.parameters import SAFETY_STOP_PARAMETERS  # noqa: E402
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS  # noqa: E402
from nav_monitor_ros.runtime.parameter_definition import Parameter  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def monitor(context):
    node = MonitorNode(context=context, parameter_overrides=[
        RosParameter('cameras', value=['front', 'rear']), RosParameter('autostart', value=False),
        RosParameter('front.image_timeout', value=0.7)])
    yield node
    node.destroy_node()


def ranges(descriptor):
    return [
        (one.from_value, one.to_value)
        for one in (*descriptor.floating_point_range, *descriptor.integer_range)
    ]


@pytest.mark.parametrize('table', [PARAMETERS, CAMERA_PARAMETERS, SAFETY_STOP_PARAMETERS],
                         ids=['monitor', 'camera', 'safety_stop'])
def test_every_number_with_limits_has_them_in_its_descriptor(context, table):
    node = rclpy.create_node('ranges', context=context)
    declare(node, table)
    try:
        seen = 0
        for parameter in table:
            descriptor = node.describe_parameter(parameter.name)
            if parameter.type not in ('int', 'float') or parameter.low is None:
                assert ranges(descriptor) == []
                continue
            ((low, high),) = ranges(descriptor)
            assert (low, high) == (parameter.low, parameter.high) or parameter.high is None
            assert len(descriptor.floating_point_range) == (parameter.type == 'float')
            seen += 1
        assert seen >= 3
    finally:
        node.destroy_node()


def test_a_number_without_an_upper_limit_has_that_of_its_type():
    integer = described(Parameter('a', 'int', 1, '', low=1), '')
    assert ranges(integer) == [(1, 2**63 - 1)]
    floating = described(Parameter('a', 'float', 1.0, '', low=0.5), '')
    assert ranges(floating)[0][0] == 0.5 and ranges(floating)[0][1] > 1e300


def test_a_cameras_own_parameter_has_the_range_too(monitor):
    for name in ('front.image_timeout', 'rear.input_rate_error'):
        definition = BY_NAME[name.partition('.')[2]]
        assert ranges(monitor.describe_parameter(name)) == [(definition.low, definition.high)]


@pytest.mark.parametrize(('name', 'value', 'said'), [
    ('image_timeout', 0.0, 'parameter image_timeout is 0.0; it must be 0.01 to 60'),
    ('image_timeout', 61, 'parameter image_timeout is 61.0; it must be 0.01 to 60'),
    ('image_timeout', float('nan'), 'parameter image_timeout is nan; it must be 0.01 to 60'),
    ('image_timeout', 60.00001, 'parameter image_timeout is 60.00001; it must be 0.01 to 60'),
    ('front.image_timeout', 61.0, 'parameter front.image_timeout is 61.0; it must be 0.01 to 60'),
    ('exit_count', 0, 'parameter exit_count is 0; it must be 1 to 1000'),
    ('input_rate_error', -1.0, 'parameter input_rate_error is -1.0; it must be 0 to 1000'),
])
def test_what_is_out_of_range_is_refused_with_the_range(monitor, name, value, said):
    before = monitor.get_parameter(name).value
    (result,) = monitor.set_parameters([RosParameter(name, value=value)])
    assert not result.successful and result.reason == said
    assert monitor.get_parameter(name).value == before


def test_whole_numbers_are_accepted_for_floats(monitor):
    (result,) = monitor.set_parameters([RosParameter('image_timeout', value=2)])
    assert result.successful, result.reason
    (result,) = monitor.set_parameters([RosParameter('image_timeout', value=0.5)])
    assert result.successful, result.reason
