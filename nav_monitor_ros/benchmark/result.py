"""Common form of all benchmark results, with a description of the machine.

A benchmark is one module with one function of keyword arguments that have defaults, which returns a
``Result``. ``cli/benchmark.py`` lists them.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

Progress = Callable[[str, int, int], None]  # (what is being done, units done, units in all)
VERSIONS_OF = (
    'numpy', 'opencv-python-headless', 'torch', 'torchvision', 'onnxruntime', 'openvino',
    'ros-rclpy',
)


@dataclass(frozen=True)
class Timing:
    """Statistics of repeated timings."""

    median_ms: float  # milliseconds
    p99_ms: float  # milliseconds, the 99th percentile
    ratio: float  # ratio of the median to the result's reference, or to ``divisor``
    count: int = 0  # number of timings
    divisor: str = ''  # denominator of the ratio, if it is not the result's reference

    @staticmethod
    def of(
        seconds: np.ndarray | Sequence[float], reference: float | None = None, divisor: str = ''
    ) -> Timing:
        """Return the statistics of times.

        Args:
            seconds: Duration of each call, seconds.
            reference: Denominator of the ratio, seconds; by default the median of the times.
            divisor: Name of the denominator, if it is not the result's reference.
        """
        times = np.asarray(seconds, np.float64)
        median = float(np.median(times))
        return Timing(
            median * 1e3, float(np.percentile(times, 99)) * 1e3,
            median / (median if reference is None else reference), len(times), divisor,
        )


@dataclass(frozen=True)
class Figure:
    """One resulting number of a benchmark."""

    value: float
    better: str = 'lower'  # or higher
    unit: str = ''
    target: float | None = None  # value to reach
    ratio_of: str = ''  # for a ratio: numerator / denominator, in words

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == 'lower' else self.value >= self.target


@dataclass(frozen=True)
class Result:
    """Results of one run of a benchmark on one machine."""

    benchmark: str
    title: str  # for the tables
    settings: Mapping[str, Any]
    reference: str  # entry of ``timed`` with ratio 1, or the denominator of all ratios
    timed: Mapping[str, Timing]
    figures: Mapping[str, Figure] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  # more that a table may show
    machine: Mapping[str, Any] = field(default_factory=lambda: machine_facts())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; each figure's value stands at the top level too."""
        return {
            'benchmark': self.benchmark,
            'title': self.title,
            'machine': dict(self.machine),
            'settings': dict(self.settings),
            'reference': self.reference,
            'timed': {name: asdict(timing) for name, timing in self.timed.items()},
            'figures': {name: asdict(figure) for name, figure in self.figures.items()},
            **{name: figure.value for name, figure in self.figures.items()},
            **({'details': dict(self.details)} if self.details else {}),
        }

    def tables(self) -> list[Table]:
        """Return the tables to print."""
        shown = []
        if self.timed:
            timed = _table(self.title, 'what', 'median', 'p99', f'median / {self.reference}')
            for name, timing in self.timed.items():
                other = f' (median / {timing.divisor})' if timing.divisor else ''
                timed.add_row(
                    name, _time(timing.median_ms), _time(timing.p99_ms),
                    f'{timing.ratio:.4g}{other}',
                )
            shown.append(timed)
        if self.figures:
            figures = _table('' if shown else self.title, 'figure', 'value', 'target', 'reached')
            for name, figure in self.figures.items():
                sign = '<=' if figure.better == 'lower' else '>='
                unit = f' {figure.unit}'.rstrip()
                figures.add_row(
                    f'{name} ({figure.ratio_of})' if figure.ratio_of else name,
                    f'{figure.value:.4g}{unit}',
                    '' if figure.target is None else f'{sign} {figure.target:g}{unit}',
                    {None: '', True: 'yes', False: 'no'}[figure.is_reached],
                )
            shown.append(figures)
        return shown


def time_calls(
    function: Callable[[Any], object], arguments: Sequence[Any], *, warm: int = 10
) -> np.ndarray:
    """Return the duration of each call in seconds.

    Args:
        function: Function to time.
        arguments: Argument of each call.
        warm: Number of first calls that are also made once before the timing.
    """
    for argument in arguments[:warm]:
        function(argument)
    times = np.empty(len(arguments))
    for place, argument in enumerate(arguments):
        start = time.perf_counter()
        function(argument)
        times[place] = time.perf_counter() - start
    return times


def machine_facts() -> dict[str, Any]:
    """Return the facts, other than the code, on which the results of a benchmark depend."""
    return {
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'commit': _commit(),
        'cpu': _cpu_model(),
        'cores': os.cpu_count(),
        'load_1_min': round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
        'gpu': torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        'system': f'{platform.system()} {platform.release()} {platform.machine()}',
        'python': platform.python_version(),
        'versions': {name: found for name in VERSIONS_OF if (found := _version(name))},
    }


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title or None, title_justify='left')
    table.add_column(first, overflow='fold')
    for heading in others:
        table.add_column(heading, justify='right')
    return table


def _time(milliseconds: float) -> str:
    if milliseconds < 1:
        return f'{milliseconds * 1e3:.3g} us'
    return f'{milliseconds:.4g} ms'


def _commit() -> str | None:
    """Return the checkout's commit, with a + if files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ['git', '-C', str(here), 'describe', '--always', '--dirty=+', '--exclude=*'],
            capture_output=True, text=True, timeout=10, check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None


def _cpu_model() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as lines:
            for line in lines:
                if line.startswith('model name'):
                    return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
