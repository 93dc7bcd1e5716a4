"""Pixels become the network's input exactly as in training."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.preprocess import COLORS, FITS, INTERPOLATIONS, Preprocess

CHANNELS = {'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4, 'gray': 0}
PLAIN = {'mean': (0.0, 0.0, 0.0), 'std': (1.0, 1.0, 1.0), 'scale': 1.0}  # pixels as they are
RED = np.array([200, 30, 10], np.uint8)
PILLOWS = {'antialias': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
TORCHVISIONS = {
    'antialias': transforms.InterpolationMode.BILINEAR,
    'bicubic': transforms.InterpolationMode.BICUBIC,
}


def scene(rows, columns, channels=3, seed=0):
    """Return a picture with both smooth and fine detail, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), np.uint8)
    smooth = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)
    if channels == 4:
        return np.dstack([noisy, np.full((rows, columns), 255, np.uint8)])
    return noisy if channels else noisy[:, :, 0].copy()


# The numbers.


def test_normalising_is_scale_then_mean_then_std():
    preprocess = Preprocess(1, 2, scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    image = np.array([[[10, 20, 30], [0, 255, 7]]], np.uint8)
    expected = [[[2.0, -0.5]], [[2.0, 31.375]], [[1.5, 0.0625]]]
    result = preprocess.apply(image)
    assert result.dtype == np.float32
    assert result.tolist() == expected


@pytest.mark.parametrize('interpolation', TORCHVISIONS)
@pytest.mark.parametrize('shape', [(480, 640), (640, 480), (299, 301), (100, 57), (64, 64)])
def test_center_crop_is_torchvisions_evaluation_transform(shape, interpolation):
    image = scene(*shape)
    transform = transforms.Compose(
        [
            transforms.Resize(64, TORCHVISIONS[interpolation]),
            transforms.CenterCrop(56),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    ours = Preprocess(
        56, 56, fit='center_crop', resize_to=64, interpolation=interpolation
    ).apply(image)
    theirs = transform(Image.fromarray(image)).numpy()
    one_level = 1 / 255 / 0.224
    assert np.abs(ours - theirs).max() <= 1.01 * one_level  # both round to whole levels
    assert np.abs(ours - theirs).mean() < 0.05 * one_level


def pillows(image, interpolation):
    """Return an image as Pillow resizes it to 30 x 40, columns first.

    In one call, the order depends on Pillow's version, and with it the result where a filter
    overshoots black or white.
    """
    method = PILLOWS[interpolation]
    columns = Image.fromarray(image).resize((40, len(image)), method)
    return np.asarray(columns.resize((40, 30), method)).astype(int)


@pytest.mark.parametrize('interpolation', PILLOWS)
@pytest.mark.parametrize('shape', [(117, 211), (20, 13)], ids=['smaller', 'larger'])
@pytest.mark.parametrize('order', ['rgb', 'rgba', 'gray'])
def test_stretching_with_antialias_is_pillows(shape, order, interpolation):
    image = scene(*shape, CHANNELS[order])
    ours = Preprocess(30, 40, interpolation=interpolation, **PLAIN).resized(image, order)
    expected = pillows(image[:, :, :3] if image.ndim == 3 else np.dstack([image] * 3),
                       interpolation)
    # Rounding after the first pass is amplified by the negative weights of the second.
    assert np.abs(ours.astype(int) - expected).max() <= (2 if interpolation == 'bicubic' else 1)


def test_bicubic_overshoots_as_pillows_and_saturates():
    image = scene(90, 120) // 128 * 255
    ours = Preprocess(30, 40, interpolation='bicubic', **PLAIN).resized(image)
    assert np.abs(ours.astype(int) - pillows(image, 'bicubic')).max() <= 2
    assert ours.min() == 0 and ours.max() == 255


@pytest.mark.parametrize(
    ('interpolation', 'flag'), [('antialias', cv2.INTER_LINEAR), ('bicubic', cv2.INTER_CUBIC)]
)
def test_shrinking_without_antialias_differs(interpolation, flag):
    """The comparison with Pillow would notice OpenCV's filters, which skip pixels."""
    image = scene(117, 211)
    smooth = Preprocess(30, 40, interpolation=interpolation, **PLAIN).resized(image)
    skipping = cv2.resize(image, (40, 30), interpolation=flag)
    assert np.abs(smooth.astype(int) - skipping).max() > 10


def test_bicubic_is_not_bilinear():
    """The comparison with Pillow would notice the other filter."""
    image = scene(20, 13)
    bicubic = Preprocess(30, 40, interpolation='bicubic', **PLAIN).resized(image)
    assert np.abs(bicubic.astype(int) - pillows(image, 'antialias')).max() > 10


@pytest.mark.parametrize(
    ('name', 'flag'),
    [('area', cv2.INTER_AREA), ('bilinear', cv2.INTER_LINEAR), ('nearest', cv2.INTER_NEAREST)],
)
def test_the_other_interpolations_are_opencvs(name, flag):
    image = scene(90, 110)
    expected = cv2.resize(image, (20, 30), interpolation=flag)
    assert np.array_equal(Preprocess(30, 20, interpolation=name).resized(image), expected)


# What is kept of an image with another aspect ratio.


def marked(rows, columns, top, left, height, width):
    """Return a black image with a white region."""
    image = np.zeros((rows, columns, 3), np.uint8)
    image[top : top + height, left : left + width] = 255
    return image


def test_center_crop_keeps_the_largest_central_region():
    image = marked(40, 100, 0, 30, 40, 40)
    assert (Preprocess(10, 10, fit='center_crop', **PLAIN).resized(image) == 255).all()
    tall = marked(100, 40, 40, 0, 20, 40)
    assert (Preprocess(10, 20, fit='center_crop', **PLAIN).resized(tall) == 255).all()


def test_stretching_keeps_everything():
    left, right = marked(40, 100, 0, 0, 40, 50), marked(40, 100, 0, 50, 40, 50)
    preprocess = Preprocess(10, 10, **PLAIN)
    first, last = slice(0, 4), slice(6, 10)  # the columns between them mix both halves
    for image, bright, dark in ((left, first, last), (right, last, first)):
        assert (preprocess.resized(image)[:, bright] == 255).all()
        assert not preprocess.resized(image)[:, dark].any()


def test_letterbox_keeps_everything_between_black_bars():
    image = np.full((40, 80, 3), 255, np.uint8)
    result = Preprocess(20, 20, fit='letterbox', **PLAIN).resized(image)
    assert (result[5:15] == 255).all()
    assert not result[:5].any() and not result[15:].any()


# Colours.


@pytest.mark.parametrize('order', CHANNELS)
@pytest.mark.parametrize('color', COLORS)
def test_every_order_becomes_the_networks(order, color):
    red, green, blue = (int(v) for v in RED)
    luma = round(0.299 * red + 0.587 * green + 0.114 * blue)
    pixel = {
        'rgb': [red, green, blue], 'bgr': [blue, green, red], 'rgba': [red, green, blue, 9],
        'bgra': [blue, green, red, 9], 'gray': luma,
    }[order]
    image = np.tile(np.array(pixel, np.uint8), (6, 6, 1))
    image = image[:, :, 0] if order == 'gray' else image
    count = 1 if color == 'gray' else 3
    preprocess = Preprocess(
        4, 5, color=color, mean=(0.0,) * count, std=(1.0,) * count, scale=1.0
    )
    if color == 'gray':
        expected = [luma]
    elif order == 'gray':
        expected = [luma] * 3
    else:
        expected = [red, green, blue] if color == 'rgb' else [blue, green, red]
    result = preprocess.resized(image, order)
    assert result.shape == (4, 5, count)
    assert np.abs(result.astype(int) - expected).max() <= 1  # OpenCV's luma rounds


def test_an_image_without_a_channel_axis_is_gray():
    assert Preprocess(4, 4, **PLAIN).resized(np.full((8, 8), 7, np.uint8))[0, 0].tolist() == [7] * 3


# Any image.


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), order=st.sampled_from(list(CHANNELS)),
    fit=st.sampled_from(FITS), color=st.sampled_from(COLORS),
    interpolation=st.sampled_from(INTERPOLATIONS), margin=st.sampled_from([0, 8, 11]),
)
@settings(max_examples=150, deadline=None)
def test_every_image_gives_the_networks_shape(
    rows, columns, order, fit, color, interpolation, margin
):
    count = 1 if color == 'gray' else 3
    preprocess = Preprocess(
        7, 8, fit=fit, resize_to=margin if fit == 'center_crop' else 0, color=color,
        mean=(0.5,) * count, std=(0.5,) * count, interpolation=interpolation,
    )
    result = preprocess.apply(scene(rows, columns, CHANNELS[order]), order)
    assert result.shape == (count, 7, 8) and result.dtype == np.float32
    assert -1 <= result.min() and result.max() <= 1


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
@pytest.mark.parametrize('fit', FITS)
def test_views_and_read_only_images_are_as_good_as_copies(fit, interpolation):
    preprocess = Preprocess(9, 9, fit=fit, interpolation=interpolation)
    whole = scene(41, 60)
    for view in (whole[::-1], whole[:, ::2], whole[3:30, 5:50], whole.transpose(1, 0, 2)):
        expected = preprocess.apply(np.ascontiguousarray(view))
        view.flags.writeable = False
        assert np.array_equal(preprocess.apply(view), expected)


def test_the_image_is_left_as_it_was():
    image = scene(9, 9)
    before = image.copy()
    Preprocess(9, 9).apply(image)
    assert np.array_equal(image, before)


def test_a_message_is_resized_in_its_own_memory_without_a_warning(recwarn):
    message = bytes(scene(480, 640))
    image = np.frombuffer(message, np.uint8).reshape(480, 640, 3)
    assert not image.flags.writeable
    resized = Preprocess(9, 9).resized(image, 'bgr')
    assert np.array_equal(resized, Preprocess(9, 9).resized(image.copy(), 'bgr'))
    assert not [w for w in recwarn if 'writ' in str(w.message)]


def test_pixels_can_be_written_to_the_same_memory_again_and_again():
    preprocess = Preprocess(9, 7)
    memory = np.full((3, 9, 7), np.nan, np.float32)
    for image in (scene(9, 7), 255 - scene(9, 7)):
        assert preprocess.normalised(image, memory) is memory
        assert np.array_equal(memory, preprocess.normalised(image))


# The description.


def test_a_description_survives_yaml():
    preprocess = Preprocess(
        224, 192, fit='center_crop', resize_to=256, color='bgr', scale=1.0,
        mean=(104.0, 117.0, 123.0), std=(1.0, 1.0, 1.0), interpolation='bicubic',
    )
    assert Preprocess.from_dict(yaml.safe_load(yaml.safe_dump(preprocess.to_dict()))) == preprocess


def test_a_description_from_before_bicubic_is_read_as_it_was():
    described = Preprocess(8, 8, interpolation='area').to_dict()
    assert Preprocess.from_dict(described).interpolation == 'area'
    del described['interpolation']
    assert Preprocess.from_dict(described).interpolation == 'antialias'


def test_whole_numbers_serve_as_floats():
    read = Preprocess.from_dict({'height': 4, 'width': 4, 'scale': 1, 'std': [1, 1, 1]})
    assert read.scale == 1.0 and read.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'fit': 'squeeze'}, 'fit'),
        ({'color': 'hsv'}, 'color'),
        ({'interpolation': 'cubic'}, 'interpolation'),
        ({'height': 0}, 'input size'),
        ({'width': 9000}, 'input size'),
        ({'resize_to': 20}, 'resize_to'),
        ({'fit': 'center_crop', 'resize_to': 7}, 'resize_to'),
        ({'mean': [0.5]}, 'mean and std'),
        ({'color': 'gray'}, 'mean and std'),
        ({'std': [1.0, 0.0, 1.0]}, 'std'),
        ({'scale': float('nan')}, 'finite'),
        ({'mean': [0.0, float('inf'), 0.0]}, 'finite'),
        ({'scale': 0}, 'above 0'),
        ({'height': '8'}, 'height'),
        ({'height': 8.0}, 'height'),
        ({'width': True}, 'width'),
        ({'scale': 10**400}, 'scale'),
        ({'mean': [10**400, 0, 0]}, 'mean'),
        ({'mean': 0.5}, 'mean'),
        ({'std': ['a', 'b', 'c']}, 'std'),
        ({'fit': None}, 'fit'),
        ({'size': 3}, 'unknown field size'),
    ],
)
def test_a_bad_description_is_refused_by_name(change, named):
    good = {'height': 8, 'width': 8}
    Preprocess.from_dict(good)
    with pytest.raises(NavMonitorError, match=named):
        Preprocess.from_dict({**good, **change})


@pytest.mark.parametrize('described', [{'height': 8}, {}, [], None, 'height: 8'])
def test_a_description_without_a_size_is_refused(described):
    with pytest.raises(NavMonitorError, match='preprocessing'):
        Preprocess.from_dict(described)


def test_it_cannot_be_changed_behind_the_monitors_back():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Preprocess(8, 8).height = 9
