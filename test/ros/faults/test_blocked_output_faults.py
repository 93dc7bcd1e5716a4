"""Whatever is slow or stuck beside the monitor: True in time, and False never of old images."""

# ruff: noqa: F811 - a fixture that is imported
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import moody
import numpy as np
import pytest

pytest.importorskip('rclpy')

from fault_robot import RELIABLE, SLACK, START, Feed, Robot, change_state  # noqa: E402
from held_terminal import terminal  # noqa: E402, F401
from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from ros_harness import CLOSED, LATCHED, Graph, rgb_message, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

pytestmark = pytest.mark.ros

PERIOD = 0.1  # seconds between two alerts
OFFERED = 3 * PERIOD  # deadline that the monitor offers


@pytest.fixture
def stopped_listener(tmp_path):
    """Return a function that has a process subscribe to topics, and stops it (SIGSTOP)."""
    processes = []

    def start(graph, *arguments):
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[2] / 'listener_process.py'), *arguments],
            stdout=subprocess.PIPE, text=True, env={**os.environ, **graph.domain.environment},
        )
        processes.append(process)
        assert process.stdout.readline() == 'heard\n'
        process.send_signal(signal.SIGSTOP)

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_held_terminal_changes_nothing(graph, moody_bundle, terminal):
    robot = Robot(graph, moody_bundle, output=terminal.writer)
    robot.drives()
    terminal.hold()
    robot.stands(
        f'camera gone while the {terminal.held}', ['stale_image'], 0.6, robot.feed.stop
    )
    robot.stays_stopped(1.0)
    late = []
    graph.node.create_subscription(Bool, 'ood_alert', lambda m: late.append(m.data), LATCHED)
    graph.wait(lambda: late, 10, 'what a late joiner is told')
    assert late[0] is True
    for _ in range(30):  # faults and recoveries, each of which logs
        feed = Feed(graph)
        time.sleep(0.02)
        feed.stop()
    robot.recovers('another camera starts', lambda: setattr(robot, 'feed', Feed(graph)))
    asked = time.monotonic()
    robot.monitor.terminate()
    graph.wait(lambda: graph.alerts[-1], 1.0 + SLACK, 'the last True')
    assert robot.monitor.wait(4.0 + SLACK) == 0
    assert time.monotonic() - asked < 4.0 + SLACK


def test_a_held_terminal_shows_what_happened_once_it_is_released(graph, moody_bundle, terminal):
    robot = Robot(graph, moody_bundle, output=terminal.writer)
    robot.drives()
    terminal.hold()
    robot.feed.stop()
    graph.wait_reason('stale_image', 5.0)
    terminal.release()
    graph.wait(lambda: 'stale_image' in terminal.read(), 10, 'the line about the fault')


def test_subscribers_that_hang_change_nothing(graph, moody_bundle, stopped_listener):
    robot = Robot(graph, moody_bundle)
    robot.drives()
    stopped_listener(
        graph, 'rcl_interfaces/Log', '/rosout', 'sensor_msgs/Image', '/nav_monitor/overlay',
        'sensor_msgs/Image', '/nav_monitor/activations',
        'diagnostic_msgs/DiagnosticArray', '/nav_monitor/ood_status',
        'diagnostic_msgs/DiagnosticArray', '/diagnostics', 'std_msgs/Bool', '/ood_alert',
        'vision_msgs/Classification', '/nav_monitor/prediction',
    )
    time.sleep(2.0)  # until what they were sent has piled up
    robot.stands(
        'out-of-distribution images while a subscriber to every topic hangs', ['ood'], 0.5,
        lambda: robot.feed.play(robot.feed.strange),
    )
    robot.recovers('normal images', lambda: robot.feed.play(robot.feed.normal))
    robot.stands(
        'camera gone while a subscriber to every topic hangs', ['stale_image'], 0.6,
        robot.feed.stop,
    )
    robot.recovers('the camera returns', lambda: setattr(robot, 'feed', Feed(graph)))


