"""Bundles run by other backends: the same scores, or a calibration of their own, or none."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny

from nav_monitor_ros.bundle import engines
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting import engine_export as export_module
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.perception.network import backends
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, OPENVINO, TORCH, Engine
from nav_monitor_ros.perception.network.onnx import classifier as exported_module
from nav_monitor_ros.runtime.monitor import Monitor

ENGINES = [Engine(ONNXRUNTIME), Engine(OPENVINO)]
NAMES = [str(engine) for engine in ENGINES]
PASSES = 7


@pytest.fixture(scope='module')
def exported(tiny_folder, tmp_path_factory):
    """Return the folder of a bundle that was exported for all backends; no test may change it."""
    folder = tmp_path_factory.mktemp('exported') / 'tiny'
    exported_to(folder, tiny_folder)
    return folder


@pytest.fixture
def exported_copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / 'exported')


def exported_to(folder, source, calibration=None, backends=('all',)):
    bundle = load_bundle(source)
    reference = load_network(bundle, device='cpu', trusted_packages=['tiny'])
    images = tiny.source(2, 200) if calibration is None else calibration
    return export(bundle, reference, images, backends, folder, trusted_packages=['tiny'])


@pytest.fixture
def single_precision(monkeypatch):
    """Have this machine be one without bfloat16."""
    for module in (engines, export_module):
        usable = module.usable_here
        monkeypatch.setattr(
            module, 'usable_here',
            lambda engine, usable=usable: engine.precision == 'f32' and usable(engine),
        )


def pixels(count=6, seed=5):
    return np.stack([tiny.PREPROCESS.apply(image) for image in tiny.images(seed, count)[0]])


def close(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------ a bundle that was exported


@pytest.mark.usefixtures('single_precision')
@pytest.mark.parametrize('backend', [ONNXRUNTIME, OPENVINO])
def test_an_exported_bundle_judges_as_by_torch(exported, backend):
    bundle = load_bundle(exported)
    by_torch = Monitor(bundle, backend=TORCH, device='cpu', trusted_packages=['tiny'])
    other = Monitor(bundle, backend=backend)  # nobody is trusted: no code is imported
    assert other.classifier.engine.backend == backend
    inside = tiny.source(7, 100)
    expected, found = (run(m.classifier, inside) for m in (by_torch, other))
    assert np.array_equal(found.predicted, expected.predicted)
    for name, p_values in other.judge.p_values(found).items():
        np.testing.assert_allclose(p_values, by_torch.judge.p_values(expected)[name], atol=0.01)


@pytest.mark.skipif(
    not backends.usable_here(Engine(OPENVINO, 'bf16')), reason='this processor has no bfloat16'
)
def test_in_bfloat16_the_promise_holds_too(exported):
    bundle = load_bundle(exported)
    monitor = Monitor(bundle, backend=OPENVINO)
    assert str(monitor.classifier.engine) == 'openvino_bf16'
    summary = {str(one.engine): one for one in bundle.stored.summaries()}['openvino_bf16']
    assert summary.largest_change > 1e-3 and not summary.refused  # it does compute something else
    inside = run(monitor.classifier, tiny.source(7, 400))
    flagged = monitor.judge.p_values(inside)['fused'] <= monitor.judge.thresholds[inside.predicted]
    by_torch = Monitor(bundle, backend=TORCH, device='cpu', trusted_packages=['tiny'])
    budget = bundle.calibration.alpha
    assert flagged.mean() <= budget + 3 * np.sqrt(budget / 400)
    expected = run(by_torch.classifier, tiny.source(7, 400))
    assert (expected.predicted == inside.predicted).mean() > 0.97


def test_the_bundle_says_what_was_found(exported):
    stored = load_bundle(exported).stored
    assert {str(summary.engine) for summary in stored.summaries()} >= set(NAMES)
    for summary in stored.summaries():
        if summary.engine in ENGINES:
            assert (summary.images, summary.reclassified, summary.refused) == (200, 0, '')
            assert not stored.own_calibration(summary.engine)
            assert 0 <= summary.largest_change < 1e-3


def test_auto_takes_openvino_then_onnxruntime_then_torch(exported, monkeypatch):
    bundle = load_bundle(exported)
    assert load_network(bundle, backend='auto').engine.backend == OPENVINO
    hide(monkeypatch, 'openvino')
    assert load_network(bundle, backend='auto').engine.backend == ONNXRUNTIME
    hide(monkeypatch, 'openvino', 'onnxruntime')
    running = load_network(bundle, backend='auto', trusted_packages=['tiny'])
    assert running.engine.backend == TORCH


def test_auto_takes_torch_where_nothing_was_exported(tiny_folder):
    running = load_network(load_bundle(tiny_folder), backend='auto', trusted_packages=['tiny'])
    assert running.engine.backend == TORCH


def hide(monkeypatch, *names):
    """Have packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, 'find_spec',
        lambda name, *more: None if name in names else find(name, *more),
    )


