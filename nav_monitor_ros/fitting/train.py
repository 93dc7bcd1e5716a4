"""Train the reference networks of the shipped bundles."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nav_monitor_ros.bundle.used_images import TrainingImages
from nav_monitor_ros.data.batches import Progress, digests_of
from nav_monitor_ros.data.image_source import ImageSource, NumberedSource, split, without
from nav_monitor_ros.data.samples import FASHION_CLASSES
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.decoys import decoys
from nav_monitor_ros.perception.network.specification import NetworkSpec, load_weights
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.perception.reference_networks import (
    CorridorNet,
    DigitsNet,
    FashionResNet,
    TrafficSignNet,
)

DECOY_EVERY = 5  # training images per decoy
_log = logging.getLogger(__name__)

TRAFFIC_SIGNS = (
    'speed_limit_20', 'speed_limit_30', 'speed_limit_50', 'speed_limit_60', 'speed_limit_70',
    'speed_limit_80', 'end_of_speed_limit_80', 'speed_limit_100', 'speed_limit_120',
    'no_overtaking', 'no_overtaking_for_trucks', 'right_of_way_at_next_intersection',
    'priority_road', 'yield', 'stop', 'no_vehicles', 'no_trucks', 'no_entry', 'danger',
    'curve_left', 'curve_right', 'double_curve', 'bumpy_road', 'slippery_road',
    'road_narrows_right', 'road_work', 'traffic_signals', 'pedestrians', 'children', 'bicycles',
    'ice_or_snow', 'wild_animals', 'end_of_all_limits', 'turn_right_ahead', 'turn_left_ahead',
    'ahead_only', 'straight_or_right', 'straight_or_left', 'keep_right', 'keep_left',
    'roundabout', 'end_of_no_overtaking', 'end_of_no_overtaking_for_trucks',
)


@dataclass(frozen=True)
class Task:
    """Training task: network, data preparation and schedule."""

    network: type[nn.Module]
    preprocess: Preprocess
    class_names: tuple[str, ...]
    held_out: float  # share of the data held out for calibration
    epochs: int
    rotation: float  # degrees, largest rotation of the augmentation
    shift: float  # share of the image, largest shift
    zoom: float  # share, largest
    photometric: float  # largest relative change of brightness and contrast
    batch: int = 128
    false_alarm_rate: float = 0.01  # for which the calibration images suffice
    learning_rate: float = 3e-3  # peak learning rate of the one-cycle schedule
    bank: int | None = None  # training images that knn stores; None for its default

    def spec(self, *, decoy: bool = False) -> NetworkSpec:
        """Return the network's specification for a bundle, with or without a background class."""
        arguments = {'classes': len(self.class_names) + 1} if decoy else {}
        return NetworkSpec(f'{self.network.__module__}:{self.network.__name__}', arguments)

    def build(self, *, decoy: bool) -> nn.Module:
        """Return the untrained network; a background class is its last output."""
        return self.network(classes=len(self.class_names) + decoy)


TASKS: dict[str, Task] = {
    'digits': Task(
        network=DigitsNet,
        preprocess=Preprocess(
            28, 28, fit='center_crop', color='gray', mean=(0.1307,), std=(0.3081,),
            interpolation='area',
        ),
        class_names=tuple('0123456789'),
        held_out=0.12,
        epochs=12,
        rotation=10.0, shift=0.08, zoom=0.1, photometric=0.0,
    ),
    'traffic_signs': Task(
        network=TrafficSignNet,
        preprocess=Preprocess(
            32, 32, fit='center_crop', mean=(0.35, 0.32, 0.33), std=(0.27, 0.26, 0.27),
            interpolation='area',
        ),
        class_names=TRAFFIC_SIGNS,
        held_out=0.2,
        epochs=30,
        batch=64,
        rotation=10.0, shift=0.1, zoom=0.15, photometric=0.4,
        # Ten frames of a track are equivalent to two independent images; there are about 200
        # tracks.
        false_alarm_rate=0.02,
    ),
    'fashion': Task(
        network=FashionResNet,
        preprocess=Preprocess(
            28, 28, fit='center_crop', color='gray', mean=(0.286,), std=(0.353,),
            interpolation='area',
        ),
        class_names=FASHION_CLASSES,
        held_out=0.12,
        epochs=8,
        rotation=3.0, shift=0.06, zoom=0.06, photometric=0.0,
    ),
    'corridor': Task(
        network=CorridorNet,
        preprocess=Preprocess(
            96, 128, fit='center_crop', mean=(0.42, 0.42, 0.42), std=(0.2, 0.2, 0.2),
            interpolation='area',
        ),
        # nav_monitor_ros.sim.labels.AHEAD_CLASSES, which this subpackage must not import.
        class_names=('free', 'wall', 'door', 'box', 'pallet', 'person'),
        held_out=0.25,
        epochs=14,
        batch=64,
        rotation=2.0, shift=0.03, zoom=0.05, photometric=0.15,
        # The images of a drive are equivalent to few independent ones.
        false_alarm_rate=0.02,
        bank=2048,  # so that the bundle stays below 4 MB
    ),
}


