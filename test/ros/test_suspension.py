"""Input that does not come back after a suspension."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from moody_feed import START, Feed, moody_arguments, python_path
from ros_harness import LATCHED
from std_msgs.msg import Bool

from nav_monitor_ros.ros.suspension import FLOWING, PATIENCE, SETTLING, SUSPENDED, Input, LostInput

pytestmark = pytest.mark.ros

PERIOD = 0.1
CAMERA = Input(publishers=1, received=30, last_arrival=1.0)


def suspended(seconds=2.0, before=(CAMERA,), period=PERIOD):
    """Return a watch whose process was suspended from 1 s on, and when it continued."""
    watch = LostInput(period)
    for beat in range(11):
        watch.process_runs(beat * 0.1)
    assert watch.check(before, 1.0) == ''
    watch.process_runs(1.0 + seconds)
    return watch, 1.0 + seconds


def test_input_that_stays_away_after_a_suspension_is_lost():
    watch, now = suspended()
    assert watch.check([CAMERA], now + PATIENCE - 0.1) == ''
    text = watch.check([CAMERA], now + PATIENCE)
    assert 'suspended for 2.0 s' in text and '10 s ago' in text
    # A new configuration starts with nothing received.
    assert watch.check([Input(1, 0, now + 5.0)], now + PATIENCE)


def test_a_message_that_was_sent_before_the_suspension_does_not_count():
    watch, now = suspended()
    late = Input(1, 31, now + 0.1, last_sent=now - 2.0)
    assert watch.check([late], now + 0.5) == ''
    assert watch.check([late], now + PATIENCE)


def test_a_new_publisher_has_time_to_send_its_first_image():
    """A driver advertises a topic before it opens its device."""
    gone, there = Input(0, 30, 1.0), Input(1, 30, 1.0)
    watch, now = suspended(before=(gone,))
    assert watch.check([gone], now + 100.0) == ''
    assert watch.check([there], now + 101.0) == ''
    assert watch.check([there], now + 100.5 + PATIENCE) == ''
    assert 'publisher for 10 s' in watch.check([there], now + 101.0 + PATIENCE)
    assert watch.check([gone], now + 102.0 + PATIENCE) == ''
    assert watch.check([there], now + 103.0 + PATIENCE) == ''


def test_an_activation_after_a_suspension_has_time_for_its_first_image():
    watch, now = suspended()
    assert watch.check([], now + 100.0) == ''  # inactive
    fresh = Input(1, 0, now + 101.0)
    assert watch.check([fresh], now + 101.0) == ''
    assert watch.check([fresh], now + 100.9 + PATIENCE) == ''
    assert watch.check([fresh], now + 101.0 + PATIENCE)


def test_a_publisher_that_was_silent_before_the_suspension_tells_nothing():
    """A bag or a simulator is paused."""
    silent = Input(publishers=1, received=30, last_arrival=1.0 - 1.1 * FLOWING)
    watch, now = suspended(before=(silent,))
    assert watch.check([silent], now + 1000.0) == ''


def test_a_second_suspension_does_not_excuse_the_first():
    watch, now = suspended()
    assert watch.check([CAMERA], now + 1.0) == ''
    watch.process_runs(now + 1.0)
    watch.process_runs(now + 5.0)
    assert watch.check([CAMERA], now + 4.9 + PATIENCE) == ''
    assert watch.check([CAMERA], now + 5.0 + PATIENCE)


def test_a_suspension_just_after_the_first_image_counts():
    watch = LostInput(PERIOD)
    watch.process_runs(1.0)
    watch.process_runs(3.0)
    assert watch.check([CAMERA], 3.1) == ''
    assert watch.check([CAMERA], 3.1 + PATIENCE)


def test_input_that_comes_back_is_not_lost_and_may_end_later():
    watch, now = suspended()
    back = Input(1, 31, now + SETTLING + 0.1)
    assert watch.check([back], now + SETTLING + 0.2) == ''
    assert watch.check([back], now + 100.0) == ''
    watch, now = suspended()
    back = Input(1, 31, now + 0.2, last_sent=now + 0.1)
    assert watch.check([back], now + 0.5) == ''
    assert watch.check([back], now + 100.0) == ''


def test_one_of_several_inputs_is_enough():
    watch, now = suspended()
    assert watch.check([CAMERA, Input(1, 5, now + 2.0)], now + PATIENCE) == ''


@pytest.mark.parametrize('camera', [Input(0, 30, 1.0), Input(0, 0, 0.0)])
def test_without_a_publisher_nothing_is_lost(camera):
    watch, now = suspended()
    assert watch.check([camera], now + 100.0) == ''


def test_input_that_never_came_is_not_lost():
    never = Input(publishers=1, received=0, last_arrival=0.0)
    watch, now = suspended(before=(never,))
    assert watch.check([never], now + 100.0) == ''


@pytest.mark.parametrize(('seconds', 'period'), [
    (SUSPENDED, PERIOD), (1.9, 1.0), (0.2, PERIOD),
])
def test_a_short_or_a_usual_pause_is_no_suspension(seconds, period):
    watch, now = suspended(seconds, period=period)
    assert watch.check([CAMERA], now + 100.0) == ''


def suspend(process):
    process.send_signal(signal.SIGSTOP)
    time.sleep(SUSPENDED + 1.0)
    process.send_signal(signal.SIGCONT)


def test_a_monitor_whose_images_stay_away_after_a_suspension_says_true_and_ends_for_a_restart(
    graph, moody_bundle
):
    monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    feed.play(None)  # the publisher stays
    suspend(monitor)
    graph.wait(lambda: monitor.poll() is not None, PATIENCE + 20, 'the end')
    assert monitor.poll() == 70
    assert graph.alerts[-1] is True
    log = monitor.log.read_text()
    assert 'no image arrives since this process was suspended' in log
    assert 'ending with status 70' in log and 'Traceback' not in log


COMPOSED = """
import rclpy
from nav_monitor_ros.ros.monitor.node import MonitorNode

rclpy.init()
rclpy.spin(MonitorNode())
"""


def test_a_composed_monitor_that_lost_its_input_reports_it_in_diagnostics(graph, moody_bundle):
    graph.listen(Bool, '/ood_alert', LATCHED)
    graph.listen(DiagnosticArray, '/diagnostics', 10)
    process = subprocess.Popen(
        [sys.executable, '-c', COMPOSED, '--ros-args', *moody_arguments(moody_bundle)],
        env={**os.environ, **graph.domain.environment, **python_path(), 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE, text=True)
    try:
        feed = Feed(graph)
        graph.wait_alert(False, START)
        feed.play(None)  # the publisher stays
        suspend(process)
        graph.wait_diagnostic('input', 'no image arrives since this process was suspended',
                              PATIENCE + 20)
        assert process.poll() is None and graph.alerts[-1] is True
        feed.play(feed.normal)
        graph.wait_alert(False, 20)
        graph.wait_diagnostic('input', 'images per second', 10)
    finally:
        process.kill()
        _, error = process.communicate()
    assert error.count('no image arrives since this process was suspended') == 1


def test_a_monitor_whose_images_come_back_goes_on(graph, moody_bundle):
    monitor = graph.start_monitor(*moody_arguments(moody_bundle), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    suspend(monitor)
    graph.wait_alert(True, 20)
    graph.wait_alert(False, 20)
    feed.play(None)  # later, for another reason
    time.sleep(PATIENCE + 3.0)
    assert monitor.poll() is None
    feed.play(feed.normal)
    graph.wait_alert(False, 20)
