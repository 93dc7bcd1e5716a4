"""Fuzz the code that reads untrusted data.

    python benchmarks/fuzz.py TARGET [--minutes 10] [--seed 0] [--json FILE] [--keep FOLDER]

TARGET is image, compressed, bundle, bag or parameters. Inputs are mutations of valid ones: of their
structure, if the target has one, and of single bytes. An input with a new outcome is mutated
further, so that the search reaches deeper than random mutations alone. Each input must be used, or
refused with a one-line NavMonitorError, within limits of time and memory, and without running a
command, opening a network connection, unpickling, or opening a file outside the input's folder.
Anything else is a finding, which is printed, stored in FOLDER, and results in exit status 1.

The memory limit is checked with the peak (VmHWM) in /proc, so that it applies only if the kernel
reports that value. Files that SQLite and safetensors open themselves are not detected; those that
Python opens are.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import platform
import random
import resource
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parent.parent
# For the targets, and for the tests' small network and bag writer.
sys.path[:0] = [str(ROOT / 'benchmarks'), str(ROOT / 'test')]

from fuzzing.bags import BagTarget  # noqa: E402
from fuzzing.bundles import BundleTarget  # noqa: E402
from fuzzing.images import CompressedTarget, ImageTarget  # noqa: E402
from fuzzing.parameters import ParametersTarget  # noqa: E402
from fuzzing.target import LARGEST_CASE, Finding, Target, TooSlowError, outcome_of  # noqa: E402
from fuzzing.watching import bounded_memory, bounded_time, memory  # noqa: E402

LONGEST_MESSAGE = 4000  # characters
MOST_SECONDS = 20.0  # largest CPU time for one input, seconds
KEPT = 400  # number of inputs kept for further mutation
ADDRESS_SPACE = 24 << 30  # bytes in addition to those that the libraries have mapped
TARGETS: dict[str, type[Target]] = {
    'image': ImageTarget, 'compressed': CompressedTarget, 'bundle': BundleTarget, 'bag': BagTarget,
    'parameters': ParametersTarget,
}


# ------------------------------------------------------------------ running


@dataclass
class Report:
    """Result of a run."""

    target: str
    seed: int
    executions: int = 0
    used: int = 0  # inputs that were not refused
    outcomes: int = 0  # number of different outcomes
    seconds: float = 0.0
    slowest: float = 0.0  # CPU time of the slowest input, seconds
    findings: list[str] = field(default_factory=list)


def feed(target: Target, case: Any) -> tuple[object, bool]:
    """Feed one input to a target.

    Returns:
        Outcome, and whether the input was used instead of refused.

    Raises:
        Finding: The target misbehaved.
    """
    try:
        with bounded_memory(target.most_memory), bounded_time(MOST_SECONDS):
            return target.feed(case), True
    except target.errors as error:
        text = str(error)
        if '\n' in text or not 0 < len(text) <= LONGEST_MESSAGE:
            raise Finding(f'a message of {len(text)} characters: {text[:200]!r}') from error
        if 'memory enough' in text:
            raise Finding(text) from error
        return outcome_of(error), False
    except Finding:
        raise
    except (Exception, TooSlowError) as error:
        raise Finding(''.join(traceback.format_exception(error)[-12:])) from error


def run(
    name: str,
    *,
    seed: int = 0,
    seconds: float = float('inf'),
    executions: float = float('inf'),
    tell: Callable[[str, Any], None] = lambda what, case: None,
) -> Report:
    """Feed a target until a limit is reached.

    Args:
        name: One of ``TARGETS``.
        seed: Seed of the inputs.
        seconds: Maximum duration.
        executions: Maximum number of inputs.
        tell: Callback for each finding and its input.
    """
    chance, report = random.Random(seed), Report(name, seed)
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        inputs = Path(folder) / 'inputs'
        inputs.mkdir()
        target = TARGETS[name](inputs)
        kept: list[Any] = []
        outcomes: set[object] = set()
        begin = time.monotonic()
        while report.executions < executions and time.monotonic() - begin < seconds:
            case = chance.choice(kept) if kept and chance.random() < 0.6 else target.fresh(chance)
            if report.executions % 50:
                case = target.spoiled(case, chance)
            report.executions += 1
            before = time.process_time()
            try:
                outcome, used = feed(target, case)
            except Finding as finding:
                report.findings.append(str(finding))
                tell(str(finding), case)
                continue
            finally:
                report.slowest = max(report.slowest, time.process_time() - before)
            report.used += used
            if repr(outcome) not in outcomes and _size(case) <= LARGEST_CASE:
                outcomes.add(repr(outcome))
                kept.append(case)
                del kept[: len(kept) - KEPT]
        report.seconds, report.outcomes = time.monotonic() - begin, len(outcomes)
    return report


def _size(case: Any) -> int:
    """Return the size of an input in bytes."""
    if isinstance(case, (bytes, bytearray, memoryview, str)):
        return len(case)
    parts = vars(case).values() if hasattr(case, '__dict__') else case
    if isinstance(parts, dict):
        parts = parts.values()
    return sum(map(_size, parts)) if hasattr(parts, '__iter__') else 0


def versions() -> dict[str, str]:
    """Return the versions of the libraries that read the inputs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {'python': platform.python_version(), 'sqlite3': sqlite3.sqlite_version}
    for package in ('numpy', 'opencv-python-headless', 'PyYAML', 'safetensors', 'torch', 'rosbags',
                    'backports-zstd', 'lz4'):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _record(path: Path, report: Report) -> None:
    """Add a run to the results in a file."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[report.target] = {
        'minutes': round(report.seconds / 60, 1),
        'executions': report.executions,
        'used': report.used,
        'outcomes': report.outcomes,
        'slowest_s': round(report.slowest, 2),
        'findings': len(report.findings),
        'seed': report.seed,
        'versions': versions(),
    }
    path.write_text(json.dumps(dict(sorted(results.items())), indent=2) + '\n')


def main() -> int:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='merge the result into this file')
    parser.add_argument('--keep', type=Path, help='folder for inputs that cause findings')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    limit = memory('VmSize') + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    known: set[str] = set()

    def tell(finding: str, case: Any) -> None:
        what = outcome_of(Exception(finding.strip().splitlines()[-1]))
        print(f'{"again" if what in known else "FINDING"}: {finding[-3000:]}', flush=True)
        if options.keep and what not in known:
            options.keep.mkdir(parents=True, exist_ok=True)
            with io.BytesIO() as stream, suppress(Exception):
                pickle.dump(case, stream)  # only this program's user writes and reads it
                name = f'{options.target}-{options.seed}-{len(known)}.pickle'
                (options.keep / name).write_bytes(stream.getvalue())
        known.add(what)

    report = run(options.target, seed=options.seed, seconds=60 * options.minutes, tell=tell)
    print(
        f'{report.target}: {report.executions} inputs in {report.seconds:.0f} s, {report.used} '
        f'used, {report.outcomes} different outcomes, slowest {report.slowest:.1f} s, '
        f'{len(report.findings)} findings'
    )
    if options.json:
        _record(options.json, report)
    return 1 if report.findings else 0


if __name__ == '__main__':
    sys.exit(main())
