"""Complete node in its own process, with images over DDS, relative to a hand-written node."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing
from nav_monitor_ros.benchmark.synthetic_bundle import camera_images, write_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.perception.network.backends import ENGINES, TF32, TORCH, Engine
from nav_monitor_ros.ros.benchmark.bare_node import REPLY
from nav_monitor_ros.ros.benchmark.link import Feed, Link, python_module
from nav_monitor_ros.ros.qos import reliable

CAMERA_RATE = 30.0  # Hz
VARIANTS = 16  # number of images that alternate
_START = 600.0  # longest time until the first reply of a process, seconds
_ROOT = Path(__file__).resolve().parents[2]
PEER = _ROOT / 'benchmarks' / 'peer_node.py'
PROFILE = _ROOT / 'config' / 'fastdds.xml'
_STATUS = '/nav_monitor/ood_status'
BUNDLE = 'resnet18'
_THREADS = re.compile(r'the network runs with (\d+) thread')


@dataclass(frozen=True)
class _Measured:
    """Measurements of one process: at its maximum rate, and at a camera's rate."""

    fastest: Feed
    steady: Feed
    threads: int  # threads of the network; 0 if the process did not report them


def node_benchmark(
    *,
    seconds: float = 2.0,
    classes: int = 43,
    backends: str = '',
    threads: int = 0,
    grid: int = 1,
    peer: str = '',
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Measure the monitor with each backend, the peer node and a minimal node.

    All nodes run one ResNet-18 with random weights on 640 x 480 bgr8 images that a camera in this
    process sends reliably, and all use the middleware profile that the package ships. The monitor
    uses its default scores. The peer (``benchmarks/peer_node.py``) is a typical hand-written node.
    With ``grid``, the peer and the monitor are also measured with a subscriber to their activation
    maps. The bare node receives the image, runs the network on a fixed input, and sends the header
    back.

    Args:
        seconds: Duration of the test of each rate; the camera's rate is tested four times as long.
        classes: Number of classes of the network.
        backends: Comma-separated backends of the monitor; ``all`` for every installed one, empty
            for torch and the one of the others that is expected to be the fastest.
        threads: ``torch_threads`` of the monitor; with 0, the default, it measures which number is
            faster. The bare node uses the number of the fastest monitor; the peer uses torch's
            default, as hand-written nodes do.
        grid: 1 to measure with subscribed activation maps as well, otherwise 0.
        peer: Script of the peer node; '' for the one in the checkout.
        progress: Callback for the progress of the work.

    Returns:
        Timings are from the sending of the image to the arrival of the reply at 30 Hz or, if their
        name says so, from the arrival of the image at the node to its alert; ratios are to the bare
        node with the monitor's fastest backend.

    Raises:
        NavMonitorError: A process does not start or does not reply, or the peer's script does not
            exist.
    """
    script = Path(peer) if peer else PEER
    if not script.is_file():
        raise NavMonitorError(
            f'{script} does not exist: the peer node is in the source repository; run this command '
            'in a checkout, or pass the path of the script (--peer)'
        )
    with scratch_folder() as scratch:
        stage = _Stage(scratch, seconds, threads, script, progress, bool(grid))
        wanted = stage.prepare(classes, backends)
        monitors = {backend: stage.monitor(backend) for backend in wanted}
        best = max(monitors, key=lambda name: monitors[name].fastest.rate)
        bare = stage.bare(best, monitors[best].threads)
        peer_alone = stage.peer()
        shown = (stage.monitor(best, grid=True), stage.peer(grid=True)) if grid else None
    return _result(
        monitors, bare, peer_alone, shown, best,
        {
            'seconds': seconds, 'classes': classes, 'backends': list(wanted), 'threads': threads,
            'camera_hz': CAMERA_RATE, 'image': '640x480 bgr8', 'grid': grid,
        },
    )


class _Stage:
    """Starts and measures one process after another, each alone."""

    def __init__(
        self, folder: Path, seconds: float, threads: int, peer: Path, progress: Progress,
        grid: bool,
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._threads = threads
        self._peer = peer
        self._progress = progress
        self._steps = 5 if grid else 3  # plus one for each backend
        self._done = 0
        self._images = camera_images(VARIANTS, seed=1)

    def prepare(self, classes: int, backends: str) -> tuple[str, ...]:
        """Create the network and its monitor; return the backends to measure."""
        self._tell('fitting a monitor')
        there = write_bundle(self._folder / BUNDLE, classes=classes)
        chosen = tuple(part.strip() for part in backends.split(',') if part.strip())
        if backends == 'all':
            chosen = there
        elif not chosen:
            order = [engine.backend for engine in ENGINES if engine != Engine(TORCH, TF32)]
            chosen = tuple(dict.fromkeys((TORCH, min(there, key=order.index))))
        for name in chosen:
            if name not in there:
                raise NavMonitorError(
                    f"backend '{name}' is not installed or cannot run the network; available: "
                    f'{", ".join(there)}'
                )
        self._steps += len(chosen)
        return chosen

    def monitor(self, backend: str, *, grid: bool = False) -> _Measured:
        """Measure the monitor."""
        return self._measure(
            f'monitor, {backend}{", maps watched" if grid else ""}',
            python_module('nav_monitor_ros.ros.monitor.main', *self._ours(backend)),
            DiagnosticArray, _STATUS, '/nav_monitor/activations' if grid else '', first=45.0,
        )

    def bare(self, backend: str, threads: int) -> _Measured:
        """Measure the bare node with the number of threads that the monitor chose."""
        return self._measure(
            f'bare node, {backend}',
            python_module('nav_monitor_ros.ros.benchmark.bare_node', *self._ours(backend, threads)),
            Header, REPLY.replace('~', '/bare'), '', first=45.0,
        )

    def peer(self, *, grid: bool = False) -> _Measured:
        """Measure the peer."""
        arguments = [
            f'weights:={self._folder / BUNDLE / "model.safetensors"}',
            f'training:={self._folder / "training.npz"}',
        ]
        command = [sys.executable, str(self._peer), '--ros-args', *_parameters(arguments)]
        return self._measure(
            f'peer{", maps watched" if grid else ""}', command, Classification,
            '/peer/prediction', '/peer/activations' if grid else '', first=15.0,
        )

    def _ours(self, backend: str, threads: int = 0) -> Iterator[str]:
        return _parameters([
            f'bundle:={self._folder / BUNDLE}', f'torch_threads:={threads or self._threads}',
            f'backend:={backend}',
        ])

    def _measure(
        self, what: str, command: list[str], reply: type, topic: str, watched: str, *,
        first: float,
    ) -> _Measured:
        self._tell(what)
        log = self._folder / f'{self._done}.log'
        with _profile():
            link = Link(command, reply, topic, self._images, log=log)
            try:
                if watched:
                    link.node.create_subscription(
                        Image, watched, lambda raw: None, reliable(1), raw=True)
                link.wait_ready(_START)
                fastest = link.fastest(seconds=self._seconds, first=first)
                steady = link.feed(CAMERA_RATE, 4 * self._seconds)
                if not len(steady.latencies):
                    raise NavMonitorError(f'{what}: no reply at {CAMERA_RATE:g} Hz')
                said = _THREADS.search(log.read_text(errors='replace'))
                return _Measured(fastest, steady, int(said[1]) if said else self._threads)
            finally:
                link.close()

    def _tell(self, what: str) -> None:
        self._progress(what, self._done, self._steps)
        self._done += 1


def _parameters(assignments: list[str]) -> Iterator[str]:
    for assignment in assignments:
        yield from ('-p', assignment)


@contextmanager
def _profile() -> Iterator[None]:
    """Let this process and its children use the package's middleware profile."""
    old = os.environ.get('ROS_DISTRO') in ('humble', 'jazzy')
    name = f'FAST{"RTPS" if old else "DDS"}_DEFAULT_PROFILES_FILE'
    ours = PROFILE.is_file() and name not in os.environ
    if ours:
        os.environ[name] = str(PROFILE)
    try:
        yield
    finally:
        if ours:
            del os.environ[name]


def _result(
    monitors: dict[str, _Measured], bare: _Measured, peer: _Measured,
    shown: tuple[_Measured, _Measured] | None, best: str, settings: dict[str, Any],
) -> Result:
    alone = float(np.median(bare.steady.latencies))
    timed = {f'bare node, {best}': Timing.of(bare.steady.latencies)}
    rates = {f'bare node, {best}': bare.fastest.rate}
    for backend, measured in monitors.items():
        timed[f'monitor, {backend}'] = Timing.of(measured.steady.latencies, alone)
        told = _told(measured.steady)
        timed[f'monitor, {backend}: image received to alert'] = Timing.of(told[:, 0], alone)
        timed[f'monitor, {backend}: forward pass'] = Timing.of(told[:, 1], alone)
        timed[f'monitor, {backend}: the rest'] = Timing.of(told[:, 0] - told[:, 1], alone)
        rates[f'monitor, {backend}'] = measured.fastest.rate
    timed['peer'] = Timing.of(peer.steady.latencies, alone)
    rates['peer'] = peer.fastest.rate
    figures = {
        'rate_ratio_to_peer': Figure(
            monitors[best].fastest.rate / peer.fastest.rate, 'higher', 'x', 5.0,
            'frames per second, monitor / peer'),
        'ms_outside_forward': Figure(
            timed[f'monitor, {best}: the rest'].median_ms, 'lower', 'ms', 2.0),
        'p99_ratio_to_bare': Figure(
            timed[f'monitor, {best}'].p99_ms / timed[f'bare node, {best}'].p99_ms,
            'lower', 'x', 2.0, 'p99 latency, monitor / bare node'),
        'threads_of_monitor': Figure(monitors[best].threads, 'lower', ''),
        'rate_ratio_to_bare': Figure(
            monitors[best].fastest.rate / bare.fastest.rate, 'higher', 'x',
            ratio_of='frames per second, monitor / bare node'),
    }
    if shown is not None:
        ours, theirs = shown
        rates[f'monitor, {best}, maps watched'] = ours.fastest.rate
        rates['peer, maps watched'] = theirs.fastest.rate
        figures['rate_ratio_to_peer_maps_watched'] = Figure(
            ours.fastest.rate / theirs.fastest.rate, 'higher', 'x',
            ratio_of='frames per second with activation maps, monitor / peer')
    figures.update({
        f'rate_{name.replace(", ", "_").replace(" ", "_")}': Figure(rate, 'higher', 'Hz')
        for name, rate in rates.items()
    })
    return Result(
        'node', 'From an image sent to the reply, at 30 Hz over DDS', settings,
        'the bare node', timed, figures, {'best_backend': best},
    )


def _told(feed: Feed) -> np.ndarray:
    """Return the times that the monitor reports, seconds: until the alert, and in the network."""
    told = []
    for raw in feed.raw:
        status = deserialize_message(raw, DiagnosticArray).status[0]
        values = {pair.key: pair.value for pair in status.values}
        if 'forward_ms' in values:
            told.append((float(values['latency_ms']), float(values['forward_ms'])))
    if not told:
        raise NavMonitorError('the monitor judged no image in time; is the machine very busy?')
    return np.array(told) / 1e3
