"""Activation maps: a fixed scale, the order of channels, and what is no number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from view_samples import (
    LEGEND,
    STRANGE_FLOATS,
    lightness,
)

from nav_monitor_ros.views import colors
from nav_monitor_ros.views.activation_maps import COLORMAPS, ORDERS, draw_activations


def tile_colors(picture: np.ndarray, wanted: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the wanted colours, uint8 (N, 3), in the order in which tiles show them."""
    pixels = picture[LEGEND:].reshape(-1, 3)
    places = [np.flatnonzero((pixels == color).all(axis=1)) for color in wanted]
    order = sorted(range(len(wanted)), key=lambda i: places[i][0] if len(places[i]) else 1 << 40)
    return [tuple(wanted[i]) for i in order if len(places[i])]


def color_of(value: float, others: float, **options) -> tuple[int, int, int]:
    """Return the colour of a tile of one value, beside a tile of another one."""
    options = {'scale': (0.0, 2.0), 'layer': 'conv1', 'order': 'index', **options}
    maps = np.stack([np.full((8, 8), value), np.full((8, 8), others)]).astype(np.float32)
    picture = draw_activations(maps, **options)
    return tuple(picture[LEGEND + (picture.shape[0] - LEGEND) // 2, 100])


def test_activations_are_an_rgb_picture_of_the_asked_width_and_always_the_same():
    maps = np.random.default_rng(0).random((20, 7, 5), np.float32)
    first = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', width=700)
    assert first.dtype == np.uint8 and first.shape[1:] == (700, 3)
    again = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', width=700)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize('value', [0.0, 0.3, 1.0, 2.0])
def test_scale_is_fixed_over_frames(value):
    assert color_of(value, 0.1) == color_of(value, 1.9) == color_of(value, 50.0)


def test_colors_follow_the_color_map_from_zero_to_the_training_range():
    for name in ('viridis', 'inferno'):
        table = colors.level_table(name)
        assert color_of(0.0, 1.0, colormap=name) == tuple(table[colors.LOWEST])
        assert color_of(2.0, 1.0, colormap=name) == tuple(table[colors.HIGHEST])
        assert color_of(1.0, 1.0, colormap=name) == tuple(table[colors.ZERO])


def test_values_above_the_training_range_are_magenta():
    assert color_of(2.05, 1.0) == (255, 0, 255)
    assert color_of(3e38, 1.0) == (255, 0, 255)
    assert color_of(1.05, 1.0, scale=(-2.0, 1.0)) == (255, 0, 255)
    assert color_of(-0.9, 0.0, scale=(-2.0, -1.0)) == (255, 0, 255)
    assert color_of(2.0, 1.0) != (255, 0, 255)
    assert color_of(1.0, 0.0, scale=(-2.0, 1.0)) != (255, 0, 255)


def test_values_below_the_training_range_are_cyan():
    assert color_of(-0.1, 1.0) == (0, 255, 255)
    assert color_of(-2.05, 1.0, scale=(-2.0, 1.0)) == (0, 255, 255)
    assert color_of(-1.05, 1.0, scale=(-1.0, 2.0)) == (0, 255, 255)
    assert color_of(0.45, 1.0, scale=(0.5, 2.0)) == (0, 255, 255)
    assert color_of(-1.0, 1.0, scale=(-1.0, 2.0)) != (0, 255, 255)
    assert color_of(0.5, 1.0, scale=(0.5, 2.0)) != (0, 255, 255)


def test_signed_layers_have_a_symmetric_scale_around_near_white():
    table = colors.level_table('diverging')
    assert color_of(0.0, 1.0, scale=(-2.0, 1.0)) == tuple(table[colors.ZERO])
    assert table[colors.ZERO].min() > 235
    assert color_of(2.0, 1.0, scale=(-1.0, 2.0)) == tuple(table[colors.HIGHEST])
    assert color_of(-3.0, 1.0, scale=(-3.0, 2.0)) == tuple(table[colors.LOWEST])
    assert color_of(1.0, 1.0, scale=(-2.0, 1.0)) == tuple(table[(colors.ZERO + 253) // 2])
    red, _, blue = color_of(0.9, 1.0, scale=(-2.0, 1.0))
    assert red > blue
    red, _, blue = color_of(-1.5, 1.0, scale=(-2.0, 1.0))
    assert blue > red


def test_diverging_colors_are_perceptually_even():
    levels = lightness(colors.level_table('diverging')[colors.LOWEST : colors.HIGHEST + 1])
    middle = colors.ZERO - colors.LOWEST
    steps = np.diff(levels[: middle + 1].astype(float))
    assert steps.min() > 0.2 and steps.max() < 0.95  # 0.56 but for 8 bits a channel
    np.testing.assert_allclose(levels, levels[::-1], atol=1.5)


@pytest.mark.parametrize('name', ['viridis', 'inferno'])
def test_sequential_colors_get_lighter_throughout(name):
    levels = lightness(colors.level_table(name)[colors.LOWEST : colors.HIGHEST + 1])
    assert np.diff(levels[::8].astype(float)).min() > 0


def test_all_values_of_a_layer_that_saturates_are_within_its_rounded_limits():
    saturated = float(np.float32(1 / 3))  # bundles store six digits
    for scale in ((0.0, 0.333333), (-2.0, 0.333333)):
        assert color_of(saturated, 0.0, scale=scale) != (255, 0, 255)


def test_values_that_are_no_numbers_are_hatched_and_noted():
    maps = np.full((4, 9, 9), 0.5, np.float32)
    plain = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', order='index')
    for broken in (np.nan, np.inf, -np.inf):
        spoilt = maps.copy()
        spoilt[2, 3, 4] = broken
        picture = draw_activations(spoilt, scale=(0.0, 1.0), layer='conv1', order='index')
        changed = picture[LEGEND:][(picture != plain)[LEGEND:].any(axis=2)]
        assert {tuple(pixel) for pixel in changed} == {colors.BLACK, colors.WHITE}
        assert (picture != plain)[:LEGEND].any()  # the note


def test_strongest_channel_comes_first():
    values = np.array([0.2, 0.9, 0.4, 0.7], np.float32)
    maps = np.broadcast_to(values[:, None, None], (4, 6, 6))
    table = colors.level_table('viridis')
    wanted = table[(252 * values + colors.LOWEST + 0.5).astype(int)]
    by_index = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', order='index')
    strongest = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', order='strongest')
    assert tile_colors(by_index, wanted) == [tuple(color) for color in wanted]
    assert tile_colors(strongest, wanted) == [tuple(wanted[i]) for i in (1, 3, 2, 0)]
    two = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', channels=2)
    assert tile_colors(two, wanted) == [tuple(wanted[i]) for i in (1, 3)]


def test_strength_of_signed_maps_is_their_size():
    maps = np.stack([np.full((5, 5), 0.1), np.full((5, 5), -0.8)]).astype(np.float32)
    table = colors.level_table('diverging')
    wanted = table[(126 * maps[:, 0, 0] + colors.ZERO + 0.5).astype(int)]
    picture = draw_activations(maps, scale=(-1.0, 1.0), layer='conv1')
    assert tile_colors(picture, wanted) == [tuple(wanted[1]), tuple(wanted[0])]


def test_channel_that_is_not_finite_comes_first():
    maps = np.ones((3, 4, 4), np.float32)
    maps[2, 0, 0] = np.nan
    picture = draw_activations(maps, scale=(0.0, 1.0), layer='conv1')
    stripes = np.argwhere((picture[LEGEND + 12 :] == colors.BLACK).all(axis=2))
    assert len(stripes) and stripes[:, 1].max() < 640 // 3


def test_every_value_of_a_map_is_seen_at_its_place():
    maps = np.zeros((1, 2, 2), np.float32)
    maps[0, 0, 1] = 5.0
    picture = draw_activations(maps, scale=(0.0, 1.0), layer='conv1')
    rows, columns = np.nonzero((picture[LEGEND:] == colors.MAGENTA).all(axis=2))
    tile = (picture[LEGEND:] == colors.level_table('viridis')[colors.LOWEST]).all(axis=2)
    assert columns.min() > np.nonzero(tile[rows.min()])[0].max()
    assert rows.max() < np.nonzero(tile)[0].max()


@pytest.mark.parametrize('size', [1, 10, 43, 512, 2048, 25088])
def test_layer_without_extent_is_a_grid_of_cells_by_index(size):
    values = np.zeros(size, np.float32)
    values[-1] = 9.0
    picture = draw_activations(values, scale=(0.0, 1.0), layer='fc1')
    rows, columns = np.nonzero((picture[LEGEND:] == colors.MAGENTA).all(axis=2))
    assert len(rows)
    rest = (picture[LEGEND:] == colors.level_table('viridis')[colors.LOWEST]).all(axis=2)
    assert size == 1 or rows.max() >= np.nonzero(rest)[0].max()


def test_more_neurons_than_pixels_are_cut_and_counted():
    picture = draw_activations(np.zeros(10**6, np.float32), scale=(0.0, 1.0), layer='flatten')
    assert picture.shape[0] < 640


def test_legend_names_layer_range_and_order():
    maps = np.full((3, 5, 5), 0.5, np.float32)
    plain = {'scale': (0.0, 1.0), 'layer': 'conv1', 'order': 'index', 'channels': 3}
    legends = {
        draw_activations(maps, **{**plain, **change})[:LEGEND].tobytes()
        for change in (
            {}, {'scale': (0.0, 1.5)}, {'scale': (-1.0, 1.0)}, {'layer': 'conv2'},
            {'order': 'strongest'}, {'channels': 2}, {'colormap': 'inferno'},
        )
    }
    assert len(legends) == 7


def test_a_heading_stands_above_the_same_picture():
    maps = np.full((3, 5, 5), 0.5, np.float32)
    plain = draw_activations(maps, scale=(0.0, 1.0), layer='conv1')
    headed = draw_activations(maps, scale=(0.0, 1.0), layer='conv1', heading='digits predicts 1')
    np.testing.assert_array_equal(headed[-len(plain) :], plain)
    assert 16 < len(headed) - len(plain) < 40 and headed[: -len(plain)].max() > 200


def test_neurons_and_tokens_without_positions_stay_by_index():
    for maps in (np.arange(6, dtype=np.float32), np.ones((6, 4), np.float32)):
        plain, given = (
            draw_activations(maps, scale=(0.0, 5.0), layer='fc1', order=order, given=permutation)
            for order, permutation in (('index', None), ('leaves', np.arange(6)[::-1]))
        )
        np.testing.assert_array_equal(plain, given)


@pytest.mark.parametrize('scale', [(np.nan, 1.0), (0.0, np.inf), (2.0, 1.0), (0.0, 0.0)])
def test_unusable_scale_is_replaced_and_noted(scale):
    maps = np.full((2, 4, 4), 0.5, np.float32)
    usable = draw_activations(maps, scale=(0.0, 1.0), layer='conv1')
    picture = draw_activations(maps, scale=scale, layer='conv1')
    np.testing.assert_array_equal(picture[LEGEND:], usable[LEGEND:])
    assert (picture[:LEGEND] != usable[:LEGEND]).any()


@pytest.mark.parametrize('shape', [(0,), (0, 3, 3), (4, 0, 3)])
def test_layer_without_values_is_said_to_have_none(shape):
    picture = draw_activations(np.zeros(shape, np.float32), scale=(0.0, 1.0), layer='conv1')
    assert picture.shape[1:] == (640, 3) and (picture > 200).any()


@settings(max_examples=80, deadline=None)
@given(
    maps=st.one_of(
        arrays.arrays(np.float32, st.tuples(st.integers(1, 3000)), elements=STRANGE_FLOATS,
                      fill=STRANGE_FLOATS),
        arrays.arrays(
            np.float32,
            st.tuples(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40)),
            elements=STRANGE_FLOATS,
            fill=STRANGE_FLOATS,
        ),
    ),
    scale=st.tuples(st.floats(), st.floats()),
    layer=st.text(max_size=80),
    channels=st.integers(-1, 300),
    order=st.sampled_from(ORDERS),
    colormap=st.sampled_from(COLORMAPS),
    width=st.integers(-5, 1400),
)
def test_activations_are_drawn_whatever_comes(
    maps, scale, layer, channels, order, colormap, width
):
    before = maps.copy()
    picture = draw_activations(
        maps, scale=scale, layer=layer, channels=channels, order=order, colormap=colormap,
        width=width,
    )
    np.testing.assert_array_equal(maps, before)
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    assert picture.shape[1:] == (max(width, 320), 3)
    assert picture.shape[0] < 2 * picture.shape[1]
    drawn = picture[int(LEGEND * max(1.0, picture.shape[1] / 640)) :]
    assert (drawn != np.array(colors.BACKGROUND, np.uint8)).any()
