"""The bond with Nav2's lifecycle manager, for which a stand-in in this process stands."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('bond.msg', reason='the messages of bond are not installed')

from bond.msg import Constants, Status  # noqa: E402
from bond_manager import CHECK, QOS, Manager  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from moody_feed import START, Feed, change_state, moody_arguments, python_path  # noqa: E402
from processes import kill_between_messages  # noqa: E402

pytestmark = pytest.mark.ros

HEARTBEAT = 0.1  # seconds, the default
SLACK = 2.0  # seconds, on a busy machine


def start(graph, bundle, **parameters):
    monitor = graph.start_monitor(
        *moody_arguments(bundle, **{'autostart': False, **parameters}), env=python_path())
    graph.wait_reason('inactive', START)
    return monitor


def test_the_bond_lasts_from_the_activation_to_the_deactivation(graph, moody_bundle):
    manager = Manager(graph)
    start(graph, moody_bundle)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    time.sleep(0.5)
    assert not manager.heard
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    manager.bind(4.0)
    graph.wait_diagnostic('bond', 'formed with the lifecycle manager', 5)
    begin = len(manager.heard)
    time.sleep(3.0)
    beats = [(at, status) for at, status in manager.heard[begin:]]
    assert {(s.id, s.active, s.instance_id) for _, s in beats} == {
        ('nav_monitor', True, manager.instances()[0])}
    assert beats[0][1].heartbeat_period == pytest.approx(HEARTBEAT)
    assert np.median(np.diff([at for at, _ in beats])) == pytest.approx(HEARTBEAT, rel=0.3)
    deactivated = time.monotonic()
    assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
    graph.wait(lambda: not manager.heard[-1][1].active, SLACK, 'the end of the bond')
    assert next(at for at, s in manager.heard if not s.active) - deactivated < 0.5 + SLACK
    graph.wait_diagnostic('bond', 'not active', 5)  # acknowledged
    count = len(manager.heard)
    time.sleep(1.0)
    assert len(manager.heard) == count


def test_a_hundred_activations_have_a_hundred_bonds_one_after_another(graph, moody_bundle):
    manager = Manager(graph)
    start(graph, moody_bundle, exit_count=1)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    for number in range(100):
        assert change_state(graph, Transition.TRANSITION_ACTIVATE)
        manager.bind(4.0)
        assert len(manager.instances()) == number + 1
        assert manager.bond.broken_at is None
        assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
        manager.bond.stop()
    # Once an instance has ended, or a newer one has begun, it is not alive again.
    ended, newest = set(), -1
    order = {instance: place for place, instance in enumerate(manager.instances())}
    for _, status in manager.heard:
        place = order[status.instance_id]
        if status.active:
            assert status.instance_id not in ended and place >= newest
        else:
            ended.add(status.instance_id)
        newest = max(newest, place)
    assert len(order) == 100 and ended == {*order}
    assert graph.node.count_publishers('/bond') == 2  # the manager's and the node's
    assert graph.node.count_subscribers('/bond') == 2


@pytest.mark.parametrize(('timeout', 'within'), [(0.25, 0.5), (4.0, 4.3)])
def test_a_killed_node_is_noticed_in_time(graph, moody_bundle, timeout, within):
    """4 s is Nav2's default; the manager looks every 0.2 s."""
    manager = Manager(graph)
    monitor = start(graph, moody_bundle)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    manager.bind(timeout)
    time.sleep(1.0)
    assert manager.bond.broken_at is None
    killed = kill_between_messages(monitor)
    graph.wait(lambda: manager.bond.broken_at, within + SLACK, 'the broken bond')
    assert manager.bond.broken_at - killed < within
    assert manager.bond.broken_at - killed > timeout - HEARTBEAT - CHECK


def test_a_node_that_is_asked_to_end_ends_its_bond_at_once(graph, moody_bundle):
    manager = Manager(graph)
    monitor = start(graph, moody_bundle)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    manager.bind(4.0)
    asked = time.monotonic()
    monitor.terminate()
    graph.wait(lambda: not manager.heard[-1][1].active, 1.0 + SLACK, 'the end of the bond')
    assert manager.heard[-1][0] - asked < 1.0 + SLACK
    assert monitor.wait(10) == 0


