"""The live pictures: the same for the same, on a fixed scale, and never an exception or nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nav_monitor_ros.decision.verdict import (
    Alert,
    Explanation,
    Neuron,
    Reason,
    ScoreValue,
    State,
    Verdict,
)
from nav_monitor_ros.views import colors
from nav_monitor_ros.views.overlay import MIN_WIDTH, draw_overlay
from nav_monitor_ros.views.text import shortened, text_width
from nav_monitor_ros.views.tiles import COLORMAPS, ORDERS, draw_activations

pytestmark = pytest.mark.filterwarnings('error')  # a node would warn for each frame

TRUSTED = Alert(False, State.OK, Reason.IN_DISTRIBUTION)
ALARM = Alert(True, State.OOD, Reason.OOD)
GRAY = np.full((48, 64, 3), 90, np.uint8)


def make_explanation(width=24, differing=(), monitored=None, z=2.0):
    nearest = np.arange(width) % 3 == 0
    pattern = nearest.copy()
    pattern[list(differing)] ^= True
    counted = np.ones(width, bool) if monitored is None else monitored
    neurons = tuple(
        Neuron(int(i), 1.5, z * (-1) ** i, bool(pattern[i]), bool(nearest[i]))
        for i in range(min(8, width))
    )
    return Explanation(len(differing), pattern, nearest, counted, neurons)


def make_verdict(p_value=0.5, explanation=None, *, name='stop', threshold=0.01, score=1.0):
    return Verdict(
        class_index=1, class_name=name, confidence=0.98, top=((1, 0.98), (0, 0.02)),
        scores={'pattern': ScoreValue(score, p_value), 'fused': ScoreValue(score, p_value)},
        decisive='fused', threshold=threshold, explanation=explanation,
    )


def mask(picture, color):
    """Return where a picture has exactly this colour."""
    return (picture == color).all(axis=2)


def regions(picture, color):
    """Return the connected regions of a colour as (left, top, width, height), without specks."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask(picture, color).astype(np.uint8))
    return [tuple(row[:4]) for row in stats[1:].tolist() if row[4] >= 4]


# The overlay.


def test_an_overlay_is_the_same_for_the_same_frame_and_leaves_the_image_alone():
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    before = image.copy()
    verdict = make_verdict(0.001, make_explanation(differing=(3,)))
    first, second = draw_overlay(image, verdict, ALARM), draw_overlay(image, verdict, ALARM)
    assert first.dtype == np.uint8 and first.shape[1:] == (640, 3)
    assert np.array_equal(first, second)
    assert np.array_equal(image, before)


def test_the_image_is_shown_as_it_is_where_it_has_the_pictures_width():
    image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    picture = draw_overlay(image, make_verdict(), TRUSTED)
    found = [
        top for top in range(picture.shape[0] - 359)
        if np.array_equal(picture[top : top + 360], image)
    ]
    assert len(found) == 1 and found[0] > 20  # below the banner


@pytest.mark.parametrize(
    ('state', 'color'),
    [
        (State.OK, colors.BLUE), (State.SUSPECT, colors.ORANGE), (State.OOD, colors.VERMILLION),
        (State.INVALID, colors.VERMILLION),
    ],
)
def test_the_banner_has_the_colour_of_the_state(state, color):
    picture = draw_overlay(GRAY, make_verdict(), Alert(False, state, Reason.SUSPECT))
    assert mask(picture[:30], color).mean() > 0.6
    others = {colors.BLUE, colors.ORANGE, colors.VERMILLION} - {color}
    assert not any(mask(picture[:30], other).any() for other in others)


def test_the_state_is_not_told_by_colour_alone():
    banners = [
        mask(draw_overlay(GRAY, make_verdict(), Alert(False, state, Reason.OOD))[:60],
             colors.OF_STATE[state])
        for state in State
    ]
    for index, banner in enumerate(banners):
        assert not any(np.array_equal(banner, other) for other in banners[:index])


@pytest.mark.parametrize('reason', [Reason.OOD, Reason.STALE_IMAGE, Reason.LATCHED])
def test_the_reason_is_written(reason):
    written = draw_overlay(GRAY, make_verdict(), Alert(True, State.OOD, reason))
    plain = draw_overlay(GRAY, make_verdict(), Alert(True, State.OOD, Reason.BAD_IMAGE))
    assert not np.array_equal(written[:66], plain[:66])
    assert np.array_equal(written[70:], plain[70:])


