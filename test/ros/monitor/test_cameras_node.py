"""One monitor process and several cameras, over DDS, as a safety node sees them."""

import itertools
import json
import os
import threading
import time

import moody
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.qos import LivelinessPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_harness import LATCHED, Graph, rgb_message, stamp_ns, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool, Float32  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from test_node import RELIABLE, START, moody_arguments, python_path, set_parameters  # noqa: E402
from vision_msgs.msg import Classification  # noqa: E402

pytestmark = pytest.mark.ros

NAMES = ('front', 'left', 'right', 'rear')
SLACK = 3.0  # seconds that a busy machine may add to a deadline
DEAF = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class Feed:
    """One camera inside the test, at 20 Hz."""

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
        """Publish from now on what ``make(stamp)`` returns; nothing if it is None."""
        self._make = make

    def send(self):
        """Publish one image now, besides those of the timer."""
        with self._lock:
            self._publisher.publish(self._make(time.time_ns()))

    def _tick(self):
        if self._make is not None:
            self.send()


class Fleet:
    """A monitor with four cameras, three of them in this process."""

    def __init__(self, graph, bundle, folder):
        self.graph, self._folder = graph, folder
        self.rear_log = None
        for topic in self.alert_topics:
            graph.listen(Bool, topic, LATCHED)
        for name in NAMES:
            graph.listen(DiagnosticArray, f'/nav_monitor/{name}/ood_status', LATCHED)
        # Cameras stand still while the machine is busy.
        self.monitor = graph.start_monitor(
            *moody_arguments(
                bundle, cameras=list(NAMES), image_timeout=10.0, inference_timeout=20.0,
                stamp_tolerance=20.0, exit_count=3, incident_interval=0.0,
                **{'rear.image_timeout': 5.0},
            ),
            env=python_path(),
        )
        # An alert's first True is lost on a listener that finds it later than its first image.
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
        """Note where the cameras are; the result asserts that they were not disturbed since."""
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


@pytest.fixture(scope='module')
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fleet')
    graph = Graph(folder)
    try:
        yield Fleet(graph, moody.make_bundle(folder / 'moody'), folder)
    finally:
        graph.stop()


@pytest.fixture(autouse=True)
def begin(fleet):
    for feed in fleet.feeds.values():
        feed.play(feed.normal)
    fleet.trusted()


def test_every_alert_is_true_until_its_camera_is_judged(fleet):
    for name in ('', *NAMES):
        heard = fleet.heard(name)
        assert heard[0] is True and False in heard
    # The combined one waited for the last of them, by what one listener hears of five topics.
    first = {
        topic: fleet.graph.times[topic][[m.data for m in fleet.graph.heard[topic]].index(False)]
        for topic in fleet.alert_topics
    }
    assert first['/ood_alert'] >= max(first.values()) - SLACK


def test_all_alerts_are_repeated_and_offer_a_deadline_and_a_lease(fleet):
    for topic in fleet.alert_topics:
        (info,) = fleet.graph.node.get_publishers_info_by_topic(topic)
        qos = info.qos_profile
        assert qos.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
        assert 0 < qos.deadline.nanoseconds <= 500_000_000
        assert 0 < qos.liveliness_lease_duration.nanoseconds <= 1_000_000_000
        count = len(fleet.graph.heard[topic])
        fleet.graph.wait(
            lambda topic=topic, count=count: len(fleet.graph.heard[topic]) >= count + 5,
            20, f'repetitions of {topic}',
        )


def test_each_camera_has_its_own_predictions_with_its_stamps(fleet):
    for name in ('left', 'rear'):
        fleet.graph.listen(Classification, f'/nav_monitor/{name}/prediction')
        fleet.graph.listen(Float32, f'/nav_monitor/{name}/ood_score')
    for name in ('left', 'rear'):
        heard = fleet.graph.heard[f'/nav_monitor/{name}/prediction']
        fleet.graph.wait(lambda heard=heard: len(heard) > 10, 20, f'predictions of {name}')
        assert {message.header.frame_id for message in heard} == {name}
        fleet.graph.wait(
            lambda name=name: fleet.graph.heard[f'/nav_monitor/{name}/ood_score'], 10, 'a score'
        )
        assert {s.header.frame_id for s in fleet.statuses(name)[-5:]} == {name}


