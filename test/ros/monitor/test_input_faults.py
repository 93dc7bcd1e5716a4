"""Images that cannot be judged, and cameras that send no new ones or too many."""

import itertools
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from moody_feed import RELIABLE, START, Feed, moody_arguments, python_path, set_parameters  # noqa: E402
from ros_harness import rgb_message, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

pytestmark = pytest.mark.ros


def bad_encoding(stamp):
    message = rgb_message(np.zeros((8, 8, 3), np.uint8), stamp)
    message.encoding = 'octarine8'
    return message


def truncated(stamp):
    message = rgb_message(np.zeros((8, 8, 3), np.uint8), stamp)
    message.data = bytes(100)
    return message


def empty(stamp):
    return rgb_message(np.zeros((0, 0, 3), np.uint8), stamp)


def huge(stamp):
    message = rgb_message(np.zeros((1, 1, 3), np.uint8), stamp)
    message.width, message.height, message.step = 100_000, 100_000, 300_000
    return message


@pytest.mark.parametrize(
    ('make', 'words'),
    [(bad_encoding, 'octarine8'), (truncated, 'truncated'), (empty, 'empty'), (huge, '100000')],
)
def test_a_bad_image_alerts_with_what_is_wrong_and_the_node_lives_on(trusted, make, words):
    trusted.feed.play(make)
    status = trusted.wait_reason('bad_image', 10)
    assert words in values(status.status[0])['detail']
    trusted.wait_alert(True, 5)
    trusted.feed.play(trusted.feed.normal)
    trusted.wait_alert(False, 10)
    assert trusted.monitor.poll() is None


@pytest.mark.parametrize('buffers', [1, 3])
def test_a_camera_that_freezes_alerts(graph, moody_bundle, buffers):
    graph.start_monitor(*moody_arguments(moody_bundle, frozen_timeout=0.5), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    stuck = itertools.cycle([
        np.frombuffer(feed.normal(0).data, np.uint8).reshape(8, 8, 3) for _ in range(buffers)
    ])
    feed.play(lambda stamp: rgb_message(next(stuck), stamp))
    graph.wait_reason('frozen_image', 10)
    graph.wait_alert(True, 5)


def test_a_slow_second_publisher_is_found_and_stays_found(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(moody_bundle, image_timeout=5.0, stamp_tolerance=0), env=python_path()
    )
    feed = Feed(graph)
    graph.wait_alert(False, START)
    feed.play(None)
    others = [graph.node.create_publisher(Image, 'image', RELIABLE) for _ in range(2)]
    timers = [
        graph.node.create_timer(1.2, lambda publisher=publisher, name=name: publisher.publish(
            rgb_message(feed.pixels(), time.time_ns(), frame_id=name)
        ))
        for publisher, name in zip(others, ('front', 'rear'), strict=True)
    ]
    status = graph.wait_reason('bad_image', 20)
    assert 'two publishers' in values(status.status[0])['detail']
    count = len(graph.alerts)
    time.sleep(5.0)  # several images of both
    assert len(graph.alerts) > count + 20 and all(graph.alerts[count:])
    graph.wait_reason('bad_image', 20)  # a stall may make one of them seem gone for a moment
    graph.node.destroy_timer(timers[0])
    # The patience is that of its own last periods, which a stall makes longer.
    graph.wait(lambda: graph.reason != 'bad_image', START, 'one publisher to be trusted')


def test_a_publisher_of_another_type_is_named_in_diagnostics(graph, moody_bundle):
    graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    publisher = graph.node.create_publisher(String, 'image', 1)
    graph.node.create_timer(0.1, lambda: publisher.publish(String(data='no picture')))
    status = graph.wait_diagnostic('input', 'std_msgs/msg/String', START)
    assert 'sensor_msgs/msg/Image' in status.message
    graph.wait_reason('no_image', 5)
    graph.wait_alert(True, 5)


def test_a_region_of_interest_outside_the_image_is_a_bad_image(trusted):
    assert set_parameters(trusted, roi=[0, 0, 20, 20]).successful
    status = trusted.wait_reason('bad_image', 10)
    assert 'region of interest' in values(status.status[0])['detail']
    assert set_parameters(trusted, roi=[1, 1, 6, 6]).successful
    trusted.wait(lambda: trusted.reason != 'bad_image', 10, 'another reason')


def test_images_without_a_stamp_are_named_as_such(trusted):
    feed = trusted.feed
    feed.play(lambda _stamp: rgb_message(feed.pixels(), 0))
    status = trusted.wait_reason('stale_image', 10)
    trusted.wait(
        lambda: 'the image has no stamp (0): set header.stamp in its publisher' in values(
            trusted.statuses[-1].status[0])['detail'], 10, 'the reason')
    assert status.status[0].level == b'\x03'
    assert set_parameters(trusted, stamp_tolerance=0.0).successful
    trusted.wait_alert(False, 10)
