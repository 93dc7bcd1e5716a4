"""The live pictures: what they show, and that they show it whatever comes in."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nav_monitor_ros.decision.alert_reason import Alert, Reason, State
from nav_monitor_ros.decision.verdict import Explanation, ScoreValue, Verdict
from nav_monitor_ros.views import colors
from nav_monitor_ros.views.activation_maps import COLORMAPS, ORDERS, draw_activations
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.explanation import _sprites, draw_patterns, draw_scores, p_text
from nav_monitor_ros.views.overlay import MAX_WIDTH, MIN_WIDTH, draw_overlay
from nav_monitor_ros.views.text import placeholder, put_text, shortened, text_width, wrapped

pytestmark = pytest.mark.filterwarnings('error')  # a node would warn for each frame

OK = Alert(False, State.OK, Reason.IN_DISTRIBUTION)
SUSPECT = Alert(False, State.SUSPECT, Reason.SUSPECT, '2 of 3 flagged frames in a row')
OOD = Alert(True, State.OOD, Reason.OOD, 'unlike the training images')
STALE = Alert(True, State.INVALID, Reason.STALE_IMAGE, 'no image for 1.4 s')
BANNER = 64  # rows at 640 columns
LEGEND = 64  # rows at 640 columns
STRANGE_FLOATS = st.floats(width=32)  # NaN and infinities among them


def explanation(size: int, *, on: tuple[int, ...] = (), off: tuple[int, ...] = ()) -> Explanation:
    """Return alternating bits, of which some turned on and some off against expectation."""
    nearest = np.arange(size) % 2 == 0
    pattern = nearest.copy()
    nearest[list(on)], pattern[list(on)] = False, True
    nearest[list(off)], pattern[list(off)] = True, False
    z = 4.0 / (1 + np.arange(size))
    return Explanation(
        len(on) + len(off), pattern, nearest, np.ones(size, bool), np.full(size, 1.5, np.float32), z
    )


def verdict(*, p_value: float = 0.001, size: int = 128, **changes) -> Verdict:
    scores = {'pattern': ScoreValue(3.0, 0.02), 'fused': ScoreValue(9.0, p_value)}
    whole = Verdict(
        3, 'stop', 0.91, ((3, 0.91), (1, 0.05)), scores, 'fused', 0.01,
        explanation(size, on=(3,), off=(8,)),
    )
    return replace(whole, **changes)


def photograph(rows: int = 48, columns: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3)).astype(np.uint8)


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(color, np.uint8)).all(axis=-1).any())


def lightness(table: np.ndarray) -> np.ndarray:
    """Return CIE L* of colours, uint8 (N, 3) RGB."""
    scaled = table[None].astype(np.float32) / 255
    return cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab)[0, :, 0]


# The overlay.


def test_overlay_is_an_rgb_picture_of_the_asked_width_and_always_the_same():
    first = draw_overlay(photograph(), verdict(), OOD, width=800)
    assert first.dtype == np.uint8 and first.shape[1:] == (800, 3)
    np.testing.assert_array_equal(first, draw_overlay(photograph(), verdict(), OOD, width=800))


def test_overlay_leaves_the_image_as_it_is():
    image = photograph()
    image.flags.writeable = False
    before = image.copy()
    draw_overlay(image, verdict(), OOD)
    draw_overlay(image, None, STALE)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ('alert', 'color'),
    [(OK, (0, 114, 178)), (SUSPECT, (230, 159, 0)), (OOD, (213, 94, 0)), (STALE, (213, 94, 0))],
)
def test_banner_has_the_color_of_the_state(alert, color):
    picture = draw_overlay(photograph(), verdict(), alert)
    assert tuple(picture[2, 2]) == color and tuple(picture[BANNER - 3, -3]) == color


def test_banner_says_the_state_without_color_too():
    banners = [
        draw_overlay(photograph(), verdict(), replace(OOD, state=state))[:BANNER] for state in State
    ]
    for part in (slice(0, 60), slice(400, 640)):  # a sign at the left, the word at the right
        contrast = [np.abs(banner[:, part].astype(int) - banner[2, 2]) for banner in banners]
        assert len({(one.sum(axis=2) > 60).tobytes() for one in contrast}) == len(State)


def test_banner_says_reason_and_p_value():
    shown = draw_overlay(photograph(), verdict(), OOD)[:BANNER]
    other_reason = draw_overlay(photograph(), verdict(), replace(OOD, reason=Reason.LATCHED))
    other_p = draw_overlay(photograph(), verdict(p_value=0.002), OOD)
    assert (shown != other_reason[:BANNER]).any()
    assert (shown != other_p[:BANNER]).any()


def test_long_class_name_does_not_run_into_the_state():
    short = draw_overlay(photograph(), verdict(), OOD)[:BANNER, -80:]
    long = draw_overlay(photograph(), verdict(class_name='stop_or_' * 40), OOD)[:BANNER, -80:]
    np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize('alert', [OOD, SUSPECT, STALE])
def test_image_is_framed_unless_all_is_well(alert):
    frame = draw_overlay(photograph(), verdict(), alert)[BANNER + 9, 100:200]
    assert (frame == np.array(colors.OF_STATE[alert.state], np.uint8)).all()
    assert not has(draw_overlay(photograph(), verdict(), OK)[BANNER + 9, 100:200], colors.BLUE)


def test_small_image_is_enlarged_to_sharp_pixels():
    image = np.zeros((28, 28, 3), np.uint8)
    image[:14] = 200, 10, 30
    place = draw_overlay(image, verdict(), OK)[BANNER + 12 : BANNER + 12 + 345, 12 : 12 + 345]
    assert {tuple(pixel) for pixel in place.reshape(-1, 3)} == {(0, 0, 0), (200, 10, 30)}
    assert tuple(place[170, 0]) == (200, 10, 30) and tuple(place[175, 344]) == (0, 0, 0)


def test_size_depends_on_the_image_and_not_on_what_is_said_of_it():
    image = photograph()
    sizes = {
        draw_overlay(image, said, alert).shape
        for said, alert in (
            (verdict(), OK),
            (verdict(size=2048), OOD),
            (verdict(explanation=None), SUSPECT),
            (None, STALE),
        )
    }
    assert len(sizes) == 1


def test_frame_without_a_verdict_is_gray_and_dark_and_says_why():
    image = np.full((48, 64, 3), (200, 40, 40), np.uint8)
    picture = draw_overlay(image, None, STALE)
    red, green, blue = picture[BANNER + 60, 100]
    assert red == green == blue < 100
    frozen = draw_overlay(image, None, replace(STALE, reason=Reason.FROZEN_IMAGE))
    assert (picture != frozen).any()
    detailed = draw_overlay(image, None, replace(STALE, detail='no image for 2.4 s'))
    assert (picture != detailed).any()


@pytest.mark.parametrize('image', [None, np.zeros((0, 5, 3), np.uint8), np.zeros((48, 64, 3))])
def test_no_image_is_said_instead_of_shown(image):
    picture = draw_overlay(image, None, STALE)
    place = picture[BANNER + 12 : BANNER + 220, 12 : 12 + 300]
    assert (place == np.array(colors.PANEL, np.uint8)).all(axis=2).mean() > 0.9
    assert (place > 200).all(axis=2).any()  # the note


@pytest.mark.parametrize(('wanted', 'given_width'), [(1, MIN_WIDTH), (10**6, MAX_WIDTH)])
def test_width_is_kept_within_what_is_legible(wanted, given_width):
    assert draw_overlay(photograph(), verdict(), OK, width=wanted).shape[1] == given_width


# Why: patterns and scores.


def panel(size: int, **bits) -> np.ndarray:
    pixels = np.zeros((160, 340, 3), np.uint8)
    draw_patterns(Canvas(pixels), explanation(size, **bits))
    return pixels[34:140]


@pytest.mark.parametrize('size', [10, 128, 512, 2048])
@pytest.mark.parametrize(
    ('turned', 'color'), [({'on': (7,)}, colors.VERMILLION), ({'off': (6,)}, colors.SKY)]
)
def test_differing_neuron_is_marked_in_both_grids(size, turned, color):
    plain, marked = panel(size), panel(size, **turned)
    changed = (plain != marked).any(axis=2)
    for half in (slice(0, 170), slice(170, 340)):
        there = marked[:, half][changed[:, half]]
        assert (there == np.array(color, np.uint8)).all(axis=1).any()
    # Nothing else than the neuron's cell and the counts of the key changes.
    cell = np.argwhere(changed[:, :170])
    assert np.ptp(cell[cell[:, 0] < cell[0, 0] + 14], axis=0).max() < 90


def test_marks_of_differing_neurons_are_told_apart_without_color():
    for cell in range(5, 15):
        gray = [cv2.cvtColor(sprite, cv2.COLOR_RGB2GRAY).astype(int) for sprite in _sprites(cell)]
        for first in range(7):
            for second in range(first + 1, 7):
                if (first, second) in ((3, 5), (4, 6)):
                    continue  # same bit: which way it turned is seen in the other grid
                assert np.abs(gray[first] - gray[second]).max() > 20, (cell, first, second)


@pytest.mark.parametrize('width', [MIN_WIDTH, 640, 1300])
@pytest.mark.parametrize('shape', [(48, 64), (30, 90), (28, 28)])
def test_even_the_last_of_very_many_neurons_is_marked(width, shape):
    plain, marked = (
        draw_overlay(photograph(*shape), verdict(explanation=told), OK, width=width)
        for told in (explanation(2048), explanation(2048, on=(2047,)))
    )
    changed = marked[(plain != marked).any(axis=2)]
    assert (changed == np.array(colors.VERMILLION, np.uint8)).all(axis=1).any()


def test_neurons_that_do_not_count_are_shown_as_such():
    full = explanation(64)
    half = replace(full, monitored=np.arange(64) < 32)
    pictures = []
    for said in (full, half):
        pixels = np.zeros((160, 340, 3), np.uint8)
        draw_patterns(Canvas(pixels), said)
        pictures.append(pixels[34:140])
    assert (pictures[0] != pictures[1]).any()


def test_patterns_of_more_neurons_than_there_is_room_for_say_so():
    pixels = np.zeros((160, 340, 3), np.uint8)
    draw_patterns(Canvas(pixels), explanation(200_000))
    assert (pixels[-60:] > 120).any()


def test_bar_grows_with_surprise_and_is_vermillion_past_the_threshold():
    def bar(p_value: float) -> tuple[int, int]:
        pixels = np.zeros((200, 260, 3), np.uint8)
        draw_scores(Canvas(pixels), verdict(p_value=p_value))
        row = pixels[26]  # of the decisive score, which comes first
        return tuple(
            int((row == np.array(color, np.uint8)).all(axis=1).sum())
            for color in (colors.BLUE, colors.VERMILLION)
        )

    blue, none = bar(0.1)
    longer, still_none = bar(0.02)
    assert 0 < blue < longer and none == still_none == 0
    assert bar(0.01)[0] == 0 and bar(0.01)[1] > 0  # at the threshold is past it
    assert bar(0.0001)[1] > bar(0.001)[1] > bar(0.01)[1]


@pytest.mark.parametrize(
    ('p_value', 'text'),
    [(1.0, '1.00'), (0.1, '0.10'), (0.0996, '0.10'), (0.0034, '0.0034'), (0.0003, '0.0003'),
     (1e-5, '1e-5'), (1e-12, '1e-12'), (float('nan'), 'unknown')],
)  # fmt: skip
def test_p_values_are_written_short(p_value, text):
    assert p_text(p_value) == text


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    size=st.integers(0, 2048),
    name=st.text(max_size=60),
    numbers=st.tuples(*[STRANGE_FLOATS] * 5),
    count=st.integers(1, 20),
    alert=st.sampled_from([OK, SUSPECT, OOD, replace(STALE, detail='ä\n\0')]),
    width=st.integers(-5, 1400),
    bare=st.booleans(),
)
@example((1, 3000), 2048, 'x' * 500, (1e30, np.inf, 1e-30, 1e-30, 1.0), 1, OOD, 640, False)
@example((3000, 1), 2047, '信号', (-1e30, -np.inf, 0.0, 0.0, 0.0), 20, OK, 320, False)
def test_overlay_is_drawn_whatever_comes(shape, size, name, numbers, count, alert, width, bare):
    why = explanation(size)
    why = replace(why, values=np.full(size, numbers[0]), z=np.full(size, numbers[1]))
    scores = {f'score_{i}': ScoreValue(numbers[2], numbers[3]) for i in range(count)}
    said = Verdict(0, name, numbers[4], (), scores, 'score_0', numbers[2], why)
    for image in (photograph(*shape), photograph(*shape)[::-1, ::2], photograph(*shape)[:, :, 0]):
        picture = draw_overlay(image, None if bare else said, alert, width=width)
        assert picture.dtype == np.uint8 and picture.flags.c_contiguous
        assert picture.shape[1:] == (max(width, MIN_WIDTH), 3)
        assert picture.shape[0] < 2 * picture.shape[1]
        assert has(picture[:4], colors.OF_STATE[alert.state])


# The activations.


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
    assert color_of(2.05, 1.0, scale=(-2.0, 1.0)) == (255, 0, 255)
    assert color_of(2.0, 1.0) != (255, 0, 255)


def test_values_below_the_training_range_are_cyan():
    assert color_of(-0.1, 1.0) == (0, 255, 255)
    assert color_of(-2.05, 1.0, scale=(-2.0, 1.0)) == (0, 255, 255)


def test_signed_layers_have_a_symmetric_scale_around_near_white():
    table = colors.level_table('diverging')
    assert color_of(0.0, 1.0, scale=(-2.0, 1.0)) == tuple(table[colors.ZERO])
    assert table[colors.ZERO].min() > 235
    assert color_of(2.0, 1.0, scale=(-2.0, 1.0)) == tuple(table[colors.HIGHEST])
    assert color_of(-3.0, 1.0, scale=(-2.0, 3.0)) == tuple(table[colors.LOWEST])
    red, _, blue = color_of(1.5, 1.0, scale=(-2.0, 1.0))
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


# Text.


def test_text_is_cut_to_the_room_and_ends_in_dots():
    text = 'right_of_way_at_next_intersection'
    cut = shortened(text, 120, 10)
    assert cut.endswith('...') and text.startswith(cut[:-3])
    assert text_width(cut, 10) <= 120 < text_width(text, 10)
    assert shortened(text, 10**4, 10) == text


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80), room=st.integers(0, 300), height=st.integers(6, 20))
def test_text_is_cut_only_where_it_must_be(text, room, height):
    kept = shortened(text, room, height)
    assert text_width(kept, height) <= room or not kept
    assert kept == text or text_width(text, height) > room


def test_text_stays_within_its_room():
    picture = np.zeros((30, 300, 3), np.uint8)
    end = put_text(picture, 'W' * 80, 20, 20, 12, (255, 255, 255), bold=True, room=200)
    assert end <= 220
    assert not picture[:, 224:].any() and not picture[:, :16].any() and picture.any()


@pytest.mark.parametrize('place', [(-500, 10), (-4, 10), (295, 10), (10, -40), (10, 2), (10, 400)])
def test_text_outside_the_picture_is_cut_off(place):
    left, baseline = place
    whole = np.zeros((30 + 2 * 500, 300 + 2 * 500, 3), np.uint8)
    put_text(whole, 'outside', left + 500, baseline + 500, 12, (255, 255, 255))
    picture = np.zeros((30, 300, 3), np.uint8)
    put_text(picture, 'outside', left, baseline, 12, (255, 255, 255))
    np.testing.assert_array_equal(picture, whole[500:530, 500:800])
    assert whole.any() and picture.any() == (place in {(-4, 10), (295, 10), (10, 2)})


def test_text_is_wrapped_at_words_and_keeps_them_all():
    text = 'model.safetensors has another SHA-256 than bundle.yaml says; copy the bundle again'
    lines = wrapped(text, 200, 9, 20)
    assert ' '.join(lines) == text
    assert all(text_width(line, 9) <= 200 for line in lines)
    few = wrapped(text, 200, 9, 2)
    assert len(few) == 2 and few[-1].endswith('...')


def test_letters_that_the_font_lacks_are_replaced():
    def drawn(text: str) -> np.ndarray:
        picture = np.zeros((30, 300, 3), np.uint8)
        put_text(picture, text, 10, 20, 12, (255, 255, 255))
        return picture

    np.testing.assert_array_equal(drawn('Fußgänger'), drawn('Fussganger'))
    np.testing.assert_array_equal(drawn('停'), drawn('?'))


@pytest.mark.parametrize('size', [(480, 640), (20, 30), (1, 1), (0, -3)])
def test_placeholder_has_its_size_and_text_where_there_is_room(size):
    picture = placeholder(size, 'no image')
    assert picture.shape == (max(1, size[0]), max(1, size[1]), 3)
    assert (picture > 200).any() == (size == (480, 640))
