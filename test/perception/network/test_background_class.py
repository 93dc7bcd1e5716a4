"""The background class: none of the classes."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from dropout_networks import (
    PIXELS,
    Pooled,
    Softmaxed,
    batch_of,
    built,
    close,
    in_service,
    one_dropout,
)
from torch import nn

from nav_monitor_ros.errors import NavMonitorError


@pytest.mark.parametrize('index', [0, 2, 3, -1, -4])
@pytest.mark.parametrize(
    'make', [one_dropout, Pooled, Softmaxed], ids=['plain', 'pooled', 'softmax']
)
def test_the_background_class_is_none_of_the_classes(make, index):
    network, batch = built(make), batch_of(20)
    plain = in_service(network, 6)
    classifier = in_service(network, 6, background=index)
    everything, found = plain(batch), classifier(batch)
    assert everything.background is None
    assert (plain.background, plain.classes) == (None, 4)
    assert (classifier.background, classifier.classes) == (index % 4, 3)
    rest = [i for i in range(4) if i != index % 4]
    close(found.logits, tiny.centred(everything.logits[:, rest]))
    assert np.abs(found.logits.sum(axis=1)).max() < 1e-5
    close(
        found.background, everything.logits[:, index] - everything.logits[:, rest].mean(axis=1)
    )
    assert (found.background.shape, found.background.dtype) == ((20,), np.float32)
    close(found.samples, tiny.centred(everything.samples[:, :, rest]))
    ratio = np.nanmedian(found.features / everything.features)
    close(found.features, everything.features * ratio)  # in the unit of the classes' weights
    assert set(found.predicted) <= {0, 1, 2}
    # The head gives the classes' logits alone.
    assert (classifier.head.weight.shape, classifier.head.bias.shape) == (
        (3, classifier.width), (3,),
    )
    close(classifier.head.logits(classifier.head.entering(found.features)), found.logits)
    assert plain.head.weight.shape == (4, plain.width)


def test_a_head_without_bias_has_a_background_too():
    classifier = in_service(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4, bias=False)), background=1
    )
    assert classifier.head.bias.shape == (3,)
    found = classifier(batch_of(2))
    close(classifier.head.logits(found.features), found.logits)


@pytest.mark.parametrize('index', [4, 5, -5, 1000])
def test_a_background_class_that_is_not_there_is_refused(index):
    with pytest.raises(NavMonitorError, match=f'has 4 outputs.*background.*number {index}$'):
        in_service(one_dropout, background=index)


@pytest.mark.parametrize('index', [0, -1])
def test_the_only_output_cannot_be_the_background(index):
    with pytest.raises(NavMonitorError, match='has 1 outputs.*background'):
        in_service(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 1)), background=index
        )
