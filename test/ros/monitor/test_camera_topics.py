"""Which topics the monitor's cameras have after remapping, and what a wrong one leads to."""

import pytest

rclpy = pytest.importorskip('rclpy')

from fleet import Feed  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from moody_feed import START, moody_arguments, python_path, set_parameters  # noqa: E402
from ros_harness import LATCHED, Graph, values  # noqa: E402
from std_msgs.msg import Bool, String  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

# ruff: noqa: F811 - fixtures that are imported
pytestmark = pytest.mark.ros

TWO = {'cameras': ['front', 'rear']}


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


def start(graph, bundle, *remappings, **parameters):
    rules = [argument for rule in remappings for argument in ('-r', rule)]
    return graph.start_monitor(
        *moody_arguments(bundle, **{**TWO, **parameters}), *rules, env=python_path()
    )


@pytest.mark.parametrize(('remappings', 'said'), [
    (('front/image:=/cam', 'rear/image:=/cam'), 'front and rear both use /cam'),
    (('rear/image:=front/image',), 'front and rear both use /front/image'),
    (('front/ood_alert:=ood_alert',), 'ood_alert and front/ood_alert are both /ood_alert'),
    (('/rear/ood_alert:=/front/ood_alert',), 'are both /front/ood_alert'),
])
def test_topics_that_are_one_end_the_start_in_one_line(graph, moody_bundle, remappings, said):
    monitor = start(graph, moody_bundle, *remappings)
    assert monitor.wait(START) == 1
    (line,) = monitor.log.read_text().splitlines()
    assert said in line
    assert 'remap' in line


def test_a_name_that_is_too_long_with_its_suffix_ends_the_start_in_one_line(graph, moody_bundle):
    monitor = start(
        graph, moody_bundle, f'rear/image:=/{"a" * 240}', **{'rear.image_transport': 'compressed'})
    assert monitor.wait(START) == 1
    (line,) = monitor.log.read_text().splitlines()
    assert 'topic length should not exceed' in line


@pytest.mark.parametrize(('remappings', 'given'), [
    # Without a width, x and y mean nothing.
    (('front/image:=/cam', 'rear/image:=/cam'), {'rear.roi': [1, 0, 0, 0]}),
    # /compressed is appended only where it is missing.
    (('front/image:=/cam/compressed', 'rear/image:=/cam'), {'image_transport': 'compressed'}),
])
def test_two_cameras_with_one_view_end_the_start(graph, moody_bundle, remappings, given):
    monitor = start(graph, moody_bundle, *remappings, **given)
    assert monitor.wait(START) == 1
    assert 'front and rear both use /cam' in monitor.log.read_text()


def test_two_cameras_do_not_get_one_view_while_running(graph, moody_bundle):
    regions = {'front.roi': [0, 0, 8, 8], 'rear.roi': [0, 0, 8, 7]}
    start(graph, moody_bundle, 'front/image:=/cam', 'rear/image:=/cam', **regions)
    graph.wait_reason('no_image', START)
    answer = set_parameters(graph, **{'rear.roi': [0, 0, 8, 8]})
    assert not answer.successful and 'front and rear both use /cam' in answer.reason
    assert set_parameters(graph, **{'rear.roi': [0, 0, 8, 6]}).successful


def test_two_views_of_one_image_are_two_cameras(graph, moody_bundle):
    start(
        graph, moody_bundle, 'front/image:=/cam', 'rear/image:=/cam',
        **{'front.roi': [0, 0, 8, 8], 'rear.roi': [0, 0, 8, 7]},
    )
    graph.wait_reason('no_image', START)


def test_cameras_that_are_swapped_by_remapping_are_swapped_once(graph, moody_bundle):
    names = ('front', 'rear')
    start(graph, moody_bundle, 'front/image:=/rear/image', 'rear/image:=/front/image')
    for name in names:
        graph.listen(Bool, f'/{name}/ood_alert', LATCHED)
    feeds = {name: Feed(graph, f'/{name}') for name in names}
    graph.wait_alert(False, START)
    feeds['front'].play(None)  # on /front/image, where the camera rear is now

    def alert(name):
        return graph.heard[f'/{name}/ood_alert'][-1].data

    graph.wait(lambda: alert('rear'), 10, "the rear camera's alert")
    assert alert('front') is False
    (status,) = (
        s for s in graph.heard['/diagnostics'][-1].status if s.name.endswith(': front: input')
    )
    assert values(status)['topic'] == '/rear/image'
    graph.wait_diagnostic('rear: input', 'no image for', 10)


def test_a_failed_activation_leaves_nothing_behind_and_is_told(graph, moody_bundle):
    # The override is refused when the node subscribes.
    monitor = start(
        graph, moody_bundle, autostart=False,
        **{'qos_overrides./rear/image.subscription.durability': 'transient_local'},
    )
    Feed(graph, 'front')

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call(ChangeState, '/nav_monitor/change_state', request, START).success

    assert change(Transition.TRANSITION_CONFIGURE)
    for _ in range(3):
        assert not change(Transition.TRANSITION_ACTIVATE)
    graph.wait(
        lambda: not graph.node.get_subscriptions_info_by_topic('/front/image'), 10,
        'no subscription to be left',
    )

    def told():
        detail = values(graph.statuses[-1].status[0])['detail']
        return 'rear: inactive (' in detail and 'the node is not active' not in detail

    graph.wait(told, 10, 'why it is inactive')
    assert graph.wait_diagnostic('model', 'qos_overrides of /rear/image', 10).level == b'\x02'
    assert monitor.poll() is None


def test_a_stray_publisher_of_another_type_is_no_error_where_images_come(graph, moody_bundle):
    start(graph, moody_bundle, cameras=[''])
    Feed(graph, '')
    graph.wait_alert(False, START)
    # A participant takes a topic in one type only.
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=graph.domain.number)
    stray = rclpy.create_node('stray', context=context)
    stray.create_publisher(String, 'image', 10)
    try:
        status = graph.wait_diagnostic('input', 'also carries std_msgs/msg/String', 10)
        assert status.level == b'\x01'
    finally:
        stray.destroy_node()
        rclpy.shutdown(context=context)


def test_a_camera_that_is_switched_off_is_told_as_such(graph, moody_bundle):
    start(graph, moody_bundle, cameras=[''])
    Feed(graph, '')
    graph.wait_alert(False, START)
    graph.call(SetBool, '/nav_monitor/set_enabled', SetBool.Request(data=False))
    assert graph.wait_diagnostic('input', 'switched off', 10).level == b'\x03'
