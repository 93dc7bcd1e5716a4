"""Speed of replaying a bag, relative to the network alone on the same frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing
from nav_monitor_ros.benchmark.synthetic_bundle import CAMERA, fitted_bundle, pictures
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.data.bags.bag import Bag, open_bag
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.replay.output_files import BagWriter, TableWriter
from nav_monitor_ros.replay.page import ReplaySummary
from nav_monitor_ros.replay.replay import ReplayEvent, replay
from nav_monitor_ros.runtime.monitor import Monitor

TOPIC = '/camera/image_raw/compressed'
TARGET = 0.9  # share of the network's rate
FORWARD = 'network alone'
REPLAY = 'replay'
REPLAY_AND_WRITE = 'replay into a bag, a table and a page'
_ROUNDS = 5  # rounds of all in turn, so that other load on the machine affects all equally


def replay_benchmark(
    *,
    frames: int = 150,
    bundle: str = '',
    network: str = 'resnet18',
    threads: int = 1,
    device: str = 'auto',
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Time the replay of a bag of JPEGs, 640 x 480.

    The reference is the bundle's network, with what its scores watch, on the same frames, one by
    one, decoded and prepared before.

    Args:
        frames: Number of frames in the bag.
        bundle: Bundle that judges them; '' to fit one to ``network`` first.
        network: Name of a torchvision model, with random weights.
        threads: Threads of torch on the CPU.
        device: Device that runs the network.
        progress: Callback for the progress of the work.

    Returns:
        Times are for one frame; ``rate_ratio`` is the replay's rate as a share of the network's.

    Raises:
        NavMonitorError: There is nothing to time, no such bundle or network, or rosbags is not
            installed.
    """
    if frames < 1:
        raise NavMonitorError('--frames must be at least 1')
    with scratch_folder() as folder, ExitStack() as resources:
        bag = _bag(folder / 'drive', frames, progress)
        resources.callback(bag.close)
        if bundle:
            judging = load_bundle(bundle)
        else:
            judging, _ = fitted_bundle(folder / 'bundle', network, progress=progress)
        monitor = Monitor(judging, device=device, threads=threads)
        prepared = [monitor.prepare(image.decode()).pixels[None] for image in bag]
        things: dict[str, Callable[[int], object]] = {
            FORWARD: lambda _: [monitor.classifier(pixels) for pixels in prepared],
            REPLAY: lambda _: sum(1 for _ in replay(monitor, bag)),
            REPLAY_AND_WRITE: lambda number: _write(monitor, bag, folder / f'{number}'),
        }
        times: dict[str, list[float]] = {what: [] for what in things}
        for number in range(_ROUNDS):
            for what, run in things.items():
                progress('timing', number, _ROUNDS)
                times[what].append(_seconds(run, number) / frames)
    reference = np.array(times[FORWARD])

    def share(what: str) -> float:
        # Ratio per round: both measurements of a round ran under the same load.
        return float(np.median(reference / np.array(times[what])))

    return Result(
        'replay',
        f'Replay of JPEGs of {CAMERA[1]} x {CAMERA[0]} by '
        f'{judging.name} ({" x ".join(map(str, monitor.classifier.input_shape))}); time for one '
        'frame',
        {
            'frames': frames, 'bundle': bundle, 'network': '' if bundle else network,
            'threads': threads, 'device': str(monitor.classifier.device),
        },
        FORWARD,
        {what: Timing.of(seconds, float(np.median(reference))) for what, seconds in times.items()},
        {
            'rate_ratio': Figure(
                share(REPLAY), 'higher', '', TARGET, 'frames per second, replay / network alone'),
            'rate_ratio_with_outputs': Figure(
                share(REPLAY_AND_WRITE), 'higher', '', TARGET,
                'frames per second, replay with outputs / network alone'),
            'frames_per_second': Figure(1 / float(np.median(times[REPLAY])), 'higher', '1/s'),
        },
    )


def _bag(folder: Path, count: int, progress: Progress) -> Bag:
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise NavMonitorError(
            "writing bags needs rosbags: pip install 'nav_monitor_ros[bags]', or rosbags itself"
        ) from None
    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = 'sensor_msgs/msg/CompressedImage'
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, kind, typestore=store)
        for number in range(count):
            progress('recording', number, count)
            stamp_ns = number * 33_333_333
            header = store.types['std_msgs/msg/Header'](
                store.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)), 'camera')
            jpeg = cv2.imencode('.jpg', pictures(1, number)[0])[1].reshape(-1)
            message = store.types[kind](header, 'jpeg', jpeg)
            writer.write(connection, stamp_ns, store.serialize_cdr(message, kind))
    return open_bag(folder, [TOPIC])


def _write(monitor: Monitor, bag: Bag, folder: Path) -> None:
    summary = ReplaySummary()
    with (
        BagWriter(folder / 'bag', [TOPIC], monitor.bundle.class_names) as written,
        TableWriter(folder / 'table.csv', monitor.judge.score_names) as table,
    ):
        for event in replay(monitor, bag):
            _take(event, written, table, summary)
    (folder / 'page.html').write_text(summary.page('Replay', []), encoding='utf-8')


def _take(
    event: ReplayEvent, written: BagWriter, table: TableWriter, summary: ReplaySummary
) -> None:
    written.write(event)
    table.write(event)
    summary.add(event)


def _seconds(run: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    run(number)
    return time.perf_counter() - start
