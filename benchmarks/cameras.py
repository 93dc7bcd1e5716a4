"""Measure one node with four cameras: the rate of each, and the effect of a flood or a crash.

    python benchmarks/cameras.py --source 'gtsrb.npz?is_val=1' [--seconds 30] [--kills 5]

The monitor is one process. A second one publishes prepared messages of three cameras; a third one
publishes those of the fourth camera, rear. It later floods its topic and is killed. This process
subscribes to alerts and scores. Only images of the source whose p-value is above 0.05 are used, so
that the alerts are False until a process is killed. Writes docs/measured/cameras.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]

from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_harness import LATCHED, Graph, rgb_message, values  # noqa: E402
from std_msgs.msg import Bool, Float32  # noqa: E402

NAMES = ('front', 'left', 'right', 'rear')
VICTIM = NAMES[-1]
START = 120.0  # longest time for all processes to start, seconds
SETTLING = 5.0  # time before counting begins, seconds
WATCHED = 3.0  # time observed after a kill, seconds
USUAL = 0.05  # p-value above which an image is used
PICTURES = 24  # images per camera
PROFILE = ROOT / 'config' / 'fastdds.xml'


def main() -> None:
    """Run the benchmark, or one of its camera processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--source', required=True, help="such as 'gtsrb.npz?is_val=1'")
    parser.add_argument('--bundle', default='traffic_signs')
    parser.add_argument('--seconds', type=float, default=30.0)
    parser.add_argument('--rate', type=float, default=30.0, help='of each camera, Hz')
    parser.add_argument('--flood', type=float, default=500.0, help='of the rear camera, Hz')
    parser.add_argument('--kills', type=int, default=5, help='times that the rear camera is killed')
    parser.add_argument('--json', type=Path, default=ROOT / 'docs' / 'measured' / 'cameras.json')
    parser.add_argument('--play', nargs='+', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        play(options.play[0], options.play[1:], options.rate)
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / 'pictures.npy'
        np.save(pictures, usual_pictures(options.source, options.bundle))
        graph = Graph(Path(folder), warm=False)
        bench = Bench(graph, pictures, options)
        try:
            measured = bench.run()
        finally:
            bench.stop()
    result = bench.result(measured)
    for table in result.tables():
        from rich.console import Console

        Console().print(table)
    options.json.write_text(json.dumps(result.to_dict(), indent=1) + '\n', encoding='utf-8')


def usual_pictures(source: str, bundle: str) -> np.ndarray:
    """Return in-distribution images of 640x480, uint8 (N, 480, 640, 3) RGB."""
    from nav_monitor_ros.bundle.loading import load_bundle
    from nav_monitor_ros.data.sources import open_source
    from nav_monitor_ros.perception.decoded_image import DecodedImage
    from nav_monitor_ros.runtime.monitor import Monitor

    monitor = Monitor(load_bundle(bundle), device='cpu')
    images = open_source(source)
    order = np.random.default_rng(0).permutation(len(images))
    taken: list[np.ndarray] = []
    for number in order[:1000]:
        small = images.image(int(number))
        small = small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)
        rows, columns = small.shape[:2]
        scale = max(640 / columns, 480 / rows)
        large = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        top, left = (large.shape[0] - 480) // 2, (large.shape[1] - 640) // 2
        whole = np.ascontiguousarray(large[top:top + 480, left:left + 640])
        if monitor.look(DecodedImage(whole, 'rgb')).verdict.p_value > USUAL:
            taken.append(whole)
        if len(taken) == PICTURES * len(NAMES):
            return np.stack(taken)
    raise SystemExit(f'{source}: too few images are usual to {bundle}; name its own kind')


