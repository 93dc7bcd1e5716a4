"""Pictures of the running node: for whoever watches, by parameters that may change."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParametersAtomically  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from sensor_msgs.msg import Image, PointCloud2  # noqa: E402

from nav_monitor_ros.bundle.loading import load_bundle  # noqa: E402
from nav_monitor_ros.ros.messages import cloud_message  # noqa: E402
from nav_monitor_ros.views.volume import SHOWN, cloud  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
VOLUME, TILES = '/nav_monitor/activation_volume', '/nav_monitor/activations'


@pytest.fixture(scope='module')
def graph(tmp_path_factory):
    """Start a monitor of digits and its camera."""
    graph = Graph(tmp_path_factory.mktemp('logs'))
    graph.start_monitor('-p', 'bundle:=digits')
    graph.start_camera('sample:digits')
    graph.wait_alert(False, START)
    yield graph
    graph.stop()


def set_parameters(graph, **changes):
    kinds = {bool: (1, 'bool_value'), int: (2, 'integer_value'), float: (3, 'double_value'),
             str: (4, 'string_value')}
    parameters = []
    for name, given in changes.items():
        kind, field = kinds[type(given)]
        value = ParameterValue(type=kind)
        setattr(value, field, given)
        parameters.append(Parameter(name=name, value=value))
    return graph.call(
        SetParametersAtomically, '/nav_monitor/set_parameters_atomically',
        SetParametersAtomically.Request(parameters=parameters),
    ).result


def points_of(message):
    return np.frombuffer(bytes(message.data), np.float32).reshape(-1, 5)


def drawn(graph):
    status = graph.wait_diagnostic('inference', 'ms', 10)
    return int(values(status)['pictures_drawn'])


def test_nothing_is_drawn_until_somebody_watches_and_then_all_three(graph):
    assert drawn(graph) == 0
    time.sleep(1.5)
    assert drawn(graph) == 0
    graph.listen(PointCloud2, VOLUME, RELIABLE)
    graph.listen(Image, TILES, RELIABLE)
    message = graph.wait(lambda: graph.heard[VOLUME][-1:], START, 'a volume')[0]
    graph.wait(lambda: graph.heard[TILES], START, 'activations')
    assert message.header.frame_id == 'camera'
    points = points_of(message)
    assert len(points) == message.width > 20 and message.point_step == 20
    # The last layer with extent of digits: 32 x 7 x 7.
    assert points[:, 0].max() < 1 and points[:, 1].min() > -1 and points[:, 2].max() < 1
    low, high = load_bundle('digits').layer_ranges['conv5']
    assert (points[:, 3] > SHOWN * high).all() and low == 0
    colors = np.frombuffer(points[:, 4].tobytes(), np.uint8).reshape(-1, 4)
    assert len(np.unique(colors, axis=0)) > 5


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'activation_layer': 'conv99'}, "no layer 'conv99'"),
        ({'activation_layer': 99}, "no layer '99'"),
        ({'activation_layer': 0}, "no layer '0'"),
        ({'activation_layer': 1.5}, 'activation_layer is 1.5, a float; it must be of type string'),
        ({'activation_channels': 0}, 'activation_channels'),
        ({'activation_order': 'random'}, 'activation_order'),
        ({'activation_colormap': 'jet'}, 'activation_colormap'),
        ({'view_rate': float('nan')}, 'view_rate'),
    ],
)
def test_invalid_values_are_refused_and_the_pictures_go_on(graph, changes, words):
    refused = set_parameters(graph, **changes)
    assert not refused.successful and words in refused.reason
    count = len(graph.heard[VOLUME])
    graph.wait(lambda: len(graph.heard[VOLUME]) > count + 2, START, 'more volumes')


def test_the_layer_and_its_channels_change_at_run_time(graph):
    assert set_parameters(graph, activation_layer=1, activation_channels=3).successful
    graph.wait(
        lambda: len(graph.heard[VOLUME]) and len(set(points_of(graph.heard[VOLUME][-1])[:, 2])) <= 3
        and np.unique(points_of(graph.heard[VOLUME][-1])[:, 0]).size > 10,
        START, 'three channels of 28 x 28',
    )
    assert set_parameters(graph, activation_layer='-2', activation_channels=64).successful
    graph.wait(
        lambda: len(np.unique(points_of(graph.heard[VOLUME][-1])[:, 1])) == 1,
        START, 'a layer without extent as a strip',
    )
    assert set_parameters(graph, activation_layer='').successful


def test_a_cloud_holds_the_maps_themselves():
    maps = np.zeros((4, 3, 5), np.float32)
    maps[2, 1, 4] = 1.5
    maps[3, 0, 0] = 0.2
    points = cloud(maps, (0.0, 2.0), channels=4, colormap='viridis')
    assert points[:, :4].tolist() == [
        [pytest.approx(0.8), pytest.approx(-0.2), 0.5, 1.5],
        [0.0, 0.0, 0.75, pytest.approx(0.2)],
    ]
    message = cloud_message(Image().header, points)
    assert [f.name for f in message.fields] == ['x', 'y', 'z', 'intensity', 'rgb']
    assert np.array_equal(points_of(message), points)


@pytest.mark.parametrize(
    'maps',
    [
        np.full((2, 3, 3), np.nan, np.float32), np.full((2, 3, 3), np.inf, np.float32),
        np.zeros((1, 1, 1), np.float32), np.ones(2048, np.float32),
        -np.ones((2, 2, 2), np.float32), np.ones((3, 4), np.float32),
    ],
)
@pytest.mark.parametrize('scale', [(0.0, 1.0), (-1.0, 0.5), (0.0, 0.0), (np.nan, np.inf)])
def test_odd_maps_make_clouds_without_an_exception(maps, scale):
    points = cloud(maps, scale, channels=5000, colormap='inferno')
    assert points.shape[1] == 5 and np.isfinite(points[:, :3]).all()
    assert cloud_message(Image().header, points).width == len(points)
