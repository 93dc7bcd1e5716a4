"""Measure the live views with a 30 Hz camera, subscribers to all of them, and one busy core.

    python benchmarks/live_views.py [--seconds 30] [--bundle traffic_signs] [--json FILE]

Camera, monitor and subscriber are three processes; a fourth process keeps one core busy. Reports
the rate of each picture as received, the rate of verdicts, and the drawing time from the node's
diagnostics.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))

from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_harness import Graph, values  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Float32  # noqa: E402

START = 120.0  # longest time for all processes to start, seconds
SETTLING = 5.0  # time before counting begins, seconds
PICTURES = ('/nav_monitor/overlay', '/nav_monitor/activations')
VERDICTS = '/nav_monitor/ood_score'


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=30.0)
    parser.add_argument('--bundle', default='traffic_signs')
    parser.add_argument('--source', default='sample:photos?count=300')
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera, Hz')
    parser.add_argument('--busy', type=int, default=1, help='number of cores to keep busy')
    parser.add_argument('--json', type=Path, help='write the results to this file')
    options = parser.parse_args()
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(options.busy)]
    with tempfile.TemporaryDirectory() as folder:
        graph = Graph(Path(folder), warm=False)
        try:
            result = measure(graph, options, busy)
        finally:
            for process in busy:
                process.kill()
            graph.stop()
    print(json.dumps(result, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')


def measure(
    graph: Graph, options: argparse.Namespace, busy: list[multiprocessing.Process]
) -> dict[str, Any]:
    """Return rates in Hz and times in milliseconds.

    Args:
        graph: Graph without processes.
        options: Options of the command line.
        busy: Processes to start before counting begins.
    """
    quality = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    graph.listen(Float32, VERDICTS)
    for topic in PICTURES:
        graph.listen(Image, topic, quality)
    graph.start_monitor(
        '-p', f'bundle:={options.bundle}', '-p', f'view_rate:={2 * options.rate}')
    graph.start_camera(options.source, '-p', f'rate:={options.rate}')
    graph.wait(lambda: all(graph.heard[topic] for topic in PICTURES), START, 'pictures')
    shapes = {
        topic: [graph.heard[topic][-1].height, graph.heard[topic][-1].width] for topic in PICTURES
    }
    for process in busy:
        process.start()
    time.sleep(SETTLING)
    forget(graph)
    begin = time.monotonic()
    while time.monotonic() - begin < options.seconds:
        time.sleep(0.2)
        for topic in PICTURES:
            graph.heard[topic].clear()  # only the times are needed; pictures would fill the memory
    seconds = time.monotonic() - begin
    told = told_by(graph)
    return {
        'seconds': seconds, 'bundle': options.bundle, 'camera_hz': options.rate,
        'cores': os.cpu_count(), 'busy_cores': options.busy, 'machine': platform.machine(),
        'rows_and_columns': shapes,
        'verdicts_hz': len(graph.times[VERDICTS]) / seconds,
        'pictures_hz': {topic: len(graph.times[topic]) / seconds for topic in PICTURES},
        'longest_gap_ms': {
            topic: max(1e3 * (b - a) for a, b in pairwise(graph.times[topic]))
            for topic in PICTURES
        },
        'drawing_ms_p95': float(told['drawing_ms_p95']),
        'latency_ms_median': float(told['latency_ms_median']),
        'latency_ms_p99': float(told['latency_ms_p99']),
        'lost_in_transport': int(told['lost_in_transport']),
        'dropped_unjudged': int(told['dropped_unjudged']),
    }


def forget(graph: Graph) -> None:
    """Reset the counts."""
    for topic in (*PICTURES, VERDICTS):
        graph.heard[topic].clear()
        graph.times[topic].clear()


def told_by(graph: Graph) -> dict[str, str]:
    """Return the monitor's last diagnostics."""
    return {
        key: value
        for message in graph.heard['/diagnostics'][-3:]
        for status in message.status for key, value in values(status).items()
    }


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


if __name__ == '__main__':
    main()
