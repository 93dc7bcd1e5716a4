"""One monitor process and several cameras, over DDS, as a safety node sees them."""

import threading
import time

import moody
import pytest

pytest.importorskip('rclpy')

from fleet import NAMES, SLACK  # noqa: E402
from moody_feed import set_parameters  # noqa: E402
from processes import kill_between_messages  # noqa: E402
from rclpy.qos import LivelinessPolicy  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402
from vision_msgs.msg import Classification  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures('trusted_fleet')]


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
    fleet.graph.wait(lambda: len(fleet.statuses('rear')) > count, 10, 'one more verdict')
    died = kill_between_messages(fleet.rear)
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
