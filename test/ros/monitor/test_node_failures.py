"""What foreign code raises, and what nobody expected: what the monitor says, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import moody
import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from ros_harness import Graph, executable, values  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[3]
START = 60.0  # seconds that a process may take to come up on a busy machine
BROKEN = """
import sys
from nav_monitor_ros.ros.monitor import main, node

def broken(self):
    raise {error}

node.MonitorNode.{method} = broken
sys.exit(main.main(['monitor', '--ros-args', '-p', 'bundle:=digits']))
"""


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.stop()


@pytest.fixture(scope='module')
def moody_bundle(tmp_path_factory):
    return moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')


def arguments(bundle, *more):
    return ['-p', f'bundle:={bundle}', '-p', 'trusted_packages:=[moody]', *more]


def environment(**more):
    path = f'{ROOT / "test"}:{os.environ.get("PYTHONPATH", "")}'
    return {'PYTHONPATH': path, **more}


@pytest.mark.parametrize('error', ['SystemExit', 'KeyboardInterrupt', 'GeneratorExit'])
def test_a_network_that_would_end_the_process_is_an_unusable_bundle(graph, moody_bundle, error):
    monitor = graph.start(
        'monitor', *arguments(moody_bundle), env=environment(**{moody.RAISES: error})
    )
    assert monitor.wait(START) == 1
    lines = monitor.log.read_text().splitlines()
    telling = [line for line in lines if 'ERROR' in line or 'FATAL' in line]
    assert len(telling) == 1 and error in telling[0] and 'by the network' in telling[0], lines


def test_a_node_whose_network_would_end_the_process_lives_on(graph, moody_bundle):
    monitor = graph.start_monitor(
        *arguments(moody_bundle, '-p', 'autostart:=false'),
        env=environment(**{moody.RAISES: 'SystemExit'}),
    )
    graph.wait_reason('inactive', START)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    for _ in range(2):
        assert not graph.call(ChangeState, '/nav_monitor/change_state', request, START).success
        status = graph.wait_reason('model_error', 10)
        assert 'SystemExit' in values(status.status[0])['detail']
    graph.wait_alert(True, 5)
    assert monitor.poll() is None


@pytest.mark.parametrize(
    ('method', 'error'),
    [
        ('_activate', "RuntimeError('nobody expected this')"),
        ('_activate', "SystemExit('nobody expected this')"),
        ('_follow_publishers', "SystemExit('nobody expected this')"),
    ],
)
def test_what_nobody_expected_ends_with_status_70_and_a_traceback(graph, tmp_path, method, error):
    done = subprocess.run(
        [sys.executable, '-c', BROKEN.format(error=error, method=method)],
        env={**os.environ, **graph.domain.environment, 'ROS_LOG_DIR': str(tmp_path)},
        capture_output=True, text=True, timeout=START, check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 70, text
    assert 'Traceback' in text and 'nobody expected this' in text


def test_a_missing_package_is_one_line_and_not_tried_again(graph, moody_bundle, tmp_path):
    (tmp_path / 'safetensors.py').write_text(
        "raise ModuleNotFoundError('No module named safetensors', name='safetensors')\n")
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    variables = {**os.environ, **graph.domain.environment, 'PYTHONPATH': path}
    done = subprocess.run(
        [executable('monitor'), '--ros-args', *arguments(moody_bundle)], capture_output=True,
        text=True, timeout=START, env=variables)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert 'the Python package safetensors is not installed' in said
    assert 'Traceback' not in said
