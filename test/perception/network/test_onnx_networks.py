"""Networks that come as ONNX files: fitted and run without their code, and never trusted."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
from onnx import TensorProto, helper, numpy_helper
from test_cli import environment
from torch import nn

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.inspection.inspected_network import view_bundle
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, OPENVINO, Engine
from nav_monitor_ros.perception.network.layers import PENULTIMATE
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.onnx.classifier import OnnxClassifier
from nav_monitor_ros.perception.network.onnx.graph import OnnxGraph
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.runtime.monitor import Monitor

ONNX = NetworkSpec('onnx')


@pytest.fixture(scope='module')
def onnx_file(tmp_path_factory):
    """Return the tiny network as anybody would export it."""
    path = tmp_path_factory.mktemp('onnx') / 'bars.onnx'
    torch.onnx.export(
        tiny.network(), (torch.rand(2, 3, tiny.SIDE, tiny.SIDE),), str(path), dynamo=True,
        verbose=False, external_data=False, dynamic_shapes=({0: torch.export.Dim('n')},),
    )
    return path


@pytest.fixture(scope='module')
def onnx_bundle(onnx_file, tmp_path_factory):
    """Return the folder of a bundle that was fitted to it; no test may change it."""
    folder = tmp_path_factory.mktemp('bundles') / 'bars'
    running = start_network(ONNX, onnx_file, tiny.PREPROCESS)
    bundle = tiny.fitted(running, network=ONNX)
    save_bundle(bundle, running, folder, card=model_card(bundle))
    return folder


def made(
    tmp_path, nodes, initializers, *, shape=('n', 3, 12, 12), domain='', result=(None, 4),
    version=13, output=None,
):
    """Write a graph that takes ``images``."""
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info('images', TensorProto.FLOAT, shape)],
        [output or helper.make_tensor_value_info('logits', TensorProto.FLOAT, result)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    imports = [helper.make_opsetid('', version)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    path = tmp_path / 'made.onnx'
    path.write_bytes(model.SerializeToString())
    return path


RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(5, 4)).astype(np.float32), np.arange(4, dtype=np.float32)
KERNELS = RNG.normal(size=(5, 3, 3, 3)).astype(np.float32)
BODY = [
    helper.make_node('Conv', ['images', 'kernels'], ['maps'], 'conv', pads=[1, 1, 1, 1]),
    helper.make_node('Relu', ['maps'], ['positive'], 'relu'),
    helper.make_node('ReduceMean', ['positive'], ['features'], 'pool', axes=[2, 3], keepdims=0),
]


# ------------------------------------------------------------------ fitted and run


def test_a_fit_to_the_file_gives_the_scores_of_a_fit_to_the_code(onnx_bundle, tiny_bundle):
    bundle = load_bundle(onnx_bundle)
    assert bundle.network == ONNX and bundle.reference == Engine(ONNXRUNTIME)
    assert list(bundle.scores) == list(tiny_bundle.scores)
    by_file, by_code = load_network(bundle), load_network(tiny_bundle, trusted_packages=['tiny'])
    for source in (tiny.source(7, 100), tiny.source(8, 50, groups=None)):
        found, expected = run(by_file, source), run(by_code, source)
        assert np.array_equal(found.predicted, expected.predicted)
        for name, score in tiny_bundle.scores.items():
            if name == 'vim':
                # Half of the features never vary, so which of them make up its residual space is
                # decided by rounding.
                continue
            np.testing.assert_allclose(
                bundle.scores[name].score(found), score.score(expected), rtol=1e-3, atol=1e-3,
                err_msg=name,
            )


def test_its_bundle_is_judged_with_the_same_p_values(onnx_bundle, tiny_bundle):
    by_file = Monitor(load_bundle(onnx_bundle))
    by_code = Monitor(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    for pixels in [*tiny.images(7, 10)[0], *tiny.strange(7, 10)]:
        found, expected = (m.look(DecodedImage(pixels, 'rgb')).verdict for m in (by_file, by_code))
        assert found.class_name == expected.class_name
        assert found.p_value == pytest.approx(expected.p_value, abs=0.1)  # vim is a member


def test_its_bundle_is_exported_for_openvino(onnx_bundle, tmp_path):
    bundle = load_bundle(onnx_bundle)
    export(bundle, load_network(bundle), tiny.source(2, 200), ['openvino'], tmp_path / 'b')
    written = {path.name for path in (tmp_path / 'b' / 'exported').iterdir()}
    # no graph, and where the processor has bfloat16 perhaps a calibration of that
    assert 'probe.safetensors' in written <= {'probe.safetensors', 'openvino_bf16.safetensors'}
    monitor = Monitor(load_bundle(tmp_path / 'b'))
    assert monitor.classifier.engine.backend == OPENVINO
    pixels = tiny.images(9, 1)[0][0]
    expected = Monitor(bundle).look(DecodedImage(pixels, 'rgb')).verdict.class_name
    assert monitor.look(DecodedImage(pixels, 'rgb')).verdict.class_name == expected


def test_layers_of_the_file_are_viewed_and_gradients_are_refused(onnx_bundle):
    viewed = view_bundle(str(onnx_bundle))
    layer = viewed.layer()
    assert viewed.look(tiny.images(1, 1)[0][0], layer).maps[layer.name].shape[1:] == layer.shape
    with pytest.raises(NavMonitorError, match='gradients need torch'):
        _ = viewed.classifier.network
    with pytest.raises(NavMonitorError, match='gradient views need one'):
        ONNX.build()
    with pytest.raises(NavMonitorError, match='ONNX form, which torch does not run'):
        load_network(load_bundle(onnx_bundle), backend='torch')


def test_fit_and_show_take_the_file_without_importing_torch(onnx_file, tmp_path):
    pixels, labels = tiny.images(1, 400)
    np.savez(tmp_path / 'data.npz', x=pixels, y=labels)
    np.savez(tmp_path / 'held_out.npz', x=tiny.images(2, 200)[0])
    code = f"""
