"""Robot that drives unless it is stopped, faults for it, and the table of the results.

Each test drives a robot at 1 m/s and causes a fault. It asserts the published reason, that
`ood_alert` becomes True and the wheels stop in time, and that both recover once the fault is
removed. The measured times are written to the table in docs/safety.md:

    NAV_MONITOR_FAULTS=docs/measured/faults.json python -m pytest test/ros/faults
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import time
from pathlib import Path

import moody
import numpy as np
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import rgb_message
from sensor_msgs.msg import Image

START = 60.0  # longest time for a process to start on a busy machine, seconds
SLACK = 3.0  # tolerance of deadlines on a busy machine, seconds
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RESULTS = []
SLOW = ('stale_image', 'inference_timeout')  # reasons on a machine that stalls


class Feed:
    """Camera in the test's process."""

    def __init__(self, graph, qos=RELIABLE, rate=30.0, frame_id='test_camera'):
        self._graph, self._frame_id = graph, frame_id
        self._publisher = graph.node.create_publisher(Image, 'image', qos)
        self._normal = itertools.cycle(moody.images(3, 500)[0])
        self._rng = np.random.default_rng(0)
        self.now = time.time_ns
        self._make = self.normal
        self._timer = graph.node.create_timer(1 / rate, self._tick)
        graph.feeds = [*getattr(graph, 'feeds', ()), self]  # cameras that still publish

    def pixels(self):
        return np.repeat(next(self._normal)[..., None], 3, axis=2)

    def normal(self, stamp):
        return rgb_message(self.pixels(), stamp, frame_id=self._frame_id)

    def strange(self, stamp):
        noisy = np.clip(120 + self._rng.normal(0, 5, (8, 8, 1)), 0, 255).astype(np.uint8)
        return rgb_message(np.repeat(noisy, 3, axis=2), stamp, frame_id=self._frame_id)

    def play(self, make):
        """Publish the messages that ``make(stamp)`` returns; none if ``make`` is None."""
        self._make = make

    def play_plain(self, color):
        self.play(lambda stamp: rgb_message(np.full((8, 8, 3), color, np.uint8), stamp))

    def stop(self):
        if self in self._graph.feeds:
            self._graph.feeds.remove(self)
        self._graph.node.destroy_timer(self._timer)
        self._graph.node.destroy_publisher(self._publisher)

    def _tick(self):
        if self._make is not None and (message := self._make(self.now())) is not None:
            self._publisher.publish(message)


