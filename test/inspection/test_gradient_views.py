"""Backprop and saliency: what their pixels say, and that there is always something to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from gradient_subjects import GREY, PANEL, VERMILLION, HalfBlind, gray_subject, subject
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.attribution import SIGNED, attribute, spatial_layers
from nav_monitor_ros.inspection.gradient_views import (
    backprop_picture,
    methods_of,
    saliency_picture,
)
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.gradients.panels import (
    SIDE,
    clipped_saliency,
    draw_panels,
    gradient_panels,
    saliency_panel,
)


def test_where_the_logit_does_not_depend_on_the_image_backprop_is_exactly_mid_grey():
    blind = HalfBlind()
    with torch.no_grad():
        blind.fc.weight.fill_(1)
    rng = np.random.default_rng(0)
    picture = backprop_picture(
        gray_subject(blind, 12), rng.integers(0, 256, (12, 12), np.uint8), target=0
    )
    panel = picture[PANEL]
    assert (panel[:, SIDE // 2 :] == GREY).all()
    assert (panel[:, : SIDE // 2] == VERMILLION).all()


@pytest.mark.parametrize('color', ['rgb', 'bgr'])
def test_backprop_of_a_linear_network_shows_its_weights_in_the_images_colours(color):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, 2, bias=False)).eval()
    weights = torch.zeros(2, 3, 2, 2)
    first = 0 if color == 'rgb' else 2  # the network's channel of red
    weights[0, first, 0, 0] = 1
    weights[0, 2 - first, 1, 1] = -1
    with torch.no_grad():
        network[1].weight.copy_(weights.flatten(1))
    preprocess = Preprocess(2, 2, color=color, mean=(0.5,) * 3, std=(0.5,) * 3)
    shown = subject(network, preprocess, ('a', 'b'))
    picture = backprop_picture(shown, np.full((2, 2, 3), 90, np.uint8), target=0)
    panel = picture[PANEL]
    near, far = SIDE // 4, 3 * SIDE // 4
    assert panel[near, near].tolist() == [255, 128, 128]  # more red raises the logit
    assert panel[far, far].tolist() == [128, 128, 1]  # more blue lowers it
    assert panel[near, far].tolist() == panel[far, near].tolist() == [*GREY]


def test_saliency_is_the_sum_of_magnitudes_over_channels_clipped_at_the_99th_percentile():
    values = np.zeros((3, 10, 20))
    values[0] = np.arange(200).reshape(10, 20)
    values[1] = -values[0]
    saliency, top = clipped_saliency(values)
    assert top == np.percentile(2 * np.arange(200), 99)
    assert np.allclose(saliency, np.minimum(2 * values[0] / top, 1))
    spike = np.zeros((1, 20, 20))
    spike[0, 3, 4] = -7
    assert clipped_saliency(spike)[1] == 7


def test_random_weights_change_both_pictures():
    image = tiny.images(5, 1)[0][0]
    torch.manual_seed(3)
    trained, random = subject(), subject(tiny.Bars().eval())
    for draw in (backprop_picture, saliency_picture):
        one, other = (draw(each, image, target=1)[PANEL].astype(int) for each in (trained, random))
        assert (np.abs(one - other).max(axis=2) > 24).mean() > 0.3


def test_asking_for_another_class_gives_another_picture_and_the_predicted_one_is_the_default():
    shown, image = subject(), tiny.images(5, 1)[0][0]
    predicted = int(shown.network.predict(shown.preprocess.apply(image)[None]).argmax())
    default, same, other = (
        backprop_picture(shown, image, target=target)
        for target in (None, predicted, (predicted + 1) % 3)
    )
    assert np.array_equal(default, same) and not np.array_equal(default, other)
    assert shown.class_index('middle') == shown.class_index('1') == 1
    with pytest.raises(NavMonitorError, match="no class 'top'; there are left, middle, right"):
        shown.class_index('top')


def test_methods_are_listed_checked_and_stand_side_by_side():
    assert methods_of('gradient, gradient') == ('gradient',)
    for wrong in ('lime', '', 'grad-cam'):
        with pytest.raises(NavMonitorError, match='--method'):
            methods_of(wrong, SIGNED)
    pytest.importorskip('captum')
    image = tiny.images(5, 1)[0][0]
    assert methods_of('all', SIGNED) == SIGNED
    many = saliency_picture(subject(), image, methods=methods_of('all'))
    assert many.shape[1] == 5 * (SIDE + 14) + 14
    rows = backprop_picture(subject(), image, methods=SIGNED)
    one = backprop_picture(subject(), image)
    assert rows.shape[1] == one.shape[1] and rows.shape[0] > 2.5 * one.shape[0]


@pytest.mark.parametrize('shape', [(1, 1), (1, 1, 3), (500, 3), (2, 700, 3), (37, 53, 3)])
@pytest.mark.parametrize('level', [0, 255])
def test_images_of_any_size_and_colour_have_a_picture(shape, level):
    image = np.full(shape, level, np.uint8)
    for draw in (backprop_picture, saliency_picture):
        picture = draw(subject(), image)
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 5


def test_grad_cam_takes_the_maps_before_a_network_pools_them():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2),
    ).eval()
    shown = gray_subject(network, 12)
    image = np.random.default_rng(0).normal(size=(1, 12, 12)).astype(np.float32)
    assert [layer.number for layer in spatial_layers(shown.network)] == [5, 4, 2, 1, 3, 6]
    found = attribute(shown.network, image, 0, 'grad-cam')
    assert found.facts == "6 x 6 positions of layer 5 '4' (ReLU)"


@pytest.mark.parametrize('side', [1, 2])
def test_networks_of_one_pixel_have_pictures(side):
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * side * side, 2)
    ).eval()
    shown = gray_subject(network, side)
    image = np.full((9, 9), 7, np.uint8)
    assert backprop_picture(shown, image).std() > 5
    assert saliency_picture(shown, image).std() > 5


def notes_of(values):
    return {panel.note for panel in (*gradient_panels(values, 'g', ''),
                                     saliency_panel(values, 's', ''))}


def test_gradients_that_are_no_numbers_are_hatched_and_said():
    values = np.random.default_rng(0).normal(size=(3, 8, 8))
    values[0, 2, 3], values[1, 5, 5] = np.nan, np.inf
    assert notes_of(values) == {'hatched: 2 of 192 values are NaN or infinite'}
    for panel in (*gradient_panels(values, 'g', ''), saliency_panel(values, 's', '')):
        assert panel.pixels[2, 3].tolist() in ([240, 242, 245], [0, 0, 0])
        assert panel.pixels[0, 0].tolist() not in ([240, 242, 245], [0, 0, 0])
    assert notes_of(np.full((1, 4, 4), np.nan)) == {
        'hatched: 16 of 16 values are NaN or infinite'
    }


class Rooted(HalfBlind):
    """Has no finite derivative where the image is black."""

    def forward(self, images):
        return super().forward((images + 1).clamp(min=0).sqrt())


def test_an_image_whose_gradient_is_infinite_is_not_blank():
    image = np.zeros((12, 12), np.uint8)
    image[:, 3:] = 200
    for draw in (backprop_picture, saliency_picture):
        panel = draw(gray_subject(Rooted(), 12), image)[PANEL]
        assert set(panel[:, : SIDE // 4].mean(axis=2).ravel()) <= {0, 242 + 1 / 3}
        assert panel[:, : SIDE // 4].std() > 50


def test_a_gradient_of_nothing_but_zeros_is_grey_and_said():
    assert notes_of(np.zeros((3, 4, 4))) == {'0 everywhere: the logit does not depend on it'}
    panel = gradient_panels(np.zeros((1, 4, 4)), 'g', '')[0]
    assert (panel.pixels == 128).all()
    with_note, without = (
        draw_panels([[replace(panel, note=note)]], 'title', '') for note in (panel.note, '')
    )
    assert not np.array_equal(with_note, without)
