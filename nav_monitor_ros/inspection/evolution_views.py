"""Gradient of one image during training, as an animation and as a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.class_matching import chance_note
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.inspection.gradient_views import Subject
from nav_monitor_ros.inspection.training_steps import (
    Evolution,
    TrainingOptions,
    measured_rows,
    watch_training,
)
from nav_monitor_ros.inspection.weight_gradients import answers_to, in_rgb, seen_by
from nav_monitor_ros.views.gradients.training_frames import SIDE, Moment, draw_moments
from nav_monitor_ros.views.pages.rendering import render
from nav_monitor_ros.views.pages.slides import Slide, slider
from nav_monitor_ros.views.text import drawn_class

LEARNING_RATES = {'initialisation': 1e-3, 'weights': 1e-4}  # titles by the start of training


def untrained(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a network with newly initialised weights.

    Args:
        build: Builds the network.
        seed: Random seed for the weights; torch's own random state is unchanged.
    """
    with torch.inference_mode(False), torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build()


def watch(
    subject: Subject,
    network: nn.Module,
    source: ImageSource,
    image: np.ndarray,
    options: TrainingOptions,
    *,
    target: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Evolution, int]:
    """Train a copy of a network and record the gradient of one image.

    Args:
        subject: The network with its own weights; its predictions serve as labels for a source
            without labels.
        network: Network with the initial weights.
        source: Images to train on.
        image: The observed image, uint8 (H, W, 3) RGB or (H, W).
        options: Training options.
        target: The class whose logit is differentiated; by default the predicted one.
        progress: Called with the stage, the number of images done and the total.

    Returns:
        The evolution and the class.

    Raises:
        NavMonitorError: The network cannot be trained, or the source's labels are not its classes.
    """
    entering = subject.preprocess.apply(image)
    if target is None:
        target = int(subject.network.predict(entering[None]).argmax())
    numbered = source.oriented(subject.preprocess.exif).numbered_for(subject.class_names)
    labels = numbered.labels
    if labels is None:
        labels = answers_to(
            subject.network, subject.preprocess, numbered, progress=progress).labels
    seen = watch_training(
        network, subject.preprocess, numbered, labels, entering, target, options,
        columns=subject.network.columns, progress=progress,
    )
    if numbered.labels is not None:
        rng = np.random.default_rng(options.seed)
        rows = measured_rows(rng, len(numbered), options.measured)
        answers = answers_to(subject.network, subject.preprocess, numbered.subset(rows))
        seen = replace(seen, accuracy=answers.accuracy)
    return seen, target


def evolution_pictures(
    subject: Subject, image: np.ndarray, target: int, evolution: Evolution, *, side: int = SIDE
) -> list[np.ndarray]:
    """Draw every frame of a training.

    Args:
        subject: The network, for names and colours.
        image: The observed image.
        target: Class of the image.
        evolution: The evolution to draw.
        side: Side of a panel, pixels.

    Returns:
        uint8 (h, w, 3) RGB each, of one size.
    """
    moments = [
        Moment(
            frame.step, frame.loss, frame.logit, frame.probability,
            in_rgb(subject.preprocess, frame.gradient),
        )
        for frame in evolution.frames
    ]
    return draw_moments(
        moments, seen_by(subject.preprocess, image), f'{subject.name}: gradient while training',
        drawn_class(subject.class_names[target], target), evolution.note, side=side,
    )


def evolution_page(
    subject: Subject, target: int, pictures: list[np.ndarray], evolution: Evolution
) -> str:
    """Return a page with a slider over the frames of a training."""
    slides = [
        Slide(
            f'step {frame.step}: loss {frame.loss:.4g}, logit {frame.logit:+.4g}', (picture,)
        )
        for frame, picture in zip(evolution.frames, pictures, strict=True)
    ]
    return render(
        'evolution.html', title=f'{subject.name}: gradient while training',
        lines=evolution_lines(subject, evolution), class_name=subject.class_names[target],
        slider=slider(
            slides, [('input of the network, its gradient, loss and logit', evolution.note)],
            name='training', what='training step', pause_ms=300,
        ),
    )


def evolution_lines(subject: Subject, evolution: Evolution) -> list[str]:
    """Return a summary of a training, one sentence per line."""
    first, last = evolution.frames[0], evolution.frames[-1]
    lines = [
        f'{last.step} steps: loss {first.loss:.4g} -> {last.loss:.4g}, '
        f'logit {first.logit:+.4g} -> {last.logit:+.4g}'
    ]
    warning = chance_note(evolution.accuracy, len(subject.class_names))
    return [*lines, *filter(None, (evolution.note, warning))]
