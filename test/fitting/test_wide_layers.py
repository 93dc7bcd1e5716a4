"""Networks whose maps are flattened without pooling: very many penultimate neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit import MOST_NEURONS, fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.scores.moments import MOST_SQUARE


def fit_flattened(side):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * side * side, 3))
    classifier = Classifier(
        network, Preprocess(side, side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (160, 8, 8, 3)).astype(np.uint8)
    return fit(
        classifier, NetworkSpec('flattened:network'), from_arrays('training', images[:100]),
        from_arrays('held out', images[100:]), FitOptions(false_alarm_rate=0.1))


def test_scores_with_covariances_are_left_out_with_the_reason():
    side = 46
    assert MOST_SQUARE < 4 * side * side < MOST_NEURONS
    bundle = fit_flattened(side)
    for name in ('mahalanobis', 'relative_mahalanobis', 'vim', 'layer_mahalanobis'):
        assert bundle.provenance['left_out'][name] == (
            'the covariance of 8464 features would take 0.573 GB, and at most 8192 features are '
            'supported')
    assert {'pattern', 'energy'} <= {*bundle.calibration.fusion_members, *bundle.degenerate}


def test_more_neurons_than_the_memory_holds_are_refused_before_images_are_read():
    with pytest.raises(NavMonitorError, match='67600 neurons, and at most 65536 are supported'):
        fit_flattened(130)
