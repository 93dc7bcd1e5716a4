"""Weight gradients: ablation of filters, examples, and their page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from gradient_subjects import subject
from torch import nn

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.filter_ablation import (
    LEAST_FIRST,
    MOST_FIRST,
    ORDERS,
    RANDOM,
    ablate,
)
from nav_monitor_ros.inspection.gradient_views import (
    comparison_lines,
    comparison_page,
    comparison_picture,
)
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.inspection.weight_gradients import compare_filters
from nav_monitor_ros.views.gradients.filter_comparison import Example, Filters, draw_comparison
from nav_monitor_ros.views.gradients.weight_volume import (
    WeightVolume,
)


def test_zeroing_important_filters_first_costs_the_most_accuracy():
    # Each filter says how bright a third of the image is; three say it, three faintly deny it.
    network = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten(), nn.Linear(18, 3)
    ).eval()
    with torch.no_grad():
        network[0].weight.fill_(1 / 3)
        says = torch.tensor([-0.05, 1.0, -0.05, 1.0, -0.05, 1.0])
        network[3].weight.copy_(torch.einsum('f,co->cfo', says, torch.eye(3)).flatten(1))
    source = tiny.source(7, 200)
    images = np.stack([tiny.PREPROCESS.apply(source.image(i)) for i in range(len(source))])
    differentiable = Differentiable(network, images.shape[1:])
    made = ablate(differentiable, images, source.own_labels, '0')
    assert set(made.ranking[:3]) == {1, 3, 5} and made.images == (100, 100)
    assert made.zeroed.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert [*made.accuracy] == [*ORDERS]
    most, least = made.accuracy[MOST_FIRST], made.accuracy[LEAST_FIRST]
    assert (least[:-1] == 1).all() and least[-1] == most[-1]
    assert (most[:3] == 1).all() and (most[3:6] < 0.5).all()
    assert most.mean() < made.accuracy[RANDOM].mean() <= least.mean()
    again = ablate(differentiable, images, source.own_labels, '0')
    assert np.array_equal(made.accuracy[RANDOM], again.accuracy[RANDOM])


@pytest.fixture(scope='module')
def compared():
    pixels, labels = tiny.images(11, 60)
    labels = labels.copy()
    labels[labels == 2] = 1  # so that one class is missed
    return subject(), compare_filters(
        subject().network, tiny.PREPROCESS, from_arrays('bars', pixels, labels), tiny.CLASSES,
        measured=40,
    )


def test_a_comparison_has_a_correct_and_a_missed_image_for_every_class_that_has_one(compared):
    _, made = compared
    correct, missed = made.rows
    assert made.layer.name == 'conv'
    assert [example.heading for example in correct] == ['reference: middle', 'similar: left']
    assert all(example.volume.values.shape == (5, 3, 9) for example in correct)
    assert missed[0].volume is not None and 'right' in missed[0].says
    assert missed[1].volume is None
    assert missed[1].says == 'no image of this class is missed in this source'
    assert 'cosine to the first' in missed[0].figures
    assert 'cosine' not in correct[0].figures


def test_a_comparison_is_drawn_on_one_scale_and_its_page_needs_nobody(compared):
    shown, made = compared
    picture = comparison_picture(shown, made)
    assert picture.std() > 10
    page = comparison_page(shown, made)
    assert '<h1>tiny: weight gradients of layer 1 &#39;conv&#39; (Conv2d)' in page
    assert page.count('data-slot=') == 3  # the examples that have an image
    assert 'kernel row 2, column 2 (5 of 9)' in page
    assert '://' not in page and 'reference: middle' in page


def test_a_comparison_warns_if_guessing_is_more_accurate(compared):
    shown, made = compared
    assert not any('guessing' in line for line in comparison_lines(shown, made))
    pixels, labels = tiny.images(11, 30)
    turned = compare_filters(
        shown.network, tiny.PREPROCESS, from_arrays('bars', pixels, (labels + 1) % 3),
        tiny.CLASSES, measured=0,
    )
    warning = 'warning: 0.0% of the labelled images are classified correctly, and guessing gives'
    assert comparison_lines(shown, turned)[-1].startswith(warning)
    assert warning in comparison_page(shown, turned)


def test_without_labels_the_predictions_count_as_right():
    pixels, _ = tiny.images(11, 30)
    made = compare_filters(
        subject().network, tiny.PREPROCESS, from_arrays('bars', pixels), tiny.CLASSES, measured=0
    )
    assert not made.answers.labelled and made.ablation is None
    assert made.answers.accuracy is None
    assert all(example.volume is None for example in made.rows[1])
    assert comparison_picture(subject(), made).std() > 5
    wrong = from_arrays('bars', pixels, np.full(len(pixels), 3))
    with pytest.raises(NavMonitorError, match=r"'bars' has labels from 3 to 3.* 3 classes"):
        compare_filters(subject().network, tiny.PREPROCESS, wrong, tiny.CLASSES)


def test_images_that_a_network_takes_turned_are_turned_everywhere():
    upright = from_arrays('bars', *tiny.images(11, 60))
    stored = replace(
        upright, read=lambda place: np.ascontiguousarray(upright.read(place)[:, ::-1]),
        read_turned=upright.read,
    )
    preprocess = replace(tiny.PREPROCESS, exif='apply')
    made, expected = (
        compare_filters(subject().network, preprocess, source, tiny.CLASSES, measured=40)
        for source in (stored, upright)
    )
    for found, wanted in zip(made.rows[0], expected.rows[0], strict=True):
        assert np.array_equal(found.seen, wanted.seen) and found.says == wanted.says
        assert np.array_equal(found.weights, wanted.weights)
    assert np.array_equal(made.ablation.importance, expected.ablation.importance)
    for order, accuracy in expected.ablation.accuracy.items():
        assert np.array_equal(made.ablation.accuracy[order], accuracy)


def test_a_comparison_without_any_gradient_still_says_why():
    missing = Example('reference: a', 'asked for', 'no image of this class is missed')
    picture = draw_comparison([[missing], [missing]], None, 'title', 'subtitle')
    assert picture.std() > 5
    dead = replace(missing, volume=WeightVolume.of(np.zeros((2, 2, 3, 3))))
    filters = Filters(
        np.array([0.0, np.inf]), np.arange(3), [('most important first', np.ones(3))] * 3, 'few'
    )
    assert draw_comparison([[dead, missing, dead]], filters, 'title', '').std() > 5