def test_a_strange_scene_alerts_its_camera_and_the_combined_alert_only(fleet):
    undisturbed = fleet.watch('front', 'right', 'rear')
    left = fleet.feeds['left']
    left.play(left.strange)
    fleet.wait_reason('left', 'ood')
    fleet.wait_reason('', 'ood')
    told = fleet.told('')
    assert told['alerted'] == 'left' and told['left/reason'] == 'ood'
    assert told['alert'] == 'true' and told['front/alert'] == 'false'
    assert told['detail'].startswith('left: ood')
    undisturbed()
    left.play(left.normal)
    fleet.trusted()
    fleet.graph.wait(lambda: fleet.told('')['alerted'] == '', 10, 'nobody alerted')


def test_a_garbage_image_is_a_bad_image_of_its_camera_only(fleet):
    undisturbed = fleet.watch('front', 'left', 'rear')
    fleet.feeds['right'].play(fleet.feeds['right'].garbage)
    fleet.wait_reason('right', 'bad_image')
    fleet.wait_reason('', 'bad_image')
    assert 'right: bad_image' in fleet.told('')['detail']
    undisturbed()


@pytest.mark.parametrize(
    ('color', 'words'), [(moody.NAN, 'not finite'), (moody.RAISE, 'a kernel failed')]
)
def test_an_image_on_which_the_network_fails_is_its_cameras_only(fleet, color, words):
    undisturbed = fleet.watch('left', 'right', 'rear')
    fleet.feeds['front'].play(fleet.feeds['front'].plain(color))
    fleet.wait_reason('front', 'inference_error')
    fleet.wait_reason('', 'inference_error')
    assert words in fleet.told('front')['detail']
    undisturbed()


def test_a_worker_that_dies_of_one_cameras_image_is_started_anew_for_all(fleet):
    front = fleet.feeds['front']
    front.play(front.plain(moody.DIE))
    fleet.wait_reason('front', 'inference_error')
    front.play(front.normal)
    fleet.trusted()
    fleet.watch(*NAMES)()
    assert fleet.monitor.poll() is None


def test_a_killed_camera_alerts_and_the_others_go_on(fleet):
    undisturbed = fleet.watch('front', 'left', 'right')
    assert set_parameters(fleet.graph, **{'rear.image_timeout': 0.5}).successful
    count = len(fleet.statuses('rear'))
    # Half-way between two images, as in test_node.
    fleet.graph.wait(lambda: len(fleet.statuses('rear')) > count, 10, 'one more verdict')
    time.sleep(0.02)
    died = time.monotonic()
    fleet.rear.kill()
    fleet.wait_reason('rear', 'stale_image')
    fleet.wait_reason('', 'stale_image')
    for topic in ('/rear/ood_alert', '/ood_alert'):
        raised = next(
            at for at, m in zip(fleet.graph.times[topic], fleet.graph.heard[topic], strict=False)
            if at > died and m.data
        )
        assert raised - died < 1.0 + SLACK
    undisturbed()
    fleet.rear = fleet.start_rear()
    assert set_parameters(fleet.graph, **{'rear.image_timeout': 5.0}).successful
    fleet.trusted()


def test_a_flood_of_one_camera_leaves_the_others_their_turn(fleet):
    stop, sent = threading.Event(), []
    front = fleet.feeds['front']

    def flood():
        while not stop.is_set():
            front.send()
            sent.append(0)
            time.sleep(0.002)

    undisturbed = fleet.watch('left', 'right', 'rear')
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        undisturbed(least=40)
        fleet.graph.wait(lambda: len(sent) > 500, 60, 'the flood')
        again = fleet.watch(*NAMES)
        again(least=20)
    finally:
        stop.set()
        thread.join(10)


