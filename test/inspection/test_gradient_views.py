"""Pictures of gradients: what their pixels say, and that there is always something to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.attribution import SIGNED
from nav_monitor_ros.inspection.confusion import Answers, choose_classes
from nav_monitor_ros.inspection.evolution_views import (
    evolution_page,
    evolution_pictures,
    untrained,
    watch,
)
from nav_monitor_ros.inspection.filter_ablation import (
    LEAST_FIRST,
    MOST_FIRST,
    ORDERS,
    RANDOM,
    ablate,
)
from nav_monitor_ros.inspection.gradient_views import (
    Subject,
    backprop_picture,
    comparison_page,
    comparison_picture,
    methods_of,
    saliency_picture,
)
from nav_monitor_ros.inspection.gradients import Differentiable
from nav_monitor_ros.inspection.inspected_network import Viewed
from nav_monitor_ros.inspection.training_steps import TrainingOptions, watch_training
from nav_monitor_ros.inspection.weight_gradients import compare_filters
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.canvas import Canvas
from nav_monitor_ros.views.gradients.filter_comparison import Example, Filters, draw_comparison
from nav_monitor_ros.views.gradients.line_charts import Line, draw_bars, draw_lines
from nav_monitor_ros.views.gradients.panels import (
    SIDE,
    clipped_saliency,
    draw_panels,
    gradient_panels,
    saliency_panel,
)
from nav_monitor_ros.views.gradients.signed_colors import (
    channel_colors,
    reach_of,
    signed_colors,
    signed_table,
)
from nav_monitor_ros.views.gradients.training_frames import Moment, draw_moments
from nav_monitor_ros.views.gradients.weight_volume import (
    WeightVolume,
    draw_slice,
    draw_volume,
    joined,
)

GREY = (128, 128, 128)
BLUE, VERMILLION = (0, 114, 178), (213, 94, 0)
PANEL = slice(76, 76 + SIDE), slice(14 + SIDE + 14, 14 + SIDE + 14 + SIDE)  # the second one


def subject(network=None, preprocess=tiny.PREPROCESS, names=tiny.CLASSES):
    """Return a network as the commands look into it."""
    made = tiny.network() if network is None else network
    viewed = Viewed('tiny', Classifier(made, preprocess), tuple(names), None)
    return Subject.of(viewed, lambda: made)


def gray_subject(network, side):
    preprocess = Preprocess(side, side, color='gray', mean=(0.5,), std=(0.5,))
    return subject(network, preprocess, ('a', 'b'))


class HalfBlind(nn.Module):
    """Looks at the left half of a gray image only."""

    def __init__(self, side=12):
        super().__init__()
        self.side = side
        self.fc = nn.Linear(side * side // 2, 2, bias=False)

    def forward(self, images):
        return self.fc(images[:, :, :, : self.side // 2].flatten(1))


# ------------------------------------------------------------------ colours


def test_zero_is_exactly_mid_grey_and_the_ends_are_the_palettes_own_blue_and_vermillion():
    values = np.array([-2.0, -1.0, 0.0, 1e-9, 1.0, 2.0])
    assert signed_colors(values, 1.0).tolist() == [
        [*BLUE], [*BLUE], [*GREY], [*GREY], [*VERMILLION], [*VERMILLION]
    ]
    assert signed_table().shape == (255, 3)
    assert channel_colors(np.zeros((2, 2, 3)), 1.0).tolist() == np.full((2, 2, 3), 128).tolist()
    assert channel_colors(np.array([[[5.0, 0.0, -5.0]]]), 1.0).tolist() == [[[255, 128, 1]]]


def test_opposite_values_lie_equally_far_from_grey():
    values = np.linspace(0.01, 1, 50)
    up, down = (np.abs(signed_colors(v, 1.0) - 128.0) for v in (values, -values))
    share_up = up.max(axis=1) / up.max()
    share_down = down.max(axis=1) / down.max()
    assert np.allclose(share_up, share_down, atol=0.01)


def test_the_reach_is_a_percentile_of_what_is_finite():
    values = np.arange(-100.0, 101.0)
    assert reach_of(values, percentile=100) == 100
    assert reach_of(values, np.array([np.nan, np.inf]), percentile=50) == 50
    assert reach_of(np.zeros(5)) == 0 and reach_of() == 0 and reach_of(np.array([np.nan])) == 0
    sparse = np.zeros(1000)
    sparse[0] = 3
    assert reach_of(sparse) == 3  # the percentile is 0, but not everything is


# ------------------------------------------------------------------ backprop and saliency


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


# ------------------------------------------------------------------ classes


def answers(rows, classes=4):
    """Return answers of which each row is (label, predicted class, probability of class 3)."""
    logits = np.full((len(rows), classes), -9.0)
    for row, (_, predicted, last) in zip(logits, rows, strict=True):
        row[3] = np.log(last)
        row[predicted] = 0
    return Answers(np.array([label for label, *_ in rows]), logits)


def test_classes_are_chosen_from_the_confusion_matrix():
    rows = [(0, 0, 1e-6)] * 6 + [(0, 1, 1e-6)] * 3 + [(0, 2, 1e-6)] + [(1, 1, 1e-6)] * 9
    rows += [(1, 0, 1e-6)] + [(2, 2, 1e-6)] * 5 + [(3, 3, 1)] * 5
    asked = answers(rows)
    assert asked.counts().tolist() == [[6, 3, 1, 0], [1, 9, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]]
    reference, similar, dissimilar = choose_classes(asked, tuple('abcd'))
    assert (reference.index, similar.index, dissimilar.index) == (0, 1, 3)
    assert reference.reason == 'missed most often, 4 of 10 times'
    assert 'taken for the reference or the other way round, 4 times' in similar.reason
    assert [chosen.index for chosen in choose_classes(asked, tuple('abcd'), 1)][:2] == [1, 0]


def test_classes_never_confused_are_compared_by_their_probabilities():
    rows = [(0, 0, 1e-3)] * 4 + [(1, 1, 1e-6)] * 4 + [(2, 2, 1e-6)] * 4 + [(3, 3, 1)] * 4
    chosen = choose_classes(answers(rows), tuple('abcd'), 0)
    assert chosen[1].index == 3  # the only one that class 0 gives a probability to speak of
    assert 'probability' in chosen[1].reason and 'smallest' in chosen[2].reason


def test_sources_of_few_classes_leave_classes_out():
    rows = [(0, 0, 1e-6)] * 3
    assert [c.role for c in choose_classes(answers(rows), tuple('abcd'))] == ['reference']
    rows += [(2, 2, 1e-6)] * 3
    assert [c.role for c in choose_classes(answers(rows), tuple('abcd'))] == [
        'reference', 'similar'
    ]
    with pytest.raises(NavMonitorError, match="no image of class 'd'"):
        choose_classes(answers(rows), tuple('abcd'), 3)


def test_examples_are_the_most_certain_images():
    asked = answers([(0, 0, 0.4), (0, 0, 1e-6), (0, 1, 0.2), (0, 2, 1e-6), (1, 1, 1e-6)])
    assert asked.example(0, correct=True) == 1
    assert asked.example(0, correct=False) == 3
    assert asked.example(1, correct=False) is None


# ------------------------------------------------------------------ filters


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
    assert made.layer == 'conv'
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
    assert page.count('data-slot=') == 3  # the examples that have an image
    assert 'kernel row 2, column 2 (5 of 9)' in page
    assert '://' not in page and 'reference: middle' in page


def test_without_labels_the_predictions_count_as_right():
    pixels, _ = tiny.images(11, 30)
    made = compare_filters(
        subject().network, tiny.PREPROCESS, from_arrays('bars', pixels), tiny.CLASSES, measured=0
    )
    assert not made.answers.labelled and made.ablation is None
    assert all(example.volume is None for example in made.rows[1])
    assert comparison_picture(subject(), made).std() > 5
    wrong = from_arrays('bars', pixels, np.full(len(pixels), 3))
    with pytest.raises(NavMonitorError, match=r"'bars' has labels from 3 to 3.* 3 classes"):
        compare_filters(subject().network, tiny.PREPROCESS, wrong, tiny.CLASSES)


# ------------------------------------------------------------------ volumes


def test_a_volume_has_a_place_for_every_weight():
    weights = np.arange(4 * 3 * 2 * 5, dtype=float).reshape(4, 3, 2, 5)
    volume = WeightVolume.of(weights)
    assert volume.values.shape == (4, 3, 10)
    assert np.array_equal(volume.slice(7), weights[:, :, 1, 2].T)
    assert volume.place(7) == 'row 2, column 3'
    assert WeightVolume.of(np.zeros((2, 2, 3))).place(1) == 'column 2'
    drawn = draw_slice(WeightVolume.of(weights - 60), 7, 60.0)
    assert drawn.shape == (3, 4, 3)
    assert drawn[-1, 0].tolist() == signed_colors(np.array(weights[0, 0, 1, 2] - 60), 60).tolist()


def test_long_axes_are_joined_by_their_strongest_weight():
    values = np.zeros((130, 2, 1))
    values[129, 1, 0], values[0, 0, 0], values[1, 0, 0] = -5, 1, -2
    shorter, blocks = joined(values)
    assert blocks == (3, 1, 1) and shorter.shape == (44, 2, 1)
    assert shorter[43, 1, 0] == -5 and shorter[0, 0, 0] == -2
    values[0, 0, 0] = np.nan
    assert np.isnan(joined(values)[0][0, 0, 0])


@pytest.mark.parametrize('shape', [
    (1, 1, 1, 1), (64, 1, 3, 3), (1, 64, 3, 3), (8, 8, 11, 11), (2048, 512, 1, 1), (4, 4, 3),
    (3, 3, 3, 3, 3),
])
@pytest.mark.parametrize('fill', ['noise', 'zero', 'nan', 'inf'])
def test_volumes_of_any_shape_are_drawn_or_said_to_be_empty(shape, fill):
    weights = np.random.default_rng(0).normal(size=shape)
    if fill != 'noise':
        weights[:] = {'zero': 0, 'nan': np.nan, 'inf': np.inf}[fill]
    volume = WeightVolume.of(weights)
    reach = reach_of(weights)
    picture = draw_volume(volume, reach, (240, 320), least=reach_of(weights, percentile=85))
    assert picture.shape == (240, 320, 3)
    colored = np.abs(picture.astype(int) - np.roll(picture, 1, axis=2)).max(axis=2) > 24
    assert colored.any()  # cubes, or the note
    assert draw_slice(volume, 0, reach).shape[2] == 3


def test_a_comparison_without_any_gradient_still_says_why():
    missing = Example('reference: a', 'asked for', 'no image of this class is missed')
    picture = draw_comparison([[missing], [missing]], None, 'title', 'subtitle')
    assert picture.std() > 5
    dead = replace(missing, volume=WeightVolume.of(np.zeros((2, 2, 3, 3))))
    filters = Filters(
        np.array([0.0, np.inf]), np.arange(3), [('most important first', np.ones(3))] * 3, 'few'
    )
    assert draw_comparison([[dead, missing, dead]], filters, 'title', '').std() > 5


# ------------------------------------------------------------------ charts


def test_a_chart_draws_lines_through_their_values():
    pixels = np.zeros((200, 300, 3), np.uint8)
    x = np.arange(11.0)
    line = Line('rise', x, x * 10, (230, 159, 0))
    draw_lines(Canvas(pixels), [line], title='t', x_label='x', y_label='y', mark=5.0)
    orange = np.abs(pixels.astype(int) - line.color).max(axis=2) < 40
    # Not where the dot of the mark is.
    columns = np.flatnonzero(orange.sum(axis=0) * (orange.sum(axis=0) < 6))
    assert len(columns) > 150
    heights = [200 - np.flatnonzero(orange[:, column]).mean() for column in columns]
    assert np.corrcoef(columns, heights)[0, 1] > 0.99


@pytest.mark.parametrize('y', [
    np.full(4, 3.0), np.full(4, np.nan), np.array([1, np.nan, np.inf, 2.0]), np.zeros(4),
    np.array([1e30, -1e30, 0, 1]), np.array([1e-30, 2e-30, 3e-30, 0]),
])
def test_charts_of_odd_values_are_drawn(y):
    pixels = np.zeros((160, 240, 3), np.uint8)
    for mark in (None, 2.0):
        lines = [Line(style, np.arange(4.0), y, (255, 0, 0), style)
                 for style in ('solid', 'dashed', 'dotted')]
        draw_lines(Canvas(pixels), lines, title='t', x_label='x', y_label='y', mark=mark)
    assert pixels.any()


def test_bars_are_as_tall_as_their_values_and_those_without_one_stand_out():
    pixels = np.zeros((200, 300, 3), np.uint8)
    draw_bars(Canvas(pixels), np.array([np.inf, 4.0, 2.0, 0.0]), list('abcd'), title='t',
              x_label='x')
    tall = [
        (np.abs(pixels.astype(int) - color).max(axis=2) < 40).sum(axis=0)
        for color in ((213, 94, 0), (230, 159, 0))
    ]
    heights = sorted(set(tall[0]))
    assert heights[0] == 0 and heights[-1] > 80
    assert min(abs(height - heights[-1] / 2) for height in heights) <= 2
    assert tall[1].max() == heights[-1]


# ------------------------------------------------------------------ evolution

QUICK = TrainingOptions(steps=40, frames=9, batch=16, measured=64, learning_rate=3e-3)


@pytest.fixture(scope='module')
def evolved():
    shown = subject()
    image = tiny.images(21, 1)[0][0]
    evolution, target = watch(
        shown, untrained(tiny.Bars, 0), tiny.source(1, 200), image, QUICK
    )
    return shown, image, evolution, target


def test_the_loss_falls_and_the_logit_rises_while_training(evolved):
    _, _, evolution, _ = evolved
    losses = [frame.loss for frame in evolution.frames]
    assert [evolution.frames[0].step, evolution.frames[-1].step] == [0, 40]
    assert losses[0] == pytest.approx(np.log(3), abs=0.3)  # knows nothing yet
    assert losses[-1] < 0.5 * losses[0]
    assert evolution.frames[-1].logit > evolution.frames[0].logit
    assert not evolution.note


def test_no_frame_is_blank_and_all_gradients_are_seen(evolved):
    shown, image, evolution, target = evolved
    pictures = evolution_pictures(shown, image, target, evolution)
    assert len(pictures) == len(evolution.frames) == 9
    assert len({picture.shape for picture in pictures}) == 1
    for picture in pictures:
        gradient = picture[76 : 76 + 250, 14 + 264 : 14 + 264 + 250].astype(int)
        assert abs(np.median(gradient) - 128) < 32  # around mid-grey, never towards black
        assert gradient.std() > 8
    assert all(not np.array_equal(*pair) for pair in zip(pictures, pictures[1:], strict=False))
    page = evolution_page(shown, target, pictures, evolution)
    # Every frame, and once more the one that is seen without JavaScript.
    assert page.count('data:image/png') == 9 + 1 and 'step 40: loss' in page
    assert '://' not in page


def test_equal_seeds_give_equal_frames_and_the_network_stays_as_it_is(evolved):
    shown, image, evolution, target = evolved
    network = untrained(tiny.Bars, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(9)
    chance = torch.rand(1)
    torch.manual_seed(9)
    again, _ = watch(shown, network, tiny.source(1, 200), image, QUICK, target=target)
    assert torch.equal(torch.rand(1), chance)
    for one, other in zip(evolution.frames, again.frames, strict=True):
        assert (one.loss, one.logit) == (other.loss, other.logit)
        assert np.array_equal(one.gradient, other.gradient)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def train(options, network=None, source=None, **changes):
    source = source or tiny.source(1, 60)
    entering = tiny.PREPROCESS.apply(source.image(0))
    return watch_training(
        network or tiny.network(), tiny.PREPROCESS, source,
        changes.get('labels', source.own_labels), entering, changes.get('target', 0), options,
    )


def test_a_training_that_diverges_ends_with_its_last_finite_frame():
    class Exploding(tiny.Bars):
        """Gives NaN once its weights have moved."""

        def __init__(self):
            super().__init__()
            self.register_buffer('seen', torch.zeros(()))

        def forward(self, images):
            if self.training:
                self.seen += 1
            return super().forward(images * (float('nan') if self.seen > 3 else 1.0))

    evolution = train(replace(QUICK, steps=10, frames=11), Exploding())
    assert [frame.step for frame in evolution.frames][-1] == 3
    assert 'not finite after 4 steps' in evolution.note
    assert all(np.isfinite(frame.loss) for frame in evolution.frames)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(NavMonitorError, match='--learning-rate 0'):
        train(replace(QUICK, learning_rate=0.0))
    with pytest.raises(NavMonitorError, match='--frames at least 2'):
        train(replace(QUICK, frames=1))
    with pytest.raises(NavMonitorError, match='labels from 0 to 7'):
        train(QUICK, labels=np.r_[np.zeros(59, int), 7])
    with pytest.raises(NavMonitorError, match='no weights'):
        train(QUICK, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    one_pixel = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
    )
    with pytest.raises(NavMonitorError, match='cannot be trained: Expected more than 1 value'):
        train(replace(QUICK, batch=1), one_pixel)


def test_frames_with_broken_gradients_are_drawn_with_a_note():
    moments = [
        Moment(0, 1.0, 0.0, 0.5, np.full((1, 4, 4), np.nan)),
        Moment(1, float('nan'), float('inf'), float('nan'), np.zeros((1, 4, 4))),
    ]
    pictures = draw_moments(moments, np.zeros((4, 4, 3), np.uint8), 'title', 'a', 'ended early')
    assert all(picture.std() > 5 for picture in pictures)