def test_false_is_never_said_of_images_that_judging_has_made_old(graph, moody_bundle):
    """The camera sends 30 images a second; the network takes 0.95 s for each that it is shown."""
    path = f'{Path(__file__).parents[2]}:{os.environ.get("PYTHONPATH", "")}'
    graph.start_monitor(
        '-p', f'bundle:={moody_bundle}', '-p', "trusted_packages:=['moody']",
        '-p', 'blank_contrast:=0.0', '-p', 'inference_timeout:=3.0', '-p', 'torch_threads:=1',
        env={'PYTHONPATH': path, moody.SLOW: '0.95'},
    )
    Feed(graph)
    graph.wait(lambda: graph.statuses and 'class' in values(graph.statuses[-1].status[0]), START,
               'a judged image')
    judged = len(graph.statuses)
    time.sleep(10.0)
    assert len(graph.statuses) > judged  # it went on judging
    assert all(graph.alerts)
    status = graph.wait_reason('stale_image', START)  # not so while a pass exceeds its timeout
    assert 'judged last' in values(status.status[0])['detail']


def test_true_comes_first_when_the_process_is_asked_to_end(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, inference_timeout=30.0, image_timeout=30.0)
    robot.drives()
    robot.feed.play_plain(moody.HANG)
    time.sleep(0.2)
    alerts = len(graph.alerts)
    assert graph.alerts[-1] is False
    start = time.monotonic()
    robot.monitor.terminate()
    graph.wait(lambda: any(graph.alerts[alerts:]), OFFERED + SLACK, 'True')
    first = alerts + graph.alerts[alerts:].index(True)
    to_true = graph.times['/ood_alert'][first] - start
    assert robot.monitor.wait(4.0 + SLACK) == 0
    ended = time.monotonic()
    assert all(graph.alerts[first:])
    assert to_true < OFFERED + SLACK
    # It went on being said while the network was waited for, 1 s; the goodbye takes another.
    assert ended - start < 0.9 or len(graph.alerts[first:]) > 4


def test_the_trouble_of_a_hung_network_is_told_until_it_is_mended(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, inference_timeout=0.5)
    robot.drives()
    robot.feed.play_plain(moody.HANG)
    graph.wait_reason('inference_timeout', 10)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    graph.call(ChangeState, '/nav_monitor/change_state', request, START)

    def state():
        return graph.call(GetState, '/nav_monitor/get_state', GetState.Request()).current_state.id

    graph.wait(lambda: state() == State.PRIMARY_STATE_UNCONFIGURED, 10, 'unconfigured')
    status = graph.wait_reason('model_error', 10)
    assert 'does not return' in values(status.status[0])['detail']
    graph.wait_diagnostic('model', 'does not return', 5)
    robot.feed.play(robot.feed.normal)
    time.sleep(2.0)
    assert graph.reason == 'model_error' and graph.alerts[-1] is True
    change_state(graph, Transition.TRANSITION_CONFIGURE)
    graph.wait_reason('inactive', 10)
    change_state(graph, Transition.TRANSITION_ACTIVATE)
    robot.drives()


def test_one_thread_runs_the_network_however_often_the_node_is_activated(graph, moody_bundle):
    robot = Robot(graph, moody_bundle, alert_rate=100.0, exit_count=1)
    robot.drives()
    for _ in range(60):
        change_state(graph, Transition.TRANSITION_DEACTIVATE)
        change_state(graph, Transition.TRANSITION_ACTIVATE)
    robot.drives()
    text = robot.monitor.log.read_text()
    assert moody.TWO_THREADS not in text
    assert 'died' not in text


