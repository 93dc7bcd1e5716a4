"""Images that can be asked for one by one: splitting, excluding, fingerprints."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import pictures

from nav_monitor_ros.data.image_source import from_arrays, split, without
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

# Splitting.


@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=120),
    fraction=st.floats(0.1, 0.9), seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_splitting_divides_every_class_alike(labels, fraction, seed):
    labels = np.array(labels)
    source = from_arrays('some', np.zeros((len(labels), 1, 1), np.uint8), labels)
    try:
        rest, part = split(source, fraction, seed)
    except NavMonitorError:
        assert round(len(labels) * fraction) in (0, len(labels))
        return
    assert sorted([*rest.places, *part.places]) == list(range(len(labels)))
    assert len(part) == round(len(labels) * fraction)
    for label in set(labels.tolist()):
        wanted = fraction * (labels == label).sum()
        assert abs((part.own_labels == label).sum() - wanted) <= 2


@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=100),
    fraction=st.floats(0.1, 0.9), seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_groups_never_straddle_a_split(groups, fraction, seed):
    groups = np.array(groups)
    source = from_arrays('some', np.zeros((len(groups), 1, 1), np.uint8), groups=groups)
    count = len(set(groups.tolist()))
    try:
        rest, part = split(source, fraction, seed)
    except NavMonitorError:
        assert round(count * fraction) in (0, count)
        return
    assert not set(rest.groups.tolist()) & set(part.groups.tolist())
    assert len(rest) + len(part) == len(groups)
    assert len(set(part.groups.tolist())) == round(count * fraction)


def test_a_split_depends_on_its_seed_alone():
    source = from_arrays('some', np.zeros((50, 1, 1), np.uint8))
    assert split(source, 0.3, 1)[1].places.tolist() == split(source, 0.3, 1)[1].places.tolist()
    assert split(source, 0.3, 1)[1].places.tolist() != split(source, 0.3, 2)[1].places.tolist()


def test_one_image_cannot_be_split():
    with pytest.raises(NavMonitorError, match='too few'):
        split(from_arrays('one', pictures(1)), 0.5, 0)


# Excluding and fingerprints.


def test_excluded_images_are_recognised_by_their_pixels():
    images = pictures(10)
    kept = without(
        from_arrays('all', images, np.arange(10)), from_arrays('some', images[[7, 2]].copy())
    )
    assert kept.own_labels.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]


def test_the_same_bytes_in_another_shape_are_another_image():
    image = pictures(1)
    turned = image.reshape(1, 8, 6, 3)
    assert len(without(from_arrays('all', image), from_arrays('some', turned))) == 1


def test_a_gray_image_is_the_same_one_with_three_equal_channels(tmp_path):
    gray = pictures(20, shape=(12, 9))
    (tmp_path / 'held_out').mkdir()
    for number, image in enumerate(gray):
        assert cv2.imwrite(str(tmp_path / 'held_out' / f'{number:02d}.png'), image)
    np.savez(tmp_path / 'train.npz', x=gray[:15])
    folder, array = open_source(str(tmp_path / 'held_out')), open_source(f'{tmp_path}/train.npz')
    assert folder.image(0).shape == (12, 9, 3) and array.image(0).shape == (12, 9)
    assert without(folder, array).places.tolist() == [15, 16, 17, 18, 19]
    almost = np.repeat(gray[:1, :, :, None], 3, axis=3)
    almost[0, 11, 8, 2] ^= 1
    assert len(without(from_arrays('almost', almost), array)) == 1


def test_a_fingerprint_changes_with_pixels_labels_and_number_but_not_with_order():
    images, labels = pictures(5), np.arange(5)
    whole = from_arrays('all', images, labels)
    assert len(whole.fingerprint()) == 64
    assert whole.subset(np.array([3, 1, 4, 0, 2])).fingerprint() == whole.fingerprint()
    changed = images.copy()
    changed[2, 0, 0, 0] ^= 1
    others = [
        from_arrays('all', changed, labels), from_arrays('all', images, labels[::-1].copy()),
        from_arrays('all', images), whole.subset(np.arange(4)),
        whole.subset(np.array([0, 1, 2, 3, 4, 4])),
    ]
    assert len({whole.fingerprint(), *(other.fingerprint() for other in others)}) == 6


def test_a_subset_of_a_subset_keeps_images_and_labels_together():
    images = pictures(10)
    source = from_arrays('all', images, np.arange(10), groups=np.arange(10) // 2)
    inner = source.subset(np.array([8, 6, 4])).subset(np.array([2, 0]))
    assert inner.own_labels.tolist() == [4, 8] and inner.groups.tolist() == [2, 4]
    assert np.array_equal(inner.image(1), images[8])