def test_an_alert_frames_the_image():
    trusted = draw_overlay(GRAY, make_verdict(), Alert(False, State.OOD, Reason.OOD))
    alarmed = draw_overlay(GRAY, make_verdict(), Alert(True, State.OOD, Reason.OOD))
    camera = slice(70, 70 + 480 - 10)
    assert not mask(trusted[camera, :8], colors.VERMILLION).any()
    assert mask(alarmed[camera, :8], colors.VERMILLION).any(axis=1).all()
    assert mask(alarmed[camera, -8:], colors.VERMILLION).any(axis=1).all()


@pytest.mark.parametrize('differing', [(), (0,), (3, 11), (1, 5, 9, 20)])
@pytest.mark.parametrize('width', [24, 128, 192])
def test_neurons_that_differ_are_marked_in_both_patterns(width, differing):
    picture = draw_overlay(GRAY, make_verdict(0.5, make_explanation(width, differing)), TRUSTED)
    marked = regions(picture[500:], colors.VERMILLION)
    assert len(marked) == 2 * len(differing)
    halves = [sum(left < 150 for left, *_ in marked), sum(left >= 150 for left, *_ in marked)]
    assert halves == [len(differing)] * 2
    tops = sorted(top for left, top, *_ in marked if left < 150)
    assert tops == sorted(top for left, top, *_ in marked if left >= 150)


