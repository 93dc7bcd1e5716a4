"""Faults of the camera and its images."""

from __future__ import annotations

import itertools
import time

import moody
import numpy as np
import pytest

pytest.importorskip('rclpy')

from fault_robot import BEST_EFFORT, SLOW, START, Feed, Robot  # noqa: E402
from processes import kill_between_messages  # noqa: E402
from ros_harness import rgb_message  # noqa: E402

pytestmark = pytest.mark.ros


def test_the_camera_dies(graph, moody_bundle, tmp_path):
    pixels, labels = moody.images(3, 500)
    np.savez(tmp_path / 'normal.npz', x=pixels, y=labels)

    def start():
        return graph.start_camera(
            str(tmp_path / 'normal.npz'), '-p', 'width:=64', '-p', 'height:=64'
        )

    robot = Robot(graph, moody_bundle, feed=False)
    camera = start()
    robot.stands(
        'camera killed (SIGKILL)', ['stale_image'], 0.6, lambda: kill_between_messages(camera)
    )
    robot.stays_stopped(1.0)
    robot.recovers('camera started again', start)


def test_the_camera_freezes(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, frozen_timeout=1.0)
    still = robot.feed.pixels()
    robot.stands(
        'camera frozen (same image, new stamps)', ['frozen_image'], 1.1,
        lambda: robot.feed.play(lambda stamp: rgb_message(still, stamp)),
    )
    robot.recovers('images change again', lambda: robot.feed.play(robot.feed.normal))


def test_the_camera_becomes_slow(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, input_rate_error=10.0)
    robot.drives()
    time.sleep(3.0)  # until the rate of 30 Hz is known
    count = itertools.count()
    robot.stands(
        'camera slows down from 30 to 3 Hz (input_rate_error 10 Hz)', ['low_input_rate'], 1.9,
        lambda: robot.feed.play(
            lambda stamp: robot.feed.normal(stamp) if next(count) % 10 == 0 else None),
    )
    robot.recovers('30 Hz again', lambda: robot.feed.play(robot.feed.normal))


@pytest.mark.parametrize(('name', 'color'), [('blank (lens covered)', 3), ('saturated', 255)])
def test_frames_are_blank_or_saturated(graph, moody_bundle, name, color):
    robot = Robot(graph, moody_bundle, blank_contrast=2.0)
    robot.stands(
        f'frames {name}', ['bad_image'], 0.1, lambda: robot.feed.play_plain(color)
    )
    robot.recovers('images return', lambda: robot.feed.play(robot.feed.normal))


@pytest.mark.parametrize(('name', 'seconds'), [('5 s old', -5), ('5 s in the future', 5)])
def test_stamps_are_far_from_the_clock(robot, name, seconds):
    def begin():
        robot.feed.now = lambda: time.time_ns() + seconds * 10**9

    def heal():
        robot.feed.now = time.time_ns

    robot.stands(f'stamps {name}', ['stale_image'], 0.1, begin)
    robot.recovers('stamps are correct again', heal)


def test_the_camera_returns_with_another_quality_size_and_encoding(robot):
    def restart():
        robot.feed.stop()
        robot.feed = Feed(robot.graph, BEST_EFFORT)

        def larger(stamp):
            message = rgb_message(np.kron(robot.feed.pixels(), np.ones((4, 4, 1), np.uint8)), stamp)
            message.encoding = 'bgr8'
            return message

        robot.feed.play(larger)

    def back():
        robot.feed.stop()
        robot.feed = Feed(robot.graph)

    robot.stands(
        'camera gone', ['stale_image'], 0.6, robot.feed.stop
    )
    robot.recovers('another camera: best effort, 32x32, bgr8', restart)
    robot.stands(
        'out-of-distribution images of that camera', ['ood'], 1.0,
        lambda: robot.feed.play(robot.feed.strange),
    )
    robot.recovers('the first camera again', back)


def test_two_cameras_speak_on_one_topic(robot):
    others = []
    robot.stands(
        'two cameras on one topic', ['bad_image'], 1.0,
        lambda: others.append(Feed(robot.graph)),
    )
    robot.stays_stopped(1.0)
    robot.recovers('one of them stops', lambda: others.pop().stop())


def test_a_flood_of_images_hides_nothing(robot):
    flood = []

    def strange():
        for feed in flood:
            feed.play(feed.strange)

    robot.drives()
    robot.feed.stop()
    flood.append(Feed(robot.graph, rate=500.0))
    robot.drives()
    # A flood of normal images is no fault; a machine that stalls for an image's timeout is.
    fine = {'in_distribution', 'suspect', 'warming_up', *SLOW}
    # The first camera is two cameras on one topic until the middleware has taken it out.
    robot.graph.wait(
        lambda: (last := robot._reasons(time.monotonic() - 1.0)) and set(last) <= fine, START,
        'one camera alone',
    )
    start = time.monotonic()
    time.sleep(2.0)
    assert set(robot._reasons(start)) <= fine
    robot.stands('out-of-distribution images at 500 Hz', ['ood'], 1.0, strange)
    robot.recovers('normal images at 30 Hz', lambda: (
        flood.pop().stop(), setattr(robot, 'feed', Feed(robot.graph))
    ))


def test_images_of_eight_megapixels_are_judged(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, image_timeout=3.0, inference_timeout=5.0, exit_count=2)
    robot.feed.stop()
    robot.feed = feed = Feed(graph, rate=3.0)
    large = (2448, 3264, 1)

    def enlarge(make):
        def message(stamp):
            small = np.frombuffer(make(stamp).data, np.uint8).reshape(8, 8, 3)
            return rgb_message(np.tile(small, (306, 408, 1)), stamp)

        return message

    def spread(stamp):
        small = np.frombuffer(feed.normal(stamp).data, np.uint8).reshape(8, 8, 3)
        return rgb_message(np.repeat(np.repeat(small, 306, 0), 408, 1), stamp)

    assert spread(0).height * spread(0).width == large[0] * large[1]
    feed.play(spread)
    robot.stands(
        'out-of-distribution images of 8 megapixels, 3 per second', ['ood'], 3.0,
        lambda: feed.play(enlarge(feed.strange)),
    )
    robot.recovers('normal images', lambda: feed.play(spread))
