"""Several cameras: services, parameters, lifecycle, diagnostics, pictures, incidents."""

import json
import os

import pytest

pytest.importorskip('rclpy')

from fleet import DEAF, NAMES  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from moody_feed import RELIABLE, START, set_parameters  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('trusted_fleet')]


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
        (['-p', 'cameras:=[front, 2nd]'], "cameras names '2nd'; a name must start with a letter"),
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
