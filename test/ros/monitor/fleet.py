"""Monitor process with four cameras."""

from __future__ import annotations

import itertools
import threading
import time

import moody
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from moody_feed import RELIABLE, START, moody_arguments, python_path
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_harness import LATCHED, rgb_message, stamp_ns, values
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

NAMES = ('front', 'left', 'right', 'rear')
SLACK = 3.0  # tolerance of deadlines on a busy machine, seconds
DEAF = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Feed:
    """Camera in the test's process, at 20 Hz."""

    def __init__(self, graph, name):
        self._name = name
        topic = f'{name}/image' if name else 'image'
        self._publisher = graph.node.create_publisher(Image, topic, RELIABLE)
        self._normal = itertools.cycle(moody.images(3, 500)[0])
        self._rng = np.random.default_rng(0)
        self._make = self.normal
        self._lock = threading.Lock()
        graph.node.create_timer(1 / 20, self._tick)

    def normal(self, stamp):
        pixels = np.repeat(next(self._normal)[..., None], 3, axis=2)
        return rgb_message(pixels, stamp, frame_id=self._name)

    def strange(self, stamp):
        noisy = np.clip(120 + self._rng.normal(0, 5, (8, 8, 1)), 0, 255).astype(np.uint8)
        return rgb_message(np.repeat(noisy, 3, axis=2), stamp, frame_id=self._name)

    def plain(self, color):
        return lambda stamp: rgb_message(
            np.full((8, 8, 3), color, np.uint8), stamp, frame_id=self._name
        )

    def garbage(self, stamp):
        message = self.normal(stamp)
        message.data = bytes(100)
        return message

    def play(self, make):
        """Publish the messages that ``make(stamp)`` returns; ``make`` None stands for none."""
        self._make = make

    def send(self):
        """Publish one image now, in addition to those of the timer."""
        with self._lock:
            message = self._make(time.time_ns())
            if message is not None:
                self._publisher.publish(message)

    def _tick(self):
        if self._make is not None:
            self.send()


class Fleet:
    """Monitor with four cameras, three of them in this process."""

    def __init__(self, graph, bundle, folder):
        self.graph, self._folder = graph, folder
        self.rear_log = None
        for topic in self.alert_topics:
            graph.listen(Bool, topic, LATCHED)
        for name in NAMES:
            graph.listen(DiagnosticArray, f'/nav_monitor/{name}/ood_status', LATCHED)
        # The timeouts are long, because cameras stall while the machine is busy.
        self.monitor = graph.start_monitor(
            *moody_arguments(
                bundle, cameras=list(NAMES), image_timeout=10.0, inference_timeout=20.0,
                stamp_tolerance=20.0, exit_count=3, incident_interval=0.0,
                **{'rear.image_timeout': 5.0},
            ),
            env=python_path(),
        )
        # The alerts must be discovered before the first image, or their first True is missed.
        graph.wait(
            lambda: all(graph.heard[topic] for topic in self.alert_topics), START, 'every alert'
        )
        self.feeds = {name: Feed(graph, name) for name in NAMES[:3]}
        pixels, labels = moody.images(5, 300)
        np.savez(folder / 'rear.npz', x=pixels, y=labels)
        self.rear = self.start_rear()

    @property
    def alert_topics(self):
        return ('/ood_alert', *(f'/{name}/ood_alert' for name in NAMES))

    def start_rear(self):
        return self.graph.start(
            'camera', '-p', f'source:={self._folder}/rear.npz', '-p', 'width:=8', '-p',
            'height:=8', '-p', 'rate:=20.0', '-p', 'frame_id:=rear', '-r', 'image:=rear/image',
            '-r', '__node:=rear_camera',
        )

    def heard(self, name):
        return [m.data for m in self.graph.heard[f'/{name}/ood_alert' if name else '/ood_alert']]

    def statuses(self, name):
        topic = f'/nav_monitor/{name}/ood_status' if name else '/nav_monitor/ood_status'
        return self.graph.heard[topic]

    def reason(self, name):
        found = self.statuses(name)
        return found[-1].status[0].message if found else ''

    def told(self, name):
        return values(self.statuses(name)[-1].status[0])

    def judged(self, name):
        """Return the stamps of all judged frames."""
        return [
            stamp_ns(status.header) for status in self.statuses(name)
            if 'class' in values(status.status[0])
        ]

    def trusted(self, timeout=START):
        """Wait until no alert is raised."""
        self.graph.wait(
            lambda: all(
                (heard := self.heard(name)) and heard[-1] is False for name in ('', *NAMES)
            ),
            timeout, f'trust in all cameras; {self.describe()}',
        )

    def wait_reason(self, name, reason, timeout=20.0):
        self.graph.wait(
            lambda: self.reason(name) == reason, timeout, f'{reason} of {name or "all"}'
        )
        self.graph.wait(
            lambda: self.heard(name)[-1] is (reason not in ('in_distribution', 'suspect')),
            10, f'the alert of {name or "all"}',
        )

    def describe(self):
        return {name: self.reason(name) for name in ('', *NAMES)}

    def watch(self, *names):
        """Return a function that asserts that the cameras were not disturbed since this call."""
        alerts = {name: len(self.heard(name)) for name in names}
        frames = {name: len(self.judged(name)) for name in names}

        def undisturbed(least=20):
            for name in names:
                self.graph.wait(
                    lambda name=name: len(self.judged(name)) >= frames[name] + least,
                    60, f'{least} more frames of {name}',
                )
                new = self.heard(name)[alerts[name]:]
                assert new and not any(new), (name, self.reason(name))

        return undisturbed
