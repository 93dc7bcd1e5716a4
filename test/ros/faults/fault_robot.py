"""A robot that drives while it may, faults for it, and the table of what followed.

Each test drives a robot at 1 m/s, brings a fault about, and asserts the reason that is given, that
`ood_alert` is True and the wheels stand still in time, and that both come back once the fault is
gone. What was measured on the way goes into the table of docs/safety.md:

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

START = 60.0  # seconds that a process may take to come up on a busy machine
SLACK = 3.0  # seconds that a busy machine may add to a deadline
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RESULTS = []
SLOW = ('stale_image', 'inference_timeout')  # reasons of a machine that stalls


class Feed:
    """A camera inside the test."""

    def __init__(self, graph, qos=RELIABLE, rate=30.0, frame_id='test_camera'):
        self._graph, self._frame_id = graph, frame_id
        self._publisher = graph.node.create_publisher(Image, 'image', qos)
        self._normal = itertools.cycle(moody.images(3, 500)[0])
        self._rng = np.random.default_rng(0)
        self.now = time.time_ns
        self._make = self.normal
        self._timer = graph.node.create_timer(1 / rate, self._tick)
        graph.feeds = [*getattr(graph, 'feeds', ()), self]  # those that still publish

    def pixels(self):
        return np.repeat(next(self._normal)[..., None], 3, axis=2)

    def normal(self, stamp):
        return rgb_message(self.pixels(), stamp, frame_id=self._frame_id)

    def strange(self, stamp):
        noisy = np.clip(120 + self._rng.normal(0, 5, (8, 8, 1)), 0, 255).astype(np.uint8)
        return rgb_message(np.repeat(noisy, 3, axis=2), stamp, frame_id=self._frame_id)

    def play(self, make):
        """Publish from now on what ``make(stamp)`` returns; nothing if it is None."""
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
    """The graph of a robot that drives straight on as long as it may."""

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
        """Wait until the alert is False and the wheels turn; return when both were first so."""
        graph, since = self.graph, time.monotonic()
        graph.wait(
            lambda: graph.alerts and graph.alerts[-1] is False and self._speed() > 0,
            timeout, 'the robot to drive',
        )
        return time.monotonic() - since

    def stands(self, fault, reasons, within, begin, *, silent=False):
        """Bring a fault about and assert what follows.

        Args:
            fault: Its name.
            reasons: Those that may be given first.
            within: Seconds in which ood_alert must be True by contract.
            begin: Brings it about.
            silent: Whether the monitor can no longer speak; then safety_stop has to notice.
        """
        graph = self.graph
        self.drives()
        alerts, speeds = len(graph.alerts), len(graph.heard['/cmd_vel'])
        start = time.monotonic()
        begin()
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
        """Bring a fault of the gate about and assert that the wheels stop, whatever the alert says.

        Args:
            fault: Its name.
            reason: That the gate gives in its log, or None.
            within: Seconds in which the wheels have to stand still by contract.
            begin: Brings it about.
        """
        graph, log = self.graph, self.gate.log
        speeds, said = len(graph.heard['/cmd_vel']), len(log.read_text())
        start = time.monotonic()
        begin()
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
        """Assert that nothing moves for a while, whatever the alert says."""
        speeds = len(self.graph.heard['/cmd_vel'])
        time.sleep(seconds)
        assert not any(m.linear.x for m in self.graph.heard['/cmd_vel'][speeds:])

    def recovers(self, how, heal=lambda: None, timeout=START):
        """Remove the fault and assert that the robot drives on."""
        heal()
        self._row.update(recovery=how, to_recovery=self.drives(timeout))
        RESULTS.append(self._row)

    def stays_stopped(self, seconds):
        """Assert that nothing moves for a while."""
        speeds = len(self.graph.heard['/cmd_vel'])
        alerts = len(self.graph.alerts)
        time.sleep(seconds)
        assert not any(m.linear.x for m in self.graph.heard['/cmd_vel'][speeds:])
        assert all(self.graph.alerts[alerts:])

    def _speed(self):
        heard = self.graph.heard['/cmd_vel']
        return heard[-1].linear.x if heard else 0.0

    def _reasons(self, since):
        """Return the reasons given since then, oldest first."""
        topic = '/nav_monitor/ood_status'
        pairs = zip(self.graph.heard[topic], self.graph.times[topic], strict=False)
        return [m.status[0].message for m, t in list(pairs) if t >= since]


def change_state(graph, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert graph.call(ChangeState, '/nav_monitor/change_state', request, START).success


class starved:  # noqa: N801
    """Keep every core busy twice over for a while."""

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
