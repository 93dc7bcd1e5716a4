"""Networks that come as ONNX files: fitted and run without their code."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from onnx_files import ONNX, exported
from test_cli import environment

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
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.runtime.monitor import Monitor


@pytest.fixture(scope='module')
def onnx_file(tmp_path_factory):
    """Return the tiny network as anybody would export it."""
    return exported(tmp_path_factory.mktemp('onnx') / 'bars.onnx')


@pytest.fixture(scope='module')
def onnx_bundle(onnx_file, tmp_path_factory):
    """Return the folder of a bundle that was fitted to it; no test may change it."""
    folder = tmp_path_factory.mktemp('bundles') / 'bars'
    running = start_network(ONNX, onnx_file, tiny.PREPROCESS)
    bundle = tiny.fitted(running, network=ONNX)
    save_bundle(bundle, running, folder, card=model_card(bundle))
    return folder


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
