"""A camera that publishes too rarely: diagnostics, and the alert if a rate is required."""

import itertools
import time

import pytest

pytest.importorskip('rclpy')

import fleet  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from moody_feed import START, Feed, moody_arguments, python_path, set_parameters  # noqa: E402
from ros_harness import LATCHED, values  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

pytestmark = pytest.mark.ros

FALL = 2.0 * (30 - 10) / (30 - 3) + 1 / 3  # seconds until a fall from 30 to 3 Hz is below 10 Hz
SLACK = 2.0  # seconds, on a busy machine
# Longer than the camera's period by more than a busy machine delays an image.
PATIENT = {'image_timeout': 2.0}


def thinned(feed, share=10):
    """Return a source of normal images that sends only one in ``share`` of them."""
    count = itertools.count()
    return lambda stamp: feed.normal(stamp) if next(count) % share == 0 else None


def is_steady(feed):
    """Return whether 27 of the last 30 ticks of each second were on time, for two seconds."""
    start = time.time_ns() - 2 * 10**9
    return sum(stamp > start for stamp in list(feed.stamps)[-80:]) >= 54


def test_a_fall_from_30_to_3_hz_raises_the_alert_with_its_own_reason(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(moody_bundle, input_rate_error=10.0, **PATIENT), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    time.sleep(3.0)
    # On a busy machine the feed itself is slower; then a part of the fall would come before it.
    graph.wait(lambda: is_steady(feed) and graph.alerts[-1] is False, START, 'images at 30 Hz')
    fallen = time.monotonic()
    feed.play(thinned(feed))
    status = graph.wait_reason('low_input_rate', FALL + SLACK)
    assert time.monotonic() - fallen > 1.0  # neither a gap nor a single late image is enough
    assert status.status[0].level == DiagnosticStatus.ERROR
    assert 'fewer than input_rate_error (10 Hz)' in values(status.status[0])['detail']
    graph.wait_alert(True, 1)
    said = graph.wait_diagnostic('input', 'input_rate_error', 5)
    assert said.level == DiagnosticStatus.ERROR
    graph.wait(
        lambda: 2.5 < float(values(graph.wait_diagnostic('input', 'input_rate_error', 5))
                            ['input_rate_hz']) < 3.5, 10, 'the rate of the slow camera')
    # Frames go on being judged: the status has their verdicts.
    assert graph.wait_judged()['class']
    feed.play(feed.normal)
    graph.wait_alert(False, 10)


def test_a_warning_rate_is_told_in_diagnostics_and_the_alert_stays_false(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(moody_bundle, input_rate_warn=10.0, **PATIENT), env=python_path())
    feed = Feed(graph)
    graph.wait_alert(False, START)
    assert graph.wait_diagnostic('input', 'images per second', 10).level == DiagnosticStatus.OK
    feed.play(thinned(feed))
    begin = len(graph.alerts)
    said = graph.wait_diagnostic('input', 'fewer than input_rate_warn (10 Hz)', 10)
    assert said.level == DiagnosticStatus.WARN
    assert not any(graph.alerts[begin:])
    # A required rate that is set while the camera is slow counts at once.
    assert set_parameters(graph, input_rate_error=10.0).successful
    graph.wait_reason('low_input_rate', 2)
    assert set_parameters(graph, input_rate_error=0.0).successful
    graph.wait_alert(False, 10)


def test_each_camera_has_its_own_rate(graph, moody_bundle):
    names = ('front', 'rear')
    for name in names:
        graph.listen(Bool, f'/{name}/ood_alert', LATCHED)
        graph.listen(DiagnosticArray, f'/nav_monitor/{name}/ood_status', LATCHED)
    graph.start_monitor(
        *moody_arguments(
            moody_bundle, cameras=list(names), exit_count=1, **{'front.input_rate_error': 10.0},
            **PATIENT), env=python_path())
    feeds = {name: fleet.Feed(graph, name) for name in names}  # 20 Hz
    graph.wait_alert(False, START)
    for feed in feeds.values():
        feed.play(thinned(feed, 7))

    def reason(name):
        return graph.heard[f'/nav_monitor/{name}/ood_status'][-1].status[0].message

    graph.wait(lambda: reason('front') == 'low_input_rate', 10, 'the reason of the front camera')
    graph.wait_reason('low_input_rate', 2)  # the combined alert tells the same
    graph.wait_alert(True, 2)
    assert reason('rear') == 'in_distribution'
    assert graph.heard['/rear/ood_alert'][-1].data is False


def test_the_rate_is_measured_while_the_ros_clock_stands_still(graph, moody_bundle):
    graph.start_monitor(
        *moody_arguments(
            moody_bundle, use_sim_time=True, stamp_tolerance=0.0, input_rate_error=10.0, **PATIENT),
        env=python_path())  # nobody publishes /clock
    feed = Feed(graph)
    graph.wait_alert(False, START)
    time.sleep(3.0)
    assert graph.alerts[-1] is False
    feed.play(thinned(feed))
    graph.wait_reason('low_input_rate', FALL + SLACK)
    feed.play(None)  # the bag is paused, for longer than the rate is measured
    graph.wait_reason('stale_image', 5)
    time.sleep(3.0)
    feed.play(feed.normal)
    graph.wait_alert(False, 10)
    assert graph.reason != 'low_input_rate'
