"""The overlay: banner, image, pattern and p-values, as pixels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from view_samples import (
    BANNER,
    OK,
    OOD,
    STALE,
    STRANGE_FLOATS,
    SUSPECT,
    explanation,
    has,
    photograph,
    verdict,
)

from nav_monitor_ros.decision.alert.reason import Reason, State
from nav_monitor_ros.decision.verdict import ScoreValue, Verdict
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.views import colors
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.explanation import (
    _sprites,
    draw_evidence_kind,
    draw_patterns,
    draw_scores,
    p_text,
)
from nav_monitor_ros.views.overlay import MAX_WIDTH, MIN_WIDTH, draw_overlay


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


def kind_panel(width: int = 250, **changes) -> np.ndarray:
    pixels = np.zeros((80, width, 3), np.uint8)
    below = draw_evidence_kind(Canvas(pixels), kind_verdict(**changes))
    assert below == 56
    assert not pixels[56:].any()  # the scores follow
    return pixels


def kind_verdict(p_value=0.001, pattern=0.02, energy=0.0005) -> Verdict:
    scores = {
        'pattern': ScoreValue(3.0, pattern), 'energy': ScoreValue(1.0, energy),
        'fused': ScoreValue(9.0, p_value),
    }
    kinds = {'pattern': EvidenceKind.FEATURES, 'energy': EvidenceKind.LOGITS}
    return verdict(scores=scores, p_value=p_value, members=('pattern', 'energy'),
                   member_kinds=kinds)


def test_a_flagged_frame_shows_the_kind_of_its_strongest_evidence_and_others_at_the_threshold():
    logits = kind_panel()
    assert (logits != kind_panel(pattern=0.0001)).any()  # features
    assert (logits != kind_panel(pattern=0.009)).any()  # logits; also features
    np.testing.assert_array_equal(logits, kind_panel(pattern=0.3))
    usual = kind_panel(p_value=0.5)
    assert (usual != logits).any()
    np.testing.assert_array_equal(usual, kind_panel(p_value=0.4, pattern=0.0001))


@pytest.mark.parametrize('kind', EvidenceKind)
def test_the_kind_of_evidence_fits_the_narrowest_overlay(kind):
    left_column = int(0.54 * MIN_WIDTH) + 2.5 * 12
    room = MIN_WIDTH - left_column - 12
    also = ', '.join(other.label for other in EvidenceKind if other is not kind)
    canvas = Canvas(np.zeros((20, 20, 3), np.uint8))
    for line in (f'({kind.meaning})', f'also in {also}'):
        assert canvas.text_width(line, 8) <= room
    heading = canvas.text_width('Unusual in  ', 9) + canvas.text_width(kind.label, 9, bold=True)
    assert heading <= room


def test_all_default_scores_and_neurons_are_listed_beside_a_wide_image():
    names = ('fused', 'pattern', 'relative_mahalanobis', 'channel_means', 'vim', 'energy')
    scores = {name: ScoreValue(1.0, 0.5) for name in names}
    pictures = [
        draw_overlay(
            photograph(30, 120), verdict(scores={**scores, 'energy': ScoreValue(1.0, energy)}), OK
        ) for energy in (0.5, 0.01)
    ]
    assert (pictures[0] != pictures[1]).any()  # the last score is there
    z = np.zeros(128)
    z[:8] = np.arange(9, 1, -1)
    last = z.copy()
    last[7] = 1.5
    pictures = [
        draw_overlay(
            photograph(30, 120),
            verdict(scores=scores, explanation=replace(explanation(128), z=deviations)), OK,
        ) for deviations in (z, last)
    ]
    assert (pictures[0] != pictures[1]).any()  # the eighth neuron is there


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
    kind=st.sampled_from(EvidenceKind),
)
@example((1, 3000), 2048, 'x' * 500, (1e30, np.inf, 1e-30, 1e-30, 1.0), 1, OOD, 640, False,
         EvidenceKind.LOGITS)
@example((3000, 1), 2047, '信号', (-1e30, -np.inf, 0.0, 0.0, 0.0), 20, OK, 320, False,
         EvidenceKind.EARLY_LAYERS)
def test_overlay_is_drawn_whatever_comes(
    shape, size, name, numbers, count, alert, width, bare, kind
):
    why = explanation(size)
    why = replace(why, values=np.full(size, numbers[0]), z=np.full(size, numbers[1]))
    scores = {f'score_{i}': ScoreValue(numbers[2], numbers[3]) for i in range(count)}
    said = Verdict(
        0, name, numbers[4], (), scores, 'score_0', numbers[2], explanation=why,
        member_kinds={'score_0': kind},
    )
    for image in (photograph(*shape), photograph(*shape)[::-1, ::2], photograph(*shape)[:, :, 0]):
        picture = draw_overlay(image, None if bare else said, alert, width=width)
        assert picture.dtype == np.uint8 and picture.flags.c_contiguous
        assert picture.shape[1:] == (max(width, MIN_WIDTH), 3)
        assert picture.shape[0] < 2 * picture.shape[1]
        assert has(picture[:4], colors.OF_STATE[alert.state])
