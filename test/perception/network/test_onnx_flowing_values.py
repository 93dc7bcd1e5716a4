"""The values that enter the nodes with weights of an ONNX graph."""

from __future__ import annotations

import numpy as np
import tiny
from onnx import helper
from onnx_files import BIAS, BODY, KERNELS, WEIGHT, made

from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, Engine
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph

RNG = np.random.default_rng(2)
BATCH = RNG.normal(size=(3, 3, 12, 12)).astype(np.float32)
HEAD = [helper.make_node('Gemm', ['features', 'w', 'b'], ['logits'], 'head')]
WEIGHTS = {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS}


def running(path):
    return OnnxClassifier(OnnxGraph.read(path), tiny.PREPROCESS, engine=Engine(ONNXRUNTIME))


def test_the_image_is_no_value_and_the_penultimate_features_are(tmp_path):
    scaled = [
        helper.make_node('Mul', ['images', 'two'], ['scaled']),
        helper.make_node('Conv', ['scaled', 'kernels'], ['maps'], 'conv', pads=[1, 1, 1, 1]),
        *BODY[1:],
    ]
    path = made(tmp_path, [*scaled, *HEAD], {**WEIGHTS, 'two': np.float32([2])})
    assert [(one.name, one.shape) for one in running(path).inputs] == [('head:input', (5,))]


def test_a_value_that_several_nodes_take_counts_once_and_is_measured(tmp_path):
    more = RNG.normal(size=(5, 5, 1, 1)).astype(np.float32)
    nodes = [
        *BODY[:2],
        helper.make_node('Conv', ['positive', 'one'], ['left'], 'left'),
        helper.make_node('Cast', ['positive'], ['same'], to=1),
        helper.make_node('Conv', ['same', 'one'], ['right'], 'right'),
        helper.make_node('Add', ['left', 'right'], ['sum']),
        helper.make_node('ReduceMean', ['sum'], ['features'], axes=[2, 3], keepdims=0), *HEAD,
    ]
    classifier = running(made(tmp_path, nodes, {**WEIGHTS, 'one': more}))
    value, head = classifier.inputs
    assert (value.name, value.kind, value.shape) == ('left:input', 'Conv', (5, 12, 12))
    assert head.name == 'head:input'
    classifier.watch(['left:input'])
    classifier.tap(['left:input', 'relu'])
    found = classifier(BATCH)
    np.testing.assert_array_equal(found.maps['left:input'], found.maps['relu'])
    np.testing.assert_allclose(
        found.means['left:input'], found.maps['relu'].mean((2, 3)), atol=1e-6)


def test_tokens_keep_their_axes_however_they_are_rearranged_and_mixed_ones_are_none(tmp_path):
    square = RNG.normal(size=(5, 5)).astype(np.float32)
    nodes = [
        *BODY[:2],
        helper.make_node('Reshape', ['positive', 'shape'], ['flat']),
        helper.make_node('Transpose', ['flat'], ['tokens'], perm=[0, 2, 1]),
        helper.make_node('Transpose', ['tokens'], ['first'], perm=[1, 0, 2]),
        helper.make_node('MatMul', ['first', 'square'], ['query'], 'query'),
        helper.make_node('MatMul', ['tokens', 'square'], ['key'], 'key'),
        helper.make_node('Transpose', ['query'], ['queries'], perm=[1, 0, 2]),
        helper.make_node('Transpose', ['key'], ['keys'], perm=[0, 2, 1]),
        helper.make_node('MatMul', ['queries', 'keys'], ['alike']),
        helper.make_node('MatMul', ['alike', 'tokens'], ['mixed']),
        helper.make_node('MatMul', ['mixed', 'square'], ['out'], 'out'),
        helper.make_node('ReduceMean', ['out'], ['features'], axes=[1], keepdims=0), *HEAD,
    ]
    classifier = running(made(
        tmp_path, nodes, {**WEIGHTS, 'square': square, 'shape': np.array([-1, 5, 144])}))
    assert [(one.name, one.shape) for one in classifier.inputs] == [
        ('query:input', (144, 5)), ('head:input', (5,))]
    classifier.watch(['query:input'])
    classifier.tap(['relu'])
    found = classifier(BATCH)
    np.testing.assert_allclose(
        found.means['query:input'], found.maps['relu'].mean((2, 3)), atol=1e-6)


def clipped(twice):
    """Return the nodes and constants of branches behind a ReLU6 that is written once or twice."""
    constants = {
        **WEIGHTS, 'one': RNG.normal(size=(5, 5, 1, 1)).astype(np.float32),
        'low': np.float32(0), 'low2': np.float32(0), 'high': np.float32(6), 'high2': np.float32(6),
    }
    again = [helper.make_node('Clip', ['maps', 'low2', 'high2'], ['again'])] if twice else []
    return [
        BODY[0],
        helper.make_node('Clip', ['maps', 'low', 'high'], ['positive']),
        helper.make_node('Conv', ['positive', 'one'], ['left'], 'left'), *again,
        helper.make_node('Conv', ['again' if twice else 'positive', 'one'], ['right'], 'right'),
        helper.make_node('Add', ['left', 'right'], ['sum']),
        helper.make_node('ReduceMean', ['sum'], ['features'], axes=[2, 3], keepdims=0), *HEAD,
    ], constants


def test_a_function_that_is_written_twice_yields_one_value(tmp_path):
    once, twice = (running(made(tmp_path, *clipped(two))).inputs for two in (False, True))
    assert [one.name for one in once] == [one.name for one in twice] == ['left:input', 'head:input']


def test_functions_of_other_constants_or_attributes_yield_two_values(tmp_path):
    nodes, constants = clipped(True)
    constants['high2'] = np.float32(5)
    found = [one.name for one in running(made(tmp_path, nodes, constants)).inputs]
    assert found == ['left:input', 'right:input', 'head:input']
