"""Text in pictures is cut to its room and wrapped at words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.views.text import placeholder, put_text, shortened, text_width, wrapped


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