class Robot:
    """Graph of a robot that drives straight ahead unless it is stopped."""

    def __init__(
        self, graph, bundle, *, feed=True, drive=True, env=None, output=None, **parameters
    ):
        self.graph = graph
        self._env, self._output = env or {}, output
        given = {
            'bundle': str(bundle), 'trusted_packages': ['moody'], 'blank_contrast': 0,
            'frozen_timeout': 0, **parameters,
        }
        self._arguments = [
            argument for name, value in given.items()
            for argument in ('-p', f'{name}:={json.dumps(value)}')
        ]
        self.start_monitor()
        graph.listen(Twist, '/cmd_vel', RELIABLE)
        self.start_gate()
        if drive:
            self._wheel = graph.driver.create_publisher(Twist, 'cmd_vel_in', RELIABLE)
            self._drive = graph.node.create_timer(1 / 20, self._go)  # 20 Hz
        self.feed = Feed(graph) if feed else None

    def start_monitor(self):
        path = f'{Path(__file__).parents[2]}:{os.environ.get("PYTHONPATH", "")}'
        self.monitor = self.graph.start_monitor(
            *self._arguments, env={'PYTHONPATH': path, **self._env}, output=self._output
        )

    def start_gate(self):
        self.gate = self.graph.start('safety_stop', env=self._env, output=self._output)

    def _go(self):
        message = Twist()
        message.linear.x = 1.0
        self._wheel.publish(message)

    def drives(self, timeout=START):
        """Wait until the alert is False and the wheels turn; return the seconds waited."""
        graph, since = self.graph, time.monotonic()
        graph.wait(
            lambda: graph.alerts and graph.alerts[-1] is False and self._speed() > 0,
            timeout, 'the robot to drive',
        )
        return time.monotonic() - since

    def stands(self, fault, reasons, within, begin, *, silent=False):
        """Cause a fault and assert its consequences.

        Args:
            fault: Name of the fault.
            reasons: Reasons that may be published first.
            within: Longest time until ood_alert is True by contract, seconds.
            begin: Function that causes the fault; may return when it did, on the steady clock.
            silent: Whether the monitor can no longer publish, so that safety_stop must react.
        """
        graph = self.graph
        self.drives()
        alerts, speeds = len(graph.alerts), len(graph.heard['/cmd_vel'])
        start = _caused(begin)
        end = within + SLACK
        graph.wait(
            lambda: any(m.linear.x == 0 for m in graph.heard['/cmd_vel'][speeds:]),
            end + 0.5, 'the wheels to stop',
        )
        to_zero = next(
            t for m, t in zip(
                graph.heard['/cmd_vel'][speeds:], graph.times['/cmd_vel'][speeds:], strict=False
            ) if m.linear.x == 0
        ) - start
        to_true = reason = None
        if not silent:
            graph.wait(lambda: any(graph.alerts[alerts:]), end, 'ood_alert True')
            place = alerts + graph.alerts[alerts:].index(True)
            to_true = graph.times['/ood_alert'][place] - start
            reason = graph.wait(
                lambda: next((r for r in self._reasons(start) if r in reasons), None),
                end, f'one of {reasons}',
            )
            assert to_true <= within + SLACK
        else:
            assert not any(graph.alerts[alerts:])
        self._row = {
            'fault': fault, 'reason': reason, 'within': within, 'to_true': to_true,
            'to_zero': to_zero,
        }

    def gate_stands(self, fault, reason, within, begin):
        """Cause a fault of the gate and assert that the wheels stop, regardless of the alert.

        Args:
            fault: Name of the fault.
            reason: Reason in the gate's log, or None.
            within: Longest time until the wheels stop by contract, seconds.
            begin: Function that causes the fault.
        """
        graph, log = self.graph, self.gate.log
        speeds, said = len(graph.heard['/cmd_vel']), len(log.read_text())
        start = _caused(begin)
        graph.wait(
            lambda: any(m.linear.x == 0 for m in graph.heard['/cmd_vel'][speeds:]),
            within + SLACK, 'the wheels to stop',
        )
        to_zero = next(
            t for m, t in zip(
                graph.heard['/cmd_vel'][speeds:], graph.times['/cmd_vel'][speeds:], strict=False
            ) if m.linear.x == 0
        ) - start
        if reason:
            graph.wait(lambda: f': {reason}' in log.read_text()[said:], SLACK, reason)
        self._row = {
            'fault': fault, 'reason': reason, 'by': 'safety_stop', 'within': within,
            'to_true': None, 'to_zero': to_zero,
        }

    def stays_still(self, seconds):
        """Assert that the wheels do not turn for some time, regardless of the alert."""
        speeds = len(self.graph.heard['/cmd_vel'])
        time.sleep(seconds)
        assert not any(m.linear.x for m in self.graph.heard['/cmd_vel'][speeds:])

    def recovers(self, how, heal=lambda: None, timeout=START):
        """Remove the fault and assert that the robot drives again."""
        heal()
        self._row.update(recovery=how, to_recovery=self.drives(timeout))
        RESULTS.append(self._row)

    def stays_stopped(self, seconds):
        """Assert that the wheels do not turn and the alert is True for some time."""
        speeds = len(self.graph.heard['/cmd_vel'])
        alerts = len(self.graph.alerts)
        time.sleep(seconds)
        assert not any(m.linear.x for m in self.graph.heard['/cmd_vel'][speeds:])
        assert all(self.graph.alerts[alerts:])

    def _speed(self):
        heard = self.graph.heard['/cmd_vel']
        return heard[-1].linear.x if heard else 0.0

    def _reasons(self, since):
        """Return the reasons published since a time, oldest first."""
        topic = '/nav_monitor/ood_status'
        pairs = zip(self.graph.heard[topic], self.graph.times[topic], strict=False)
        return [m.status[0].message for m, t in list(pairs) if t >= since]


def change_state(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert graph.call(ChangeState, '/nav_monitor/change_state', request, START).success


class starved:  # noqa: N801
    """Context in which two processes per core use all CPU time."""

    def __enter__(self):
        context = multiprocessing.get_context('spawn')
        self._busy = [
            context.Process(target=spin, daemon=True) for _ in range(2 * os.cpu_count())
        ]
        for process in self._busy:
            process.start()

    def __exit__(self, *_):
        for process in self._busy:
            process.kill()
            process.join()


def spin():
    while True:
        pass


def _caused(begin):
    """Cause a fault and return when; what prepares it, such as waiting, is no part of it."""
    start = time.monotonic()
    caused = begin()
    return caused if isinstance(caused, float) else start