def test_a_neuron_that_differs_is_filled_where_it_is_on_and_hollow_where_it_is_off():
    picture = draw_overlay(GRAY, make_verdict(0.5, make_explanation(24, (0,))), TRUSTED)
    nearest, now = regions(picture[500:], colors.VERMILLION)  # on in training, off now

    def filled(region):
        left, top, width, height = region
        inside = picture[500 + top + height // 2, left + width // 2]
        return tuple(inside.tolist()) == colors.VERMILLION

    assert filled(nearest) and not filled(now)


@pytest.mark.parametrize('width', [MIN_WIDTH, 640])
def test_even_the_last_of_very_many_neurons_is_marked(width):
    told = make_explanation(2048, (2047,))
    picture = draw_overlay(GRAY, make_verdict(0.5, told), TRUSTED, width=width)
    same = draw_overlay(GRAY, make_verdict(0.5, make_explanation(2048)), TRUSTED, width=width)
    assert mask(picture, colors.VERMILLION).sum() > mask(same, colors.VERMILLION).sum()


def test_a_score_below_the_threshold_is_marked():
    flagged = draw_overlay(GRAY, make_verdict(0.001), TRUSTED)
    normal = draw_overlay(GRAY, make_verdict(0.5), TRUSTED)
    assert mask(flagged[500:], colors.VERMILLION).sum() > 200
    assert not mask(normal[500:], colors.VERMILLION).any()


def test_without_a_verdict_the_picture_says_so():
    alert = Alert(True, State.INVALID, Reason.BAD_IMAGE, 'the image is truncated')
    picture = draw_overlay(GRAY, None, alert)
    other = draw_overlay(GRAY, None, Alert(True, State.INVALID, Reason.BAD_IMAGE, 'another'))
    assert picture.shape == draw_overlay(GRAY, make_verdict(), alert).shape
    assert mask(picture[:60], colors.VERMILLION).mean() > 0.5
    assert not np.array_equal(picture[-200:], other[-200:])  # the detail is written


@given(
    rows=st.integers(1, 200), columns=st.integers(1, 200), width=st.sampled_from([1, 320, 640, 777]),
    neurons=st.integers(1, 2048), share=st.floats(0, 1), p_value=st.floats(0, 1),
    z=st.floats(allow_nan=True, allow_infinity=True), name=st.text(max_size=60),
    score=st.floats(allow_nan=True, allow_infinity=True), threshold=st.floats(0, 1),
    alert=st.sampled_from([TRUSTED, ALARM, Alert(True, State.INVALID, Reason.NO_IMAGE, 'ä\n\0')]),
    explained=st.sampled_from(['all', 'some', 'none', 'no verdict']),
)
@example(1, 1, 1, 1, 0.0, 0.0, float('nan'), '', float('nan'), 0.0, ALARM, 'none')
@example(1, 3000, 640, 2048, 1.0, 1e-300, float('inf'), 'x' * 500, 0.0, 1.0, ALARM, 'all')
@example(3000, 1, 320, 2047, 0.5, 1.0, -1e300, '信号', 0.0, 0.5, TRUSTED, 'some')
@settings(max_examples=60, deadline=None)
def test_no_frame_is_too_odd_for_an_overlay(
    rows, columns, width, neurons, share, p_value, z, name, score, threshold, alert, explained
):
    rng = np.random.default_rng(neurons)
    image = rng.integers(0, 256, (rows, columns, 3), np.uint8)
    differing = np.flatnonzero(rng.random(neurons) < share)
    monitored = rng.random(neurons) < 0.5 if explained == 'some' else None
    told = None if explained == 'none' else make_explanation(neurons, differing, monitored, z)
    verdict = make_verdict(p_value, told, name=name, threshold=threshold, score=score)
    picture = draw_overlay(
        image, None if explained == 'no verdict' else verdict, alert, width=width
    )
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.shape[1] == max(width, MIN_WIDTH) and picture.shape[0] < 3 * picture.shape[1]
    assert picture.flags.c_contiguous
    assert picture.std() > 1


# The tiles.


def constant(*values, side=6):
    """Return one plain map for each value, float32 (C, side, side)."""
    return np.array(values, np.float32)[:, None, None] * np.ones((1, side, side), np.float32)


def level(value, high, table='viridis'):
    """Return the colour of a value on a scale from 0 to ``high``."""
    return tuple(colors.TABLES[table][round(value / high * 254)].tolist())


def tiles_in_order(picture, known):
    """Return which of the known colours' tiles come first, second, ... in reading order."""
    found = []
    for color, name in known.items():
        large = [region for region in regions(picture[52:], color) if region[2] * region[3] > 2000]
        found += [((top // 20, left), name) for left, top, *_ in large]
    return [name for _, name in sorted(found)]


def draw(maps, scale=(0.0, 1.0), **options):
    return draw_activations(maps, scale=scale, layer='conv3', **options)


def test_tiles_are_the_same_for_the_same_maps_and_leave_them_alone():
    maps = np.random.default_rng(0).random((20, 8, 8)).astype(np.float32)
    before = maps.copy()
    first = draw(maps)
    assert first.dtype == np.uint8 and first.shape[1:] == (640, 3)
    assert np.array_equal(first, draw(maps)) and np.array_equal(maps, before)


def test_the_scale_is_fixed():
    """The same value has the same colour, whatever else is in the frame."""
    for other in (0.0, 0.9, 50.0, np.nan):
        picture = draw(constant(0.5, other), scale=(0.0, 2.0), order='index')
        assert mask(picture, level(0.5, 2.0)).sum() > 10_000


def test_another_value_has_another_colour():
    assert not mask(draw(constant(0.5), scale=(0.0, 2.0)), level(1.0, 2.0))[52:].any()


def test_above_the_range_is_magenta_and_the_end_of_it_is_not():
    inside = mask(draw(constant(1.0)), colors.MAGENTA)[52:].sum()
    outside = mask(draw(constant(1.001)), colors.MAGENTA)[52:].sum()
    assert inside == 0 and outside > 10_000


def test_below_the_range_is_the_lowest_colour():
    assert mask(draw(constant(-3.0)), level(0.0, 1.0)).sum() > 10_000


def test_a_signed_layer_has_a_symmetric_scale():
    values = {-2.0: 0, 0.0: 127, 2.0: 254}
    picture = draw(constant(*values), scale=(-2.0, 0.5), order='index')
    for place in values.values():
        assert mask(picture, colors.TABLES['diverging'][place])[52:].sum() > 10_000
    assert not mask(picture, colors.MAGENTA)[52:].any()
    assert mask(draw(constant(2.1), scale=(-2.0, 0.5)), colors.MAGENTA)[52:].any()


def test_the_strongest_channel_comes_first():
    values = (0.1, 0.5, 0.9, 0.3)
    known = {level(value, 1.0): value for value in values}
    assert tiles_in_order(draw(constant(*values)), known) == [0.9, 0.5, 0.3, 0.1]
    assert tiles_in_order(draw(constant(*values), order='index'), known) == list(values)


def test_no_more_channels_are_shown_than_asked():
    values = (0.1, 0.5, 0.9, 0.3)
    known = {level(value, 1.0): value for value in values}
    assert tiles_in_order(draw(constant(*values), channels=2), known) == [0.9, 0.5]


@pytest.mark.parametrize('colormap', COLORMAPS)
def test_colours_are_those_of_the_chosen_map(colormap):
    picture = draw(constant(0.7), colormap=colormap)
    assert mask(picture, level(0.7, 1.0, colormap)).sum() > 10_000


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_crossed_out_and_comes_first(value):
    picture = draw(constant(0.5, value))
    first = picture[52 : 52 + 200, 8:300]
    assert mask(first, colors.WHITE).mean() > 0.2 and mask(first, (0, 0, 0)).mean() > 0.2
    note, facts = (made[28:46, :200].astype(int) for made in (picture, draw(constant(0.5))))
    assert (note[..., 0] - note[..., 1]).max() > 80  # magenta letters say how many
    assert (facts[..., 0] - facts[..., 1]).max() < 30


def test_pixels_stay_where_they_are_in_a_map():
    ramp = np.zeros((1, 2, 2), np.float32)
    ramp[0] = [[0.2, 0.4], [0.6, 0.8]]
    picture = draw(ramp)
    known = {level(value, 1.0): value for value in (0.2, 0.4, 0.6, 0.8)}
    assert tiles_in_order(picture, known) == [0.2, 0.4, 0.6, 0.8]


def test_the_layer_and_the_numbers_are_written():
    maps = constant(0.5)
    pictures = [
        draw_activations(maps, scale=(0.0, high), layer=layer)[:52]
        for high, layer in ((1.0, 'conv1'), (1.0, 'conv2'), (1.5, 'conv1'))
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


SCALES = [(0.0, 1.0), (-1.0, 2.0), (0.0, 0.0), (-1e-30, 0.0), (5.0, 1.0), (-3.0, -1.0),
          (0.0, 1e-38), (-1e37, 1e37)]


@given(
    channels=st.integers(1, 300), rows=st.integers(1, 40), columns=st.integers(1, 40),
    kind=st.sampled_from(['constant', 'random', 'huge', 'nan', 'inf', 'mixed']),
    scale=st.sampled_from(SCALES), shown=st.integers(1, 400), order=st.sampled_from(ORDERS),
    colormap=st.sampled_from(COLORMAPS), width=st.sampled_from([64, 320, 640, 1001]),
)
@example(1, 1, 1, 'nan', (0.0, 0.0), 1, 'strongest', 'viridis', 64)
@example(300, 1, 40, 'mixed', (-1.0, 2.0), 400, 'strongest', 'inferno', 64)
@example(300, 40, 1, 'inf', (0.0, 1.0), 400, 'index', 'viridis', 64)
@example(2, 5, 5, 'huge', (0.0, 1e-38), 4, 'strongest', 'viridis', 640)
@settings(max_examples=80, deadline=None)
def test_no_maps_are_too_odd_for_tiles(
    channels, rows, columns, kind, scale, shown, order, colormap, width
):
    maps = odd_values(kind, (channels, rows, columns))
    picture = draw(
        maps, scale, channels=shown, order=order, colormap=colormap, width=width
    )
    check_tiles(picture, width)


@given(
    neurons=st.sampled_from([1, 2, 10, 769, 2048, 120_000]), scale=st.sampled_from(SCALES),
    kind=st.sampled_from(['constant', 'random', 'huge', 'nan', 'inf', 'mixed']),
    width=st.sampled_from([64, 320, 640]),
)
@settings(max_examples=40, deadline=None)
def test_no_layer_without_extent_is_too_odd_for_tiles(neurons, scale, kind, width):
    check_tiles(draw(odd_values(kind, (neurons,)), scale, width=width), width)


def odd_values(kind, shape):
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape).astype(np.float32)
    if kind == 'constant':
        values[:] = 0.25
    elif kind == 'huge':
        values = np.sign(values) * np.float32(3.4e38)
    elif kind in ('nan', 'inf'):
        values[:] = float(kind)
    elif kind == 'mixed':
        values[rng.random(shape) < 0.3] = np.nan
        values[rng.random(shape) < 0.3] = -np.inf
    return values


def check_tiles(picture, width):
    assert picture.dtype == np.uint8 and picture.shape[1:] == (width, 3)
    assert 52 < picture.shape[0] <= 60 + 200 * width
    assert picture.std() > 1


# Colours and text.


@pytest.mark.parametrize('table', COLORMAPS)
def test_colour_maps_grow_evenly_lighter(table):
    lab = cv2.cvtColor(colors.TABLES[table][None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lab) >= -2).all() and lab[-1] - lab[0] > 150


def test_the_diverging_map_is_lightest_at_zero_and_told_apart_at_its_ends():
    table = colors.TABLES['diverging'].astype(int)
    light = table.sum(axis=1)
    assert 120 <= light.argmax() <= 134
    assert (np.diff(light[:120]) >= -2).all() and (np.diff(light[140:]) <= 2).all()
    assert table[0, 2] > table[0, 0] and table[-1, 0] > table[-1, 2]  # blue and vermillion


@given(st.text(max_size=80), st.integers(0, 300), st.integers(6, 20))
@settings(max_examples=60, deadline=None)
def test_text_is_cut_to_its_room(text, room, height):
    kept = shortened(text, room, height)
    assert text_width(kept, height) <= room or not kept
    if text_width(text, height) <= room:
        assert kept == text