def test_the_silence_of_the_manager_changes_nothing_and_another_one_may_follow(
    graph, moody_bundle
):
    manager = Manager(graph)
    start(graph, moody_bundle)
    Feed(graph)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    manager.bind(4.0)
    graph.wait_alert(False, START)
    graph.wait_diagnostic('bond', 'formed with the lifecycle manager', 5)
    manager.bond._alive = False  # the manager is killed
    time.sleep(Constants.DEFAULT_HEARTBEAT_TIMEOUT + 1.0)
    assert manager.heard[-1][1].active and time.monotonic() - manager.heard[-1][0] < 1.0
    assert graph.alerts[-1] is False
    manager.bind(4.0)
    assert len(manager.instances()) == 1
    manager.bond.stop()  # this one says that it ends
    graph.wait_diagnostic('bond', 'ended by the lifecycle manager', 5)
    assert not manager.heard[-1][1].active
    assert graph.alerts[-1] is False


def test_a_bond_that_nobody_joins_is_given_up(graph, moody_bundle):
    monitor = start(graph, moody_bundle)
    heard = []
    graph.node.create_subscription(Status, 'bond', heard.append, QOS)
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_diagnostic('bond', 'waiting', 5)
    graph.wait_diagnostic('bond', 'no lifecycle manager', 10 + SLACK)
    assert not heard[-1].active
    assert 'nobody has joined the bond' in monitor.log.read_text()
    count = len(heard)
    time.sleep(1.0)
    assert len(heard) == count and monitor.poll() is None


@pytest.mark.parametrize(
    'parameters', [{'autostart': True}, {'bond_heartbeat_period': 0.0}], ids=['autostart', 'off'])
def test_there_is_no_bond_unless_a_manager_is_in_charge(graph, moody_bundle, parameters):
    heard = []
    graph.node.create_subscription(Status, 'bond', heard.append, QOS)
    given = {'autostart': False, **parameters}
    graph.start_monitor(*moody_arguments(moody_bundle, **given), env=python_path())
    if not given['autostart']:
        graph.wait_reason('inactive', START)
        assert change_state(graph, Transition.TRANSITION_CONFIGURE)
        assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    graph.wait_reason('no_image', START)
    time.sleep(1.0)
    assert not heard and graph.node.count_publishers('/bond') == 0


def test_the_bond_of_a_node_in_a_namespace_is_in_that_namespace(graph, moody_bundle):
    manager = Manager(graph, topic='/robot/bond')
    graph.start(
        'monitor', *moody_arguments(moody_bundle, autostart=False), '-r', '__ns:=/robot',
        env=python_path())
    from lifecycle_msgs.srv import ChangeState

    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        service = '/robot/nav_monitor/change_state'
        assert graph.call(ChangeState, service, request, START).success
    manager.bind(4.0)
    assert manager.heard[0][1].id == 'nav_monitor'


WITHOUT = """
import sys
sys.modules['bond'] = sys.modules['bond.msg'] = None  # so that importing them fails
from nav_monitor_ros.ros.monitor.main import main
sys.exit(main(['monitor', '--ros-args', '-p', 'bundle:=digits', '-p', 'autostart:=false']))
"""


def test_without_the_messages_the_node_runs_and_says_so(graph, tmp_path):
    import os

    from diagnostic_msgs.msg import DiagnosticArray
    from ros_harness import LATCHED
    from std_msgs.msg import Bool

    graph.listen(Bool, '/ood_alert', LATCHED)
    graph.listen(DiagnosticArray, '/nav_monitor/ood_status', LATCHED)
    log = (tmp_path / 'without.log').open('wb')
    process = subprocess.Popen(
        [sys.executable, '-c', WITHOUT], stdout=log, stderr=log,
        env={**os.environ, **graph.domain.environment, 'OMP_NUM_THREADS': '1'})
    try:
        graph.wait_reason('inactive', START)
        assert change_state(graph, Transition.TRANSITION_CONFIGURE)
        assert change_state(graph, Transition.TRANSITION_ACTIVATE)
        graph.wait_reason('no_image', 10)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        log.close()
    said = (tmp_path / 'without.log').read_text()
    assert 'the messages of bond are not installed' in said
