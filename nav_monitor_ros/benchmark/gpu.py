"""Speed of the complete monitor on a GPU, and agreement of its verdicts with the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing, time_calls
from nav_monitor_ros.benchmark.synthetic_bundle import fitted_bundle, pictures
from nav_monitor_ros.bundle.bundle import Bundle
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import configure_for_scores, load_torch_network
from nav_monitor_ros.bundle.shipped import shipped_bundles
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.network.backends import F32, TF32, TORCH, Engine, usable_here
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.runtime.monitor import Monitor, observe_batch

CAMERAS = 4
BARE = 'bare forward pass'
BARE_FOUR = 'bare forward pass of four images'
MONITOR = 'monitor'
MONITOR_FOUR = 'monitor, four cameras'
FORWARD = "monitor's forward pass"
_ROUNDS = 5  # rounds of all measurements in turn


def gpu_benchmark(
    *,
    network: str = 'resnet18',
    frames: int = 60,
    compared: int = 100,
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Time the monitor on a GPU with a network of random weights, on images of 640 x 480.

    The reference is the bare forward pass, recorded as a CUDA graph, with its image already on the
    GPU, in single precision. The monitor is timed from the image in memory to the verdict:
    resizing, both transfers, the network with all that the default scores look at, and judging.
    The network is exported for TensorFloat-32 first, as ``nav_monitor export`` does.

    Args:
        network: Name of a torchvision model.
        frames: Number of frames in each of five rounds.
        compared: Images on which the GPU's verdicts are compared with the processor's, by this
            network's bundle and by the shipped ones.
        progress: Callback for the progress of the work.

    Returns:
        Times; ``details`` has what became of the scores.

    Raises:
        NavMonitorError: There is no GPU of CUDA, or no such network.
    """
    if not torch.cuda.is_available():
        raise NavMonitorError('there is no GPU that torch can use (CUDA)')
    if min(frames, compared) < 1:
        raise NavMonitorError('--frames and --compared must be at least 1')
    precisions = [F32, *([TF32] if usable_here(Engine(TORCH, TF32)) else [])]
    images = [DecodedImage(pixels, 'rgb') for pixels in pictures(compared, 7)]
    with scratch_folder() as scratch:
        progress('fitting and exporting', 0, 3)
        bundle = _exported(scratch / network, network, precisions)
        progress('timing', 1, 3)
        times = _times(bundle, images, frames, precisions)
        progress('comparing', 2, 3)
        told = _compared(bundle, images, precisions)
    for name in shipped_bundles():
        told += _compared(load_bundle(name), images, [F32])
    figures = {}
    for precision in precisions:
        whole, forward, bare, four = (
            float(np.median(times[f'{what}, {precision}'])) * 1e3
            for what in (MONITOR, FORWARD, BARE, MONITOR_FOUR)
        )
        figures[f'{precision}_ms_outside_forward'] = Figure(whole - forward, 'lower', 'ms', 2.0)
        figures[f'{precision}_ratio_to_bare'] = Figure(
            whole / bare, 'lower', 'x', ratio_of='median time, monitor / bare forward pass')
        figures[f'{precision}_four_cameras_hz'] = Figure(1e3 / four, 'higher', 'Hz each')
    reference = f'{BARE}, {F32}'
    alone = float(np.median(times[reference]))
    return Result(
        'gpu', f'{network} on the GPU: one image of 640 x 480, or one of each of four cameras',
        {'network': network, 'frames': frames, 'compared': compared, 'cameras': CAMERAS},
        reference,
        {what: Timing.of(seconds, alone) for what, seconds in times.items()},
        figures,
        {'scores': told},
    )


def _exported(folder: Path, network: str, precisions: Iterable[str]) -> Bundle:
    bundle, calibration = fitted_bundle(folder, network, threads=0)
    if TF32 in precisions:
        reference = load_torch_network(bundle, 'cpu', 0, ())
        configure_for_scores(reference, bundle.scores.values())
        export(bundle, reference, calibration, [TORCH], folder, threads=0)
    return load_bundle(folder)


def _monitor(bundle: Bundle, device: str, precision: str, *, every: bool = False) -> Monitor:
    """Return a monitor that runs at a precision, whatever ``auto`` would take."""
    return Monitor(
        bundle if precision == TF32 else replace(bundle, stored=None),
        backend=TORCH, device=device, threads=0, also=['all'] if every else [],
    )


