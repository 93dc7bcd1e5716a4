"""Run monitor, camera and safety_stop for a chosen time under random faults.

    python benchmarks/soak.py --minutes 30 [--seed 0]

Each fault must stop the wheels in time and keep them stopped, they must turn again after each
recovery, and must not stop between faults. Writes docs/measured/soak.json and the plot
docs/images/soak.png; exits with status 1 if an alert was missed or a process crashed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))

import matplotlib  # noqa: E402

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from held_terminal import Terminal  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from nav_monitor_ros.ros.process.process import FAILED  # noqa: E402

RECOVERY = 60.0  # longest time until the wheels turn again, seconds
HEALTHY = (3.0, 12.0)  # seconds between faults
LASTING = (1.0, 5.0)  # duration of a fault after its detection, seconds
NOTICED = 15.0  # longest time until the reason is published, including a camera's start, seconds
LISTENING = 0.25  # time until this program's own subscriber has received a zero, seconds
SAMPLE = 1.0  # seconds between samples of memory and latency


@dataclass
class Fault:
    """Fault of the robot."""

    name: str
    begin: Callable[[], None]
    end: Callable[[], None]
    within: float  # longest time until the wheels stop, seconds
    weight: float = 1.0
    reason: str = ''  # reason to wait for: a new camera moves before it freezes


@dataclass
class Tally:
    """Results of one kind of fault."""

    count: int = 0
    missed: int = 0
    stops: list[float] = field(default_factory=list)  # seconds until the wheels stopped
    recoveries: list[float] = field(default_factory=list)  # seconds until they turned again


class Soak:
    """Robot with its faults and the expectations about it."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self._graph = graph
        self._random = random.Random(seed)
        self._camera: Any = None
        self._monitor: Any = None
        self.crashes: list[str] = []
        self.restarts = 0  # of a monitor that asked for it
        self.false_alarms: list[tuple[float, str]] = []
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.samples: list[dict[str, float]] = []
        self.marks: list[tuple[float, float, str]] = []  # begin, end, fault
        self.started = time.monotonic()
        self.frames = 0
        self.totals: dict[str, int] = defaultdict(int)  # sums over all activations
        self._counted: dict[str, int] = defaultdict(int)
        self._terminal = Terminal('terminal')
        threading.Thread(target=self._read_terminal, daemon=True).start()
        graph.listen(Twist, '/cmd_vel')
        graph.listen(Float32, '/nav_monitor/ood_score')
        self._start_monitor()
        graph.start('safety_stop', output=self._terminal.writer)
        self._start_camera()
        # A separate node: a node that also subscribed to cmd_vel would form a loop of commands.
        wheel = graph.driver.create_publisher(Twist, 'cmd_vel_in', QoSProfile(depth=1))
        command = Twist()
        command.linear.x = 1.0
        graph.node.create_timer(1 / 20, lambda: wheel.publish(command))
        self.faults = [
            Fault('camera killed', self._stop_camera, self._start_camera, 0.6 + 0.5),
            Fault('camera killed while the terminal is blocked', self._hold_terminal,
                  self._release_terminal, 0.6 + 0.5),
            Fault('camera frozen', lambda: self._swap_camera(hold=10**5),
                  lambda: self._swap_camera(), 3.0, reason='frozen_image'),
            Fault('triangles', lambda: self._swap_camera('sample:triangles'),
                  lambda: self._swap_camera(), 3.0, 2.0),
            Fault('noise', lambda: self._swap_camera('sample:noise'),
                  lambda: self._swap_camera(), 3.0),
            Fault('monitor suspended', lambda: self._monitor.send_signal(signal.SIGSTOP),
                  lambda: self._monitor.send_signal(signal.SIGCONT), 0.6),
            Fault('monitor killed', self._kill_monitor, self._start_monitor, 0.6, 0.3),
            Fault('disabled', lambda: self._enable(False), lambda: self._enable(True), 0.1),
            Fault('deactivated',
                  lambda: self._change(Transition.TRANSITION_DEACTIVATE),
                  lambda: self._change(Transition.TRANSITION_ACTIVATE), 0.1),
            Fault('cleaned up', self._clean_up, self._set_up, 0.1, 0.5),
        ]

    # Faults.

    def _start_camera(self, source: str = 'sample:digits', hold: int = 1) -> None:
        self._camera = self._graph.start_camera(source, '-p', f'hold:={hold}')

    def _stop_camera(self) -> None:
        self._camera.kill()
        self._camera.wait()

    def _hold_terminal(self) -> None:
        self._terminal.hold()
        self._stop_camera()

    def _release_terminal(self) -> None:
        self._start_camera()
        self._recover('the camera, while the terminal is blocked')
        self._terminal.release()

    def _read_terminal(self) -> None:
        while True:
            self._terminal.read()
            self._terminal.text = b''
            time.sleep(0.1)

    def _swap_camera(self, source: str = 'sample:digits', hold: int = 1) -> None:
        self._stop_camera()
        self._start_camera(source, hold)

    def _start_monitor(self) -> None:
        self._monitor = self._graph.start_monitor(
            '-p', 'bundle:=digits', output=self._terminal.writer
        )

    def _kill_monitor(self) -> None:
        self._monitor.kill()
        self._monitor.wait()

    def _enable(self, value: bool) -> None:
        self._graph.call(SetBool, '/nav_monitor/set_enabled', SetBool.Request(data=value), 30)

    def _change(self, number: int) -> None:
        request = ChangeState.Request(transition=Transition(id=number))
        answer = self._graph.call(ChangeState, '/nav_monitor/change_state', request, 60)
        if not answer.success:
            self.crashes.append(f'transition {number} failed')

    def _clean_up(self) -> None:
        self._change(Transition.TRANSITION_DEACTIVATE)
        self._change(Transition.TRANSITION_CLEANUP)

    def _set_up(self) -> None:
        self._change(Transition.TRANSITION_CONFIGURE)
        self._change(Transition.TRANSITION_ACTIVATE)

    # Expectations.

    def run(self, minutes: float) -> None:
        """Cause faults and recover from them until the time is over."""
        end = time.monotonic() + 60 * minutes
        self._recover('start')
        while time.monotonic() < end:
            self._watch_health(self._random.uniform(*HEALTHY))
            fault = self._random.choices(self.faults, [f.weight for f in self.faults])[0]
            self._break(fault)
        self._watch_health(5.0)

    def _break(self, fault: Fault) -> None:
        tally = self.tallies[fault.name]
        tally.count += 1
        start = time.monotonic()
        fault.begin()
        stopped = self._wait(lambda: self._zero_since(start), fault.within + LISTENING)
        if stopped is None:
            tally.missed += 1
        else:
            tally.stops.append(stopped - start)
        if fault.reason and not self._wait(lambda: self._graph.reason == fault.reason, NOTICED):
            tally.missed += 1
        lasting = time.monotonic() + self._random.uniform(*LASTING)
        # After a camera has been replaced, its last images may still count for a moment.
        settled = max(time.monotonic(), start + fault.within)
        while time.monotonic() < lasting:
            time.sleep(0.05)
            self._sample()
            if time.monotonic() > settled and self._moving():
                tally.missed += 1
                break
        mended = time.monotonic()
        fault.end()
        self._recover(fault.name)
        tally.recoveries.append(time.monotonic() - mended)
        self.marks.append((start - self.started, time.monotonic() - self.started, fault.name))
        print(
            f'{time.monotonic() - self.started:7.1f} s  {fault.name}: stopped after '
            f'{(stopped or float("nan")) - start:.2f} s, again after '
            f'{tally.recoveries[-1]:.1f} s', flush=True,
        )

    def _recover(self, name: str) -> None:
        turned = self._wait(self._moving, RECOVERY)
        if turned is None:
            self.crashes.append(f'no recovery after {name}: {self._graph.describe()[-1500:]}')

    def _watch_health(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            self._sample()
            if not self._moving():
                self.false_alarms.append(
                    (time.monotonic() - self.started, self._graph.reason)
                )
                self._recover('a false alarm')
        for process in (self._monitor, self._camera):
            if process.poll() is not None:
                self.crashes.append(f'{process.args[0]} ended with {process.returncode}')

    def _wait(self, condition: Callable[[], Any], timeout: float) -> float | None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return time.monotonic()
            self._sample()
            time.sleep(0.005)
        return None

    def _moving(self) -> bool:
        heard = self._graph.heard['/cmd_vel']
        fresh = heard and time.monotonic() - self._graph.times['/cmd_vel'][-1] < 1.0
        return bool(fresh and heard[-1].linear.x > 0)

    def _zero_since(self, start: float) -> bool:
        heard, times = self._graph.heard['/cmd_vel'], self._graph.times['/cmd_vel']
        return bool(heard) and times[-1] >= start and heard[-1].linear.x == 0

    def _sample(self) -> None:
        if self._monitor.poll() == FAILED:  # it asks for a restart, as launch's respawn does
            self.restarts += 1
            self._start_monitor()
        now = time.monotonic() - self.started
        if self.samples and now - self.samples[-1]['time'] < SAMPLE:
            return
        sample = {'time': now, 'process': float(self._monitor.pid)}
        status = Path(f'/proc/{self._monitor.pid}/status')
        try:
            lines = dict(line.split(':', 1) for line in status.read_text().splitlines())
            sample['memory_mb'] = int(lines['VmRSS'].split()[0]) / 1024
            sample['threads'] = float(lines['Threads'])
        except (OSError, KeyError):
            pass  # the monitor is being restarted
        for message in self._graph.heard['/diagnostics'][-3:]:  # safety_stop publishes there too
            told = {k: v for s in message.status for k, v in values(s).items()}
            for key in ('latency_ms_median', 'latency_ms_p99', 'rate_hz'):
                if key in told:
                    sample[key] = float(told[key])
            for key in ('received', 'dropped_unjudged', 'lost_in_transport'):
                if key in told:
                    self._count(key, int(told[key]))
        self.samples.append(sample)
        self._forget()

    def _count(self, key: str, value: int) -> None:
        """Add up a counter that restarts at 0 with each activation."""
        before = self._counted[key]
        self.totals[key] += value - before if value >= before else value
        self._counted[key] = value

    def _forget(self) -> None:
        """Discard old messages to limit this process's memory."""
        self.frames += max(0, len(self._graph.heard['/nav_monitor/ood_score']) - 50)
        for topic in list(self._graph.heard):
            for kept in (self._graph.heard[topic], self._graph.times[topic]):
                del kept[:-50]

    def result(self, seed: int) -> dict[str, Any]:
        """Return all measurements."""
        lives = defaultdict(list)
        for sample in self.samples:
            if 'memory_mb' in sample:
                lives[sample['process']].append(sample)
        memory = [
            {
                'minutes': (life[-1]['time'] - life[0]['time']) / 60,
                # After a minute, all modules have been loaded.
                'mb_after_a_minute': next(
                    s['memory_mb'] for s in life if s['time'] - life[0]['time'] >= 60
                ),
                'mb_at_the_end': life[-1]['memory_mb'],
                'mb_at_most': max(s['memory_mb'] for s in life),
            }
            for life in lives.values() if life[-1]['time'] - life[0]['time'] >= 120
        ]
        latencies = sorted(s['latency_ms_median'] for s in self.samples if 'latency_ms_median' in s)
        p99 = sorted(s['latency_ms_p99'] for s in self.samples if 'latency_ms_p99' in s)
        return {
            'minutes': (time.monotonic() - self.started) / 60,
            'seed': seed,
            'frames_judged': self.frames,
            **self.totals,
            'faults': {
                name: {
                    'count': tally.count, 'missed': tally.missed,
                    'seconds_to_stop': [min(tally.stops), max(tally.stops)] if tally.stops else [],
                    'seconds_to_recover': [min(tally.recoveries), max(tally.recoveries)],
                }
                for name, tally in sorted(self.tallies.items())
            },
            'missed_alerts': sum(tally.missed for tally in self.tallies.values()),
            'false_alarms': [{'at_s': at, 'reason': reason} for at, reason in self.false_alarms],
            'crashes': self.crashes,
            'restarts': self.restarts,
            'memory': memory,
            'latency_ms_median': latencies[len(latencies) // 2],
            'latency_ms_p99_median': p99[len(p99) // 2],
            'latency_ms_p99_worst': p99[-1],
        }

    def plot(self, path: Path) -> None:
        """Draw memory and latency over time, with the faults."""
        figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(9, 4.5))
        for axes, key, label in (
            (top, 'memory_mb', 'memory of the monitor, MB'),
            (bottom, 'latency_ms_p99', 'latency p99, ms'),
        ):
            found = [(s['time'] / 60, s[key]) for s in self.samples if key in s]
            axes.plot(*zip(*found, strict=True), '.', markersize=2, color='#0072B2')
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            for begin, end, _ in self.marks:
                axes.axvspan(begin / 60, end / 60, color='#D55E00', alpha=0.15, linewidth=0)
        bottom.set_xlabel('minutes (shaded: a fault and the recovery from it)')
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def main() -> int:
    """Run the soak test and write the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, default=ROOT / 'docs')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as logs:
        graph = Graph(Path(logs), warm=False, udp_only=True)
        try:
            soak = Soak(graph, options.seed)
            soak.run(options.minutes)
        finally:
            graph.stop()
    result = soak.result(options.seed)
    target = options.output / 'measured' / 'soak.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    soak.plot(options.output / 'images' / 'soak.png')
    print(json.dumps(result, indent=1))
    return int(bool(result['missed_alerts'] or result['crashes']))


if __name__ == '__main__':
    sys.exit(main())
