"""Faults of the monitor's process and machine."""

from __future__ import annotations

import resource
import signal
import time

import pytest

pytest.importorskip('rclpy')

from fault_robot import SLOW, START, Robot, starved  # noqa: E402
from processes import kill_between_messages  # noqa: E402

pytestmark = pytest.mark.ros


def test_the_monitor_is_killed(graph, moody_bundle):
    robot = Robot(graph, moody_bundle)
    robot.stands(
        'monitor killed (SIGKILL)', [], 0.5, lambda: kill_between_messages(robot.monitor),
        silent=True,
    )
    robot.recovers('monitor started again', robot.start_monitor)


def test_the_monitor_is_stopped_and_continued(robot):
    robot.stands(
        'monitor suspended (SIGSTOP)', [], 0.5,
        lambda: robot.monitor.send_signal(signal.SIGSTOP), silent=True,
    )
    time.sleep(2.0)
    robot.recovers('monitor resumed (SIGCONT)', lambda: robot.monitor.send_signal(signal.SIGCONT))


def test_a_monitor_that_was_stopped_for_long_does_not_trust_what_it_finds(robot):
    """It says True before it says False again, but for the word that was on its way."""
    graph = robot.graph
    robot.drives()
    robot.monitor.send_signal(signal.SIGSTOP)
    time.sleep(2.0)
    alerts = len(graph.alerts)
    robot.monitor.send_signal(signal.SIGCONT)
    graph.wait(lambda: any(graph.alerts[alerts:]), 10, 'ood_alert True')
    # SIGSTOP may fall between the judgement and the middleware's last step; only that one word.
    assert graph.alerts[alerts:].index(True) <= 1
    robot.drives()


def test_both_cores_are_busy(robot):
    graph = robot.graph
    robot.drives()
    with starved():
        time.sleep(2.0)
        robot.drives()  # it goes on, perhaps with a pause
        robot.stands(
            'out-of-distribution images, two busy processes per core', ['ood', *SLOW], 1.0,
            lambda: robot.feed.play(robot.feed.strange),
        )
        graph.wait(lambda: graph.reason in ('ood', *SLOW), START, 'the reason')
    robot.recovers('normal images', lambda: robot.feed.play(robot.feed.normal))


def test_the_disk_is_full_while_incidents_are_written(graph, moody_bundle, tmp_path):
    robot = Robot(graph, moody_bundle, incident_folder=str(tmp_path / 'incidents'))
    robot.drives()
    # As on a full disk every write fails from here on, those of the log too.
    resource.prlimit(robot.monitor.pid, resource.RLIMIT_FSIZE, (0, 0))
    robot.stands(
        'out-of-distribution images, disk full', ['ood'], 0.5,
        lambda: robot.feed.play(robot.feed.strange),
    )
    robot.stays_stopped(1.0)
    robot.recovers('normal images, disk still full', lambda: robot.feed.play(robot.feed.normal))
    assert robot.monitor.poll() is None
