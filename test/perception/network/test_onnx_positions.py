"""Where the values of an ONNX file's tensors lie in the image, as in the same network by torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import vision_networks

from nav_monitor_ros.perception.network.backends import F32, ONNXRUNTIME, Engine
from nav_monitor_ros.perception.network.layers import last_spatial
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.export import export_onnx
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.torch.classifier import Classifier

pytest.importorskip('onnxruntime')
EXPORTERS = ('dynamo', 'torchscript')


def foreign(network, path, exporter, height, width):
    """Return a network's ONNX file as torch's exporters write it, running."""
    images = torch.rand(2, 3, height, width)
    if exporter == 'dynamo':
        pytest.importorskip('onnxscript')
        torch.onnx.export(
            network, (images,), path, dynamo=True, external_data=False, verbose=False,
            dynamic_shapes=({0: torch.export.Dim('batch')},),
        )
    else:
        torch.onnx.export(
            network, (images,), path, dynamo=False, input_names=['images'],
            output_names=['scores'], dynamic_axes={'images': {0: 'batch'}, 'scores': {0: 'batch'}},
        )
    return OnnxClassifier(
        OnnxGraph.read(path), vision_networks.preprocess(height, width),
        engine=Engine(ONNXRUNTIME, F32),
    )


def change(classifier, layer):
    """Return how much a bright square in the rows 16 to 23 and columns 8 to 15 changes a layer."""
    height, width = classifier.input_shape[1:]
    plain = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    marked = plain.copy()
    marked[:, :, 16:24, 8:16] += 5
    classifier.tap([layer.name])
    before, after = (
        layer.as_maps(classifier(images).maps[layer.name][0]) for images in (plain, marked)
    )
    return np.abs(after - before).sum(0)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('exporter', EXPORTERS)
def test_a_transformer_of_others_has_its_tokens_on_a_grid(tmp_path, exporter):
    network = vision_networks.vision_transformer()
    classifier = foreign(network, tmp_path / 'vit.onnx', exporter, 32, 32)
    tokens = [layer for layer in classifier.layers if layer.shape == (17, 16) and layer.grid]
    assert len(tokens) > 4
    assert {(layer.grid, layer.leading) for layer in tokens} == {((4, 4), 1)}
    last = last_spatial(classifier.layers)
    assert last.grid == (4, 4)
    for layer in (tokens[0], last):
        found = change(classifier, layer)
        assert np.unravel_index(found.argmax(), found.shape) == (2, 1), layer
    # And the file gives the features and the values of the same network run by torch.
    images = np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)
    theirs = Classifier(network, classifier.preprocess)(images)
    classifier.tap(())
    ours = classifier(images)
    np.testing.assert_allclose(ours.features, theirs.features, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings('ignore')
def test_maps_of_others_with_their_channels_last_are_recognised(tmp_path):
    network = vision_networks.swin_transformer()
    classifier = foreign(network, tmp_path / 'swin.onnx', 'torchscript', 32, 48)
    last = [layer for layer in classifier.layers if layer.channels_last]
    # The exporter writes the second stage with lengths that are unknown before it runs.
    assert {layer.shape for layer in last} == {(16, 24, 8), (16, 24, 32)}
    for layer in last[0], last[-1]:
        assert layer.grid == (16, 24)
        row, column = np.unravel_index(change(classifier, layer).argmax(), layer.grid)
        assert row in range(8, 12) and column in range(4, 8)


@pytest.mark.filterwarnings('ignore')
def test_an_exported_network_keeps_where_its_values_lie(tmp_path):
    pytest.importorskip('onnxscript')
    classifier = Classifier(
        vision_networks.vision_transformer(), vision_networks.preprocess())
    export_onnx(classifier, tmp_path / 'network.onnx')
    onnx.checker.check_model(tmp_path / 'network.onnx')
    graph = OnnxGraph.read(tmp_path / 'network.onnx')
    assert graph.layers == classifier.layers
    assert graph.inputs == classifier.inputs
