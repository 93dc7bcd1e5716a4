"""Send the running node random bytes and random parameters for a chosen time.

    python benchmarks/garbage.py --minutes 10 [--seed 0]

Sends images with random fields at 100 per second, and parameter sets with random names, types and
values at 20 per second. The node must keep running, must not leak memory, must never publish
False, and must judge valid images as soon as they arrive again. Writes docs/measured/garbage.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))

import numpy as np  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from ros_harness import Graph  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from nav_monitor_ros.runtime.monitor_parameters import PARAMETERS  # noqa: E402

ENCODINGS = (
    'rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16', '8UC1', '8UC3', '16UC1', 'bayer_rggb8',
    'uyvy', 'yuyv', 'yuv422', 'nv12', 'nv21', '', '32FC1', 'h264', '\u2603', 'a' * 5000,
)
SIZES = (0, 1, 2, 3, 7, 8, 28, 64, 65535, 2**31, 2**32 - 1)
BYTES = (0, 1, 7, 64, 784, 2352, 12288, 100_000)


def random_image(rng: random.Random) -> Image:
    """Return an image whose fields need not be consistent."""
    message = Image(
        encoding=rng.choice(ENCODINGS), height=rng.choice(SIZES), width=rng.choice(SIZES),
        step=rng.choice(SIZES), is_bigendian=rng.randrange(256),
    )
    if rng.random() < 0.5:  # half of them are nearly consistent, so that they reach more code
        message.height, message.width = rng.choice((8, 28, 64)), rng.choice((8, 28, 64))
        message.step = message.width * rng.choice((1, 2, 3, 4))
    stamp = time.time_ns() if rng.random() < 0.8 else rng.randrange(2**60)
    message.header.stamp.sec = (stamp // 10**9) % 2**31
    message.header.stamp.nanosec = stamp % 10**9
    size = message.height * message.step if rng.random() < 0.5 else rng.choice(BYTES)
    message.data = np.random.default_rng(rng.randrange(2**32)).bytes(min(size, 100_000))
    return message


def random_parameter(rng: random.Random) -> Parameter:
    """Return a parameter, usually one of the node's, with a value of any type."""
    name = rng.choice(PARAMETERS).name if rng.random() < 0.9 else rng.choice(
        ('', 'x', '..', 'bundle.x', 'a' * 1000, 'use_sim_time2')
    )
    numbers = (0, 1, -1, 2**31, 2**63 - 1, -(2**63))
    floats = (0.0, -0.0, 1e308, -1e308, 1e-308, float('nan'), float('inf'), float('-inf'), 0.5)
    kind = rng.randrange(1, 10)
    value = ParameterValue(type=kind)
    value.bool_value = rng.random() < 0.5
    value.integer_value = rng.choice(numbers)
    value.double_value = rng.choice(floats)
    value.string_value = rng.choice(('', 'auto', '/etc/passwd', '\u2603', 'x' * 10_000))
    count = rng.choice((0, 1, 4, 1000))
    value.byte_array_value = [bytes([rng.randrange(256)]) for _ in range(count)]
    value.bool_array_value = [rng.random() < 0.5 for _ in range(count)]
    value.integer_array_value = [rng.choice(numbers) for _ in range(count)]
    value.double_array_value = [rng.choice(floats) for _ in range(count)]
    value.string_array_value = [value.string_value] * min(count, 4)
    return Parameter(name=name, value=value)


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f'process {pid} is gone')


def run(graph: Graph, minutes: float, seed: int) -> dict[str, Any]:
    """Send garbage and return the measurements."""
    rng = random.Random(seed)
    monitor = graph.start_monitor('-p', 'bundle:=digits')
    publisher = graph.node.create_publisher(Image, 'image', 1)
    client = graph.node.create_client(SetParameters, '/nav_monitor/set_parameters')
    graph.wait(lambda: graph.alerts, 60, 'the monitor')
    graph.wait(lambda: graph.reason == 'no_image', 60, 'the bundle')
    assert client.wait_for_service(30)
    sent = sets = accepted = falses = 0
    memory = []
    started = time.monotonic()
    end = started + 60 * minutes
    future = None
    while (now := time.monotonic()) < end and monitor.poll() is None:
        publisher.publish(random_image(rng))
        sent += 1
        if sent % 5 == 0 and (future is None or future.done()):
            if future is not None:
                accepted += sum(r.successful for r in future.result().results)
            request = SetParameters.Request(parameters=[random_parameter(rng)])
            future = client.call_async(request)
            sets += 1
        if sent % 100 == 0:
            memory.append(((now - started) / 60, memory_mb(monitor.pid)))
            falses += graph.alerts.count(False)
            for topic in list(graph.heard):
                for kept in (graph.heard[topic], graph.times[topic]):
                    del kept[:-5]
        time.sleep(max(0.0, 0.01 - (time.monotonic() - now)))
    alive = monitor.poll() is None
    settled = next((mb for minute, mb in memory if minute >= min(1.0, minutes / 4)), memory[-1][1])
    return {
        'minutes': minutes, 'seed': seed, 'images': sent, 'parameter_sets': sets,
        'parameter_sets_accepted': accepted, 'alive': alive, 'false_said': falses,
        'mb_settled': settled, 'mb_at_the_end': memory[-1][1],
        'mb_at_most': max(mb for _, mb in memory),
        'judges_again': alive and judges_again(graph, client),
    }


def judges_again(graph: Graph, client: Any) -> bool:
    """Reset the parameters and start a camera; return whether it is trusted."""
    defaults = []
    for parameter in PARAMETERS:
        if parameter.read_only or parameter.type not in ('float', 'int', 'bool', 'string'):
            continue
        value = ParameterValue()
        kinds = {'bool': 1, 'int': 2, 'float': 3, 'string': 4}
        fields = {1: 'bool_value', 2: 'integer_value', 3: 'double_value', 4: 'string_value'}
        value.type = kinds[parameter.type]
        setattr(value, fields[value.type], parameter.default)
        defaults.append(Parameter(name=parameter.name, value=value))
    whole = ParameterValue(type=7, integer_array_value=[0, 0, 0, 0])
    defaults.append(Parameter(name='roi', value=whole))
    future = client.call_async(SetParameters.Request(parameters=defaults))
    graph.wait(future.done, 30, 'the parameters')
    graph.start_camera('sample:digits')
    graph.wait_alert(False, 60)
    return True


def main() -> int:
    """Send garbage and write the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, default=ROOT / 'docs' / 'measured')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as logs:
        graph = Graph(Path(logs), warm=False)
        try:
            result = run(graph, options.minutes, options.seed)
        finally:
            graph.stop()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / 'garbage.json').write_text(json.dumps(result, indent=1) + '\n')
    print(json.dumps(result, indent=1))
    return int(not (result['alive'] and result['judges_again'] and not result['false_said']))


if __name__ == '__main__':
    sys.exit(main())
