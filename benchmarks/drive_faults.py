"""Let the camera of a driving robot fail: each fault must stop the robot in time.

    python benchmarks/drive_faults.py --bundle corridor [--faults 100] [--seed 0]

The simulated robot, the monitor and safety_stop run as processes in real time. Each fault begins
while the robot drives; the gate must send zero to the base within the contract's time for a camera
of 15 Hz (docs/safety.md), and the robot must then stand still. Writes
docs/measured/drive_faults.json; exits with status 1 if a stop came too late or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))

from geometry_msgs.msg import PoseStamped, Twist  # noqa: E402
from processes import with_default_signals  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rich.console import Console  # noqa: E402
from ros_harness import Graph  # noqa: E402

from nav_monitor_ros.files.atomic_file import write_file  # noqa: E402
from nav_monitor_ros.ros.simulated_robot import (  # noqa: E402
    DAMAGED,
    DARK,
    FROZEN,
    NO_FAULT,
    SILENT,
    SLOW,
)
from nav_monitor_ros.sim.camera.rendering import CAMERA  # noqa: E402

OUTPUT = ROOT / 'docs' / 'measured' / 'drive_faults.json'
PERIOD = 1 / CAMERA.rate  # s
RATE_ERROR = 10.0  # Hz, the monitor's input_rate_error; images come at 3 Hz with the fault `slow`
SLACK = 0.1  # s for judging, transport and this program's own subscriber
# Fault -> the contract's time until the base receives zero, s: docs/safety.md, Detection time.
LIMITS = {
    DARK: PERIOD + SLACK,
    DAMAGED: PERIOD + SLACK,
    SILENT: 0.5 + 0.1 + SLACK,
    FROZEN: 1.0 + 2 * PERIOD + SLACK,
    SLOW: 2.0 * (CAMERA.rate - RATE_ERROR) / (CAMERA.rate - 3.0) + 1 / 3.0 + PERIOD + SLACK,
}
START = 60.0  # longest time for a process to start, or for the robot to drive again, s
STEADY = 3.0  # time without a stop before a fault, s; longer than the window of the input rate
LATE = 5.0  # time after which a stop has not come at all, s
DRIVING = 0.15  # m/s


@dataclass
class Tally:
    """The stops for one kind of fault."""

    stops: list[float] = field(default_factory=list)  # s from the fault to zero at the base
    distances: list[float] = field(default_factory=list)  # m from the fault to standstill
    reasons: set[str] = field(default_factory=set)
    late: int = 0  # after the limit
    missing: int = 0


class Drive:
    """The robot, its monitor and its gate."""

    def __init__(self, graph: Graph, bundle: str, logs: Path) -> None:
        self._graph, self._logs = graph, logs
        self._robot: subprocess.Popen | None = None
        self._seed = 0
        self.other_stops: list[str] = []  # reasons of stops between faults
        graph.listen(Twist, '/cmd_vel')
        graph.listen(PoseStamped, '/simulated_robot/pose')
        graph.start_monitor(
            '-p', f'bundle:={bundle}', '-p', f'input_rate_error:={RATE_ERROR}')
        graph.start('safety_stop')

    def next_robot(self) -> None:
        """Put the robot at the start of another world."""
        self.end()
        self._seed += 1
        with (self._logs / f'robot_{self._seed}.log').open('wb') as log:
            self._robot = subprocess.Popen(
                with_default_signals(
                    sys.executable, '-m', 'nav_monitor_ros.ros.simulated_robot', '--ros-args',
                    '-p', f'seed:={4_000_000 + self._seed}', '-p', 'pieces:=8'),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self._graph.domain.environment, 'OMP_NUM_THREADS': '1'},
            )

    def end(self) -> None:
        """Stop the robot's process."""
        if self._robot is not None:
            self._robot.terminate()
            self._robot.wait(20)

    def wait_driving(self) -> None:
        """Wait until the robot has driven for some time; take another one if this one is done."""
        end, since = time.monotonic() + START, None
        while True:
            now = time.monotonic()
            if self.speed >= DRIVING:
                since = since or now
                if now - since >= STEADY:
                    return
            elif since is not None:
                self.other_stops.append(self._graph.reason)
                since = None
            if now > end:
                self.next_robot()
                end, since = now + START, None
            self._forget()
            time.sleep(0.01)

    def cause(self, fault: str) -> None:
        """Set the fault of the camera."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=fault)
        request = SetParameters.Request(parameters=[Parameter(name='fault', value=value)])
        self._graph.call(SetParameters, '/simulated_robot/set_parameters', request, START)

    def fail(self, fault: str, tally: Tally) -> None:
        """Cause a fault, and record whether the robot stops in time."""
        started, place = time.monotonic(), self._place
        self.cause(fault)
        stopped = self._until(lambda: self._zero_since(started), LATE)
        self._until(lambda: False, 1.0)  # to standstill
        tally.reasons.add(self._graph.reason)
        if stopped is None:
            tally.missing += 1
        else:
            tally.stops.append(stopped - started)
            tally.distances.append(_distance(place, self._place))
            tally.late += stopped - started > LIMITS[fault] or self.speed != 0.0
        self.cause(NO_FAULT)

    @property
    def speed(self) -> float:
        """Return the newest speed that the base received, m/s; 0 if none is fresh."""
        heard, times = self._graph.heard['/cmd_vel'], self._graph.times['/cmd_vel']
        fresh = times and time.monotonic() - times[-1] < 0.5
        return float(heard[-1].linear.x) if fresh else 0.0

    @property
    def _place(self) -> tuple[float, float]:
        position = self._graph.heard['/simulated_robot/pose'][-1].pose.position
        return position.x, position.y

    def _zero_since(self, start: float) -> bool:
        heard, times = self._graph.heard['/cmd_vel'], self._graph.times['/cmd_vel']
        return bool(heard) and times[-1] >= start and heard[-1].linear.x == 0

    def _until(self, condition: Callable[[], bool], timeout: float) -> float | None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return time.monotonic()
            time.sleep(0.005)
        return None

    def _forget(self) -> None:
        """Discard old messages to limit this process's memory."""
        for topic in list(self._graph.heard):
            for kept in (self._graph.heard[topic], self._graph.times[topic]):
                del kept[:-100]


