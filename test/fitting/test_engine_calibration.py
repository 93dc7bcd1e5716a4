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
from nav_monitor_ros.fitting.calibration_split import CalibrationSplit
from nav_monitor_ros.fitting.engine_export import NoEngineApproved, export
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.backends import ONNXRUNTIME, OPENVINO

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
    [warning] = [r.message for r in caplog.records if 'calibrated on none of' in r.message]
    assert 'give the calibration images of `fit` (tiny-2) (--calibration)' in warning


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def exported(tmp_path):
    """Return a bundle that was exported to the folder to which ``run`` exports."""
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    run(bundle, tiny.source(2, 200), tmp_path)
    return load_bundle(tmp_path / 'out')


def test_an_export_stays_if_no_engine_is_approved(tmp_path):
    bundle = exported(tmp_path)
    before = contents(tmp_path / 'out')
    # Enough images to compare engines, too few to calibrate one when a third has been set aside.
    with pytest.raises(NoEngineApproved) as refused:
        run(bundle, tiny.source(3, 70), tmp_path, force=True)
    said = str(refused.value)
    assert said.startswith('no engine is approved (onnxruntime_f32): ') and '\n' not in said
    assert said.count('too few') == 1 and said.count('; give') == 1
    assert said.endswith('; give the calibration images of `fit` (tiny-2) (--calibration)')
    assert contents(tmp_path / 'out') == before
    assert load_bundle(tmp_path / 'out').runs_without_code


def test_no_other_images_are_asked_for_if_the_monitors_own_were_given(tmp_path, monkeypatch):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    monkeypatch.setattr(engine_agreement, 'disagreements', lambda *_: ['it differs'])

    def impossible(*_, **__):
        raise NavMonitorError('a score is not finite')

    monkeypatch.setattr(engine_agreement, 'calibrate', impossible)
    with pytest.raises(NoEngineApproved, match='separately: a score is not finite$'):
        run(bundle, tiny.source(2, 200), tmp_path)
    assert not (tmp_path / 'out').exists()


def test_no_engine_is_calibrated_on_images_that_the_monitor_flags(tmp_path, seen):
    bundle = exported(tmp_path)
    before = contents(tmp_path / 'out')
    seen.clear()
    strange = from_arrays('strange', tiny.strange(4, 200))
    for own in (bundle, dataclasses.replace(bundle, calibration_images=None)):
        with pytest.raises(NavMonitorError, match='strange does not hold in-dist.* of `fit` .tiny'):
            run(own, strange, tmp_path, force=True)
    assert {engine for engine, _ in seen} == {'torch'}
    assert contents(tmp_path / 'out') == before
    # Few of many: as many as the budget explains.
    mixed = joined(tiny.source(3, 300), from_arrays('few', tiny.strange(4, 6), np.zeros(6, int)))
    assert not run(bundle, mixed, tmp_path, force=True).approvals['onnxruntime_f32'].refused


def test_alike_images_of_a_flagged_track_are_no_reason_to_refuse_a_source(tmp_path):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))
    pixels, labels = tiny.images(3, 400)
    pixels[:40] = tiny.strange(4, 1)[0]  # one of ten tracks
    groups = np.arange(400) // 40
    tracks = from_arrays('tracks', pixels, labels)
    scored = exporting._scored(bundle, tiny.classifier(), tracks, 1, lambda *_: None)

    def check(groups):
        split = CalibrationSplit(None, np.arange(400))
        engine = engine_agreement.EngineScores(*split.sets(scored, groups))
        engine_agreement.require_in_distribution(bundle, engine, 'tracks', '')

    check(groups)
    with pytest.raises(NavMonitorError, match='the monitor itself flags .* of 400'):
        check(None)


@pytest.mark.parametrize(('change', 'said'), [
    (lambda network: setattr(network, 'unit', 2.0 * network.unit),
     'its last linear layer is not the one that torch uses'),
    (lambda network: setattr(network, 'unit', np.nan), 'its last linear layer is not the one'),
    (lambda network: setattr(network, 'width', network.width + 1),
     f'its monitored layer has {tiny.WIDTH + 1} neurons, and that of torch {tiny.WIDTH}'),
])
def test_an_engine_with_other_features_is_refused_before_it_runs(
    tmp_path, monkeypatch, seen, change, said
):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))

    class Other(exporting.OnnxClassifier):
        def __init__(self, *arguments, engine, **options):
            super().__init__(*arguments, engine=engine, **options)
            if engine.backend == OPENVINO:
                change(self)

    monkeypatch.setattr(exporting, 'OnnxClassifier', Other)
    monkeypatch.setattr(exporting, 'usable_here', lambda engine: engine.precision == 'f32')
    reference = load_network(bundle, device='cpu', trusted_packages=['tiny'])
    found = export(
        bundle, reference, tiny.source(2, 200), [ONNXRUNTIME, OPENVINO], tmp_path / 'out')
    assert said in found.approvals['openvino_f32'].refused
    assert not found.approvals['onnxruntime_f32'].refused
    assert [engine for engine, _ in seen] == ['torch', 'onnxruntime_f32']
    stored = load_bundle(tmp_path / 'out').stored
    [refused] = [one for one in stored.summaries() if one.refused]
    assert (str(refused.engine), refused.images) == ('openvino_f32', 0) and said in refused.refused


def test_rounding_of_the_unit_is_allowed(tmp_path, monkeypatch):
    bundle = fitted(tmp_path, tiny.source(1, 400), tiny.source(2, 200))

    class Rounded(exporting.OnnxClassifier):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.unit *= 1 + 5e-4

    monkeypatch.setattr(exporting, 'OnnxClassifier', Rounded)
    found = run(bundle, tiny.source(2, 200), tmp_path).approvals['onnxruntime_f32']
    assert 'linear layer' not in found.refused


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
