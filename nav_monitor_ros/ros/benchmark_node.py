"""A whole node in a process of its own, fed over DDS, against the node that one writes by hand."""

from __future__ import annotations

import os
import sys
import tempfile
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

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.offline.benchmark import Figure, Progress, Result, Timing
from nav_monitor_ros.offline.benchmark_bundle import camera_images, write_bundle
from nav_monitor_ros.ros.bare_node import REPLY
from nav_monitor_ros.ros.benchmark_link import Feed, Link, free_domain, python_module
from nav_monitor_ros.ros.parameters import BY_NAME
from nav_monitor_ros.ros.qos import reliable

CAMERA_RATE = 30.0  # Hz
VARIANTS = 16  # images that take turns
_START = 240.0  # seconds that a process may take until it answers
_ROOT = Path(__file__).resolve().parents[2]
PEER = _ROOT / 'benchmarks' / 'peer_node.py'
PROFILE = _ROOT / 'config' / 'fastdds.xml'
_STATUS = '/nav_monitor/ood_status'


@dataclass(frozen=True)
class _Measured:
    """One process: as fast as it goes, and at a camera's rate."""

    fastest: Feed
    steady: Feed


def node_benchmark(
    *,
    seconds: float = 4.0,
    classes: int = 43,
    backends: str = '',
    threads: int = 1,
    grid: int = 1,
    peer: str = '',
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Measure the monitor with each backend, the peer node and the least that a node can be.

    All run one ResNet-18 with random weights on 640 x 480 bgr8 images that a camera in this
    process sends reliably, and all have the middleware profile that the package ships. The
    monitor judges by its default scores. The peer (``benchmarks/peer_node.py``) is what one
    writes by hand; with ``grid``, it is measured once more while somebody looks at its activation
    maps, beside the monitor with its activation maps looked at. The bare node receives the image,
    runs the network on a fixed input, and sends the header back.

    Args:
        seconds: For each rate that is tried; the camera's rate counts three times as long.
        classes: Of the network.
        backends: That the monitor runs with, with commas; empty for all that are installed.
        threads: ``torch_threads`` of the monitor and the bare node; the peer keeps torch's own
            choice, since who writes by hand does.
        grid: Whether the activation maps are measured too, 1 or 0.
        peer: The peer's script; empty for the checkout's.
        progress: Is told how far the work is.

    Returns:
        Timings are from the image's sending to the arrival of the reply at 30 Hz, and, where they
        say so, from the arrival of the image at the node to its alert; ratios are to the bare node
        with the same backend.

    Raises:
        NavMonitorError: A process does not start or does not answer, or the peer's script is not
            there.
    """
    script = Path(peer) if peer else PEER
    if not script.is_file():
        raise NavMonitorError(
            f'{script} is not there: the peer node is in the source repository; run this in a '
            'checkout, or say where it is (--peer)'
        )
    wanted = _backends(backends)
    steps = 2 + 2 * len(wanted) + (2 if grid else 0)
    with tempfile.TemporaryDirectory() as scratch:
        stage = _Stage(Path(scratch), seconds, threads, script, progress, steps)
        stage.prepare(classes)
        monitors, bares = {}, {}
        for backend in wanted:
            monitors[backend] = stage.monitor(backend)
            bares[backend] = stage.bare(backend)
        peer_alone = stage.peer()
        best = max(monitors, key=lambda name: monitors[name].fastest.rate)
        shown = (stage.monitor(best, grid=True), stage.peer(grid=True)) if grid else None
    return _result(
        monitors, bares, peer_alone, shown, best,
        {
            'seconds': seconds, 'classes': classes, 'backends': list(wanted), 'threads': threads,
            'camera_hz': CAMERA_RATE, 'image': '640x480 bgr8', 'grid': grid,
        },
    )


def _backends(wanted: str) -> tuple[str, ...]:
    """Return the backends to measure."""
    if 'backend' not in BY_NAME:
        return ('torch',)
    from nav_monitor_ros.perception.backends import installed_backends

    installed = tuple(installed_backends())
    chosen = tuple(part.strip() for part in wanted.split(',') if part.strip()) or installed
    for name in chosen:
        if name not in installed:
            raise NavMonitorError(
                f"backend '{name}' is not installed here; there are {', '.join(installed)}"
            )
    return chosen


class _Stage:
    """Starts one process after the other, each alone, and measures it."""

    def __init__(
        self, folder: Path, seconds: float, threads: int, peer: Path, progress: Progress,
        steps: int,
    ) -> None:
        self._folder = folder
        self._seconds = seconds
        self._threads = threads
        self._peer = peer
        self._progress = progress
        self._steps = steps
        self._done = 0
        self._images = camera_images(VARIANTS, seed=1)
        self._domain = free_domain()

    def prepare(self, classes: int) -> None:
        """Make the network and its monitor."""
        self._tell('fitting a monitor')
        write_bundle(self._folder / 'resnet18', classes=classes)

    def monitor(self, backend: str, *, grid: bool = False) -> _Measured:
        """Measure the monitor."""
        arguments = [f'bundle:={self._folder / "resnet18"}', f'torch_threads:={self._threads}']
        if 'backend' in BY_NAME:
            arguments.append(f'backend:={backend}')
        return self._measure(
            f'monitor, {backend}{", maps watched" if grid else ""}',
            python_module('nav_monitor_ros.ros.monitor', *_parameters(arguments)),
            DiagnosticArray, _STATUS, '/nav_monitor/activations' if grid else '', first=45.0,
        )

    def bare(self, backend: str) -> _Measured:
        """Measure the bare node."""
        arguments = [f'bundle:={self._folder / "resnet18"}', f'torch_threads:={self._threads}']
        if 'backend' in BY_NAME:
            arguments.append(f'backend:={backend}')
        return self._measure(
            f'bare node, {backend}',
            python_module('nav_monitor_ros.ros.bare_node', *_parameters(arguments)),
            Header, REPLY.replace('~', '/bare'), '', first=45.0,
        )

    def peer(self, *, grid: bool = False) -> _Measured:
        """Measure the peer."""
        arguments = [
            f'weights:={self._folder / "resnet18" / "model.safetensors"}',
            f'training:={self._folder / "training.npz"}',
        ]
        command = [sys.executable, str(self._peer), '--ros-args', *_parameters(arguments)]
        return self._measure(
            f'peer{", maps watched" if grid else ""}', command, Classification,
            '/peer/prediction', '/peer/activations' if grid else '', first=15.0,
        )

    def _measure(
        self, what: str, command: list[str], reply: type, topic: str, watched: str, *,
        first: float,
    ) -> _Measured:
        self._tell(what)
        with _profile():
            link = Link(
                command, reply, topic, self._images, log=self._folder / f'{self._done}.log',
                domain=self._domain,
            )
            try:
                if watched:
                    link.node.create_subscription(
                        Image, watched, lambda raw: None, reliable(1), raw=True)
                link.wait_ready(_START)
                fastest = link.fastest(seconds=self._seconds, first=first)
                return _Measured(fastest, link.feed(CAMERA_RATE, 3 * self._seconds))
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
    """Have this process and its children use the middleware profile of the package."""
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
    monitors: dict[str, _Measured], bares: dict[str, _Measured], peer: _Measured,
    shown: tuple[_Measured, _Measured] | None, best: str, settings: dict[str, Any],
) -> Result:
    timed, rates = {}, {}
    for backend, measured in monitors.items():
        bare = bares[backend]
        alone = float(np.median(bare.steady.latencies))
        timed[f'bare node, {backend}'] = Timing.of(bare.steady.latencies)
        timed[f'monitor, {backend}'] = Timing.of(measured.steady.latencies, alone)
        told = _told(measured.steady)
        timed[f'monitor, {backend}: image received to alert'] = Timing.of(told[:, 0], alone)
        timed[f'monitor, {backend}: forward pass'] = Timing.of(told[:, 1], alone)
        timed[f'monitor, {backend}: the rest'] = Timing.of(told[:, 0] - told[:, 1], alone)
        rates[f'monitor, {backend}'] = measured.fastest.rate
        rates[f'bare node, {backend}'] = bare.fastest.rate
    alone = float(np.median(bares[best].steady.latencies))
    timed['peer'] = Timing.of(peer.steady.latencies, alone)
    rates['peer'] = peer.fastest.rate
    figures = {
        'rate_ratio_to_peer': Figure(
            monitors[best].fastest.rate / peer.fastest.rate, 'higher', 'x', 5.0),
        'ms_outside_forward': Figure(
            timed[f'monitor, {best}: the rest'].median_ms, 'lower', 'ms', 2.0),
        'p99_ratio_to_bare': Figure(
            timed[f'monitor, {best}'].p99_ms / timed[f'bare node, {best}'].p99_ms,
            'lower', 'x', 2.0),
        'rate_ratio_to_bare': Figure(
            monitors[best].fastest.rate / bares[best].fastest.rate, 'higher', 'x'),
    }
    if shown is not None:
        ours, theirs = shown
        rates[f'monitor, {best}, maps watched'] = ours.fastest.rate
        rates['peer, maps watched'] = theirs.fastest.rate
        figures['rate_ratio_to_peer_maps_watched'] = Figure(
            ours.fastest.rate / theirs.fastest.rate, 'higher', 'x')
    figures.update({
        f'rate_{name.replace(", ", "_").replace(" ", "_")}': Figure(rate, 'higher', 'Hz')
        for name, rate in rates.items()
    })
    return Result(
        'node', 'From an image sent to the reply, at 30 Hz over DDS', settings,
        'the bare node', timed, figures, {'best_backend': best},
    )


def _told(feed: Feed) -> np.ndarray:
    """Return what the monitor says of its frames: seconds to the alert, and of the network."""
    told = []
    for raw in feed.raw:
        status = deserialize_message(raw, DiagnosticArray).status[0]
        values = {pair.key: pair.value for pair in status.values}
        if 'forward_ms' in values:
            told.append((float(values['latency_ms']), float(values['forward_ms'])))
    if not told:
        raise NavMonitorError('the monitor judged no image in time; is the machine very busy?')
    return np.array(told) / 1e3
