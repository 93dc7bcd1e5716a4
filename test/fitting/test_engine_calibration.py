"""Which images an export is judged by: those that the monitor was calibrated on, and no others."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import tiny

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.bundle.used_images import CalibrationImages
from nav_monitor_ros.data.batches import score_images
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting import engine_agreement
from nav_monitor_ros.fitting import engine_export as exporting
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME

pytestmark = pytest.mark.once

OPTIONS = FitOptions(
    name='tiny', false_alarm_rate=0.05, class_names=tiny.CLASSES,
    scores={'pattern': {}, 'energy': {}, 'gaussian': {}}, fuse=('pattern', 'energy', 'gaussian'),
)


def joined(*sources):
    pixels = [s.image(i) for s in sources for i in range(len(s))]
    labels = np.concatenate([s.own_labels for s in sources])
    return from_arrays('joined', np.stack(pixels), labels)


def fitted(tmp_path, data, calibration, **options):
    running = tiny.classifier()
    bundle = fit(running, tiny.SPEC, data, calibration, dataclasses.replace(OPTIONS, **options))
    save_bundle(bundle, running, tmp_path / 'b', card='')
    return load_bundle(tmp_path / 'b')


@pytest.fixture
def seen(monkeypatch):
    """Return the checksums of the images that each engine is shown, the reference first."""
    shown = []

    def watched(network, scores, source, *args, **options):
        shown.append((str(network.engine), [source.digest(i) for i in range(len(source))]))
        return score_images(network, scores, source, *args, **options)

    monkeypatch.setattr(exporting, 'score_images', watched)
    return shown


def run(bundle, calibration, tmp_path, **options):
    return export(
        bundle, load_network(bundle, device='cpu', trusted_packages=['tiny']), calibration,
        [ONNXRUNTIME], tmp_path / 'out', trusted_packages=['tiny'], **options,
    )


@pytest.mark.parametrize('seed', [0, 5])
def test_training_images_that_fit_left_out_are_left_out_again(tmp_path, seen, caplog, seed):
    data, fresh = tiny.source(1, 400), tiny.source(2, 200)
    # Half of what is given to calibrate was trained on; the two halves are mixed.
    calibration = joined(data.subset(np.arange(200)), fresh)
    calibration = calibration.subset(np.random.default_rng(0).permutation(400))
    bundle = fitted(tmp_path, data, calibration, seed=seed)
    assert bundle.provenance['calibration_images_shared_with_data'] == 200
    approvals = run(bundle, calibration, tmp_path).approvals
    assert approvals['onnxruntime_f32'].images == 200
    # The network's own engine is shown all images once, others the calibration images alone.
    assert [engine for engine, _ in seen] == ['torch', 'onnxruntime_f32']
    assert len(seen[0][1]) == 400
    assert sorted(seen[1][1]) == sorted(fresh.digest(i) for i in range(200))
    assert '200 of 400 images are not used' in caplog.text
    assert approvals['onnxruntime_f32'].flagged_by_reference == flagged_in(bundle)


def flagged_in(bundle):
    """Return how many of the fused score's own calibration scores lie above its threshold."""
    calibration = bundle.calibration
    (cell,) = calibration.fused.cells
    p_values = np.array([cell.p_value(score) for score in cell.scores])
    return int((p_values <= calibration.thresholds['fused'][0]).sum())


def test_images_in_another_order_and_among_others_are_found(tmp_path, seen):
    data, calibration = tiny.source(1, 400), tiny.source(2, 200)
    bundle = fitted(tmp_path, data, calibration)
    expected = run(bundle, calibration, tmp_path).approvals['onnxruntime_f32']
    first = set(seen[1][1])
    seen.clear()
    mixed = joined(tiny.source(9, 50), calibration)
    mixed = mixed.subset(np.random.default_rng(1).permutation(len(mixed)))
    found = run(bundle, mixed, tmp_path).approvals['onnxruntime_f32']
    assert set(seen[1][1]) == first
    assert (found.images, found.flagged) == (expected.images, expected.flagged)


def test_too_few_of_them_are_refused(tmp_path):
    data, calibration = tiny.source(1, 400), tiny.source(2, 200)
    bundle = fitted(tmp_path, data, calibration)
    with pytest.raises(NavMonitorError, match='58 calibration images .* too few'):
        run(bundle, joined(calibration.subset(np.arange(58)), data), tmp_path)


