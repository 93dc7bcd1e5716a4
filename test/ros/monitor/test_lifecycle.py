"""Services, lifecycle and the end of the process."""

import signal

import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.msg import State as LifecycleState  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from moody_feed import (  # noqa: E402
    START,
    Feed,
    change_state,
    get_state,
    moody_arguments,
    python_path,
    set_parameters,
)
from ros_harness import values  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

pytestmark = pytest.mark.ros


def test_disabling_means_true_and_enabling_judges_again(trusted):
    service = '/nav_monitor/set_enabled'
    answer = trusted.call(SetBool, service, SetBool.Request(data=False))
    assert answer.success
    trusted.wait_reason('disabled', 5)
    trusted.wait_alert(True, 5)
    trusted.call(SetBool, service, SetBool.Request(data=True))
    trusted.wait_alert(False, 10)


def test_a_latched_alert_waits_for_the_reset_service(graph, moody_bundle):
    arguments = moody_arguments(moody_bundle, latch=True)
    monitor = graph.start_monitor(*arguments, env=python_path())
    feed = Feed(graph)
    graph.wait_reason('latched', START)  # since the start, which may be a restart
    graph.call(Trigger, '/nav_monitor/reset_alert', Trigger.Request())
    graph.wait_alert(False, 10)
    feed.play_plain(120)
    graph.wait_reason('ood', 10)
    feed.play(feed.normal)
    graph.wait_reason('latched', 10)
    graph.wait_alert(True, 5)
    monitor.terminate()
    monitor.wait(START)
    begin = len(graph.alerts)
    graph.start_monitor(*arguments, env=python_path())
    graph.wait_judged(START)
    graph.wait_reason('latched', 10)
    assert all(graph.alerts[begin:])
    graph.call(Trigger, '/nav_monitor/reset_alert', Trigger.Request())
    graph.wait_alert(False, 10)


def test_a_lifecycle_manager_is_in_charge_where_autostart_is_off(graph, moody_bundle):
    monitor = graph.start_monitor(
        *moody_arguments('/nowhere', autostart=False), env=python_path()
    )
    feed = Feed(graph)
    graph.wait_reason('inactive', START)

    # A bundle that is not there: the transition fails, the node lives and says why.
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert get_state(graph) == LifecycleState.PRIMARY_STATE_UNCONFIGURED
    status = graph.wait_reason('model_error', 5)
    assert '/nowhere' in values(status.status[0])['detail']
    graph.wait_alert(True, 5)
    assert monitor.poll() is None

    assert set_parameters(graph, bundle=str(moody_bundle)).successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_alert(False, 20)

    assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
    graph.wait_reason('inactive', 5)
    graph.wait_alert(True, 5)
    assert change_state(graph, Transition.TRANSITION_CLEANUP)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_alert(False, 20)

    feed.play(None)
    assert change_state(graph, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    graph.wait_reason('inactive', 5)
    graph.wait_alert(True, 5)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_true_as_its_last_word(trusted, number):
    trusted.monitor.send_signal(number)
    assert trusted.monitor.wait(10) == 0
    trusted.wait_alert(True, 5)
    assert 'Traceback' not in trusted.monitor.log.read_text()
