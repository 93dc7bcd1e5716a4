"""The monitor as a process, its network run by another backend than torch."""

from __future__ import annotations

import itertools
import shutil
import time

import pytest

pytest.importorskip('rclpy')

from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_harness import Graph, rgb_message, stamp_ns, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from nav_monitor_ros.bundle.loading import load_bundle  # noqa: E402
from nav_monitor_ros.bundle.shipped import find_bundle  # noqa: E402
from nav_monitor_ros.data.sources import open_source  # noqa: E402
from nav_monitor_ros.perception.decoded_image import DecodedImage  # noqa: E402
from nav_monitor_ros.runtime.monitor import Monitor  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take to come up on a busy machine
COUNT = 5  # images shown in turn


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


def diagnostics(graph, part):
    for message in reversed(graph.heard['/diagnostics']):
        for status in message.status:
            if status.name.endswith(f': {part}'):
                return values(status)
    return {}


def test_the_node_on_openvino_gives_the_verdicts_of_torch(graph):
    source = open_source('sample:digits?limit=50')
    images = [source.image(index) for index in range(COUNT)]
    images = [pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2) for pixels in images]
    by_torch = Monitor(load_bundle('digits'), backend='torch', device='cpu')
    expected = [by_torch.look(DecodedImage(pixels, 'rgb')).verdict for pixels in images]

    graph.start_monitor(
        '-p', 'bundle:=digits', '-p', 'backend:=openvino', '-p', 'frozen_timeout:=0.0'
    )
    publisher = graph.node.create_publisher(
        Image, 'image', QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    )
    shown = {}
    numbers = itertools.cycle(range(COUNT))

    def show():
        number, stamp = next(numbers), time.time_ns()
        shown[stamp] = number
        publisher.publish(rgb_message(images[number], stamp))

    graph.node.create_timer(1 / 15, show)
    graph.wait_trusted(START)

    def judged():
        """Return the status of each image that was judged."""
        found = {}
        for message in list(graph.statuses):
            told = values(message.status[0])
            if 'class' in told:
                found[shown[stamp_ns(message.header)]] = told
        return found if len(found) == COUNT else None

    for number, told in graph.wait(judged, 30, 'a verdict on each image').items():
        assert told['class'] == expected[number].class_name
        assert float(told['p_value']) == pytest.approx(expected[number].p_value, abs=0.01)
    graph.wait(
        lambda: diagnostics(graph, 'inference').get('backend') == 'openvino_f32', 10,
        'the backend in /diagnostics',
    )


def test_the_node_does_not_start_on_an_export_that_was_changed(graph, tmp_path):
    bundle = shutil.copytree(find_bundle('digits'), tmp_path / 'digits')
    path = bundle / 'exported' / 'network.onnx'
    path.write_bytes(path.read_bytes() + b'\x00')
    process = graph.start_monitor('-p', f'bundle:={bundle}', '-p', 'backend:=openvino')
    assert process.wait(START) == 1
    assert 'network.onnx was changed after it was written' in process.log.read_text()
