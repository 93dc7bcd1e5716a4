"""Faults of the network, and images that are out-of-distribution."""

from __future__ import annotations

import moody
import pytest

pytest.importorskip('rclpy')



pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ('name', 'color', 'reason', 'within'),
    [
        ('network hangs (3 s)', moody.HANG, 'inference_timeout', 1.1),
        ('network raises an exception', moody.RAISE, 'inference_error', 0.1),
        ('network raises SystemExit', moody.EXIT, 'inference_error', 0.1),
        ('network returns NaN', moody.NAN, 'inference_error', 0.1),
        ('worker thread dies', moody.DIE, 'inference_error', 0.3),
    ],
)
def test_the_network_fails(robot, name, color, reason, within):
    robot.stands(name, [reason], within, lambda: robot.feed.play_plain(color))
    if reason == 'inference_error' and color != moody.DIE:  # lasts until another image comes
        robot.graph.wait(
            lambda: robot.graph.wait_diagnostic('inference', '', 5).level == b'\x02', 5,
            'an error of the inference in /diagnostics')
    robot.recovers(
        'images that the network can process', lambda: robot.feed.play(robot.feed.normal)
    )


def test_frames_are_out_of_distribution(robot):
    robot.stands(
        'out-of-distribution images', ['ood'], 0.5, lambda: robot.feed.play(robot.feed.strange)
    )
    robot.recovers('normal images', lambda: robot.feed.play(robot.feed.normal))