def _distance(start: tuple[float, float], end: tuple[float, float]) -> float:
    return ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5


def main() -> int:
    """Cause the faults and write the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bundle', default='corridor')
    parser.add_argument('--faults', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    tallies: dict[str, Tally] = defaultdict(Tally)
    console, draws = Console(highlight=False), random.Random(options.seed)
    kinds = [tuple(LIMITS)[number % len(LIMITS)] for number in range(options.faults)]
    draws.shuffle(kinds)
    with tempfile.TemporaryDirectory() as logs:
        graph = Graph(Path(logs), warm=False, udp_only=True)
        drive = Drive(graph, options.bundle, Path(logs))
        try:
            drive.next_robot()
            for number, kind in enumerate(kinds, start=1):
                drive.wait_driving()
                time.sleep(draws.uniform(0.0, 1.0))
                drive.fail(kind, tallies[kind])
                told = tallies[kind]
                console.print(
                    f'{number} of {len(kinds)}: {kind} ({graph.reason}), zero after '
                    f'{told.stops[-1] if told.stops else float("nan"):.2f} s')
        finally:
            drive.end()
            graph.stop()
    result = _result(tallies, drive)
    write_file(OUTPUT, json.dumps(result, indent=1).encode() + b'\n')
    console.print_json(data=result)
    return int(any(tally.late or tally.missing for tally in tallies.values()))


def _result(tallies: dict[str, Tally], drive: Drive) -> dict[str, Any]:
    return {
        'rate_hz': CAMERA.rate,
        'faults': {
            kind: {
                'count': len(tally.stops) + tally.missing, 'late': tally.late,
                'missing': tally.missing, 'limit_s': round(LIMITS[kind], 3),
                'seconds': [round(value, 3) for value in sorted(tally.stops)],
                'metres': [round(value, 3) for value in sorted(tally.distances)],
                'reasons': sorted(tally.reasons),
            }
            for kind, tally in sorted(tallies.items())
        },
        'other_stops': drive.other_stops,
    }


if __name__ == '__main__':
    sys.exit(main())
