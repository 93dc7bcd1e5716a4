"""Incidents and snapshots of the running node."""

import importlib.util
import json
import time

import pytest

pytest.importorskip('rclpy')

from fault_robot import START, Robot  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from nav_monitor_ros.errors import NavMonitorError  # noqa: E402
from nav_monitor_ros.ros.monitor.incidents import SnapshotCaller, snapshot_type  # noqa: E402
from nav_monitor_ros.ros.process.log import QueuedLog  # noqa: E402

pytestmark = pytest.mark.ros
has_rosbag2 = importlib.util.find_spec('rosbag2_interfaces') is not None


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


def test_a_rising_alert_leaves_its_frames_and_verdicts(graph, moody_bundle, tmp_path):  # noqa: F811
    folder = tmp_path / 'incidents'
    # On a busy machine, a stall must not be an incident of its own.
    robot = Robot(
        graph, moody_bundle, incident_folder=str(folder), incident_rate=10.0, image_timeout=5.0,
        inference_timeout=10.0, stamp_tolerance=10.0,
    )
    robot.drives()
    time.sleep(1.0)
    robot.feed.play(robot.feed.strange)
    graph.wait_reason('ood', 10)
    (incident,) = graph.wait(
        lambda: [p for p in folder.glob('*_ood') if (p / 'verdicts.json').exists()],
        START, 'the incident',
    )
    told = json.loads((incident / 'verdicts.json').read_text())
    assert told['bundle']['name'] == 'moody'
    assert 'OK' in [f['state'] for f in told['frames']]  # those before the alert
    assert told['frames'][-1]['reason'] == 'ood' and told['frames'][-1]['flagged']
    assert all((incident / f['picture']).stat().st_size for f in told['frames'])
    status = graph.wait_diagnostic('ood', '', 10)
    graph.wait(
        lambda: values(graph.wait_diagnostic('ood', '', 10)).get('incidents_written') == '1',
        10, 'the counter',
    )
    assert 'incidents_failed' in values(status)


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(graph, moody_bundle, tmp_path):  # noqa: F811
    (tmp_path / 'file').write_text('')
    monitor = graph.start_monitor(
        '-p', f'bundle:={moody_bundle}', '-p', f'incident_folder:={tmp_path}/file'
    )
    assert monitor.wait(START) == 1
    assert 'incident_folder' in monitor.log.read_text()


@pytest.mark.skipif(has_rosbag2, reason='the snapshot service is installed here')
def test_a_snapshot_service_that_is_not_installed_is_refused_with_the_remedy(graph):
    with pytest.raises(NavMonitorError, match='rosbag2-interfaces'):
        snapshot_type()
    monitor = graph.start_monitor(
        '-p', 'bundle:=digits', '-p', 'snapshot_service:=/rosbag2_recorder/snapshot'
    )
    assert monitor.wait(START) == 1
    assert 'rosbag2_interfaces' in monitor.log.read_text()


def test_a_snapshot_is_asked_for_once_in_its_interval_and_never_waited_for(graph):
    calls = []

    def answer(_request, response):
        calls.append(time.monotonic())
        response.success = len(calls) == 1
        return response

    log = QueuedLog(graph.node.get_logger())
    caller = SnapshotCaller(graph.node, log, '/recorder/snapshot', Trigger)
    caller.call(0.0, 1.0)
    assert caller.failed == 1  # nobody is there
    graph.node.create_service(Trigger, '/recorder/snapshot', answer)
    graph.wait(caller._client.service_is_ready, 10, 'the service')
    for now in (2.0, 2.5, 2.9):
        caller.call(now, 1.0)
    graph.wait(lambda: caller.taken == 1, 10, 'the snapshot')
    caller.call(3.1, 1.0)
    graph.wait(lambda: caller.failed == 2, 10, 'the refusal')
    assert len(calls) == 2
    caller.close()


@pytest.mark.parametrize('service', ['not a name', '/a//b', '/recorder/{snapshot}'])
def test_a_snapshot_service_that_is_no_name_is_a_configuration_that_cannot_be_used(graph, service):
    """Anything but a NavMonitorError would have the launch file start the node again for ever."""
    with pytest.raises(NavMonitorError, match='^parameter snapshot_service .* is no name'):
        SnapshotCaller(graph.node, None, service, Trigger)
