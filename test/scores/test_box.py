"""Boxes around clusters of the features."""

from __future__ import annotations

import math

import numpy as np
import pytest
from formulas import assert_equals, correct_features, double
from training_data import CLASSES, WIDTH, as_class, empty, fitted, make_data, make_head

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations


def box_distances(boxes, scale, test):
    """Return distances to the nearest of each class's boxes, pairs (low, high)."""
    result = []
    for feature, label in zip(double(test.features), test.predicted, strict=True):
        distances = []
        for low, high in boxes[label]:
            square = 0.0
            for value, least, most, unit in zip(feature, low, high, scale, strict=True):
                square += (max(least - value, 0.0, value - most) / unit) ** 2
            distances.append(math.sqrt(square))
        result.append(min(distances))
    return np.array(result)


def formula(training, labels, test, head):
    boxes = []
    for label in range(CLASSES):
        rows = correct_features(training, labels, label)
        boxes.append([(rows.min(axis=0), rows.max(axis=0))])
    scale = double(training.features[training.predicted == labels]).std(axis=0)
    return box_distances(boxes, scale, test)


@pytest.mark.parametrize('rectified', [False, True])
def test_equals_its_formula(rectified):
    assert_equals('box', formula, rectified=rectified, clusters=1)


def test_a_training_image_lies_in_a_box_and_the_way_out_is_measured():
    training, labels, head = make_data(12, 200)
    score = fitted('box', training, labels, head, clusters=1)
    correct = training[training.predicted == labels]
    assert not score.score(correct).any()
    rows = correct_features(training, labels, 0)
    scale = double(correct.features).std(axis=0)
    inside = (rows.min(axis=0) + rows.max(axis=0)) / 2
    outside = inside.copy()
    outside[3] = rows[:, 3].max() + 3 * scale[3]
    outside[5] = rows[:, 5].min() - 4 * scale[5]
    frames = np.stack([inside, outside]).astype(np.float32)
    frames = as_class(Activations(frames, frames), 0)
    np.testing.assert_allclose(score.score(frames), [0.0, 5.0], rtol=1e-5)


def test_each_cluster_of_a_class_has_a_box():
    rng = np.random.default_rng(13)
    where = rng.normal(size=(CLASSES, 3, WIDTH)) * 40
    features, logits, parts = [], [], []
    for label in range(CLASSES):
        parts.append([])
        for centre in where[label]:
            rows = (centre + rng.normal(size=(20, WIDTH))).astype(np.float32)
            parts[label].append((double(rows).min(axis=0), double(rows).max(axis=0)))
            features.append(rows)
            logits.append(as_class(Activations(rows, rows), label).logits)
    training = Activations(np.concatenate(logits), np.concatenate(features))
    score = fitted('box', training, training.predicted, make_head(), clusters=3)
    middle = where.mean(axis=1).repeat(20, axis=0) + rng.normal(size=(20 * CLASSES, WIDTH)) * 20
    test = Activations(
        np.eye(CLASSES, dtype=np.float32).repeat(20, axis=0), middle.astype(np.float32)
    )
    expected = box_distances(parts, double(training.features).std(axis=0), test)
    assert expected.min() > 0
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4)
    gap = Activations(test.logits[::20], where.mean(axis=1).astype(np.float32))
    # One box around all of a class would hold its middle.
    assert (score.score(gap) > 0).all()
    one = fitted('box', training, training.predicted, make_head(), clusters=1)
    assert not one.score(gap).any()


def test_a_class_without_images_has_a_box_around_all():
    training, labels, head = make_data(12, 200)
    labels[training.predicted == 2] = 0
    correct = training[training.predicted == labels]
    rows = double(correct.features)
    test = as_class(make_data(14, 30)[0], 2)
    test.features[15:] *= 3
    expected = box_distances(
        {2: [(rows.min(axis=0), rows.max(axis=0))]}, rows.std(axis=0), test
    )
    score = fitted('box', training, labels, head)
    np.testing.assert_allclose(score.score(test), expected, rtol=1e-4, atol=1e-6)
    assert expected.any()


def test_an_option_out_of_range_is_refused():
    with pytest.raises(NavMonitorError, match='^box: '):
        empty('box', make_head(), clusters=0)
