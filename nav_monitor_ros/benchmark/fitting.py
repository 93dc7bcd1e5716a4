"""Speed of fitting, relative to the bare forward pass that it needs in any case."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from nav_monitor_ros.benchmark.result import Figure, Progress, Result, Timing
from nav_monitor_ros.data.batches import BATCH, default_workers
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.scratch_folder import scratch_folder
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.partial_fit import PartialFit
from nav_monitor_ros.fitting.score_selection import configure_for_supported_scores, empty_scores
from nav_monitor_ros.fitting.training_pass import take_images, take_sample
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.network.torch.device import select_device
from nav_monitor_ros.perception.preprocess import Preprocess

CAMERA = (480, 640)  # rows and columns of an image on disk
TARGET = 0.9  # share of the forward pass's throughput
_ROUNDS = 3  # rounds of both in turn, so that other load on the machine affects both equally
FORWARD = 'forward pass alone'
FITTING = 'fitting'


def fit_benchmark(
    *,
    images: int = 256,
    size: int = 224,
    network: str = 'resnet18',
    threads: int = 1,
    workers: int = 0,
    device: str = 'auto',
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Time the fitting of all scores to JPEG images on disk, after the initial sample.

    Fitting reads, decodes, resizes and sums up checksums, runs the network with everything that the
    scores watch, and updates the scores. The reference is the network alone, without hooks, on
    batches of as many images that lie ready in memory; its weights and images are arranged as
    those of the fit, with the channels last, where convolutions are faster.

    Args:
        images: Number of 640 x 480 JPEG images in each of several rounds.
        size: Rows and columns of the network's input.
        network: Name of a torchvision model, with random weights.
        threads: Threads of torch on the CPU.
        workers: Threads that read and decode images; 0: one fewer than the number of cores.
        device: Device that runs the network.
        progress: Callback for the progress of the work.

    Returns:
        Times are for one image; ``throughput_ratio`` is the share of the forward pass's.

    Raises:
        NavMonitorError: There is nothing to time, or there is no such network.
    """
    if images < BATCH or size < 32:
        raise NavMonitorError(f'--images must be at least {BATCH}, and --size at least 32')
    spec = NetworkSpec(f'torchvision:{network}', {})
    bare = spec.build([]).eval().to(select_device(device))
    bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier = Classifier(
        spec.build([]), Preprocess(size, size), device=select_device(device), threads=threads
    )
    scores = empty_scores(classifier, FitOptions())
    configure_for_supported_scores(classifier, scores, required=())
    partial = PartialFit(scores)
    with scratch_folder() as folder:
        write_pictures(folder, images, progress)
        source = open_source(str(folder))
        take_sample(
            classifier, source.subset(np.arange(BATCH)), None, partial, required=(),
            progress=progress,
        )

        def fitting() -> None:
            take_images(
                classifier, source, None, partial, workers=workers or None, progress=progress
            )

        times: dict[str, list[float]] = {FORWARD: [], FITTING: []}
        for _ in range(_ROUNDS):
            progress('forward pass alone', 0, 1)
            times[FORWARD].append(_seconds(_forward(bare, classifier, images)) / images)
            times[FITTING].append(_seconds(fitting) / images)
    reference = float(np.median(times[FORWARD]))
    # Ratio per round: both measurements of a round ran under the same load.
    ratio = float(np.median(np.array(times[FORWARD]) / np.array(times[FITTING])))
    return Result(
        'fit',
        f'Fitting {len(scores)} scores to a {network}, {size} x {size}, from JPEGs of '
        f'{CAMERA[1]} x {CAMERA[0]}; time for one image',
        {
            'images': images, 'size': size, 'network': network, 'threads': threads,
            'workers': workers or default_workers(), 'device': str(classifier.device),
        },
        FORWARD,
        {name: Timing.of(seconds, reference) for name, seconds in times.items()},
        {
            'throughput_ratio': Figure(
                ratio, 'higher', '', TARGET, 'images per second, fitting / forward pass alone'),
            'images_per_second': Figure(1 / float(np.median(times[FITTING])), 'higher', '1/s'),
        },
    )


def write_pictures(
    folder: Path, count: int, progress: Progress = lambda what, done, total: None
) -> None:
    """Write JPEG images similar to those of a camera: smooth, with a little noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        progress('writing pictures', number, count)
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        picture = cv2.resize(coarse, CAMERA[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = cv2.add(picture, rng.integers(0, 12, picture.shape, np.uint8))
        cv2.imwrite(str(folder / f'{number:06d}.jpg'), noisy)


def _forward(bare: torch.nn.Module, classifier: Classifier, count: int) -> Callable[[], None]:
    batch = torch.rand(
        BATCH, *classifier.input_shape, generator=torch.Generator().manual_seed(0)
    ).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, count, BATCH):
                bare(batch[: count - start].to(classifier.device)).cpu()

    return run


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