import sys
from nav_monitor_ros.cli.main import main
status = main(['fit', '--model', 'onnx', '--weights', {str(onnx_file)!r},
    '--data', 'data.npz', '--calibration', 'held_out.npz', '--size', '12x12',
    '--interpolation', 'area', '--mean', '0.5,0.5,0.5', '--std', '0.25,0.25,0.25',
    '--false-alarm-rate', '0.05', '--output', 'bundle'])
assert status == 0 and main(['show', 'bundle']) == 0
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.bundle.loading import load_bundle
print('running', Monitor(load_bundle('bundle')).classifier.engine, 'torch' in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, check=False, timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert 'running onnxruntime_f32 False' in done.stdout
    assert {p.name for p in (tmp_path / 'bundle').iterdir()} == {
        'bundle.yaml', 'model.onnx', 'monitor.safetensors', 'MODEL_CARD.md'}


def test_a_changed_file_in_a_bundle_is_refused(onnx_bundle, tmp_path):
    copy = shutil.copytree(onnx_bundle, tmp_path / 'copy')
    path = copy / 'model.onnx'
    path.write_bytes(path.read_bytes() + b'\x00')
    with pytest.raises(NavMonitorError, match='model.onnx was changed'):
        load_bundle(copy)


# ------------------------------------------------------------------ taken apart


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
        (found.logits, features @ WEIGHT + BIAS), (found.features, features),
        (found.means['conv'], convolved.mean((2, 3))),
        (found.maps['relu'], np.maximum(convolved, 0)),
        (running.head.weight, WEIGHT.T), (running.head.bias, BIAS),
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
    np.testing.assert_allclose(
        running(batch).logits, session.run(None, {'images': batch})[0], rtol=1e-5, atol=1e-6
    )
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
    np.testing.assert_allclose(found.logits, found.features @ WEIGHT + BIAS, rtol=1e-4, atol=1e-4)


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
    assert (running.layer, running.width, running.classes) == (PENULTIMATE, 5, 4)
    for value, expected in [
        (found.logits, features @ WEIGHT + BIAS), (found.features, features),
        (running.head.logits(found.features), features @ WEIGHT + BIAS),
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


# ------------------------------------------------------------------ not trusted


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
    (garbage(b'not a network'), 'is not an ONNX file|no valid ONNX model'),
    (garbage(b''), 'the file is empty'),
    (outside, 'keeps its weights in another file'),
    (of(helper.make_node('Surprise', ['features'], ['logits'], domain='evil'), domain='evil'),
     'operators that are not of ONNX itself'),
    (of(helper.make_node('Gemm', ['nowhere', 'w', 'b'], ['logits'])), 'no valid ONNX model'),
    (of(helper.make_node('Identity', ['positive'], ['logits']), result=(None, 5, 12, 12)),
     'not return one row of class scores.*this monitors classifiers'),
    (of(GEMM, helper.make_node('Cast', ['logits'], ['whole'], to=TensorProto.INT64),
        output=helper.make_tensor_value_info('whole', TensorProto.INT64, (None, 4))),
     'returns int64 numbers, which are no class scores'),
    (of(GEMM, shape=('n', 3, 'h', 'w')), 'how many channels and pixels'),
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
    with pytest.raises(NavMonitorError, match='has loops|no valid ONNX model'):
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
