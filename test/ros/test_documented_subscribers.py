"""The subscribers to the alert in docs/safety.md: what they request, and that they work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from fault_robot import Feed  # noqa: E402
from processes import kill_between_messages, with_default_signals  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
START = 60.0  # seconds that a process may take to come up on a busy machine
SOON = 20.0  # seconds within which a stop or a release has to be seen there


def documented(language):
    """Return the code of the section that tells how to subscribe."""
    text = (ROOT / 'docs' / 'safety.md').read_text(encoding='utf-8')
    section = text.partition('### Subscribe to the alert\n')[2].partition('\n### ')[0]
    [code] = re.findall(rf'```{language}\n(.*?)```', section, re.DOTALL)
    return code


def start_monitor(graph, bundle):
    path = f'{ROOT / "test"}:{os.environ.get("PYTHONPATH", "")}'
    return graph.start_monitor(
        '-p', f'bundle:={bundle}', '-p', "trusted_packages:=['moody']",
        '-p', 'blank_contrast:=0.0', '-p', 'frozen_timeout:=0.0', env={'PYTHONPATH': path},
    )


@pytest.fixture
def subscriber(graph, tmp_path):
    """Start the subscriber in Python; return a function that gives its newest word."""
    script, output = tmp_path / 'subscriber.py', tmp_path / 'subscriber.log'
    code = documented('python')
    if os.environ.get('ROS_DISTRO') == 'humble':
        code = code.replace('rclpy.event_handler', 'rclpy.qos_event')
    script.write_text(code)
    with output.open('wb') as log:
        process = subprocess.Popen(
            with_default_signals(sys.executable, str(script)), stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **graph.domain.environment},
        )

    def newest():
        assert process.poll() is None, output.read_text()
        lines = output.read_text().splitlines()
        return lines[-1] if lines else ''

    newest.process, newest.output = process, output
    yield newest
    process.kill()
    process.wait()


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_the_subscriber_in_python_ends_without_a_traceback(graph, subscriber, number, status):
    graph.wait(lambda: subscriber() == 'stop', START, 'stop, before there is a monitor')
    subscriber.process.send_signal(number)
    assert subscriber.process.wait(SOON) == status
    assert set(subscriber.output.read_text().split()) == {'stop'}


def test_the_subscriber_in_python_stops_on_true_and_on_silence(
    graph, subscriber, moody_bundle
):
    graph.wait(lambda: subscriber() == 'stop', START, 'stop, before there is a monitor')
    monitor = start_monitor(graph, moody_bundle)
    feed = Feed(graph)
    graph.wait(lambda: subscriber() == 'go', START, 'go')
    feed.play(feed.strange)
    graph.wait(lambda: subscriber() == 'stop', SOON, 'stop on True')
    feed.play(feed.normal)
    graph.wait(lambda: subscriber() == 'go', SOON, 'go after True')
    kill_between_messages(monitor)
    graph.wait(lambda: subscriber() == 'stop', SOON, 'stop on silence')


def test_the_subscribers_request_what_the_monitor_offers_and_the_same_in_both_languages():
    python, cpp = documented('python'), documented('cpp')
    assert re.findall(r'(?:deadline|liveliness_lease_duration)=Duration\(seconds=(.*?)\)', python) \
        == ['0.5', '0.5']
    assert 'time.monotonic() + 0.5' in python
    assert re.findall(r'\.(?:deadline|liveliness_lease_duration)\((.*?)\)', cpp) \
        == ['500ms', '500ms']
    assert 'Clock::now() + 500ms' in cpp
    for in_python, in_cpp in (
        ('depth=1', 'rclcpp::QoS(1)'),
        ('ReliabilityPolicy.RELIABLE', '.reliable()'),
        ('DurabilityPolicy.VOLATILE', '.durability_volatile()'),
        ('LivelinessPolicy.MANUAL_BY_TOPIC', 'RMW_QOS_POLICY_LIVELINESS_MANUAL_BY_TOPIC'),
        ('deadline=distrust', 'deadline_callback'),
        ('liveliness=distrust', 'liveliness_callback'),
        ("'ood_alert'", '"ood_alert"'),
    ):
        assert in_python in python
        assert in_cpp in cpp


def includes():
    """Return the folders of headers of every prefix that may hold those of rclcpp."""
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if p]
    return [
        folder for prefix in prefixes if (prefix / 'include').is_dir()
        for folder in ((prefix / 'include'), *(prefix / 'include').iterdir())
    ]


@pytest.mark.skipif(
    not any((folder / 'rclcpp' / 'rclcpp.hpp').exists() for folder in includes())
    or not shutil.which('c++'), reason='no headers of rclcpp here')
def test_the_subscriber_in_cpp_compiles(tmp_path):
    source = tmp_path / 'subscriber.cpp'
    source.write_text(documented('cpp'))
    done = subprocess.run(
        ['c++', '-std=c++17', '-fsyntax-only', *(f'-I{folder}' for folder in includes()), source],
        capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stderr