def test_a_backend_that_is_missing_is_named_with_the_remedy(exported, monkeypatch):
    hide(monkeypatch, 'openvino')
    with pytest.raises(NavMonitorError, match=r'openvino, and none is installed; pip install'):
        load_network(load_bundle(exported), backend=OPENVINO)


def test_a_backend_that_was_not_exported_for_is_named_with_the_remedy(tiny_folder):
    with pytest.raises(NavMonitorError, match='not exported for it; nav_monitor export'):
        load_network(load_bundle(tiny_folder), backend=OPENVINO)


def test_an_unknown_backend_is_answered_with_those_that_are_known(exported):
    with pytest.raises(NavMonitorError, match="'tensorrt' is not auto, torch, onnxruntime"):
        load_network(load_bundle(exported), backend='tensorrt')


@pytest.mark.parametrize('name', ['network.onnx', 'probe.safetensors'])
@pytest.mark.parametrize('spoil', ['change', 'remove'])
def test_a_spoilt_export_is_refused_and_auto_does_without(exported_copy, name, spoil, caplog):
    path = exported_copy / 'exported' / name
    if spoil == 'remove':
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    bundle = load_bundle(exported_copy)
    words = 'was changed after' if spoil == 'change' else 'lacks exported'
    with pytest.raises(NavMonitorError, match=f'{words}.*copy the bundle again'):
        load_network(bundle, backend=OPENVINO)
    with caplog.at_level(logging.WARNING):
        running = load_network(bundle, backend='auto', trusted_packages=['tiny'])
    assert running.engine.backend == TORCH
    assert 'the backend openvino is not used' in caplog.text and words in caplog.text


def test_an_export_that_leads_out_of_the_bundle_is_refused(exported_copy, tmp_path):
    graph = exported_copy / 'exported' / 'network.onnx'
    shutil.move(graph, tmp_path / 'elsewhere.onnx')
    graph.symlink_to(tmp_path / 'elsewhere.onnx')
    with pytest.raises(NavMonitorError, match='leads out of the bundle'):
        load_bundle(exported_copy)


@pytest.mark.parametrize(('old', 'new'), [
    ('openvino_f32:', 'tensorrt_f32:'), ('images: 200\n    largest', 'images: many\n    largest'),
    ('reclassified: 0\n', ''),
])
def test_a_malformed_description_of_an_export_is_refused(exported_copy, old, new):
    path = exported_copy / 'bundle.yaml'
    text = path.read_text(encoding='utf-8')
    assert old in text
    path.write_text(text.replace(old, new), encoding='utf-8')
    with pytest.raises(NavMonitorError, match='malformed'):
        load_bundle(exported_copy)


# ------------------------------------------------------------------ backends that disagree