@dataclass(frozen=True)
class Watch:
    """Callback that observes the network during training."""

    every: float  # epochs
    look: Callable[[str, nn.Module, ImageSource], None]  # (checkpoint, network, training images)


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, with the images for fitting and calibrating its monitor."""

    task: Task
    network: nn.Module
    fit_data: NumberedSource  # images on which the network was trained
    calibration_data: ImageSource  # images held out
    test_accuracy: float | None


def train(
    name: str,
    data: ImageSource,
    *,
    exclude: ImageSource | None = None,
    test: ImageSource | None = None,
    weights: Path | None = None,
    decoy: bool = False,
    epochs: int = 0,
    seed: int = 0,
    device: torch.device | str = 'cpu',
    progress: Progress = lambda what, done, total: None,
    log: Callable[[str], None] = lambda line: None,
    watch: Watch | None = None,
) -> TrainedNetwork:
    """Train one of the reference networks.

    Args:
        name: One of ``TASKS``.
        data: Labelled images; some are held out for calibration (whole groups where there are
            groups).
        exclude: Images excluded from training and calibration.
        test: Images to measure the accuracy on; they have no influence on training, and those on
            which the network is trained are left out.
        weights: Weights of an earlier training with the same data and seed, used unchanged.
        decoy: Add a background class of images made only from the training images.
        epochs: Number of epochs; 0 for the task's default.
        seed: Random seed for the split, the initial weights and the augmentation.
        device: Device to train on; the returned network is on the CPU.
        progress: Called with the stage, the number of images done and the total.
        log: Called with one line per epoch.
        watch: Observes the untrained network, then the network after every given number of epochs
            and at the end, always with its averaged weights, as it would be used.

    Raises:
        NavMonitorError: The task is unknown, the data have no labels or other classes, or all test
            images are also training images.
    """
    if name not in TASKS:
        raise NavMonitorError(f"there is no training task '{name}'; there are {', '.join(TASKS)}")
    task = TASKS[name]
    data = _of_task(task, data)
    _require_labels(task, data, 'to be trained on')
    if test is not None:
        test = _of_task(task, test)
        _require_labels(task, test, 'to be tested with')
    if exclude is not None:
        data = without(data, exclude.oriented(task.preprocess.exif))
    fit_data, calibration_data = split(data, task.held_out, seed)
    if test is not None:
        test = _without_training_images(test, fit_data)
    if weights is None:
        network = _trained(
            task, fit_data, decoy, epochs or task.epochs, seed, torch.device(device), progress, log,
            watch,
        )
    else:
        network = task.build(decoy=decoy).eval()
        load_weights(network, weights)
    accuracy = None if test is None else _accuracy(task, network, test)
    return TrainedNetwork(task, network, fit_data, calibration_data, accuracy)


def _trained(
    task: Task,
    data: NumberedSource,
    decoy: bool,
    epochs: int,
    seed: int,
    device: torch.device,
    progress: Progress,
    log: Callable[[str], None],
    watch: Watch | None,
) -> nn.Module:
    images, labels = _load(task, data)
    torch.manual_seed(seed)
    # Drawn on the CPU, so that every device gets the same.
    network = task.build(decoy=decoy).to(device)
    _arrange(network, torch.channels_last)
    # The average of the weights over the steps generalises better than the last ones.
    averaged = copy.deepcopy(network).eval()
    steps = -(-len(images) // task.batch)
    moments = _moments(watch, epochs, steps)

    def after(step: int) -> None:
        if watch is not None and step in moments:
            # A copy on the CPU, which the observer may run while training continues.
            now = averaged if device.type == 'cpu' else copy.deepcopy(averaged).cpu()
            watch.look(moments[step], now, data)

    after(0)
    _optimise(task, network, averaged, images, labels, decoy, epochs, seed, progress, log, after)
    averaged.cpu()
    _arrange(averaged, torch.contiguous_format)
    return averaged


def _moments(watch: Watch | None, epochs: int, steps: int) -> dict[int, str]:
    """Return the steps after which the network is observed, with their names."""
    if watch is None:
        return {}
    looks = np.arange(int(epochs / watch.every + 1e-9) + 1) * watch.every
    named = {round(look * steps): f'epoch {look:.4g}' for look in looks.tolist()}
    return named | {0: 'untrained', epochs * steps: f'epoch {epochs}'}


def _arrange(network: nn.Module, form: torch.memory_format) -> None:
    """Set the memory format of the convolution weights; training is faster with channels last."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=form)


def _of_task(task: Task, source: ImageSource) -> NumberedSource:
    """Return images in the format of the task's network, with labels in its class numbering."""
    source = source.oriented(task.preprocess.exif)
    return source.numbered_for(task.class_names)


