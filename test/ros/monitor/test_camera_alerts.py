"""The combined alert and the cameras' alerts, spoken in one process without a camera."""

import threading
import time
from dataclasses import replace

import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.lifecycle import LifecycleNode  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from nav_monitor_ros.decision.alert.reason import Reason  # noqa: E402
from nav_monitor_ros.decision.alert.state_machine import AlertRules  # noqa: E402
from nav_monitor_ros.decision.verdict import ScoreValue, Verdict  # noqa: E402
from nav_monitor_ros.ros.monitor.camera_alerts import AlertPublishers  # noqa: E402
from nav_monitor_ros.ros.process.log import QueuedLog  # noqa: E402

pytestmark = pytest.mark.ros

RULES = AlertRules(
    exit_count=3, image_timeout=600.0, inference_timeout=600.0, frozen_timeout=0.0
)
USUAL = Verdict(
    0, 'usual', 0.9, ((0, 0.9),), {'energy': ScoreValue(-7.0, 0.5)}, 'energy', 0.01, e_value=0.5
)


class Spoken:
    """The alerts of some cameras, and everything that its publishers were given."""

    def __init__(self, monkeypatch, *cameras):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = LifecycleNode('board', context=self.context)
        self.said = []
        make = self.node.create_publisher

        def listened_to(kind, topic, *arguments, **options):
            publisher = make(kind, topic, *arguments, **options)
            publish = publisher.publish

            class Publisher:
                def publish(self_, message):
                    self.said.append((topic, message))
                    publish(message)

                wait_for_all_acked = publisher.wait_for_all_acked

            return Publisher()

        monkeypatch.setattr(self.node, 'create_publisher', listened_to)
        self.publishers = AlertPublishers(
            self.node, dict.fromkeys(cameras, RULES), 10.0, QueuedLog(self.node.get_logger())
        )
        self.publishers.node_activated()
        self._stamp = 0
        self.dismissed = threading.Event()

    def judge(self, camera, times=1):
        for _ in range(times):
            self._stamp += 1
            alert = self.publishers.cameras[camera]
            alert.image_arrived('camera', time.monotonic())
            header = Header()
            header.stamp.sec = self._stamp
            alert.frame_judged(
                USUAL, self._stamp, time.monotonic(), header, arrived=time.monotonic(), values={},
                dismissed=self.dismissed,
            )

    def alerts(self):
        """Return (topic, value) of all alerts said so far, and forget them."""
        said = [(t, m.data) for t, m in self.said if t.endswith('ood_alert')]
        self.said.clear()
        return said

    def close(self):
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def spoken(monkeypatch):
    made = []

    def make(*cameras):
        made.append(Spoken(monkeypatch, *cameras))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_combined_alert_is_false_only_when_the_last_camera_is(spoken):
    two = spoken('a', 'b')
    assert two.alerts() and two.publishers.alert.value
    two.judge('a', 3)
    assert ('a/ood_alert', False) in two.alerts() and two.publishers.alert.value
    two.judge('b', 2)
    assert ('ood_alert', False) not in two.alerts()
    assert two.publishers.alert.reason is Reason.WARMING_UP
    two.judge('b')
    assert two.alerts() == [('b/ood_alert', False), ('ood_alert', False)]
    assert not two.publishers.alert.value


def test_a_cameras_true_is_the_combined_ones_next_word(spoken):
    two = spoken('a', 'b')
    two.judge('a', 3)
    two.judge('b', 3)
    two.alerts()
    two.publishers.cameras['b'].frame_failed(Reason.BAD_IMAGE, 'torn', Header())
    assert two.alerts() == [('b/ood_alert', True), ('ood_alert', True)]
    assert two.publishers.alert.detail == 'b: bad_image (torn)'
    assert not two.publishers.cameras['a'].alert.value
    # Back again, and nothing was said of the camera that saw well all the time.
    two.judge('b', 3)
    said = two.alerts()
    assert said[-2:] == [('b/ood_alert', False), ('ood_alert', False)]
    assert 'a/ood_alert' not in dict(said)


def test_every_alert_is_repeated_and_what_time_brings_is_said_by_both(spoken):
    two = spoken('a', 'b')
    two.judge('a', 3)
    two.judge('b', 3)
    two.alerts()
    two.publishers.repeat()
    assert sorted(two.alerts()) == [
        ('a/ood_alert', False), ('b/ood_alert', False), ('ood_alert', False)
    ]
    # A timeout that nobody told of: the other camera's next frame brings it out.
    two.publishers.cameras['b'].rules_changed(replace(RULES, image_timeout=1e-9))
    two.judge('a')
    said = two.alerts()
    assert ('b/ood_alert', True) in said and said[-1] == ('ood_alert', True)
    assert two.publishers.alert.reason is Reason.STALE_IMAGE


def test_a_camera_without_a_name_has_the_alert_itself_and_none_is_combined(spoken):
    one = spoken('')
    assert {topic for topic, _ in one.alerts()} == {'ood_alert'}
    one.judge('', 3)
    assert one.alerts()[-1] == ('ood_alert', False)
    one.publishers.repeat()
    assert one.alerts() == [('ood_alert', False)]


def test_a_dismissed_worker_publishes_nothing(spoken):
    one = spoken('')
    one.judge('', 2)
    one.said.clear()
    one.dismissed.set()
    one.judge('', 3)
    assert one.said == [] and one.publishers.alert.reason is Reason.WARMING_UP


def test_the_alert_is_out_before_its_status_and_each_judged_frame_has_one(spoken):
    one = spoken('')
    one.said.clear()
    one.judge('', 3)
    topics = [topic for topic, _ in one.said]
    status = '~/ood_status'
    assert topics == ['ood_alert', status, status, 'ood_alert', status]
    assert [m.header.stamp.sec for t, m in one.said if t == '~/ood_status'] == [1, 2, 3]


def test_the_status_tells_a_cause_that_is_found_while_the_alert_stays_as_it_was(spoken):
    """It is latched: whoever asks why there is no image would be told the oldest answer."""
    one = spoken('')

    def told():
        details = [
            next(value.value for value in message.status[0].values if value.key == 'detail')
            for topic, message in one.said if topic == '~/ood_status'
        ]
        one.said.clear()
        return details

    told()
    for cause in ('nobody publishes /image', '', 'images are lost on their way'):
        one.publishers.cameras[''].input_explained(cause)
        [detail] = told()
        assert detail.startswith('no image ') and detail.endswith(cause)
        one.publishers.cameras[''].input_explained(cause)  # no news
        one.publishers.repeat()
        assert not told()
    for cause in ('there is no bundle a', 'there is no bundle b'):
        one.publishers.model_failed(cause)
        assert told() == [cause]