def play(pictures: str, names: list[str], rate: float) -> None:
    """Publish the pictures on NAME/image at equal intervals, until the process is killed."""
    import rclpy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node(f'cameras_{names[0]}')
    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    publishers = [node.create_publisher(Image, f'{name}/image', quality) for name in names]
    rows = np.load(pictures)
    frames = {
        name: [rgb_message(picture, 0, frame_id=name) for picture in rows[NAMES.index(name)::4]]
        for name in names
    }
    period = 1.0 / (rate * len(names))
    due, count = time.monotonic(), 0
    while True:
        number = count % len(names)
        queue = frames[names[number]]
        message = queue[count // len(names) % len(queue)]
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        publishers[number].publish(message)
        count += 1
        due = max(due + period, time.monotonic() - period)
        time.sleep(max(0.0, due - time.monotonic()))


class Bench:
    """Processes of the benchmark, and the messages received from them."""

    def __init__(self, graph: Graph, pictures: Path, options: argparse.Namespace) -> None:
        """Prepare the benchmark without starting a process."""
        self._graph, self._pictures, self._options = graph, pictures, options
        self._players: list[subprocess.Popen[bytes]] = []

    def run(self) -> dict[str, Any]:
        """Run all measurements and return them."""
        graph, options = self._graph, self._options
        for name in NAMES:
            graph.listen(Bool, f'/{name}/ood_alert', LATCHED)
            graph.listen(Float32, f'/nav_monitor/{name}/ood_score')
        monitor = graph.start_monitor(
            '-p', f'bundle:={options.bundle}', '-p', f'cameras:=[{", ".join(NAMES)}]',
            '-p', 'device:=cpu',
        )
        self._start(*NAMES[:-1])
        victim = self._start(VICTIM)
        self._judging(NAMES)
        time.sleep(SETTLING)
        begin, before = time.monotonic(), processor_time(monitor.pid)
        came = {name: self._received(name) for name in NAMES}
        time.sleep(options.seconds)
        end = time.monotonic()
        busy = (processor_time(monitor.pid) - before) / (end - begin)
        received = {name: (self._received(name) - came[name]) / (end - begin) for name in NAMES}
        steady = {name: self._frames(name, begin, end) for name in NAMES}
        told = self._told()
        victim.kill()
        victim.wait()
        victim = self._start(VICTIM, rate=options.flood)
        self._judging((VICTIM,))
        time.sleep(SETTLING)
        begin = time.monotonic()
        before_flood = self._received(VICTIM)
        time.sleep(options.seconds)
        end = time.monotonic()
        flood = {name: self._frames(name, begin, end) for name in NAMES}
        flooded = (self._received(VICTIM) - before_flood) / (end - begin)
        victim.kill()
        victim.wait()
        victim = self._start(VICTIM)
        self._judging((VICTIM,))
        time.sleep(SETTLING)
        kills = []
        for _ in range(options.kills):
            kills.append(self._kill(victim))
            victim = self._start(VICTIM)
            self._judging((VICTIM,))
            time.sleep(SETTLING)
        return {
            'steady': steady, 'told': told, 'kills': kills, 'cores': busy, 'flood': flood,
            'flood_hz': flooded, 'received_hz': received,
        }

    def stop(self) -> None:
        """Stop all processes."""
        for player in self._players:
            player.kill()
            player.wait()
        self._graph.stop()

    def result(self, measured: dict[str, Any]) -> Any:
        """Return the measurements in the common form of all benchmarks."""
        from nav_monitor_ros.benchmark.result import Figure, Result

        steady, kills = measured['steady'], measured['kills']
        figures = {
            **{
                f'judged of {name}': Figure(frames['hz'], 'higher', 'Hz', 29.0)
                for name, frames in steady.items()
            },
            'received of the slowest camera': Figure(
                min(measured['received_hz'].values()), 'higher', 'Hz'
            ),
            'longest gap between two verdicts of one camera': Figure(
                max(frames['longest_gap_ms'] for frames in steady.values()), unit='ms'
            ),
            'image to alert, 99th percentile, worst camera': Figure(
                max(told['latency_ms_p99'] for told in measured['told'].values()), unit='ms'
            ),
            'cores that the monitor uses': Figure(measured['cores']),
        }
        figures.update({
            'flood that the node receives': Figure(measured['flood_hz'], 'higher', 'Hz'),
            'judged of the slowest other during the flood': Figure(
                min(measured['flood'][name]['hz'] for name in NAMES[:-1]), 'higher', 'Hz'
            ),
        })
        if kills:
            figures.update({
                "kill to the camera's alert": Figure(
                    max(kill['alert_ms'] for kill in kills), unit='ms', target=1000.0
                ),
                'kill to the combined alert': Figure(
                    max(kill['combined_ms'] for kill in kills), unit='ms', target=1000.0
                ),
                "True of the others' alerts after a kill": Figure(
                    float(sum(kill['others_true'] for kill in kills)), target=0.0
                ),
                'judged of the slowest other after a kill': Figure(
                    min(hz for kill in kills for hz in kill['others_hz'].values()),
                    'higher', 'Hz', 29.0,
                ),
                'longest gap of an other after a kill': Figure(
                    max(kill['longest_gap_ms'] for kill in kills), unit='ms'
                ),
            })
        options = self._options
        return Result(
            'cameras', 'Four cameras of 640x480, one network',
            {
                'bundle': options.bundle, 'camera_hz': options.rate, 'seconds': options.seconds,
                'source': options.source.rpartition('/')[2], 'kills': options.kills,
                'flood_hz': options.flood,
            },
            'none', {}, figures, measured,
        )

    def _start(self, *names: str, rate: float | None = None) -> subprocess.Popen[bytes]:
        player = subprocess.Popen(
            [
                sys.executable, __file__, '--source', '',
                '--rate', str(rate or self._options.rate), '--play', str(self._pictures), *names,
            ],
            env={
                **os.environ, **self._graph.domain.environment,
                'FASTDDS_DEFAULT_PROFILES_FILE': str(PROFILE), 'OMP_NUM_THREADS': '1',
            },
        )
        self._players.append(player)
        return player

    def _judging(self, names: tuple[str, ...]) -> None:
        """Wait until these cameras are judged."""
        begin = time.monotonic()
        for name in names:
            times = self._graph.times[f'/nav_monitor/{name}/ood_score']
            self._graph.wait(
                lambda times=times: times and times[-1] > begin, START, f'verdicts of {name}'
            )

    def _frames(self, name: str, begin: float, end: float) -> dict[str, float]:
        """Return the rate of a camera's verdicts, and the longest gap between two of them."""
        times = [
            at for at in self._graph.times[f'/nav_monitor/{name}/ood_score'] if begin <= at <= end
        ]
        gaps = [later - earlier for earlier, later in pairwise([begin, *times, end])]
        return {'hz': len(times) / (end - begin), 'longest_gap_ms': 1e3 * max(gaps)}

    def _received(self, name: str) -> int:
        """Return how many images of a camera the node has received, from its diagnostics."""
        for status in self._graph.heard['/diagnostics'][-1].status:
            if status.name.endswith(f': {name}: input'):
                return int(values(status).get('received', 0))
        return 0

    def _told(self) -> dict[str, dict[str, float]]:
        """Return the latencies from the node's own diagnostics."""
        found = {}
        for status in self._graph.heard['/diagnostics'][-1].status:
            said = values(status)
            if 'latency_ms_p99' in said:
                found[status.name.split(': ')[1]] = {
                    key: float(said[key]) for key in ('latency_ms_median', 'latency_ms_p99')
                }
        return found

    def _kill(self, player: subprocess.Popen[bytes]) -> dict[str, Any]:
        others = NAMES[:-1]
        heard = self._graph.heard[f'/{VICTIM}/ood_alert']
        self._graph.wait(lambda: not heard[-1].data, START, f'trust in {VICTIM}')
        scores = self._graph.times[f'/nav_monitor/{VICTIM}/ood_score']
        count = len(scores)
        self._graph.wait(lambda: len(scores) > count, START, 'one more verdict')
        time.sleep(0.012)  # between two images: docs/architecture.md
        player.kill()
        died = time.monotonic()
        time.sleep(WATCHED)
        end = time.monotonic()
        frames = {name: self._frames(name, died, end) for name in others}
        return {
            'alert_ms': 1e3 * (self._first_true(f'/{VICTIM}/ood_alert', died) - died),
            'combined_ms': 1e3 * (self._first_true('/ood_alert', died) - died),
            'others_true': sum(
                message.data
                for name in others
                for at, message in zip(
                    self._graph.times[f'/{name}/ood_alert'],
                    self._graph.heard[f'/{name}/ood_alert'], strict=False,
                )
                if died <= at <= end
            ),
            'others_hz': {name: found['hz'] for name, found in frames.items()},
            'longest_gap_ms': max(found['longest_gap_ms'] for found in frames.values()),
        }

    def _first_true(self, topic: str, after: float) -> float:
        heard = zip(self._graph.times[topic], self._graph.heard[topic], strict=False)
        return next((at for at, m in heard if at > after and m.data), float('inf'))


def processor_time(process: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


if __name__ == '__main__':
    main()
