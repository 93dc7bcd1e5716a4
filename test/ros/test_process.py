"""How the executables start, fail and end: one line and a status, whatever is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip('rclpy')

from processes import with_default_signals  # noqa: E402
from ros_harness import executable  # noqa: E402

pytestmark = pytest.mark.ros

START = 60.0  # seconds that a process may take on a busy machine
NAMES = {'monitor': 'nav_monitor', 'camera': 'camera', 'safety_stop': 'safety_stop'}


def refused(name, *arguments, **environment):
    """Start an executable that cannot; return its one line."""
    given = {**os.environ, **environment}
    done = subprocess.run(
        [executable(name), *arguments], capture_output=True, text=True, timeout=START,
        env={key: value for key, value in given.items() if value is not None},
    )
    assert done.returncode == 1, done.stderr
    [line] = (done.stdout + done.stderr).splitlines()
    assert f'[{NAMES[name]}]: ' in line
    assert '/project/' not in line
    return line


def every(*cases):
    """Return the cases for the camera, which starts fastest; the first for all executables."""
    first, *others = cases
    return [(name, *first) for name in NAMES] + [('camera', *case) for case in others]


@pytest.mark.parametrize(
    ('name', 'variables', 'said'),
    every(
        ({'HOME': '/proc/nowhere', 'ROS_LOG_DIR': None},
         'set ROS_LOG_DIR to a writable folder'),
        ({'HOME': None, 'ROS_LOG_DIR': None}, 'set ROS_LOG_DIR to a writable folder'),
        ({'ROS_LOG_DIR': '/proc/logs'}, 'set ROS_LOG_DIR (now /proc/logs) to a writable folder'),
        ({'ROS_LOG_DIR': __file__}, f'set ROS_LOG_DIR (now {__file__}) to a writable folder'),
        ({'ROS_DOMAIN_ID': 'abc'}, 'ROS_DOMAIN_ID is not an integral number'),
        ({'ROS_DOMAIN_ID': '300'}, 'ROS_DOMAIN_ID is 300; it must be 0 to 232'),
        ({'RCUTILS_COLORIZED_OUTPUT': 'maybe'},
         "RCUTILS_COLORIZED_OUTPUT is 'maybe'; it must be 0, 1 or empty"),
        ({'RCUTILS_LOGGING_USE_STDOUT': '7', 'RCUTILS_LOGGING_BUFFERED_STREAM': 'x'},
         "RCUTILS_LOGGING_USE_STDOUT is '7', RCUTILS_LOGGING_BUFFERED_STREAM is 'x'; it must be"),
        ({'ROS_SECURITY_ENABLE': 'true', 'ROS_SECURITY_STRATEGY': 'Enforce'},
         'ROS_SECURITY_KEYSTORE'),
    ),
)
def test_an_environment_in_which_ros_cannot_start_is_one_line(name, variables, said):
    assert said in refused(name, **variables)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('value', ['yes', '01', ' '])
def test_every_executable_checks_the_variables_of_the_log(name, value):
    assert f"RCUTILS_LOGGING_BUFFERED_STREAM is '{value}'; it must be 0, 1 or empty" in refused(
        name, RCUTILS_LOGGING_BUFFERED_STREAM=value)


@pytest.mark.parametrize(
    ('name', 'arguments', 'said'),
    every(
        (['--params-file', '/nowhere.yaml'], '/nowhere.yaml'),
        (['-p'], '-p flag'),
        (['-p', 'rate'], "'-p rate'"),
        (['-r', 'image'], "'-r image'"),
        (['-r', 'image:=~{x}'], "'-r image:=~{x}'"),
        (['-r', '__node:=9a'], "'-r __node:=9a'"),
        (['-r', '__ns:=/a//b'], "'-r __ns:=/a//b'"),
        (['--log-level', 'loud'], "'--log-level loud'"),
        (['--enclave', 'relative'], 'must be absolute'),
        (['--unheard-of'], "unknown ROS arguments ['--unheard-of']"),
        (['-p', 'use_sim_time:=3'], "'use_sim_time'"),
        (['-p', 'rate:=often'], "parameter rate is 'often'"),
    ),
)
def test_ros_arguments_that_cannot_be_used_are_one_line(name, arguments, said):
    assert said in refused(name, '--ros-args', *arguments)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('argument', ['--version', 'image'])
def test_an_argument_outside_ros_args_is_refused_not_ignored(name, argument):
    line = refused(name, argument)
    assert f"unknown argument '{argument}'" in line
    assert '--ros-args -p NAME:=VALUE' in line


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('before', [[], ['--ros-args', '-p', 'rate:=5.0', '--']])
def test_a_remapping_outside_ros_args_is_refused_not_ignored(name, before):
    """rcl takes ``bundle:=mine`` for a remapping and runs the default bundle."""
    line = refused(name, *before, 'image:=/cam 1')
    assert "'image:=/cam 1' is outside --ros-args; use --ros-args -r 'image:=/cam 1'" in line


@pytest.mark.parametrize(
    ('name', 'argument'),
    [('monitor', 'bundle:=digits'), ('monitor', 'front.roi:=[0,0,9,9]'), ('camera', 'rate:=5.0')],
)
def test_a_parameter_outside_ros_args_is_told_its_option(name, argument):
    line = refused(name, argument)
    assert f"argument '{argument}' is outside --ros-args; use --ros-args -p " in line


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('/**:\n  ros__parameters:\n    rate: [1, b]\n', 'Sequence should be of same type'),
        ('a: [1, b\n', 'params.yaml'),
        ('/**:\n  rate: 1\n', 'params.yaml'),
        ('\tnone', 'params.yaml'),
    ],
)
def test_a_parameter_file_that_ros_cannot_read_is_one_line(tmp_path, text, said):
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    assert said in refused('safety_stop', '--ros-args', '--params-file', str(path))


@pytest.mark.parametrize('name', NAMES)
def test_what_a_boot_may_still_bring_is_tried_again(name):
    """No address of a peer, or no network: the launch files restart the node."""
    done = subprocess.run(
        [executable(name)], capture_output=True, text=True, timeout=START,
        env={**os.environ, 'ROS_STATIC_PEERS': 'no-such-robot.invalid'})
    assert done.returncode == 70
    [line] = (done.stdout + done.stderr).splitlines()
    assert f'[{NAMES[name]}]: ' in line and 'no-such-robot.invalid' in line


# The failure of a node that runs, and the signals.


def run_python(text, *arguments):
    return subprocess.run(
        with_default_signals(sys.executable, '-c', textwrap.dedent(text), *arguments),
        capture_output=True, text=True, timeout=START,
    )


@pytest.mark.parametrize(
    ('error', 'where', 'status', 'said'),
    [
        ("OSError(28, 'No space left')", 'serve', 70, 'failed: OSError: [Errno 28] No space left'),
        ("NavMonitorError('the bag is gone')", 'serve', 1, 'the bag is gone'),
        ("ValueError('three\\nlines\\nlong')", 'make', 70, 'failed: ValueError: three lines long'),
        ("NavMonitorError('no such camera')", 'make', 1, 'no such camera'),
        ('SystemExit(0)', 'serve', 70, 'failed: SystemExit: 0'),
        ('KeyboardInterrupt', 'make', 70, 'failed: KeyboardInterrupt: KeyboardInterrupt'),
    ],
)
def test_a_failure_is_one_line_and_told_apart_from_an_unusable_configuration(
    error, where, status, said
):
    done = run_python(f"""
        import sys
        from rclpy.node import Node
        from nav_monitor_ros.errors import NavMonitorError
        from nav_monitor_ros.ros.process.process import run

        def fail():
            raise {error}

        def make():
            return fail() if {where!r} == 'make' else Node('broken')

        sys.exit(run('broken', make, lambda node, stop: fail(), ['broken']))
        """)
    assert done.returncode == status, done.stderr
    first, *more = done.stderr.splitlines()
    assert said in first
    # Whoever mends what nobody expected needs to know where it was; a user does not.
    assert more == [] if status == 1 else 'Traceback' in more[0]


@pytest.mark.parametrize(
    ('fails', 'status'),
    [('raise NavMonitorError("cannot be used")', 1), ('raise OSError("broken")', 70), ('pass', 0)],
)
def test_a_crash_of_the_interpreters_shutdown_does_not_change_the_status(fails, status):
    done = run_python(f"""
        import atexit, os, signal, sys
        from rclpy.node import Node
        from nav_monitor_ros.errors import NavMonitorError
        from nav_monitor_ros.ros.process.process import run

        def serve(node, stop):
            {fails}
            return 0

        atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))
        sys.argv = ['ending']
        sys.exit(run('ending', lambda: Node('ending'), serve))
        """)
    assert done.returncode == status, done.stderr


def test_thousands_of_signals_at_any_moment_never_hold_the_loop():
    """With a handler that sets a threading.Event this hangs after some thousand signals."""
    done = run_python("""
        import os, random, signal, threading, time
        from nav_monitor_ros.ros.process.process import StopRequest

        def kill(moment):
            time.sleep(moment)
            os.kill(os.getpid(), signal.SIGTERM)

        for number in range(3000):
            stop = StopRequest()
            stop.listen()
            threading.Thread(target=kill, args=(random.random() * 0.001,)).start()
            while not stop.wait(0.0001):
                pass
        print('all heard')
        """)
    assert done.stdout == 'all heard\n', done.stderr


def test_a_wish_to_end_is_heard_at_once_by_all_who_wait_and_stays():
    done = run_python("""
        import threading, time
        from nav_monitor_ros.ros.process.process import StopRequest

        stop = StopRequest()
        assert not stop.is_set() and not stop.wait(0.01)
        heard = []
        waiting = [
            threading.Thread(target=lambda: heard.append(stop.wait(50.0))) for _ in range(3)
        ]
        for thread in waiting:
            thread.start()
        for _ in range(100_000):  # more than the socket holds
            stop.request()
        for thread in waiting:
            thread.join(5.0)
        assert heard == [True] * 3 and stop.is_set() and stop.wait(50.0)
        """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ('number', 'ignored'),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False)],
)
def test_an_executable_ends_by_itself_on_a_signal(tmp_path, number, ignored):
    """SIGINT too where a shell had it ignored: `ros2 launch` in the background ends nodes by it."""
    option = f'--{"ignore" if ignored else "default"}-signal={number.name[3:]}'
    process = subprocess.Popen(
        ['env', option, executable('camera')], stderr=subprocess.PIPE, text=True)
    assert 'playing' in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(START) == 0
    process.stderr.close()


def test_a_lost_terminal_ends_nothing_under_nohup(tmp_path):
    process = subprocess.Popen(
        ['env', '--ignore-signal=HUP', '--default-signal=TERM', executable('camera')],
        stderr=subprocess.PIPE, text=True)
    assert 'playing' in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.wait(START) == 0
    process.stderr.close()


@pytest.mark.parametrize('name', NAMES)
def test_the_help_of_an_executable_shows_an_example_and_its_parameters(name):
    done = subprocess.run(
        [executable(name), '--help'], capture_output=True, text=True, timeout=START)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(f'usage: ros2 run nav_monitor_ros {name} ')
    shown = done.stdout.replace('examples:', 'example:')  # with one for ros2 launch
    assert f'example:\n  ros2 run nav_monitor_ros {name} --ros-args ' in shown
    example = shown.split('example:\n')[1].split('\n')[0].split()
    assert not unused(name, *example[example.index('--ros-args') + 1:])
    known = {'monitor': 'evidence_level', 'camera': 'source', 'safety_stop': 'alert_timeout'}
    assert f'\n  {known[name]} (' in done.stdout


def unused(name, *arguments):
    """Return what an executable says of its remappings until it is ended."""
    process = subprocess.Popen(
        [executable(name), '--ros-args', *arguments], stderr=subprocess.PIPE, text=True)
    said = [process.stderr.readline()]  # a signal from now on ends it once the node is complete
    process.terminate()
    said += process.stderr.readlines()
    assert process.wait(START) == 0
    process.stderr.close()
    return [line for line in said if 'the remapping ' in line or 'the parameter file ' in line]


@pytest.mark.parametrize(('name', 'wrong', 'right'), [
    ('safety_stop', 'cmd_vel_out:=/cmd_vel_safe', 'did you mean /cmd_vel?'),
    ('monitor', 'imge:=/camera/image_raw', 'did you mean /image?'),
    ('camera', '/root/segment:=/begun', ''),  # ~/segment without quotes, as a shell expands it
])
def test_a_remapping_that_applies_to_nothing_is_told(name, wrong, right):
    fine = ('-r', '__ns:=/', '-r', 'another_node:image:=/elsewhere', '-r', '/rosout:=/log')
    if name == 'monitor':  # names that it is to use later need not be such
        fine += ('-p', 'snapshot_service:=/{no_name}', '-p', 'autostart:=false')
    [line] = unused(name, *fine, '-r', wrong)
    assert 'WARN' in line
    assert f'the remapping {wrong} applies to no topic or service of this node' in line
    assert right in line


@pytest.mark.parametrize('name', NAMES)
def test_a_parameter_file_for_other_nodes_is_told(tmp_path, name):
    """ROS ignores it, so that the node runs with its defaults."""
    mine, other = tmp_path / 'mine.yaml', tmp_path / 'other.yaml'
    block = '{}:\n  ros__parameters:\n    use_sim_time: false\n'
    mine.write_text(block.format('other') + block.format(f'/a/*/{NAMES[name]}'))
    other.write_text(block.format('/elsewhere/x') + block.format(NAMES[name]))
    start = ('-p', 'autostart:=false') if name == 'monitor' else ()
    [line] = unused(
        name, *start, '-r', '__ns:=/a/b', '--params-file', str(mine), '--params-file', str(other))
    assert 'WARN' in line and str(other) in line
    assert f'no parameters for /a/b/{NAMES[name]}' in line and 'for /elsewhere/x' in line
