"""Linear classifier for pytorch-ood and for the scores, with the same head and images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from training_data import CLASSES, WIDTH, fitted, make_data


def make_case(seed=20, rectified=False):
    training, labels, head = make_data(seed, 300, rectified=rectified)
    test, _, _ = make_data(seed + 1, 60, rectified=rectified)
    linear = torch.nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    return SimpleNamespace(
        training=training,
        labels=labels,
        head=head,
        test=test,
        linear=linear,
        fit=(torch.from_numpy(training.features), torch.from_numpy(labels)),
        features=torch.from_numpy(test.features),
        logits=torch.from_numpy(test.logits),
    )


def ours(name, c, **options):
    return fitted(name, c.training, c.labels, c.head, **options).score(c.test)


def assert_equals_feature_map_detector(name, make_detector, *, rectified):
    """Check a score against a detector that changes the feature maps before the head.

    Args:
        name: Name of the score.
        make_detector: Function that creates the detector from a function of the maps that returns
            logits.
        rectified: Whether the head applies a ReLU.
    """
    c = make_case(rectified=rectified)

    def maps(features):
        entering = torch.relu(features) if rectified else features
        return entering[:, :, None, None]

    detector = make_detector(lambda entering: c.linear(entering.flatten(1)))
    if hasattr(detector, 'fit_feature_maps'):
        detector.fit_feature_maps(maps(c.fit[0]), c.fit[1])
    expected = detector.predict_feature_maps(maps(c.features))
    np.testing.assert_allclose(ours(name, c), expected, rtol=1e-4)
