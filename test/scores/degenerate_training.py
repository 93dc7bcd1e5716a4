"""Poor training data: constant, single, missing or misclassified images."""

from __future__ import annotations

import numpy as np
from training_data import activate, make_data, pick

from nav_monitor_ros.perception.activations import Activations

POOR = [
    'a network of one class', 'one neuron', 'more neurons than images', 'one class', 'one image',
    'two images of two classes', 'one image many times', 'one image of each class many times',
    'one large image of each class many times', 'every image twice', 'features of zero',
    'constant features', 'dead neurons', 'a class never seen and never predicted',
    'a class never predicted', 'a class never seen',
]
FEW = {'one image', 'one image many times'}
CONSTANT = FEW | {'features of zero', 'constant features'}


def replace_features(training, features):
    return Activations(
        training.logits, features.astype(np.float32), training.means,
        samples=training.samples, background=training.background,
    )


def degenerate(what):
    """Return training images, labels and head for one kind of poor training data."""
    classes, width = 4, 20
    if what == 'a network of one class':
        return make_data(0, 40, classes=1, width=width)
    if what == 'one neuron':
        return make_data(0, 60, classes=classes, width=1)
    if what == 'more neurons than images':
        return make_data(0, 12, classes=classes, width=70)
    training, labels, head = make_data(0, 120, classes=classes, width=width)
    predicted = training.predicted
    right = np.flatnonzero(labels == predicted)
    first = np.array([right[predicted[right] == c][0] for c in range(classes)])
    if what == 'one class':
        return *pick(training, labels, right[predicted[right] == 1]), head
    if what == 'one image':
        return *pick(training, labels, first[:1]), head
    if what == 'two images of two classes':
        return *pick(training, labels, first[:2]), head
    if what == 'one image many times':
        return *pick(training, labels, first[:1].repeat(20)), head
    if what == 'one image of each class many times':
        return *pick(training, labels, first.repeat(20)), head
    if what == 'one large image of each class many times':
        rows = first.repeat(20)
        large = replace_features(training[rows], training.features[rows] * 1000)
        return large, labels[rows], head
    if what == 'every image twice':
        return *pick(training, labels, np.arange(120).repeat(2)), head
    if what == 'features of zero':
        return replace_features(training, np.zeros((120, width))), labels, head
    if what == 'constant features':
        return replace_features(training, np.full((120, width), 1234.567)), labels, head
    if what == 'dead neurons':
        return replace_features(training, training.features * (np.arange(width) < 3)), labels, head
    if what == 'a class never seen and never predicted':
        return *pick(training, labels, (labels != 2) & (predicted != 2)), head
    if what == 'a class never predicted':
        return *pick(training, labels, predicted != 2), head
    if what == 'a class never seen':
        return *pick(training, labels, labels != 2), head
    assert what == 'no image right'
    return training, (predicted + 1) % classes, head


def any_frames(training, head):
    """Return frames near and far from the training data, each predicted once as each class."""
    classes, width = head.weight.shape
    rng = np.random.default_rng(1)
    features = np.concatenate([
        training.features[:5],
        np.maximum(rng.normal(size=(5, width)), 0),
        np.zeros((1, width)),
        np.full((1, width), 3.0),
        np.maximum(rng.normal(size=(3, width)), 0) * 1e4,
    ]).astype(np.float32)
    scores = head.logits(features)
    return Activations.concatenate([
        activate(head, features, rng, logits=np.roll(scores, shift, axis=1))
        for shift in range(classes)
    ])
