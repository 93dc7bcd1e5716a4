"""The path of a frame in docs/architecture.md, held against one that is judged."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import moody
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_harness import rgb_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from nav_monitor_ros.decision.alert.state_machine import AlertMachine  # noqa: E402
from nav_monitor_ros.ros.monitor.node import MonitorNode  # noqa: E402
from nav_monitor_ros.ros.process.domain import take_domain  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / 'nav_monitor_ros'


@dataclass(frozen=True)
class Step:
    """A row of the documented sequence."""

    file: str
    types: tuple[str, ...]  # that the frame becomes there
    helpers: tuple[str, ...]  # files and folders that it calls, and that return to it


def documented() -> list[Step]:
    text = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    section = re.search(r'## The path of a frame\n(.*?)\n## ', text, re.S)
    assert section is not None
    steps = []
    for line in section[1].splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('|') and cells[0].isdecimal():
            assert int(cells[0]) == len(steps) + 1
            _, file, _, types, helpers = cells
            steps.append(Step(
                re.match('`(.*?)`', file)[1], tuple(re.findall(r'`(\w+)`', types)),
                tuple(re.findall(r'`([\w/.]+)`', helpers)),
            ))
    return steps


STEPS = documented()
FILES = [step.file for step in STEPS]


def inside(code) -> str | None:
    """Return a code's file in the package, None for code elsewhere."""
    file = code.co_filename
    if not file.startswith(f'{PACKAGE}/') or code.co_name == '<module>':
        return None
    return file[len(f'{PACKAGE}/'):]


@dataclass
class Trace:
    """Every call of the package between the callback and the alert."""

    recording: bool = False
    first: list[str] = field(default_factory=list)  # files, in the order of their first call
    edges: set[tuple[str | None, str]] = field(default_factory=set)  # nearest step, callee
    threads: dict[str, set[int]] = field(default_factory=dict)  # of each file
    types: list[type] = field(default_factory=list)  # given to or returned by the steps
    computed: int = 0

    def __call__(self, frame, event, argument) -> None:
        if not self.recording or event not in ('call', 'return'):
            return
        path = inside(frame.f_code)
        if path is None or not self.is_of_the_frame(frame):
            return
        if event == 'return':
            if path in FILES:
                self.note(argument)
            return
        if path not in self.first:
            self.first.append(path)
        self.threads.setdefault(path, set()).add(threading.get_ident())
        self.computed += frame.f_code is AlertMachine.alert.__code__
        above = frame.f_back
        while above is not None and inside(above.f_code) not in FILES:
            above = above.f_back
        self.edges.add((None if above is None else inside(above.f_code), path))
        if path in FILES:
            for name in frame.f_code.co_varnames[:frame.f_code.co_argcount]:
                self.note(frame.f_locals.get(name))

    def note(self, value) -> None:
        """Note the types of what is passed on, in sequences too."""
        if type(value) in (list, tuple):
            for one in value:
                self.note(one)
        elif type(value).__module__.startswith('nav_monitor_ros') and type(value) not in self.types:
            self.types.append(type(value))

    @staticmethod
    def is_of_the_frame(frame) -> bool:
        """Return whether a call belongs to the callback of the image, or to the worker."""
        while frame is not None:
            if frame.f_code.co_name in ('_receive', '_judge') and inside(frame.f_code) in FILES:
                return True
            frame = frame.f_back
        return False


@pytest.fixture(scope='module')
def trace(tmp_path_factory) -> Trace:
    """Judge one frame in this process, the one that makes the alert False."""
    bundle = moody.make_bundle(tmp_path_factory.mktemp('bundles') / 'moody')
    given = {
        'bundle': str(bundle), 'trusted_packages': ['moody'], 'backend': 'torch',
        'blank_contrast': 1.0, 'exit_count': 1, 'torch_threads': 1, 'image_timeout': 60.0,
        'inference_timeout': 60.0,
    }
    with take_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain.number)
        node = MonitorNode(
            context=context,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        driver = rclpy.create_node('driver', context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        trace = Trace()
        threading.setprofile(trace)  # of the threads that are started from here on
        try:
            node.trigger_configure()
            node.trigger_activate()
            (camera,) = node._cameras
            publisher = camera.alert._publisher._publisher

            class LastStep:
                """Ends the trace with the publication."""

                def publish(self, message):
                    publisher.publish(message)
                    trace.recording &= message.data

                wait_for_all_acked = publisher.wait_for_all_acked

            camera.alert._publisher._publisher = LastStep()
            spinning = threading.Thread(target=executor.spin, daemon=True)
            spinning.start()
            images = driver.create_publisher(Image, 'image', 1)
            end = time.monotonic() + 60
            while not images.get_subscription_count() and time.monotonic() < end:
                time.sleep(0.01)
            pixels = np.repeat(moody.images(3, 1)[0][0][..., None], 3, axis=2)
            trace.recording = True
            while camera.alert.alert.value and time.monotonic() < end:
                images.publish(rgb_message(pixels, time.time_ns()))
                time.sleep(0.5)
            assert not camera.alert.alert.value and not trace.recording
        finally:
            threading.setprofile(None)
            node.announce_shutdown()
            executor.shutdown(timeout_sec=5)
            node.stop(5.0)
            driver.destroy_node()
            node.destroy_node()
            rclpy.shutdown(context=context)
    return trace


def test_a_frame_passes_ten_files_and_becomes_five_types(trace):
    assert len(FILES) == len(set(FILES)) <= 10
    assert all((PACKAGE / file).is_file() for file in FILES)
    assert set(FILES) <= set(trace.first)


def test_the_frame_becomes_the_documented_types_and_no_other(trace):
    types = [name for step in STEPS for name in step.types]
    assert len(types) <= 5
    assert {kind.__name__ for kind in trace.types if wraps_a_frame(kind)} == set(types)


def wraps_a_frame(kind: type) -> bool:
    """Return whether values of a type hold the image, or what the network made of it."""
    fields = getattr(kind, '__dataclass_fields__', getattr(kind, '_fields', ()))
    return not {'message', 'pixels', 'activations', 'logits'}.isdisjoint(fields)


def test_every_file_that_is_called_is_a_step_or_a_helper_of_its_caller(trace):
    called = [(caller, path) for caller, path in trace.edges if path not in FILES]
    assert called
    undocumented = {
        (caller, path) for caller, path in called
        if caller is None or not any(
            path.startswith(helper) if helper.endswith('/') else path == helper
            for helper in STEPS[FILES.index(caller)].helpers
        )
    }
    assert not undocumented


def test_no_step_calls_back_up(trace):
    steps = [
        (caller, path) for caller, path in trace.edges
        if caller in FILES and path in FILES and caller != path
    ]
    assert len(steps) >= len(FILES) - 2  # the worker waits for the queue, nobody calls it
    assert not [edge for edge in steps if FILES.index(edge[0]) > FILES.index(edge[1])]


def test_the_frame_changes_threads_once(trace):
    receiving, queue = (trace.threads[file] for file in FILES[:2])
    assert receiving == queue and len(receiving) == 1
    (worker,) = trace.threads[FILES[2]]
    assert {worker} != receiving
    assert trace.threads['decision/judge.py'] == {worker}
    assert set().union(*trace.threads.values()) == {worker, *receiving}


def test_the_alert_is_computed_once(trace):
    assert trace.computed == 1
