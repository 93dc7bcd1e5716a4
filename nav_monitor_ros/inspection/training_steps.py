"""Training observed step by step: the gradient of one image as the loss decreases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.nn import functional

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.perception.preprocess import Preprocess

LONGEST_STEP = 1.0  # norm to which a step's gradient is clipped
_EARLY = 1.7  # frames are denser early, where more happens: positions ** this


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained."""

    steps: int = 80
    frames: int = 24  # at most; from before the first step to after the last one
    batch: int = 32  # images per step
    learning_rate: float = 1e-3  # learning rate of Adam
    measured: int = 128  # images for measuring the loss of a frame
    seed: int = 0


@dataclass(frozen=True)
class Frame:
    """The network after some steps."""

    step: int
    loss: float  # mean cross entropy over the measured images
    logit: float  # logit of the observed image's class
    probability: float
    gradient: np.ndarray  # float (channels, height, width): d logit / d input


@dataclass(frozen=True)
class Evolution:
    """Record of a training."""

    frames: tuple[Frame, ...]
    note: str = ''  # reason for ending early
    # Accuracy of the network with its own weights on the measured images; None if not known.
    accuracy: float | None = None


def watch_training(
    network: nn.Module,
    preprocess: Preprocess,
    source: ImageSource,
    labels: np.ndarray,
    image: np.ndarray,
    target: int,
    options: TrainingOptions,
    *,
    columns: tuple[int, ...] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Evolution:
    """Train a copy of a network on the cross entropy and record one image's gradient.

    The loss of a frame is measured on the same images each time, in evaluation mode. If a step
    makes it infinite, training ends with the previous frame. Equal seeds give equal frames.

    Args:
        network: Network with the initial weights; it is not modified.
        preprocess: Preprocessing of the network's input.
        source: Images to train on.
        labels: int64 (N,), their classes.
        image: The observed image, float32 (channels, height, width).
        target: Class of the image.
        options: Training options.
        columns: Outputs of the classes; by default all.
        progress: Called with the stage, the number of images done and the total.

    Raises:
        NavMonitorError: The network cannot be trained, or a label is not one of its classes.
    """
    trained = Differentiable(network, image.shape, columns=columns)
    _check(trained, source, labels, target, options)
    rng = np.random.default_rng(options.seed)
    chosen = measured_rows(rng, len(source), options.measured)
    measured = _inputs(preprocess, source, chosen)
    wanted = _frame_steps(options.steps, options.frames)
    frames = [_frame(trained, 0, measured, labels[chosen], image, target)]
    note = ''
    with _seeded(options.seed, trained.device):
        optimizer = torch.optim.Adam(trained.network.parameters(), options.learning_rate)
        for step in range(1, options.steps + 1):
            rows = rng.choice(len(source), min(options.batch, len(source)), replace=False)
            _train(trained, optimizer, _inputs(preprocess, source, rows), labels[rows])
            progress('training', step, options.steps)
            if step not in wanted:
                continue
            frame = _frame(trained, step, measured, labels[chosen], image, target)
            if not np.isfinite(frame.loss):
                note = f'the loss is not finite after {step} steps; lower --learning-rate'
                break
            frames.append(frame)
    return Evolution(tuple(frames), note)


def measured_rows(rng: np.random.Generator, images: int, measured: int) -> np.ndarray:
    """Return which of the images measure the loss of a frame, int64, in ascending order."""
    return np.sort(rng.permutation(images)[:measured])


def _check(
    trained: Differentiable, source: ImageSource, labels: np.ndarray, target: int,
    options: TrainingOptions,
) -> None:
    if options.steps < 1 or options.frames < 2 or options.batch < 1 or options.measured < 1:
        raise NavMonitorError('--steps and --batch must be at least 1, --frames at least 2')
    if not options.learning_rate > 0:
        raise NavMonitorError(f'--learning-rate {options.learning_rate}: must be above 0')
    if not all(0 <= label < trained.classes for label in (labels.min(), labels.max(), target)):
        raise NavMonitorError(
            f"source '{source.name}' has labels from {labels.min()} to {labels.max()}, but the "
            f'network has {trained.classes} classes'
        )
    if not any(True for _ in trained.network.parameters()):
        raise NavMonitorError('the network has no trainable weights')


def _frame_steps(steps: int, frames: int) -> set[int]:
    places = np.linspace(0, 1, min(frames, steps + 1)) ** _EARLY
    return {int(step) for step in np.round(places * steps)}


def _inputs(preprocess: Preprocess, source: ImageSource, rows: np.ndarray) -> np.ndarray:
    return np.stack([preprocess.apply(source.image(int(row))) for row in rows])


def _train(
    trained: Differentiable, optimizer: torch.optim.Optimizer, images: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Run one step."""
    trained.network.train().requires_grad_(True)
    try:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(
            trained.logits(trained.tensor(images)), torch.from_numpy(labels).to(trained.device)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(trained.network.parameters(), LONGEST_STEP)
        optimizer.step()
    except (RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise NavMonitorError(f'the network cannot be trained: {reason}') from error
    finally:
        trained.network.eval().requires_grad_(False)


def _frame(
    trained: Differentiable, step: int, measured: np.ndarray, labels: np.ndarray,
    image: np.ndarray, target: int,
) -> Frame:
    logits = trained.predict(measured)
    loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    (own,) = trained.predict(image[None])
    return Frame(
        step=step,
        loss=float(loss),
        logit=float(own[target]),
        probability=float(softmax(own.astype(float))[target]),
        gradient=trained.input_gradient(image[None], np.array([target]))[0],
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random generators and restore their state afterwards."""
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(
        [device] if device.type == 'cuda' else []
    ):
        torch.manual_seed(seed)
        yield