def test_pictures_of_dead_cameras_do_not_delay_the_alert(tmp_path, moody_bundle):
    graph = Graph(tmp_path)
    names = [f'camera{number}' for number in range(16)]
    path = f'{Path(__file__).parents[2]}:{os.environ.get("PYTHONPATH", "")}'
    graph.start_monitor(
        '-p', f'bundle:={moody_bundle}', '-p', "trusted_packages:=['moody']",
        '-p', f'cameras:={names}', '-p', 'blank_contrast:=0.0', env={'PYTHONPATH': path},
    )
    try:
        for name in names:
            graph.listen(Image, f'/nav_monitor/{name}/overlay', RELIABLE)
        publishers = [
            graph.node.create_publisher(Image, f'{name}/image', RELIABLE) for name in names
        ]
        large = np.zeros((1080, 1920, 3), np.uint8)
        large[::2] = 200

        def drawn():
            for name, publisher in zip(names, publishers, strict=True):
                if not graph.heard[f'/nav_monitor/{name}/overlay']:
                    publisher.publish(rgb_message(large, time.time_ns()))
            time.sleep(0.5)
            return all(graph.heard[f'/nav_monitor/{name}/overlay'] for name in names)

        graph.wait(drawn, START, 'a picture of every camera')
        begin = len(graph.times['/ood_alert'])
        time.sleep(5.0)
        gaps = np.diff(graph.times['/ood_alert'][begin:])
        # Half of them keep the period, which no machine under load keeps all of the time.
        assert np.median(gaps) < 2 * PERIOD
        assert gaps.max() < OFFERED + SLACK
    finally:
        graph.stop()


def test_a_closed_standard_output_takes_no_signal_away(graph, moody_bundle):
    """Its descriptor's number is given to whatever is opened next, such as the signals' socket."""
    robot = Robot(graph, moody_bundle, output=CLOSED)
    robot.drives()
    alerts = len(graph.alerts)
    robot.monitor.terminate()
    graph.wait(lambda: any(graph.alerts[alerts:]), OFFERED + SLACK, 'True')
    assert robot.monitor.wait(5.0 + SLACK) == 0
    robot.gate.terminate()
    assert robot.gate.wait(5.0 + SLACK) == 0
    graph.wait(lambda: graph.heard['/cmd_vel'][-1].linear.x == 0, SLACK, 'a last zero')


HOLD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* Files *.log lie on a disk that hangs while the file $HOLD is there. */
static void hold(int fd) {
  char name[64], path[512];
  struct stat there;
  const char *flag = getenv("HOLD");
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (!flag || length < 4 || strncmp(path + length - 4, ".log", 4)) return;
  while (!stat(flag, &there)) usleep(10000);
}
ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "write");
  if (fd > 2) hold(fd);
  return real(fd, data, size);
}
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  static size_t (*real)(const void *, size_t, size_t, FILE *);
  if (!real) real = dlsym(RTLD_NEXT, "fwrite");
  if (file != stdout && file != stderr) hold(fileno(file));
  return real(data, size, count, file);
}
int fflush(FILE *file) {
  static int (*real)(FILE *);
  if (!real) real = dlsym(RTLD_NEXT, "fflush");
  if (file && file != stdout && file != stderr) hold(fileno(file));
  return real(file);
}
"""


def test_a_log_on_a_disk_that_hangs_changes_nothing(graph, moody_bundle, tmp_path):
    source, library, flag = tmp_path / 'hold.c', tmp_path / 'hold.so', tmp_path / 'hanging'
    source.write_text(HOLD)
    subprocess.run(
        ['cc', '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True, timeout=60
    )
    logs = tmp_path / 'ros'
    robot = Robot(
        graph, moody_bundle, output=os.open(tmp_path / 'terminal', os.O_WRONLY | os.O_CREAT),
        env={'LD_PRELOAD': str(library), 'HOLD': str(flag), 'ROS_LOG_DIR': str(logs)},
    )
    robot.drives()
    graph.wait(lambda: list(logs.glob('nav_monitor_*.log')), 10, "the node's log file")
    flag.touch()
    robot.stands("camera gone while the log's disk hangs", ['stale_image'], 0.6, robot.feed.stop)
    robot.stays_stopped(1.0)
    robot.recovers('the camera returns', lambda: setattr(robot, 'feed', Feed(graph)))
    robot.stands(
        "out-of-distribution images while the log's disk hangs", ['ood'], 0.5,
        lambda: robot.feed.play(robot.feed.strange),
    )
    alerts = len(graph.alerts)
    robot.monitor.terminate()
    graph.wait(lambda: any(graph.alerts[alerts:]), OFFERED + SLACK, 'the last True')
    assert robot.monitor.wait(5.0 + SLACK) == 0
    flag.unlink()
    (written,) = logs.glob('nav_monitor_*.log')
    assert 'ood_alert False' in written.read_text()
    assert '\x1b' not in written.read_text()