def test_images_that_are_all_others_are_taken_with_a_warning(tmp_path, caplog):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    approvals = run(bundle, tiny.source(3, 150), tmp_path).approvals
    assert approvals['onnxruntime_f32'].images == 150
    assert 'calibrated on none of these images' in caplog.text


def test_a_bundle_of_an_earlier_version_takes_all_images(tmp_path):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    old = dataclasses.replace(bundle, calibration_images=None)
    assert run(old, tiny.source(2, 200), tmp_path).approvals['onnxruntime_f32'].images == 200


def test_training_images_are_refused_and_the_calibration_stays(tmp_path):
    data, calibration = tiny.source(1, 400), tiny.source(2, 200)
    bundle = fitted(tmp_path, data, calibration)
    before = {p.name: p.read_bytes() for p in bundle.folder.iterdir()}
    with pytest.raises(NavMonitorError, match='holds the images that the monitor was fitted to'):
        run(bundle, data.subset(np.arange(50, 350)), tmp_path)
    # An earlier version kept a fingerprint of all training images only.
    old = dataclasses.replace(bundle, calibration_images=None, training_images=None)
    with pytest.raises(NavMonitorError, match='holds the images .* `fit` .tiny-2.'):
        run(old, data, tmp_path)
    assert {p.name: p.read_bytes() for p in bundle.folder.iterdir()} == before
    assert not (tmp_path / 'out').exists()


def test_copies_of_calibration_images_are_not_called_training_images(tmp_path, caplog):
    fresh = tiny.source(2, 200)
    calibration = joined(fresh, fresh.subset(np.arange(20)))
    bundle = fitted(tmp_path, tiny.source(1, 400), calibration)
    caplog.clear()
    assert run(bundle, calibration, tmp_path).approvals['onnxruntime_f32'].images == 200
    assert 'not taken' not in caplog.text


def test_training_images_among_others_and_copies_are_not_taken(tmp_path, caplog):
    data = tiny.source(1, 400)
    bundle = fitted(tmp_path, data, tiny.source(2, 200))
    fresh = tiny.source(3, 150)
    given = joined(data.subset(np.arange(30)), fresh, fresh.subset(np.arange(20)))
    assert run(bundle, given, tmp_path).approvals['onnxruntime_f32'].images == 150
    assert '30 of 200 images are not used: the monitor was fitted to them' in caplog.text
    few = joined(*[fresh.subset(np.arange(40))] * 5)  # 200 images, but 40 different ones
    with pytest.raises(NavMonitorError, match='40 calibration images .* too few'):
        run(bundle, few, tmp_path)


@pytest.mark.parametrize('class_images', [None, 1000])
def test_an_engine_is_calibrated_anew_as_the_monitor_was(tmp_path, monkeypatch, class_images):
    bundle = fitted(
        tmp_path, tiny.source(1, 400), tiny.source(2, 900), class_images=class_images,
        false_alarm_rate=0.1,
    )
    assert load_bundle(tmp_path / 'b').calibration.class_images == class_images
    # As if the engine computed something else.
    monkeypatch.setattr(engine_agreement, 'disagreements', lambda *_: ['it differs'])
    own = run(bundle, tiny.source(2, 900), tmp_path).approvals['onnxruntime_f32'].calibration
    assert own.class_images == class_images
    cells, expected = own.fused.cells, bundle.calibration.fused.cells
    assert [len(cell) for cell in cells] == [len(cell) for cell in expected]
    assert (len(cells) > 1) == (class_images is None)
    again = load_bundle(tmp_path / 'out').stored.load().approvals['onnxruntime_f32'].calibration
    assert again.class_images == class_images


def test_an_export_keeps_scores_not_activations(tmp_path):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    reference = load_network(bundle, device='cpu', trusted_packages=['tiny'])
    wide = tiny.WIDTH * 4  # bytes of an image's features
    repeated = from_arrays('many', np.repeat(tiny.images(2, 200)[0], 100, axis=0))

    def peak(count):
        images = repeated.subset(np.arange(count))
        tracemalloc.start()
        exporting._scored(bundle, reference, images, 1, lambda *_: None)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)
    assert (peak(20_000) - peak(2000)) / 18_000 < wide


def test_equal_images_of_a_calibration_are_each_found_once():
    digests = [bytes([n]) * 32 for n in (1, 2, 1, 3)]
    images = CalibrationImages.of(digests, np.array([True, False, False, False]))
    first, second = images.find([digests[3], digests[0], digests[0], digests[0], b'x' * 32])
    assert (first.tolist(), second.tolist()) == ([1], [0, 2])
