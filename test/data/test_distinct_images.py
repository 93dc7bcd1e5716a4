"""Identical images count once."""

import numpy as np

from nav_monitor_ros.data.batches import digests_of
from nav_monitor_ros.data.distinct_images import distinct_images
from nav_monitor_ros.data.image_source import from_arrays


def test_the_first_of_each_set_of_copies_stays_and_the_others_are_reported():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 4), np.uint8)
    source = from_arrays('frames', pixels[[0, 1, 0, 2, 1, 3]], np.array([0, 1, 0, 2, 1, 3]))
    found = distinct_images(source, digests_of(source))
    assert found.places.tolist() == [0, 1, 3, 5]
    assert found.notes == (
        'frames: 2 of 6 images are copies of others; identical images count once, so 4 are used',)


def test_a_source_without_copies_is_returned_as_it_is():
    source = from_arrays('frames', np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    assert distinct_images(source, digests_of(source)) is source
