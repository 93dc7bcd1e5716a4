"""The gradient of an image over training steps: frames, seeds, divergence."""

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
from nav_monitor_ros.inspection.evolution_views import (
    evolution_lines,
    evolution_page,
    evolution_pictures,
    untrained,
    watch,
)
from nav_monitor_ros.inspection.training_steps import TrainingOptions, watch_training
from nav_monitor_ros.views.gradients.training_frames import Moment, draw_moments

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


def test_the_accuracy_of_the_own_weights_is_told_if_guessing_is_better(evolved):
    shown, image, evolution, target = evolved
    assert evolution.accuracy == 1.0 and len(evolution_lines(shown, evolution)) == 1
    pixels, labels = tiny.images(1, 60)
    turned = from_arrays('bars', pixels, (labels + 1) % 3)
    quick = replace(QUICK, steps=1, frames=2, measured=20)
    wrong, _ = watch(shown, untrained(tiny.Bars, 0), turned, image, quick)
    warning = evolution_lines(shown, wrong)[-1]
    assert wrong.accuracy == 0 and warning.startswith('warning: 0.0% of the labelled images')
    page = evolution_page(shown, target, evolution_pictures(shown, image, target, wrong), wrong)
    assert 'guessing gives 33.3%' in page
    unlabelled, _ = watch(
        shown, untrained(tiny.Bars, 0), from_arrays('bars', pixels), image, quick)
    assert unlabelled.accuracy is None and len(evolution_lines(shown, unlabelled)) == 1


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
    with pytest.raises(NavMonitorError, match='no trainable weights'):
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