def _without_training_images(test: NumberedSource, training: ImageSource) -> NumberedSource:
    """Return the test images on which the network is not trained, compared by pixel values.

    Raises:
        NavMonitorError: There are none.
    """
    shared = TrainingImages.of(digests_of(training)).contain(digests_of(test))
    if shared.all():
        raise NavMonitorError(
            f'all {len(test)} test images of {test.name} are training images too; give images on '
            'which the network is not trained (--test)'
        )
    if shared.any():
        _log.warning(
            '%d of %d test images are training images too and are left out: accuracy is '
                'measured on unseen images', int(shared.sum()), len(test),
        )
    return test.subset(np.flatnonzero(~shared))


def _require_labels(task: Task, source: NumberedSource, use: str) -> None:
    """Check in advance that there are labelled images.

    Raises:
        NavMonitorError: There are no images or no labels.
    """
    if not len(source) or source.labels is None:
        raise NavMonitorError(
            f"source '{source.name}' must have labels from 0 to {len(task.class_names) - 1} {use}"
        )


def _load(task: Task, source: NumberedSource) -> tuple[np.ndarray, torch.Tensor]:
    """Return all images at the network's input size, uint8 (N, h, w, channels), and labels."""
    assert source.labels is not None
    pixels = np.stack([task.preprocess.resized(source.image(i)) for i in range(len(source))])
    return pixels, torch.from_numpy(source.labels)


def _optimise(
    task: Task,
    network: nn.Module,
    averaged: nn.Module,
    images: np.ndarray,
    labels: torch.Tensor,
    decoy: bool,
    epochs: int,
    seed: int,
    progress: Progress,
    log: Callable[[str], None],
    after: Callable[[int], None],
) -> None:
    rng = np.random.default_rng(seed)
    steps = -(-len(images) // task.batch)
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    total = max(2, epochs * steps)
    # The peak is at least one step after the start; otherwise, as with 0.2 of five steps,
    # OneCycleLR divides by zero.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, task.learning_rate, total_steps=total, pct_start=max(0.2, 1.5 / total)
    )
    for epoch in range(epochs):
        network.train()
        order = rng.permutation(len(images))
        losses = []
        for step in range(steps):
            rows = order[step * task.batch : (step + 1) * task.batch]
            pixels, targets = images[rows], labels[rows]
            if decoy:
                made = decoys(pixels, targets.numpy(), -(-len(rows) // DECOY_EVERY), rng)
                background = torch.full((len(made),), len(task.class_names))
                pixels, targets = np.concatenate([pixels, made]), torch.cat([targets, background])
            batch = torch.from_numpy(_augmented(task, pixels, rng)).to(device)
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(
                network(batch.contiguous(memory_format=torch.channels_last)), targets.to(device)
            )
            loss.backward()
            optimizer.step()
            schedule.step()
            _average(averaged, network, done=epoch * steps + step, total=epochs * steps)
            losses.append(loss.item())
            progress(f'training, epoch {epoch + 1} of {epochs}', step + 1, steps)
            after(epoch * steps + step + 1)
        log(f'epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}')


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, *, done: int, total: int) -> None:
    """Move the averaged network towards the current one, over the last twentieth of steps."""
    keep = min(1 - 20 / max(total, 21), done / (done + 10))
    for mine, theirs in zip(
        averaged.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - keep)
        else:
            mine.copy_(theirs)


def _augmented(task: Task, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an augmented and normalised batch, float32 (N, C, h, w)."""
    return np.stack([task.preprocess.normalised(_disturbed(task, p, rng)) for p in pixels])


def _disturbed(task: Task, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    zoom = 1 + rng.uniform(-task.zoom, task.zoom)
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), rng.uniform(-task.rotation, task.rotation), zoom
    )
    shift = rng.uniform(-task.shift, task.shift, 2) * (width, height)
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] + shift])
    border = cv2.BORDER_CONSTANT if pixels.shape[2] == 1 else cv2.BORDER_REPLICATE
    moved = cv2.warpAffine(pixels, matrix, (width, height), borderMode=border)
    if rng.random() < 0.25:  # a slightly defocused camera
        moved = cv2.GaussianBlur(moved, (3, 3), rng.uniform(0.3, 0.8))
    if task.photometric:
        gain = 1 + rng.uniform(-task.photometric, task.photometric)
        offset = 64 * rng.uniform(-task.photometric, task.photometric)
        moved = np.clip(moved * gain + offset, 0, 255).astype(np.uint8)
    return moved.reshape(height, width, -1)


@torch.no_grad()
def _accuracy(task: Task, network: nn.Module, test: NumberedSource) -> float:
    correct = 0
    images, labels = _load(task, test)
    for start in range(0, len(images), 256):
        batch = np.stack([task.preprocess.normalised(p) for p in images[start : start + 256]])
        outputs = network(torch.from_numpy(batch))[:, : len(task.class_names)]
        predicted = outputs.argmax(1)
        correct += int((predicted == labels[start : start + 256]).sum())
    return correct / len(images)