@pytest.fixture
def distort(monkeypatch):
    """Return a function that has a backend compute something else."""
    compiled = backends.compiled

    def plant(change):
        def crooked(engine, model, threads):
            runner = compiled(engine, model, threads)

            def run_crookedly(batch):
                logits, features, *others = runner(batch)
                return change(logits, features, others)

            return run_crookedly if engine.backend == OPENVINO else runner

        monkeypatch.setattr(exported_module, 'compiled', crooked)

    return plant


def rougher(logits, features, others):
    """Change everything by some per cent, as low precision does, in a way that images decide."""
    noise = np.sin(1e4 * features)
    return [logits, features + 0.1 * features.std() * noise,
            *(part + 0.05 * part.std() * np.sin(1e4 * part) for part in others)]


def test_a_backend_that_disagrees_is_calibrated_anew(tiny_folder, tmp_path, distort):
    distort(rougher)
    found = exported_to(tmp_path / 'b', tiny_folder).approvals
    assert found['onnxruntime_f32'].calibration is None
    assert found['openvino_f32'].calibration is not None and not found['openvino_f32'].refused
    bundle = load_bundle(tmp_path / 'b')
    monitor = Monitor(bundle, backend=OPENVINO)
    assert monitor.bundle.calibration is not bundle.calibration
    # Its thresholds keep the budget on the images that it was calibrated on, as torch's do on them.
    second = run(monitor.classifier, tiny.source(2, 200))
    assert np.mean(monitor.judge.p_values(second)['fused'] <= monitor.judge.thresholds[0]) < 0.05
    other = Monitor(bundle, backend=ONNXRUNTIME)
    assert other.bundle.calibration is bundle.calibration


@pytest.mark.usefixtures('single_precision')
def test_a_calibration_of_its_own_that_was_changed_is_refused(tiny_folder, tmp_path, distort):
    distort(rougher)
    exported_to(tmp_path / 'b', tiny_folder)
    path = tmp_path / 'b' / 'exported' / 'openvino_f32.safetensors'
    path.write_bytes(path.read_bytes()[:-1] + b'\x00')
    with pytest.raises(NavMonitorError, match='openvino_f32.safetensors was changed'):
        load_network(load_bundle(tmp_path / 'b'), backend=OPENVINO)


def test_a_backend_that_disagrees_and_cannot_be_calibrated_is_refused(
    tiny_folder, tmp_path, distort
):
    distort(lambda logits, features, others: [logits, features * np.nan, *others])
    found = exported_to(tmp_path / 'b', tiny_folder).approvals
    assert 'cannot be calibrated separately' in found['openvino_f32'].refused
    bundle = load_bundle(tmp_path / 'b')
    with pytest.raises(NavMonitorError, match='refused, .*not a finite number'):
        load_network(bundle, backend=OPENVINO)
    assert load_network(bundle, backend='auto').engine.backend == ONNXRUNTIME


def test_too_few_calibration_images_are_refused_before_the_work(tiny_folder, tmp_path):
    with pytest.raises(NavMonitorError, match='58 calibration images .* too few .* 59 are needed'):
        exported_to(tmp_path / 'b', tiny_folder, tiny.source(2, 58))
    assert not (tmp_path / 'b').exists()


@pytest.mark.usefixtures('single_precision')
def test_a_machine_that_computes_something_else_is_noticed(exported, distort, caplog):
    distort(lambda logits, features, others: [1.1 * logits, features, *others])
    bundle = load_bundle(exported)
    with pytest.raises(NavMonitorError, match='gives other logits on this machine'):
        load_network(bundle, backend=OPENVINO)
    with caplog.at_level(logging.WARNING):
        assert load_network(bundle, backend='auto').engine.backend == ONNXRUNTIME
    assert 'gives other logits' in caplog.text


