"""Layers are named by their name or their 1-based number, as text or as a number, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.score_selection import empty_scores
from nav_monitor_ros.perception.network.layers import (
    Layer,
    find_layer,
    in_order_of_drawing,
    last_spatial,
    names_of,
    watched_inputs,
)
from nav_monitor_ros.perception.network.torch.classifier import Classifier

BATCH = np.random.default_rng(0).random((2, 3, tiny.SIDE, tiny.SIDE), dtype=np.float32)


@pytest.mark.parametrize('wanted', ['pool', '3', 3, -5, '-5'])
def test_a_layer_has_a_name_and_a_number(tiny_classifier, wanted):
    assert find_layer(tiny_classifier.layers, wanted).name == 'pool'


@pytest.mark.parametrize('wanted', [0, 8, -8, True, 3.0, None, float('nan'), ['pool']])
def test_what_is_neither_is_refused_with_the_layers_that_exist(tiny_classifier, wanted):
    with pytest.raises(NavMonitorError, match="it has 1 'conv', 2 'relu1'"):
        find_layer(tiny_classifier.layers, wanted)


def test_only_what_the_caller_accepts_is_listed_and_suggested(tiny_classifier):
    layers = tiny_classifier.layers
    with pytest.raises(NavMonitorError) as caught:
        find_layer(layers, 'penultimat')
    assert 'penultimate' not in str(caught.value)
    with pytest.raises(NavMonitorError, match='it has penultimate, 1 .*; did you mean penultimate'):
        find_layer(layers, 'penultimat', also=('penultimate',))
    with pytest.raises(NavMonitorError, match='it has penultimate, 1 .*; did you mean penultimate'):
        tiny.classifier(layer='penultimat')
    with pytest.raises(NavMonitorError) as caught:
        find_layer(layers, 'penultimate')
    assert str(caught.value).startswith(
        "'penultimate', the input of the last linear layer, cannot be chosen here; choose one of 1 "
        "'conv', 2 'relu1'"
    )
    assert 'no layer' not in str(caught.value) and 'did you mean' not in str(caught.value)


def test_an_empty_name_is_shown_as_it_is(tiny_classifier):
    with pytest.raises(NavMonitorError, match="no layer ''; it has 1 'conv'"):
        find_layer(tiny_classifier.layers, '')


@pytest.mark.parametrize('wanted', ['pool', '3', 3, ['pool'], (3,), [3, 'pool', '3']])
def test_one_layer_or_several_are_named_once_each(tiny_classifier, wanted):
    assert names_of(tiny_classifier.layers, wanted) == ('pool',)


@pytest.mark.parametrize('wanted', [float('nan'), 'nothing', ['conv', 9]])
def test_several_layers_of_which_one_does_not_exist_are_refused(tiny_classifier, wanted):
    with pytest.raises(NavMonitorError, match='the network has no layer'):
        names_of(tiny_classifier.layers, wanted)


@pytest.mark.parametrize('layer', ['fc1', 5, '5'])
def test_the_monitored_layer_may_be_a_number(layer):
    classifier = tiny.classifier(layer=layer)
    assert classifier.layer == 'fc1'


@pytest.mark.parametrize('layer', ['relu1', 2, '2'])
def test_watched_and_tapped_layers_may_be_numbers(layer):
    classifier = Classifier(tiny.network(), tiny.PREPROCESS, watch=[layer])
    classifier.tap([layer])
    found = classifier(BATCH)
    assert set(found.means) == set(found.maps) == {'relu1'}
    classifier.tap(layer)
    assert classifier.taps == ('relu1',)


@pytest.mark.parametrize('layers', [['relu1', 'pool'], [2, 3], ['2', '3'], (2, 'pool')])
def test_the_layers_of_a_score_may_be_numbers(tiny_classifier, layers):
    options = FitOptions(scores={'channel_means': {'layers': layers}})
    (score,) = empty_scores(tiny_classifier, options).values()
    assert score.options.layers == ('relu1', 'pool')


# Titles.


def test_a_title_has_the_number_the_name_and_the_class():
    assert Layer(5, '4', 'Conv2d', (8, 6, 6)).title == "layer 5 '4' (Conv2d)"
    tokens = Layer(9, 'encoder.ln', 'LayerNorm', (17, 8), grid=(4, 4))
    assert tokens.title == "layer 9 'encoder.ln' (LayerNorm)"
    assert tokens.label == "layer 9 'encoder.ln' (LayerNorm) without token 0"
    assert Layer(0, 'penultimate', 'monitored features', (24,)).title == (
        'penultimate (monitored features)')


# The layer that is drawn if none is named.


def layers_of(*described):
    """Return layers from pairs of kind and side of the maps; 0 for a layer without positions."""
    return [
        Layer(number, str(number - 1), kind, (8, side, side) if side else (8,))
        for number, (kind, side) in enumerate(described, start=1)
    ]


@pytest.mark.parametrize(('described', 'number'), [
    # The last one with at least 4 x 4 positions.
    ([('Conv2d', 16), ('ReLU', 16), ('Conv2d', 8), ('Flatten', 0), ('Linear', 0)], 3),
    ([('Conv2d', 8), ('Conv2d', 4), ('Conv2d', 3), ('Linear', 0)], 2),
    # No output of pooling that has fewer positions than the layer before.
    ([('Conv2d', 16), ('ReLU', 16), ('AdaptiveAvgPool2d', 2), ('Flatten', 0)], 2),
    ([('Conv2d', 16), ('MaxPool2d', 8), ('Conv2d', 8), ('ReLU', 8), ('MaxPool2d', 4)], 4),
    ([('Conv', 16), ('Relu', 16), ('MaxPool', 8), ('Flatten', 0)], 2),
    # The same values further on are still those of pooling.
    ([('ReLU', 16), ('MaxPool2d', 8), ('Dropout2d', 8), ('AdaptiveAvgPool2d', 8)], 1),
    # Pooling that keeps all positions is a layer like others.
    ([('Conv2d', 7), ('AdaptiveAvgPool2d', 7), ('Flatten', 0)], 2),
    ([('MaxPool2d', 8), ('Flatten', 0)], 1),
    # What exists, if nothing is that large.
    ([('Conv2d', 3), ('AvgPool2d', 2), ('Flatten', 0)], 1),
    ([('Conv2d', 3), ('Conv2d', 2), ('Flatten', 0)], 2),
    ([('Flatten', 0), ('Linear', 0)], 2),
])
def test_the_layer_drawn_by_default_is_late_and_has_positions(described, number):
    assert last_spatial(layers_of(*described)).number == number


def test_a_container_that_ends_with_pooling_has_the_values_of_pooling():
    layers = [
        Layer(1, 'features.0', 'Conv2d', (8, 16, 16)),
        Layer(2, 'features.1', 'MaxPool2d', (8, 8, 8)),
        Layer(3, 'features', 'Sequential', (8, 8, 8)),
    ]
    assert last_spatial(layers).name == 'features.0'


def test_all_layers_with_positions_are_in_the_order_of_drawing():
    layers = layers_of(
        ('Conv2d', 16), ('MaxPool2d', 8), ('Conv2d', 8), ('Conv2d', 3), ('AvgPool2d', 2),
        ('Flatten', 0), ('Linear', 0),
    )
    assert [layer.number for layer in in_order_of_drawing(layers)] == [3, 1, 2, 4, 5]


# The values that represent the stages of a network.


def values(*shapes, last=False):
    return [
        Layer(number, f'{number}:input', 'Conv2d', shape, channels_last=last)
        for number, shape in enumerate(shapes)
    ]


def test_the_last_value_of_each_resolution_represents_it():
    inputs = values((8, 32, 32), (9, 30, 30), (16, 16, 16), (20, 7, 9), (22, 8, 8), (7, 1, 1), (7,))
    assert watched_inputs(inputs) == ('1:input', '2:input', '4:input')


def test_a_value_of_few_channels_is_preferred():
    inputs = values((256, 14, 14), (1024, 14, 14), (2048, 7, 7), (1024, 7, 7), (4096, 7, 7))
    assert watched_inputs(inputs) == ('0:input', '3:input')


def test_maps_may_have_their_channels_last():
    assert watched_inputs(values((32, 32, 8), (16, 16, 9), last=True)) == ('0:input', '1:input')


def test_tokens_are_watched_at_several_depths():
    inputs = values(*[(197, 64)] * 13, (64,), last=True)
    assert watched_inputs(inputs) == ('3:input', '6:input', '9:input')
    assert watched_inputs(values((5, 8), (5, 8), last=True)) == ('0:input', '1:input')


def test_without_positions_the_vector_before_the_last_is_watched():
    assert watched_inputs(values((10,), (8,))) == ('0:input',)
    assert watched_inputs(values((8,))) == ('0:input',)
    assert watched_inputs([]) == ()
