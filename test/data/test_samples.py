"""The samples that are built in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import all_images, refused

from nav_monitor_ros.data.samples import SAMPLES, draw_triangle
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError


@pytest.mark.parametrize('name', ['triangles', 'photos', 'textures', 'noise'])
def test_drawn_samples_have_as_many_images_as_asked_and_depend_on_the_seed(name):
    source = open_source(f'sample:{name}?count=7')
    assert len(source) == 7 and source.own_labels is None
    again, other = (open_source(f'sample:{name}?count=7&seed={seed}') for seed in (0, 1))
    assert source.fingerprint() == again.fingerprint() != other.fingerprint()
    for image in all_images(source):
        assert image.dtype == np.uint8 and image.ndim in (2, 3) and image.std() > 0


def test_photos_have_a_cameras_aspect_ratio():
    for image in all_images(open_source('sample:photos?count=14')):
        assert image.shape[1] / image.shape[0] == pytest.approx(4 / 3, rel=0.01)


def test_digits_are_mixed_and_labelled():
    source = open_source('sample:digits')
    assert source.class_names == tuple('0123456789')
    assert np.bincount(source.own_labels).tolist() == [500] * 10
    assert len(set(source.own_labels[:50].tolist())) == 10
    assert source.image(0).shape == (28, 28) and source.image(0).max() > 200


@given(st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_triangles_are_white_on_black_and_not_cut_off(seed):
    image = draw_triangle(np.random.default_rng(seed))
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert image.max() == 255
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert border.max() < 200  # a thick outline may reach into it
    assert 0.02 < (image > 127).mean() < 0.6


@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('sample:cats', 'there are digits, triangles'),
        ('sample:', 'there is no sample'),
        ('sample:noise?count=0', 'count is 0'),
        ('sample:noise?count=-1', "count is '-1'"),
        ('sample:noise?count=9999999', 'give 1 to 1000000'),
        ('sample:noise?seed=one', 'seed'),
        ('sample:noise?size=3', "no option 'size'"),
        ('sample:digits?split=test', "no option 'split'"),
    ],
)
def test_bad_samples_are_refused(spec, said):
    assert said in refused(spec)


def test_every_sample_is_documented_by_its_name():
    with pytest.raises(NavMonitorError) as caught:
        open_source('sample:?')
    assert all(name in str(caught.value) for name in SAMPLES)
