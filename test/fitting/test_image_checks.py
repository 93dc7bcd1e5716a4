"""Warnings about classes in the wrong order and about images of another kind."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tiny

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.image_checks import MOST_CLASSES, accuracy_of, likely_order

NAMES = ('a', 'b', 'c', 'd')


def test_accuracy_counts_images_with_labels():
    found = accuracy_of(np.array([0, 1, -1, 2]), np.array([0, 2, 0, 2]))
    assert (found.correct, found.images) == (2, 3) and found.share == pytest.approx(2 / 3)
    assert accuracy_of(np.array([-1, -1]), np.array([0, 1])) is None


def test_the_order_with_which_most_images_are_correct_is_found():
    rng = np.random.default_rng(0)
    predicted = rng.integers(4, size=1000)
    order = np.array([2, 0, 3, 1])  # label of each output
    labels = np.where(rng.random(1000) < 0.9, order[predicted], rng.integers(4, size=1000))
    labels[:100] = -1
    names, accuracy = likely_order(labels, predicted, NAMES)
    assert names == ('c', 'a', 'd', 'b')
    known = labels >= 0
    assert accuracy == pytest.approx((order[predicted] == labels)[known].mean())


@pytest.mark.parametrize('case', ['right', 'bad network', 'no labels'])
def test_no_order_is_named_where_none_is_much_better(case):
    rng = np.random.default_rng(0)
    predicted = rng.integers(4, size=1000)
    labels = {
        'right': predicted, 'bad network': rng.integers(4, size=1000),
        'no labels': np.full(1000, -1),
    }[case]
    assert likely_order(labels, predicted, NAMES) is None


def fitted(calibration, caplog, names=tiny.CLASSES):
    caplog.set_level(logging.WARNING)
    return fit(
        tiny.classifier(), tiny.SPEC, tiny.source(1, 300), calibration,
        FitOptions(false_alarm_rate=0.1, class_names=names))


def test_a_calibration_like_the_training_images_gives_no_warning(caplog):
    bundle = fitted(tiny.source(2, 90), caplog)
    assert 'do not resemble' not in caplog.text and 'wrong order' not in caplog.text
    described = bundle.provenance['calibration']
    assert described['labelled'] == described['images']
    assert 0 <= described['correctly_classified'] <= described['labelled']


def test_images_of_another_kind_are_told(caplog):
    pixels, _ = tiny.images(2, 90)
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape).astype(np.uint8)
    bundle = fitted(from_arrays('noise', noise), caplog)
    assert 'do not resemble the training images' in caplog.text and '--calibration' in caplog.text
    assert 'labelled' not in bundle.provenance['calibration']


def test_the_search_for_an_order_is_bounded():
    """A class list may be very long, and the search needs memory of its square."""
    many = MOST_CLASSES + 1
    predicted = np.arange(100)
    names = tuple(f'class {number}' for number in range(many))
    assert likely_order((predicted + 1) % many, predicted, names) is None
    found = likely_order((predicted + 1) % MOST_CLASSES, predicted, names[:MOST_CLASSES])
    assert found is not None and found[0][:3] == ('class 1', 'class 2', 'class 3')
