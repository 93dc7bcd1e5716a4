"""The newest frame of each camera, handed from one thread to another."""

import threading
import time

import pytest

pytest.importorskip('rclpy')

from nav_monitor_ros.ros.monitor import latest_frame_queue  # noqa: E402
from nav_monitor_ros.ros.monitor.latest_frame_queue import (  # noqa: E402
    LatestFrameQueue,
    QueuedFrame,
)

pytestmark = pytest.mark.ros


def frame(content):
    return QueuedFrame(content, 0.0, 0.0)


def test_all_that_wait_are_taken_at_once_each_with_its_newest_image():
    queue = LatestFrameQueue(3)
    for number in range(500):
        queue.slots[1].put(frame(f'flood {number}'))
    queue.slots[2].put(frame('one'))
    taken = queue.take()
    assert [(number, waiting.message) for number, waiting in taken] == [
        (1, 'flood 499'), (2, 'one')
    ]
    assert [slot.received for slot in queue.slots] == [0, 500, 1]
    assert [slot.dropped for slot in queue.slots] == [0, 499, 0]
    queue.slots[0].put(frame('late'))
    assert [(number, waiting.message) for number, waiting in queue.take()] == [(0, 'late')]


def test_a_flood_cannot_keep_another_cameras_image_waiting():
    queue = LatestFrameQueue(2)
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            queue.slots[0].put(frame('flood'))

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        for number in range(100):
            queue.slots[1].put(frame(number))
            assert (1, number) in [(slot, waiting.message) for slot, waiting in queue.take()]
    finally:
        stop.set()
        thread.join(10)


def test_a_flood_is_read_no_more_often_than_its_interval_and_then_its_newest():
    queue = LatestFrameQueue(2)
    queue.slots[0].interval = 3600.0
    queue.slots[0].put(frame('first'))
    assert [waiting.message for _, waiting in queue.take()] == ['first']
    for number in range(10):
        queue.slots[0].put(frame(number))
    queue.slots[1].put(frame('other'))
    assert [(number, waiting.message) for number, waiting in queue.take()] == [(1, 'other')]
    queue.slots[0].due = time.monotonic() + 0.05  # and so it is taken without another frame
    assert [(number, waiting.message) for number, waiting in queue.take()] == [(0, 9)]
    assert time.monotonic() >= queue.slots[0].due - 3600.0
    assert (queue.slots[0].received, queue.slots[0].dropped) == (11, 9)


def test_a_closed_queue_ends_the_wait():
    queue = LatestFrameQueue(2)
    queue.slots[0].put(frame('never read'))
    queue.close()
    assert queue.take() is None


def test_yielding_to_the_worker_takes_a_bounded_share_of_the_time(monkeypatch):
    slept = []
    now = [100.0]

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(latest_frame_queue.time, 'sleep', sleep)
    monkeypatch.setattr(latest_frame_queue.time, 'monotonic', lambda: now[0])
    queue = LatestFrameQueue(16)
    for _ in range(480):  # images of one second from 16 cameras at 30 Hz
        queue.yield_to_worker()
        now[0] += 1 / 480
    allowed = (
        latest_frame_queue.YIELD_SHARE * (now[0] - 100.0) + latest_frame_queue.YIELD_TIME
    )
    assert 0 < sum(slept) <= allowed


def test_only_the_frame_that_wakes_an_idle_worker_yields_to_it(monkeypatch):
    queue = LatestFrameQueue(3)
    put, yielded, taken = [], [], []
    monkeypatch.setattr(queue, 'yield_to_worker', lambda: yielded.append(len(put)))
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    while not queue.idle:
        time.sleep(0.001)
    with queue.changed:  # before the worker can look
        for slot in queue.slots:
            slot.put(frame('image'))
            put.append(slot)
    worker.join(10)
    assert yielded == [0]
    assert len(taken[0]) == 3
    queue.slots[0].put(frame('image'))
    assert yielded == [0]  # nobody waits
