"""The options of the scores: declared once, with type and range, and checked for every score."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Head
from nav_monitor_ros.scores.registry import SCORES, make_score

CLASSES, WIDTH = 3, 16
HEAD = Head(np.ones((CLASSES, WIDTH), np.float32), np.zeros(CLASSES, np.float32))
DECLARED = [
    (name, field.name, get_type_hints(score.options_type)[field.name], field.metadata['bounds'])
    for name, score in SCORES.items() for field in fields(score.options_type)
]
COUNTS = [(name, key, bounds) for name, key, kind, bounds in DECLARED if kind is int]
REALS = [(name, key, bounds) for name, key, kind, bounds in DECLARED if kind is float]
CHOICES = [(name, key, bounds) for name, key, kind, bounds in DECLARED if kind is str]


def made(name, **options):
    return make_score(name, options, classes=CLASSES, width=WIDTH, head=HEAD)


def refused(name, key, value):
    with pytest.raises(NavMonitorError) as caught:
        made(name, **{key: value})
    said = str(caught.value)
    assert said.startswith(f'{name}: option {key} ') and '\n' not in said and len(said) < 250
    return said


def test_every_option_has_one_of_the_four_types():
    assert {kind for _, _, kind, _ in DECLARED} == {int, float, str, tuple[str, ...]}


@pytest.mark.parametrize('name', SCORES)
def test_the_defaults_are_options_that_may_be_given(name):
    settings = made(name).settings
    assert made(name, **settings).settings == settings


@pytest.mark.parametrize(('name', 'key', 'bounds'), COUNTS)
@pytest.mark.parametrize(
    'value', [2.9, 2.0, '3', True, None, [3], float('nan'), float('inf'), 10**30, -(10**30)]
)
def test_a_whole_number_is_nothing_else(name, key, bounds, value):
    assert f'it must be a whole number, {bounds}' in refused(name, key, value)


@pytest.mark.parametrize(('name', 'key', 'bounds'), REALS)
@pytest.mark.parametrize(
    'value', ['0.1', True, None, [0.1], float('nan'), float('inf'), -float('inf'), 10**400]
)
def test_a_number_is_finite_and_no_text(name, key, bounds, value):
    assert f'it must be a finite number, {bounds}' in refused(name, key, value)


@pytest.mark.parametrize(('name', 'key', 'bounds'), REALS)
def test_a_number_is_kept_as_a_float_whatever_its_type(name, key, bounds):
    # 1 lies outside where the range ends below it.
    value = 0 if bounds.below == 1 and bounds.low == 0 else 1
    if bounds.hold(value):
        kept = made(name, **{key: value}).settings[key]
        assert kept == value and type(kept) is float
    kept = made(name, **{key: np.float32(0.5)}).settings[key]
    assert kept == 0.5 and type(kept) is float


@pytest.mark.parametrize(('name', 'key', 'bounds'), COUNTS)
def test_a_whole_number_of_numpy_is_kept_as_an_int(name, key, bounds):
    kept = made(name, **{key: np.int64(12)}).settings[key]
    assert kept == 12 and type(kept) is int


@pytest.mark.parametrize(('name', 'key', 'bounds'), COUNTS + REALS)
def test_ranges_end_where_they_say(name, key, bounds):
    step = 1 if (name, key, bounds) in COUNTS else 1e-6
    for edge, outward in ((bounds.low, -step), (bounds.high, step)):
        if edge is not None:
            assert bounds.hold(edge)
            assert str(bounds) in refused(name, key, edge + outward)
    for edge in (bounds.above, bounds.below):
        if edge is not None:
            assert str(bounds) in refused(name, key, edge)


@pytest.mark.parametrize(('name', 'key', 'bounds'), CHOICES)
def test_a_text_is_one_of_its_choices(name, key, bounds):
    for choice in bounds.choices:
        assert made(name, **{key: choice}).settings[key] == choice
    for value in ('something', '', bounds.choices[0].upper(), None, 1, [bounds.choices[0]]):
        assert f'one of {", ".join(bounds.choices)}' in refused(name, key, value)


def test_names_are_a_list_and_a_single_text_is_not_taken_apart():
    for layers in (['conv1', 'conv2'], ('conv1',), []):
        assert made('channel_means', layers=layers).channel_mean_layers == tuple(layers)
    assert 'such as [conv1]' in refused('channel_means', 'layers', 'conv1')
    for value in (1, None, [1], [''], ['a', None], b'ab', {'a': 1}):
        assert 'must be a list of names' in refused('channel_means', 'layers', value)
    assert "names 'a' twice" in refused('channel_means', 'layers', ['a', 'b', 'a'])


@pytest.mark.parametrize('name', SCORES)
def test_an_unknown_option_is_refused_by_name(name):
    for key in ('kk', 'classes', 'head', 'name', 'self', 1):
        with pytest.raises(NavMonitorError, match=f"score '{name}' has no option '{key}'"):
            make_score(name, {key: 1}, classes=CLASSES, width=WIDTH, head=HEAD)


def test_a_misspelt_option_is_told_the_nearest_one():
    with pytest.raises(NavMonitorError, match=r"no option 'neighbors'; did you mean neighbours\?"):
        made('knn', neighbors=5)
    with pytest.raises(NavMonitorError, match="no option 'x'; its options are gamma, top"):
        made('gen', x=5)
    with pytest.raises(NavMonitorError, match="no option 'temperature'; it has none"):
        made('msp', temperature=2)


def test_options_that_depend_on_each_other_are_checked_together():
    assert made('window_kl', window=500, max_age=500).history == 500
    with pytest.raises(NavMonitorError, match='max_age is 300; it must be at least window'):
        made('window_kl', window=500)
    with pytest.raises(NavMonitorError, match='subspace is 16; it must be below the 16'):
        made('vim', subspace=WIDTH)
