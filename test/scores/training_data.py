"""Training data of a linear classifier, and scores fitted to it."""

from __future__ import annotations

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.registry import make_score

CLASSES, WIDTH, PASSES = 3, 12, 6
LAYERS = ['stem', 'body']
# Options without which a score cannot be fitted, or ignores a part of the activations.
NEEDED = {'channel_means': {'layers': LAYERS}, 'layer_mahalanobis': {'layers': LAYERS}}
WITH_HEAD = ['vim', 'fdbd', 'react', 'ash', 'scale']  # scores that need the head's input


def make_head(classes=CLASSES, width=WIDTH, *, rectified=False):
    rng = np.random.default_rng(7)
    weight = rng.normal(size=(classes, width)).astype(np.float32)
    return Head(weight, rng.normal(size=classes).astype(np.float32), rectified)


def activate(head, features, rng, logits=None):
    """Return activations with all arrays that scores may need, for a network with this head."""
    features = np.asarray(features, np.float32)
    logits = head.logits(head.entering(features)) if logits is None else logits
    count = len(features)
    noise = rng.normal(size=(count, PASSES, logits.shape[1])).astype(np.float32)
    means = {
        'stem': rng.gamma(2.0, size=(count, 3)).astype(np.float32),
        'body': features[:, :1] + rng.normal(size=(count, 4)).astype(np.float32),
    }
    return Activations(
        logits,
        features,
        means,
        samples=logits[:, None] + noise,
        background=rng.normal(size=count).astype(np.float32),
    )


def make_data(seed, n, *, classes=CLASSES, width=WIDTH, rectified=False):
    """Return n images (about one in five misclassified), their labels and the head."""
    rng = np.random.default_rng(seed)
    head = make_head(classes, width, rectified=rectified)
    features = rng.normal(size=(n, width)) * np.linspace(0.5, 2, width)
    activations = activate(head, features if rectified else np.maximum(features, 0), rng)
    labels = activations.predicted
    wrong = rng.random(n) < 0.2
    labels[wrong] = (labels[wrong] + 1) % classes
    return activations, labels, head


def as_class(activations, label, classes=CLASSES):
    """Return the same features, all of them predicted as one class."""
    logits = np.zeros((len(activations), classes), np.float32)
    logits[:, label] = 5.0
    return Activations(logits, activations.features)


def empty(name, head, **options):
    classes, width = head.weight.shape
    settings = {**NEEDED.get(name, {}), **options}
    return make_score(name, settings, classes=classes, width=width, head=head)


def fitted(name, training, labels, head, **options):
    score = empty(name, head, **options)
    score.prepare(training, labels)
    score.update(training, labels)
    score.finish()
    return score


def pick(training, labels, rows):
    return training[rows], labels[rows]
