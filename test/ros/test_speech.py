"""What keeps a slow reader from slowing the node: its output, its log, its background thread."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from nav_monitor_ros.ros.monitor.background_thread import BackgroundThread  # noqa: E402
from nav_monitor_ros.ros.process.log import QueuedLog  # noqa: E402

ROOT = Path(__file__).parents[2]
WRITER = """
import os, sys, time
from nav_monitor_ros.ros.process.standard_output import NonBlockingOutput
output = NonBlockingOutput()
for number in range(int(sys.argv[1])):
    os.write(2, b'low level %d\\n' % number) if number % 2 else print('Python', number)
started = time.monotonic()
done = output.flush(float(sys.argv[2]))
os._exit(10 + done)
"""


def write(count, timeout, **options):
    return subprocess.Popen([sys.executable, '-c', WRITER, str(count), str(timeout)], cwd=ROOT,
                            **options)


def test_output_reaches_its_reader_completely_and_in_order():
    with write(1000, 10.0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 11
    assert out.splitlines() == [f'Python {number}' for number in range(0, 1000, 2)]
    assert err.splitlines() == [f'low level {number}' for number in range(1, 1000, 2)]


def test_output_that_nobody_reads_does_not_hold_the_process():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b'x' * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = write(30_000, 0.1, stdout=writer, stderr=writer)
    assert process.wait(30) == 10  # it said that not all was read, and ended
    os.close(reader)
    os.close(writer)


def test_output_whose_reader_is_gone_does_not_hold_the_process():
    reader, writer = os.pipe()
    os.close(reader)
    process = write(30_000, 10.0, stdout=writer, stderr=writer)
    assert process.wait(30) == 11
    os.close(writer)


class SlowLogger:
    """A logger whose terminal is held until it is released."""

    def __init__(self):
        self.released = threading.Event()
        self.lines = []

    def write(self, text):
        self.released.wait(30)
        self.lines.append(text)

    debug = info = warning = error = fatal = write


def test_a_log_whose_terminal_is_held_takes_lines_and_says_how_many_it_dropped():
    logger = SlowLogger()
    log = QueuedLog(logger, capacity=10)
    log.info('first')
    while log._lines:  # until the thread is stuck in it
        time.sleep(0.001)
    for number in range(25):
        log.warning(f'line {number}')
    assert not log.flush(0.05)
    logger.released.set()
    assert log.flush(10.0)
    assert logger.lines[0] == 'first'
    assert logger.lines[1] == '15 lines of the log were dropped'
    assert logger.lines[2:] == [f'line {number}' for number in range(10)]


class Log:
    def __init__(self):
        self.lines = []

    def error(self, text):
        self.lines.append(text)


def test_the_background_does_the_newest_job_of_each_kind_and_outlives_failures():
    log = Log()
    background = BackgroundThread(log)
    hold, done = threading.Event(), []
    begun = threading.Event()
    background.post(('', 'hold'), lambda: (begun.set(), hold.wait(30)))
    assert begun.wait(10)
    for number in range(100):
        background.post(('front', 'pictures'), lambda number=number: done.append(number))
    for _ in range(3):
        background.post(('rear', 'pictures'), lambda: 1 / 0)
    hold.set()
    finished = threading.Event()
    background.post(('', 'last'), finished.set)
    assert finished.wait(10)
    again = threading.Event()
    background.post(('rear', 'pictures'), lambda: 1 / 0)
    background.post(('', 'last'), again.set)
    assert again.wait(10)
    assert background.close(10)
    assert done == [99]
    assert background.replaced == 99 + 2
    assert log.lines == ['rear: pictures: ZeroDivisionError: division by zero']


def test_the_background_ends_only_when_its_job_has():
    background = BackgroundThread(Log())
    hold, begun = threading.Event(), threading.Event()
    background.post(('', 'hold'), lambda: (begun.set(), hold.wait(30)))
    assert begun.wait(10)
    assert not background.close(0.05)
    hold.set()
    assert background.close(10)
