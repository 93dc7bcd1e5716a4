"""How images come in: reliability, loss, compressed images."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from moody_feed import BEST_EFFORT, RELIABLE, START, Feed, moody_arguments, python_path  # noqa: E402
from ros_harness import rgb_message, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

pytestmark = pytest.mark.ros


def test_a_default_publisher_of_large_images_is_received_without_loss(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    publisher = graph.node.create_publisher(Image, 'image', 10)  # as a driver would: all defaults
    graph.wait(lambda: publisher.get_subscription_count(), 10, 'the monitor to listen')
    message = rgb_message(np.zeros((480, 640, 3), np.uint8), 0)
    message.encoding = 'bgr8'
    for number in range(120):
        message.header.stamp.sec = number
        publisher.publish(message)
        time.sleep(1 / 30)
    time.sleep(2.5)  # until diagnostics have counted them all
    status = graph.wait_diagnostic('input', '', 10)
    assert values(status)['reliability'] == 'reliable'
    assert values(status)['lost_in_transport'] == '0'
    # Most of 120: a busy machine takes some too late, and the newest is kept, not a queue. With
    # best effort fewer than half would come.
    assert int(values(status)['received']) >= 90


def test_lost_images_of_a_best_effort_publisher_are_reported_with_the_remedy(graph, moody_bundle):
    monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    graph.start_camera('sample:digits', '-p', 'reliability:=best_effort')
    status = graph.wait_diagnostic('input', 'best-effort publisher', START)
    assert 'config/fastdds.xml' in status.message
    assert values(status)['reliability'] == 'best_effort'

    def explained():
        return [
            detail for status in graph.statuses
            if 'config/fastdds.xml' in (detail := values(status.status[0]).get('detail', ''))
        ]

    # Whoever listens to the alert is told, too, and whoever reads the log, once.
    graph.wait(explained, START, 'the detail of an alert')
    graph.wait(lambda: 'config/fastdds.xml' in monitor.log.read_text(), 10, 'the log')
    time.sleep(3.0)
    own = [
        line for line in monitor.log.read_text().splitlines()
        if 'config/fastdds.xml' in line
    ]
    assert len(own) == 1


def test_the_profile_that_the_report_names_is_the_remedy(graph, moody_bundle):
    from ament_index_python.packages import get_package_share_directory

    profile = f'{get_package_share_directory("nav_monitor_ros")}/config/fastdds.xml'
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    graph.wait_reason('no_image', START)
    graph.start(
        'camera', '-p', 'source:=sample:digits', '-p', 'reliability:=best_effort',
        env={'FASTDDS_DEFAULT_PROFILES_FILE': profile, 'FASTRTPS_DEFAULT_PROFILES_FILE': profile},
    )
    graph.wait(lambda: int(input_values(graph).get('received', 0)) > 30, START, 'images')
    assert input_values(graph)['reliability'] == 'best_effort'
    graph.wait_diagnostic('input', 'images per second', 10)


def test_the_subscription_follows_publishers_as_they_come_and_go(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    feed = Feed(graph, RELIABLE)
    graph.wait_alert(False, START)
    shy = graph.node.create_publisher(Image, 'image', BEST_EFFORT)
    graph.wait(lambda: input_values(graph).get('reliability') == 'best_effort', 10, 'best effort')
    graph.node.destroy_publisher(shy)
    graph.wait(lambda: input_values(graph).get('reliability') == 'reliable', 10, 'reliable')
    graph.wait_alert(False, 10)
    assert feed.stamps


def input_values(graph):
    """Return the newest values of the input's diagnostics; nothing before the first."""
    for message in graph.heard['/diagnostics'][-1:]:
        for status in message.status:
            if status.name.endswith(': input'):
                return values(status)
    return {}


def test_compressed_images_are_judged_alike(graph):
    graph.start_monitor('-p', 'bundle:=digits', '-p', 'image_transport:=compressed')
    graph.start_camera('sample:digits', '-p', 'image_transport:=compressed')
    graph.wait_alert(False, START)