def _compared(
    bundle: Bundle, images: list[DecodedImage], precisions: Iterable[str]
) -> list[dict[str, Any]]:
    """Return the differences between the verdicts on the GPU and on the CPU."""
    expected = [one.verdict for one in map(_monitor(bundle, 'cpu', F32, every=True).look, images)]
    rows = []
    for precision in precisions:
        monitor = _monitor(bundle, 'cuda', precision, every=True)
        found = [one.verdict for one in map(monitor.look, images)]
        changes = []
        for name in expected[0].scores:
            if name in bundle.scores and bundle.scores[name].windowed:
                continue  # hangs on all frames before
            before, after = (
                np.array([verdict.scores[name].score for verdict in verdicts])
                for verdicts in (expected, found)
            )
            changes.append(np.abs(after - before).max() / (before.std() or 1.0))
        own = monitor.bundle.calibration is not bundle.calibration
        rows.append({
            'bundle': bundle.name, 'engine': str(monitor.classifier.engine),
            'images': len(images),
            'reclassified': sum(
                a.class_index != b.class_index for a, b in zip(expected, found, strict=True)
            ),
            'largest_change': float(max(changes)),
            'flagged': sum(verdict.is_ood for verdict in found),
            'flagged_by_cpu': sum(verdict.is_ood for verdict in expected),
            'calibration': 'its own' if own else 'from the fit',
        })
    return rows


def _times(
    bundle: Bundle, images: list[DecodedImage], frames: int, precisions: Iterable[str]
) -> dict[str, np.ndarray]:
    """Return seconds of each thing, by its name; things take turns in each round."""
    torch.set_num_threads(1)
    things: dict[str, Callable[[int], object]] = {}
    forwards: dict[str, list[float]] = {}
    for precision in precisions:
        monitor = _monitor(bundle, 'cuda', precision)
        monitor.warm_up(CAMERAS)
        monitors = [monitor, *(monitor.for_camera() for _ in range(CAMERAS - 1))]
        classifier = monitor.classifier
        assert isinstance(classifier, Classifier)
        taken = forwards.setdefault(f'{FORWARD}, {precision}', [])
        things[f'{BARE}, {precision}'] = _bare(classifier, 1)
        things[f'{MONITOR}, {precision}'] = _look(monitor, images, taken)
        things[f'{BARE_FOUR}, {precision}'] = _bare(classifier, CAMERAS)
        things[f'{MONITOR_FOUR}, {precision}'] = _look_all(monitors, images)
    times: dict[str, list[np.ndarray]] = {what: [] for what in things}
    for _ in range(_ROUNDS):
        for what, thing in things.items():
            times[what].append(time_calls(thing, range(frames), warm=3))
    return {
        **{what: np.concatenate(seconds) for what, seconds in times.items()},
        **{what: np.array(seconds) for what, seconds in forwards.items()},
    }


def _look(
    monitor: Monitor, images: list[DecodedImage], taken: list[float]
) -> Callable[[int], object]:
    def look(number: int) -> None:
        taken.append(monitor.look(images[number % len(images)]).forward_seconds)

    return look


def _look_all(monitors: list[Monitor], images: list[DecodedImage]) -> Callable[[int], object]:
    pixels = [monitor.new_pixels() for monitor in monitors]

    def look(number: int) -> object:
        return observe_batch([
            (monitor, monitor.prepare(images[(number + n) % len(images)], out=pixels[n]))
            for n, monitor in enumerate(monitors)
        ])

    return look


def _bare(classifier: Classifier, count: int) -> Callable[[int], object]:
    """Return a recorded forward pass, without hooks, over images that are on the GPU."""
    network = copy.deepcopy(classifier.network)
    for module in network.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    allowed = classifier.engine.precision == TF32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    images = torch.rand(count, *classifier.input_shape, device=classifier.device).contiguous(
        memory_format=torch.channels_last
    )
    stream = torch.cuda.Stream(classifier.device)
    stream.wait_stream(torch.cuda.current_stream(classifier.device))
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            network(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            network(images)

    def run(_number: int) -> object:
        with torch.cuda.stream(stream):
            graph.replay()
        stream.synchronize()
        return images, network  # the recording reads their memory, so they must stay alive

    return run
