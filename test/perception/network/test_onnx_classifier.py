"""A network in ONNX form in service: every output is that of torch."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, OPENVINO, Engine
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.export import export_onnx
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.torch.classifier import Classifier

ENGINES = [Engine(ONNXRUNTIME), Engine(OPENVINO)]
NAMES = [str(engine) for engine in ENGINES]
PASSES = 7


class Droppy(nn.Module):
    """Dropout twice, a residual addition in place, and a background class; fewer images a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.drop1 = nn.Dropout(0.3)
        self.fc1 = nn.Linear(24, 10)
        self.relu1 = nn.ReLU()
        self.drop2 = nn.Dropout(0.3)
        self.fc2 = nn.Linear(10, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.conv(images))
        second = self.again(first)
        second += first
        maps = self.flatten(self.pool(self.relu(second)))
        return self.fc2(self.drop2(self.relu1(self.fc1(self.drop1(maps))))).softmax(1)


@pytest.fixture(scope='module')
def droppy(tmp_path_factory):
    """Return a network, and the file that it was exported to."""
    classifier = Classifier(Droppy().eval(), tiny.PREPROCESS, background=-1)
    path = tmp_path_factory.mktemp('onnx') / 'droppy.onnx'
    export_onnx(classifier, path, passes=PASSES)
    return classifier, path


def pixels(count=6, seed=5):
    return np.stack([tiny.PREPROCESS.apply(image) for image in tiny.images(seed, count)[0]])


def close(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('engine', ENGINES, ids=NAMES)
def test_every_output_is_that_of_torch(droppy, engine):
    classifier, path = droppy
    running = OnnxClassifier(
        OnnxGraph.read(path), tiny.PREPROCESS, engine=engine, background=-1
    )
    assert running.layers == classifier.layers
    assert (running.classes, running.columns, running.width) == (3, (0, 1, 2), 10)
    for network in (classifier, running):
        network.watch(['conv', 'again'])
        network.sample_dropout(PASSES)
        network.tap(['again', 'fc1', 'pool'])
    try:
        expected, found = classifier(pixels()), running(pixels())
    finally:
        classifier.tap(())
    close(found.logits, expected.logits)
    close(found.features, expected.features)
    close(found.background, expected.background)
    close(found.samples, expected.samples)
    assert list(found.means) == ['conv', 'again'] and list(found.maps) == ['again', 'fc1', 'pool']
    for name in found.means:
        close(found.means[name], expected.means[name])
    for name in found.maps:
        close(found.maps[name], expected.maps[name])
    close(running.head.weight, classifier.head.weight)
    close(running.head.bias, classifier.head.bias)


@pytest.mark.parametrize('engine', ENGINES, ids=NAMES)
def test_images_in_one_pass_are_as_alone(droppy, engine):
    running = OnnxClassifier(
        OnnxGraph.read(droppy[1]), tiny.PREPROCESS, engine=engine, background=-1
    )
    batch = pixels(3)
    together = running(batch)
    for row in range(len(batch)):
        close(running(batch[row : row + 1]).logits, together.logits[row : row + 1])


@pytest.mark.parametrize('layer', ['again', 'fc1'])
def test_any_layer_is_monitored(droppy, layer):
    classifier = Classifier(Droppy().eval(), tiny.PREPROCESS, layer=layer, background=-1)
    running = OnnxClassifier(
        OnnxGraph.read(droppy[1]), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME), layer=layer,
        background=-1,
    )
    assert (running.layer, running.width) == (layer, classifier.width)
    close(running(pixels()).features, classifier(pixels()).features)
    assert (running.head is None) == (classifier.head is None)
    if running.head is not None:
        assert running.head.rectified == classifier.head.rectified is True


def test_maps_are_kept_only_while_a_layer_is_tapped(droppy):
    running = OnnxClassifier(
        OnnxGraph.read(droppy[1]), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME), background=-1
    )
    plain = running(pixels())
    running.tap(['conv'])
    tapped = running(pixels())
    with pytest.raises(NavMonitorError, match="no layer 'nonsense'"):
        running.tap(['pool', 'nonsense'])
    assert running.taps == ('conv',)
    running.tap(())
    assert (list(plain.maps), list(tapped.maps), list(running(pixels()).maps)) == ([], ['conv'], [])
    close(tapped.logits, plain.logits)


def test_other_passes_with_dropout_than_were_exported_are_refused(droppy):
    running = OnnxClassifier(
        OnnxGraph.read(droppy[1]), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME), background=-1
    )
    with pytest.raises(NavMonitorError, match='20 passes .* has 7; export it again'):
        running.sample_dropout(20)


def test_gradients_say_that_they_need_torch(droppy):
    running = OnnxClassifier(
        OnnxGraph.read(droppy[1]), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME), background=-1
    )
    with pytest.raises(NavMonitorError, match='gradients need torch'):
        _ = running.network


def test_exporting_leaves_a_classifier_as_it_was(droppy):
    classifier, _ = droppy
    fresh = Classifier(Droppy().eval(), tiny.PREPROCESS, background=-1)
    assert classifier.taps == ()
    assert np.array_equal(classifier(pixels()).logits, fresh(pixels()).logits)
