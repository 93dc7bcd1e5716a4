"""Start-up time of the node, and its CPU use without a camera."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Bool

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.interrupt import raise_if_requested
from nav_monitor_ros.ros.benchmark.link import Link, python_module
from nav_monitor_ros.ros.qos import latched

_START = 120.0  # longest time for a start, seconds
_SETTLING = 2.0  # seconds after the start that do not count as idle
_IMPORTS = 'import rclpy, torch'  # what any node with a torch network imports


def startup_benchmark(
    *,
    bundle: str = 'traffic_signs',
    runs: int = 5,
    seconds: float = 10.0,
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Start the monitor repeatedly, and finally let it wait for a camera.

    Args:
        bundle: Bundle of the monitor.
        runs: Number of starts.
        seconds: Duration for which the monitor's CPU use is measured, without images, with
            ``ood_alert`` at 10 Hz.
        progress: Callback for the progress of the work.

    Returns:
        Timings are from the process's start; ratios are to a Python process that imports rclpy and
        torch and ends.

    Raises:
        NavMonitorError: The monitor does not start, or this system does not report a process's CPU
            use.
    """
    if runs < 1 or seconds <= 0:
        raise NavMonitorError('at least 1 run and more than 0 seconds are required')
    imports, heard, active = [], [], []
    used = 0.0
    with scratch_folder() as scratch:
        for run in range(runs):
            progress('starting', run, runs)
            imports.append(_import_seconds())
            link = _start(bundle, scratch / f'{run}.log')
            try:
                first, ready = _watch(link)
                heard.append(first)
                active.append(ready)
                if run == runs - 1:
                    time.sleep(_SETTLING)
                    used = _share(link.pid, seconds)
            finally:
                link.close()
    reference = float(np.median(imports))
    return Result(
        'startup', f'From the start of the process, bundle {bundle}',
        {'bundle': bundle, 'runs': runs, 'seconds': seconds},
        'importing rclpy and torch',
        {
            'a process that imports rclpy and torch': Timing.of(imports),
            'monitor: the first ood_alert is heard': Timing.of(heard, reference),
            'monitor: active': Timing.of(active, reference),
        },
        {
            'active_s': Figure(float(np.median(active)), 'lower', 's', 5.0),
            'idle_cpu_percent': Figure(100 * used, 'lower', '% of a core', 5.0),
        },
    )


def _import_seconds() -> float:
    begin = time.monotonic()
    subprocess.run([sys.executable, '-c', _IMPORTS], check=True, timeout=_START)
    return time.monotonic() - begin


def _start(bundle: str, log: Path) -> Link:
    command = python_module('nav_monitor_ros.ros.monitor.main', '-p', f'bundle:={bundle}')
    return Link(
        command, DiagnosticArray, '/nav_monitor/ood_status', np.zeros((1, 1, 1, 3), np.uint8),
        log=log,
    )


def _watch(link: Link) -> tuple[float, float]:
    """Return the seconds to the first alert, and to the active state, reported as no_image."""
    times: dict[str, float] = {}

    def alert(_message: Bool) -> None:
        times.setdefault('heard', time.monotonic() - link.started)

    def status(message: DiagnosticArray) -> None:
        if message.status[0].message == 'no_image':
            times.setdefault('active', time.monotonic() - link.started)

    link.node.create_subscription(Bool, '/ood_alert', alert, latched())
    link.node.create_subscription(DiagnosticArray, '/nav_monitor/ood_status', status, latched())
    link.wait(lambda: len(times) == 2, _START, 'the node to be active')
    return times['heard'], times['active']


def _share(pid: int, seconds: float) -> float:
    """Return the share of one core that a process uses."""
    before, begin = _cpu_seconds(pid), time.monotonic()
    while time.monotonic() < begin + seconds:
        raise_if_requested()
        time.sleep(0.05)
    return (_cpu_seconds(pid) - before) / (time.monotonic() - begin)


def _cpu_seconds(pid: int) -> float:
    try:
        text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
    except OSError as error:
        raise NavMonitorError(f'cannot read the CPU use of process {pid}: {error}') from error
    fields = text.rpartition(')')[2].split()  # the name before it may contain spaces
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
