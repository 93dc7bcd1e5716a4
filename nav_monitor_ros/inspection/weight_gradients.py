"""Gradients of three classes with respect to a convolution's filters, on a source of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nav_monitor_ros.data.batches import Progress
from nav_monitor_ros.data.image_source import ImageSource, NumberedSource
from nav_monitor_ros.inspection.confusion import Answers, ChosenClass, choose_classes
from nav_monitor_ros.inspection.filter_ablation import Ablation, ablate
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.perception.network.layers import Layer
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.gradients.filter_comparison import Example, Filters
from nav_monitor_ros.views.gradients.weight_volume import WeightVolume

_AT_ONCE = 64  # images read per batch


@dataclass(frozen=True)
class Comparison:
    """The gradients of one convolution for three classes, and the importance of its filters."""

    layer: Layer
    classes: tuple[ChosenClass, ...]
    rows: tuple[tuple[Example, ...], ...]  # correctly classified and missed images
    ablation: Ablation | None  # None if there are too few images
    answers: Answers

    @property
    def filters(self) -> Filters | None:
        """Return the ablation for drawing."""
        if self.ablation is None:
            return None
        own, others = self.ablation.images
        return Filters(
            self.ablation.importance,
            self.ablation.zeroed,
            tuple(self.ablation.accuracy.items()),
            f'{others} images; importance from {own} others',
        )


def answers_to(
    network: Differentiable,
    preprocess: Preprocess,
    source: NumberedSource,
    *,
    progress: Progress = lambda what, done, total: None,
) -> Answers:
    """Return a network's outputs for a source; without labels, its predictions serve as labels.

    Args:
        network: Network to run.
        preprocess: Preprocessing of the network's input.
        source: Images, with labels in the network's class numbering.
        progress: Called with the stage, the number of images done and the total.
    """
    labels = source.labels
    parts = []
    for start in range(0, len(source), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(source)))
        parts.append(network.predict(inputs(preprocess, source, rows)))
        progress('classifying', rows.stop, len(source))
    logits = np.concatenate(parts)
    if labels is None:
        return Answers(logits.argmax(axis=1), logits, labelled=False)
    return Answers(labels, logits)


def inputs(preprocess: Preprocess, source: ImageSource, rows: Sequence[int]) -> np.ndarray:
    """Return images as network input, float32 (N, channels, height, width)."""
    return np.stack([preprocess.apply(source.image(int(row))) for row in rows])


def in_rgb(preprocess: Preprocess, values: np.ndarray) -> np.ndarray:
    """Return values (channels, height, width) with the colours in RGB order."""
    return values[::-1] if preprocess.color == 'bgr' else values


def seen_by(preprocess: Preprocess, image: np.ndarray) -> np.ndarray:
    """Return an image as the network's input, uint8 (height, width, 3) RGB."""
    pixels = preprocess.resized(image)
    if preprocess.color == 'gray':
        return pixels.repeat(3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if preprocess.color == 'bgr' else pixels


def compare_filters(
    network: Differentiable,
    preprocess: Preprocess,
    source: ImageSource,
    names: Sequence[str],
    *,
    layer: str = '',
    reference: int | None = None,
    measured: int = 200,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Comparison:
    """Differentiate the logits of three classes with respect to a convolution's filters.

    For each class, the gradients are taken on the correctly classified image with the highest
    confidence and on the missed image with the highest confidence; the logit is always that of the
    class itself.

    Args:
        network: Network to examine.
        preprocess: Preprocessing of the network's input.
        source: Labelled images; without labels the network's predictions are used.
        names: Names of the classes.
        layer: Name or number of a convolution; by default the last one with spatial extent.
        reference: The first class; by default the one that is missed most often.
        measured: Number of images for importance and ablation; 0 leaves these out.
        seed: Random seed for their choice and for the random order of ablation.
        progress: Called with the stage, the number of images done and the total.

    Raises:
        NavMonitorError: The layer is not a convolution, the reference class has no image, or the
            network cannot be differentiated.
    """
    convolution = network.convolution(layer)
    name = convolution.name
    source = source.oriented(preprocess.exif)
    answers = answers_to(network, preprocess, source.numbered_for(names), progress=progress)
    classes = choose_classes(answers, tuple(names), reference)
    rows = tuple(
        tuple(
            _example(network, preprocess, source, names, answers, chosen, name, correct)
            for chosen in classes
        )
        for correct in (True, False)
    )
    ablation = None
    if min(measured, len(source)) > 1:
        rng = np.random.default_rng(seed)
        picked = rng.permutation(len(source))[:measured]
        ablation = ablate(
            network, inputs(preprocess, source, picked.tolist()), answers.labels[picked], name,
            seed=seed, progress=progress,
        )
    return Comparison(convolution, classes, _with_figures(rows), ablation, answers)


def _example(
    network: Differentiable,
    preprocess: Preprocess,
    source: ImageSource,
    names: Sequence[str],
    answers: Answers,
    chosen: ChosenClass,
    layer: str,
    correct: bool,
) -> Example:
    heading = f'{chosen.role}: {names[chosen.index]}'
    reason = chosen.reason if correct else ''
    index = answers.example(chosen.index, correct=correct)
    if index is None:
        kind = 'classified correctly' if correct else 'missed'
        return Example(heading, reason, f'no image of this class is {kind} in this source')
    image = source.image(index)
    gradient = network.weight_gradient(preprocess.apply(image), chosen.index, layer)
    taken = int(answers.predicted[index])
    own, other = answers.logits[index, chosen.index], answers.logits[index, taken]
    says = f'image {index}, classified correctly, logit {own:+.3g}'
    if not correct:
        says = f'image {index}, missed: logit {own:+.3g}, {names[taken]} {other:+.3g}'
    return Example(
        heading, reason, says, seen=seen_by(preprocess, image), volume=WeightVolume.of(gradient)
    )


def _with_figures(rows: tuple[tuple[Example, ...], ...]) -> tuple[tuple[Example, ...], ...]:
    """Add the norm of each gradient, and its similarity to the first one."""
    first = rows[0][0]
    return tuple(
        tuple(
            replace(example, figures=_figures(example, first)) if example.weights.size else example
            for example in row
        )
        for row in rows
    )


def _figures(example: Example, reference: Example) -> str:
    own, first = (
        each.weights.ravel().astype(np.float64) for each in (example, reference)
    )
    size = float(np.linalg.norm(own))
    if example is reference or not first.size:
        return f'gradient: norm {size:.3g}'
    with np.errstate(invalid='ignore', divide='ignore'):
        cosine = float(own @ first) / (size * float(np.linalg.norm(first)) or np.nan)
    return f'gradient: norm {size:.3g}, cosine to the first {cosine:+.2f}'