def test_a_network_that_hangs_makes_all_alerts_true(fleet):
    assert set_parameters(fleet.graph, inference_timeout=1.0).successful
    try:
        right = fleet.feeds['right']
        right.play(right.plain(moody.HANG))
        for name in (*NAMES, ''):
            fleet.wait_reason(name, 'inference_timeout', 60)
    finally:
        right.play(right.normal)
        assert set_parameters(fleet.graph, inference_timeout=20.0).successful
    fleet.trusted()


def test_one_camera_or_all_can_be_switched_off(fleet):
    undisturbed = fleet.watch('front', 'left', 'right')
    answer = switch(fleet, 'nav_monitor/rear/set_enabled', False)
    assert answer.success and answer.message == 'disabled'
    fleet.wait_reason('rear', 'disabled')
    fleet.wait_reason('', 'disabled')
    undisturbed()
    switch(fleet, 'nav_monitor/rear/set_enabled', True)
    fleet.trusted()
    switch(fleet, 'nav_monitor/set_enabled', False)
    for name in ('', *NAMES):
        fleet.wait_reason(name, 'disabled')
    switch(fleet, 'nav_monitor/set_enabled', True)
    fleet.trusted()


def switch(fleet, service, value):
    return fleet.graph.call(SetBool, f'/{service}', SetBool.Request(data=value))


@pytest.mark.parametrize('service', ['left/reset_alert', 'reset_alert'])
def test_a_latched_camera_waits_for_its_reset_or_the_common_one(fleet, service):
    assert set_parameters(fleet.graph, **{'left.latch': True}).successful
    try:
        left = fleet.feeds['left']
        left.play(left.strange)
        fleet.wait_reason('left', 'ood')
        left.play(left.normal)
        fleet.wait_reason('left', 'latched')
        fleet.wait_reason('', 'latched')
        fleet.graph.call(Trigger, f'/nav_monitor/{service}', Trigger.Request())
        fleet.trusted()
    finally:
        assert set_parameters(fleet.graph, **{'left.latch': False}).successful


def test_a_region_of_one_camera_is_its_own(fleet):
    undisturbed = fleet.watch('left', 'right', 'rear')
    assert set_parameters(fleet.graph, **{'front.roi': [0, 0, 20, 20]}).successful
    try:
        fleet.wait_reason('front', 'bad_image')
        assert 'region of interest' in fleet.told('front')['detail']
        undisturbed()
    finally:
        assert set_parameters(fleet.graph, **{'front.roi': [0, 0, 0, 0]}).successful
    refused = set_parameters(fleet.graph, **{'front.image_timeout': -1.0})
    assert not refused.successful and 'front.image_timeout is -1.0' in refused.reason


def test_the_lifecycle_is_that_of_all_cameras(fleet):
    change(fleet, Transition.TRANSITION_DEACTIVATE)
    for name in ('', *NAMES):
        fleet.wait_reason(name, 'inactive')
    change(fleet, Transition.TRANSITION_CLEANUP)
    change(fleet, Transition.TRANSITION_CONFIGURE)
    change(fleet, Transition.TRANSITION_ACTIVATE)
    fleet.trusted()


