"""ONNX files of strangers: refused with the reason, or run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper
from onnx_files import BIAS, BODY, KERNELS, ONNX, WEIGHT, exported, made

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph


@pytest.fixture(scope='module')
def onnx_file(tmp_path_factory):
    """Return the tiny network as anybody would export it."""
    return exported(tmp_path_factory.mktemp('onnx') / 'bars.onnx')


def outside(tmp_path):
    path = made(tmp_path, [*BODY, helper.make_node('Gemm', ['features', 'w', 'b'], ['logits'])],
                {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField('raw_data')
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = 'location', '../../etc/passwd'
    path.write_bytes(model.SerializeToString())
    return path


def of(*nodes, **options):
    def make(tmp_path):
        return made(tmp_path, [*BODY, *nodes], {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS},
                    **options)

    return make


def garbage(content):
    def make(tmp_path):
        (tmp_path / 'made.onnx').write_bytes(content)
        return tmp_path / 'made.onnx'

    return make


GEMM = helper.make_node('Gemm', ['features', 'w', 'b'], ['logits'])
BOMB = [
    helper.make_node('Constant', [], ['size'], value=numpy_helper.from_array(
        np.array([1 << 20, 1 << 20], np.int64))),
    helper.make_node('ConstantOfShape', ['size'], ['huge']),
    helper.make_node('ReduceMax', ['huge'], ['most'], keepdims=0),
    helper.make_node('Gemm', ['features', 'w', 'b'], ['plain']),
    helper.make_node('Add', ['plain', 'most'], ['logits']),
]


@pytest.mark.parametrize(('make', 'words'), [
    (lambda tmp_path: tmp_path / 'none.onnx', 'does not exist'),
    (garbage(b'not a network'), 'is not an ONNX file|not a valid ONNX model'),
    (garbage(b''), 'the file is empty'),
    (outside, 'keeps its weights in another file'),
    (of(helper.make_node('Surprise', ['features'], ['logits'], domain='evil'), domain='evil'),
     'operators that are not of ONNX itself'),
    (of(helper.make_node('Gemm', ['nowhere', 'w', 'b'], ['logits'])), 'not a valid ONNX model'),
    (of(helper.make_node('Identity', ['positive'], ['logits']), result=(None, 5, 12, 12)),
     'not return one row of class scores.*this monitors classifiers'),
    (of(GEMM, helper.make_node('Cast', ['logits'], ['whole'], to=TensorProto.INT64),
        output=helper.make_tensor_value_info('whole', TensorProto.INT64, (None, 4))),
     'returns int64 numbers, which are no class scores'),
    (of(GEMM, shape=('n', 3, 'h', 'w')), 'the number of channels and pixels'),
    (of(GEMM, shape=('n', 3, 24, 24)), r'takes images of shape \(3, 24, 24\)'),
    (of(GEMM, shape=('n', 3)), 'does not take one float32 input'),
    (of(*BOMB), 'would be too large'),
])
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, make, words):
    with pytest.raises(NavMonitorError, match=words):
        start_network(ONNX, make(tmp_path), tiny.PREPROCESS)


def test_loops_are_refused(tmp_path):
    body = helper.make_graph(
        [helper.make_node('Identity', ['condition_in'], ['condition_out'])], 'body',
        [helper.make_tensor_value_info('i', TensorProto.INT64, []),
         helper.make_tensor_value_info('condition_in', TensorProto.BOOL, [])],
        [helper.make_tensor_value_info('condition_out', TensorProto.BOOL, [])],
    )
    path = of(helper.make_node('Loop', ['', ''], [], body=body), GEMM)(tmp_path)
    with pytest.raises(NavMonitorError, match='has loops|not a valid ONNX model'):
        start_network(ONNX, path, tiny.PREPROCESS)


def test_spoilt_files_are_refused_or_run_but_never_worse(onnx_file, tmp_path):
    content, rng = onnx_file.read_bytes(), np.random.default_rng(0)
    path = tmp_path / 'spoilt.onnx'
    refused = 0
    for _ in range(60):
        spoilt = bytearray(content)
        for place in rng.integers(0, min(len(content), 3000), 3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            OnnxGraph.read(path)
        except NavMonitorError:
            refused += 1
    assert refused > 0


def test_a_network_of_images_with_channels_last_is_told_how_to_export_it(tmp_path):
    nodes = [
        helper.make_node('Transpose', ['images'], ['first'], perm=[0, 3, 1, 2]),
        helper.make_node('Conv', ['first', 'kernels'], ['maps'], 'conv', pads=[1, 1, 1, 1]),
        helper.make_node('Relu', ['maps'], ['positive'], 'relu'),
        helper.make_node('GlobalAveragePool', ['positive'], ['means']),
        helper.make_node('Flatten', ['means'], ['features']),
        helper.make_node('Gemm', ['features', 'w', 'b'], ['logits']),
    ]
    path = made(tmp_path, nodes, {'kernels': KERNELS, 'w': WEIGHT, 'b': BIAS},
                shape=('n', 12, 12, 3))
    with pytest.raises(NavMonitorError, match='channels last; export it with channels first'):
        start_network(ONNX, path, tiny.PREPROCESS)
