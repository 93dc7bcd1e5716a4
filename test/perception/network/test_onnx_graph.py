"""ONNX graphs: their layers, the last linear one, and what their outputs are."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import tiny
import torch
from onnx import TensorProto, helper
from onnx_files import BIAS, BODY, KERNELS, ONNX, WEIGHT, made
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, OPENVINO, Engine
from nav_monitor_ros.perception.network.layers import PENULTIMATE
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph

UNIT = tiny.unit_of(WEIGHT.T)  # of the features


@pytest.mark.parametrize('ending', [
    [helper.make_node('MatMul', ['features', 'w'], ['product']),
     helper.make_node('Add', ['b', 'product'], ['logits'])],
    [helper.make_node('Gemm', ['features', 'w', 'b'], ['logits'])],
    [helper.make_node('Transpose', ['w'], ['turned'], perm=[1, 0]),
     helper.make_node('Gemm', ['features', 'turned', 'b'], ['logits'], transB=1)],
    [helper.make_node('Gemm', ['features', 'w', 'b'], ['scores']),
     helper.make_node('Identity', ['scores'], ['same']),
     helper.make_node('Softmax', ['same'], ['logits'], axis=1)],
])
@pytest.mark.parametrize('backend', [ONNXRUNTIME, OPENVINO])
def test_the_last_linear_layer_is_found_however_it_is_written(tmp_path, ending, backend):
    path = made(tmp_path, [*BODY, *ending], {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS})
    running = OnnxClassifier(OnnxGraph.read(path), tiny.PREPROCESS, engine=Engine(backend))
    running.watch(['conv'])
    running.tap(['relu'])
    batch = np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32)
    found = running(batch)
    convolved = nn.functional.conv2d(
        torch.from_numpy(batch), torch.from_numpy(KERNELS), padding=1
    ).numpy()
    features = np.maximum(convolved, 0).mean((2, 3))
    assert (running.layer, running.width, running.classes) == (PENULTIMATE, 5, 4)
    for value, expected in [
        (found.logits, tiny.centred(features @ WEIGHT + BIAS)), (found.features, UNIT * features),
        (found.means['conv'], convolved.mean((2, 3))),
        (found.maps['relu'], np.maximum(convolved, 0)),
        (running.head.weight, tiny.centred(WEIGHT).T / UNIT),
        (running.head.bias, tiny.centred(BIAS)),
    ]:
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    assert [(layer.name, layer.kind) for layer in running.layers[:2]] == [
        ('conv', 'Conv'), ('relu', 'Relu')]


def ended(tmp_path, kind, axis, lengths, version, batch='n'):
    """Write a graph of 4 classes whose scores are put in this shape for a softmax."""
    options = {} if axis is None else {'axis': axis}
    nodes = [
        *BODY, helper.make_node('Gemm', ['features', 'w', 'b'], ['scores']),
        helper.make_node('Reshape', ['scores', 'lengths'], ['shaped']),
        helper.make_node(kind, ['shaped'], ['squashed'], **options),
        helper.make_node('Reshape', ['squashed', 'rows'], ['logits']),
    ]
    return made(tmp_path, nodes, {
        'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS, 'rows': np.array([-1, 4]),
        'lengths': np.array([-1, *lengths]),
    }, version=version, shape=(batch, 3, 12, 12), result=(1 if batch == 1 else None, 4))


@pytest.mark.parametrize('kind', ['Softmax', 'LogSoftmax'])
@pytest.mark.parametrize(('axis', 'lengths', 'version'), [
    (1, [2, 2], 13), (2, [2, 2], 13), (None, [2, 2], 13), (-1, [2, 2], 11), (2, [2, 2], 12),
    (2, [4, 1], 13), (1, [1, 4], 13), (None, [4, 1, 1], 13), (2, [1, 2, 2], 17),
])
def test_a_softmax_over_some_of_the_classes_is_none_over_all(
    tmp_path, kind, axis, lengths, version
):
    path = ended(tmp_path, kind, axis, lengths, version)
    with pytest.raises(NavMonitorError, match='does not end in a linear layer'):
        start_network(ONNX, path, tiny.PREPROCESS)
    running = start_network(ONNX, path, tiny.PREPROCESS, layer='conv')
    batch = np.random.default_rng(1).normal(size=(5, 3, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=['CPUExecutionProvider'])
    (returned,) = session.run(None, {'images': batch})
    np.testing.assert_allclose(running(batch).logits, tiny.centred(returned), rtol=1e-5, atol=1e-6)
    assert running.head is None


@pytest.mark.parametrize('kind', ['Softmax', 'LogSoftmax'])
@pytest.mark.parametrize(('axis', 'lengths', 'version', 'batch'), [
    (1, [2, 2], 12, 'n'), (None, [2, 2], 11, 'n'), (-2, [2, 2], 11, 'n'), (0, [4], 12, 1),
    (1, [4, 1, 1], 13, 'n'), (-3, [4, 1, 1], 13, 'n'), (None, [1, 4], 13, 'n'),
    (3, [1, 1, 4], 11, 'n'),
])
def test_a_softmax_over_all_classes_is_seen_in_any_shape(
    tmp_path, kind, axis, lengths, version, batch
):
    running = start_network(ONNX, ended(tmp_path, kind, axis, lengths, version, batch),
                            tiny.PREPROCESS)
    found = running(np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32))
    assert running.layer == PENULTIMATE
    wanted = tiny.centred(found.features / UNIT @ WEIGHT + BIAS)
    np.testing.assert_allclose(found.logits, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('version', 'batch'), [(12, 'n'), (13, 'n'), (13, 1)])
def test_a_softmax_over_the_images_of_a_batch_is_refused(tmp_path, version, batch):
    with pytest.raises(NavMonitorError, match='softmax over the images of a batch'):
        start_network(ONNX, ended(tmp_path, 'Softmax', 0, [4], version, batch), tiny.PREPROCESS)


def test_the_mean_of_a_softmax_at_every_position_is_a_row_of_probabilities(tmp_path):
    path = made(tmp_path, [
        *BODY[:1], helper.make_node('Softmax', ['maps'], ['likely'], 'likely', axis=1),
        helper.make_node('GlobalAveragePool', ['likely'], ['mean']),
        helper.make_node('Flatten', ['mean'], ['logits']),
    ], {'kernels': KERNELS}, result=(None, 5))
    running = start_network(ONNX, path, tiny.PREPROCESS, layer='conv')
    batch = np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32)
    found = running(batch)
    convolved = nn.functional.conv2d(
        torch.from_numpy(batch), torch.from_numpy(KERNELS), padding=1
    )
    expected = convolved.softmax(1).mean((2, 3)).numpy()
    made_of = torch.from_numpy(found.logits).softmax(1).numpy()
    np.testing.assert_allclose(made_of, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('inner', 'backend'), [
    (TensorProto.FLOAT16, ONNXRUNTIME), (TensorProto.FLOAT16, OPENVINO),
    (TensorProto.DOUBLE, OPENVINO),  # ONNX Runtime has no convolution of doubles
])
@pytest.mark.parametrize('version', [13, 18])
@pytest.mark.parametrize('end', [None, 'Softmax'])
def test_a_network_that_computes_in_another_precision_inside_is_run(
    tmp_path, inner, backend, version, end
):
    kind = helper.tensor_dtype_to_np_dtype(inner)
    single = TensorProto.FLOAT
    nodes = [
        helper.make_node('Cast', ['images'], ['cast'], 'cast', to=inner),
        helper.make_node('Conv', ['cast', 'kernels'], ['maps'], 'conv', pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['maps'], ['positive'], 'relu'),
        helper.make_node('GlobalAveragePool', ['positive'], ['mean'], 'pool'),
        helper.make_node('Flatten', ['mean'], ['features'], 'flat'),
        helper.make_node('Gemm', ['features', 'w', 'b'], ['scores'], 'fc'),
        *([helper.make_node('Softmax', ['scores'], ['end'])] if end else []),
        helper.make_node('Cast', ['end' if end else 'scores'], ['logits'], to=single),
    ]
    path = made(tmp_path, nodes, {
        'kernels': KERNELS.astype(kind), 'w': WEIGHT.astype(kind), 'b': BIAS.astype(kind),
    }, version=version)
    running = OnnxClassifier(OnnxGraph.read(path), tiny.PREPROCESS, engine=Engine(backend))
    assert [one.name for one in running.layers][:5] == ['cast', 'conv', 'relu', 'pool', 'flat']
    running.watch(['conv', 'relu'])
    running.tap(['relu'])
    batch = np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32)
    found = running(batch)
    convolved = nn.functional.conv2d(
        torch.from_numpy(batch), torch.from_numpy(KERNELS), padding=1
    ).numpy()
    features = np.maximum(convolved, 0).mean((2, 3))
    logits = tiny.centred(features @ WEIGHT + BIAS)
    assert (running.layer, running.width, running.classes) == (PENULTIMATE, 5, 4)
    for value, expected in [
        (found.logits, logits), (found.features, UNIT * features),
        (running.head.logits(found.features), logits),
        (found.means['conv'], convolved.mean((2, 3))), (found.means['relu'], features),
        (found.maps['relu'], np.maximum(convolved, 0)),
    ]:
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected, rtol=1e-2, atol=2e-2)


def test_without_a_linear_end_the_layers_are_named(tmp_path):
    path = made(tmp_path, [*BODY, helper.make_node('Tanh', ['features'], ['logits'])],
                {'kernels': KERNELS}, result=(None, 5))
    with pytest.raises(NavMonitorError, match='does not end in a linear layer.*1 conv, 2 relu'):
        start_network(ONNX, path, tiny.PREPROCESS)
    assert start_network(ONNX, path, tiny.PREPROCESS, layer='relu').width == 5


def test_a_file_for_one_image_at_a_time_runs_batches(tmp_path):
    path = made(tmp_path, [*BODY, helper.make_node('Gemm', ['features', 'w', 'b'], ['logits'])],
                {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS}, shape=(1, 3, 12, 12), result=(1, 4))
    running = start_network(ONNX, path, tiny.PREPROCESS)
    batch = np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32)
    together = running(batch)
    for row in range(3):
        assert np.array_equal(running(batch[row:row + 1]).logits, together.logits[row:row + 1])