def change(fleet, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert fleet.graph.call(ChangeState, '/nav_monitor/change_state', request, START).success


def test_diagnostics_tell_of_each_camera(fleet):
    wanted = [
        *(f'{name}: {part}' for name in NAMES for part in ('input', 'inference', 'ood')),
        'ood', 'model',
    ]

    def newest():
        return fleet.graph.heard['/diagnostics'][-1].status

    def topics():
        return [values(s).get('topic') for s in newest() if s.name.endswith(': input')]

    # They come once a second: the newest may be of before the cameras were active again.
    fleet.graph.wait(
        lambda: topics() == [f'/{name}/image' for name in NAMES], 10, 'what each camera listens to'
    )
    assert [s.name.removeprefix('/nav_monitor: ') for s in newest()] == wanted


def test_pictures_are_drawn_of_the_camera_that_is_watched(fleet):
    fleet.graph.listen(Image, '/nav_monitor/left/overlay', DEAF)
    fleet.graph.listen(Image, '/nav_monitor/left/activations', DEAF)
    for topic in ('/nav_monitor/left/overlay', '/nav_monitor/left/activations'):
        heard = fleet.graph.heard[topic]
        fleet.graph.wait(lambda heard=heard: len(heard) > 2, 30, topic)
        assert {message.header.frame_id for message in heard} == {'left'}
    fleet.graph.wait(lambda: drawn(fleet).get('left'), 10, 'the counter in /diagnostics')
    assert [name for name, count in drawn(fleet).items() if count] == ['left']


def drawn(fleet):
    """Return how many pictures were drawn of each camera that is active."""
    counts = {}
    for status in fleet.graph.heard['/diagnostics'][-1].status:
        _, camera, part = [*status.name.split(': '), ''][:3]
        if part == 'inference' and 'pictures_drawn' in values(status):
            counts[camera] = int(values(status)['pictures_drawn'])
    return counts


def test_incidents_of_each_camera_lie_in_a_folder_of_its_own(fleet, tmp_path):
    folder = tmp_path / 'incidents'
    assert set_parameters(fleet.graph, incident_folder=str(folder)).successful
    try:
        left = fleet.feeds['left']
        left.play(left.strange)
        fleet.wait_reason('left', 'ood')
        found = fleet.graph.wait(
            lambda: [p for p in folder.glob('left/*_ood') if (p / 'verdicts.json').exists()],
            20, 'the incident',
        )
        told = json.loads((found[0] / 'verdicts.json').read_text())
        assert {frame['frame_id'] for frame in told['frames']} == {'left'}
        assert os.listdir(folder) == ['left']
    finally:
        assert set_parameters(fleet.graph, incident_folder='').successful


def test_the_robot_stops_when_one_camera_sees_what_it_does_not_know(fleet):
    graph = fleet.graph
    graph.listen(Twist, '/cmd_vel', RELIABLE)
    graph.start('safety_stop')
    wheel = graph.driver.create_publisher(Twist, 'cmd_vel_in', RELIABLE)
    command = Twist()
    command.linear.x = 1.0
    timer = graph.node.create_timer(1 / 20, lambda: wheel.publish(command))

    def speed():
        return graph.heard['/cmd_vel'][-1].linear.x if graph.heard['/cmd_vel'] else None

    try:
        graph.wait(lambda: speed() == 1.0, START, 'the robot to drive')
        fleet.feeds['right'].play(fleet.feeds['right'].strange)
        graph.wait(lambda: speed() == 0.0, 20, 'the robot to stand')
        fleet.feeds['right'].play(fleet.feeds['right'].normal)
        graph.wait(lambda: speed() == 1.0, START, 'the robot to drive again')
    finally:
        graph.node.destroy_timer(timer)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-p', 'cameras:=[front, front]'], "cameras names 'front' twice"),
        (['-p', 'cameras:=[front, 2nd]'], "cameras names '2nd'; a name begins with a letter"),
        (['-p', 'cameras:=[front]', '-p', 'front.roi:=[1, 2]'], 'parameter roi has 2'),
        (['-p', 'cameras:=[front]', '-p', 'front.latch:=3'], 'front.latch is 3, a int'),
    ],
)
def test_cameras_that_cannot_be_watched_end_the_process_with_one_line(tmp_path, arguments, words):
    graph = Graph(tmp_path)
    try:
        monitor = graph.start('monitor', *arguments)
        assert monitor.wait(START) == 1
        lines = monitor.log.read_text().splitlines()
        telling = [line for line in lines if 'ERROR' in line or 'FATAL' in line]
        assert len(telling) == 1 and words in telling[0], lines
    finally:
        graph.stop()