def test_bfloat16_is_taken_only_where_it_was_tried_and_the_processor_has_it(exported, monkeypatch):
    stored = load_bundle(exported).stored
    rough, smooth = Engine(OPENVINO, 'bf16'), Engine(OPENVINO)
    tried = replace(stored, described={
        **stored.described, str(rough): stored.described[str(smooth)]
    })

    def fastest(known, usable):
        monkeypatch.setattr(engines, 'usable_here', lambda engine: engine in usable)
        return engines.candidates('auto', 'cpu', Engine(TORCH), known, 'b')[0]

    both = {rough, smooth, Engine(TORCH)}
    assert fastest(tried, both) == rough
    assert fastest(tried, both - {rough}) == smooth
    untried = replace(stored, described={str(smooth): stored.described[str(smooth)]})
    assert fastest(untried, both) == smooth


def test_tensorfloat_is_taken_only_on_a_gpu_and_where_it_was_tried(exported, monkeypatch):
    stored = load_bundle(exported).stored
    rough = Engine(TORCH, 'tf32')
    tried = replace(stored, described={
        **stored.described, str(rough): stored.described[str(Engine(OPENVINO))]
    })
    monkeypatch.setattr(engines, '_on_cuda', lambda device: device == 'cuda')
    monkeypatch.setattr(engines, 'usable_here', lambda engine: True)

    def chosen(known, backend, device):
        return engines.candidates(backend, device, Engine(TORCH), known, 'b')

    for backend in ('auto', TORCH):
        assert chosen(tried, backend, 'cuda') == [rough, Engine(TORCH)]
        assert chosen(stored, backend, 'cuda') == [Engine(TORCH)]
        assert rough not in chosen(tried, backend, 'cpu')
    assert chosen(tried, 'auto', 'cpu')[-1] == Engine(TORCH)


@pytest.mark.parametrize('name', ['network.onnx', 'probe.safetensors'])
def test_exporting_again_mends_a_spoilt_export(exported_copy, name):
    path = exported_copy / 'exported' / name
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    exported_to(exported_copy, exported_copy, backends=[ONNXRUNTIME])
    running = load_network(load_bundle(exported_copy), backend=ONNXRUNTIME)
    assert running.engine == Engine(ONNXRUNTIME)


def test_what_was_exported_before_stays_when_a_gpu_tries_torch(exported_copy, monkeypatch):
    monkeypatch.setattr(export_module, 'usable_here', lambda engine: engine.backend == TORCH)
    before = load_bundle(exported_copy).stored
    exported_to(exported_copy, exported_copy, backends=[TORCH])  # without a GPU it runs on the CPU
    bundle = load_bundle(exported_copy)
    assert set(bundle.stored.described) == {*before.described, 'torch_tf32'}
    assert load_network(bundle, backend=ONNXRUNTIME).engine == Engine(ONNXRUNTIME)
    graph = exported_copy / 'exported' / 'network.onnx'
    graph.write_bytes(graph.read_bytes()[:-1] + b'?')
    with pytest.raises(NavMonitorError, match=r'network\.onnx was changed after'):
        exported_to(exported_copy, exported_copy, backends=[TORCH])


def test_torch_is_exported_for_on_a_gpu_only(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, 'usable_here', lambda engine: engine.precision == 'f32')
    with pytest.raises(NavMonitorError, match='torch needs a GPU of compute capability 8'):
        exported_to(tmp_path / 'b', tiny_folder, backends=[TORCH])


@pytest.mark.parametrize('name', ['digits', 'traffic_signs'])
def test_auto_picks_openvino_for_the_shipped_bundles(name):
    bundle = load_bundle(name)
    monitor = Monitor(bundle)
    reference = load_network(bundle, device='cpu', scores=monitor.judge.scores)
    assert monitor.classifier.engine == Engine(OPENVINO)
    batch = np.random.default_rng(0).normal(size=(8, *reference.input_shape)).astype(np.float32)
    found, expected = monitor.classifier(batch), reference(batch)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-3, atol=1e-4)
    for score, values in monitor.judge.scores_of(expected).items():
        np.testing.assert_allclose(
            monitor.judge.scores_of(found)[score], values, rtol=1e-3, atol=1e-2
        )
