"""The evaluation's figures on cases that can be counted by hand."""

from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import tiny
import torch

from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.decision.evidence import FrameEvidence
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation import evaluate as evaluation_module
from nav_monitor_ros.evaluation import metrics
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.evaluation.metrics import out_of_pattern
from nav_monitor_ros.evaluation.pytorch_ood_detectors import Peer
from nav_monitor_ros.evaluation.report_data import evaluation_report, reuse_warning
from nav_monitor_ros.evaluation.report_page import write_report
from nav_monitor_ros.evaluation.streams import ImageEvidence, StreamPlan
from nav_monitor_ros.evaluation.tables import text_tables
from nav_monitor_ros.perception.network.torch.classifier import Classifier


@pytest.fixture(scope='module')
def judge(tiny_bundle):
    return tiny_bundle.judge(also=['all'])


@pytest.fixture(scope='module')
def running(tiny_bundle, judge):
    return load_network(
        tiny_bundle, device='cpu', trusted_packages=['tiny'], scores=judge.scores
    )


@pytest.fixture(scope='module')
def result(running, judge):
    pixels, labels = tiny.images(5, 300)
    labels = labels.copy()
    labels[:30] = (labels[:30] + 1) % 3  # the network is wrong on these
    inside = from_arrays('inside', pixels, labels)
    outside = {'lying': from_arrays('lying', tiny.strange(5, 80))}
    return evaluate(running, judge, inside, outside), labels


def test_coverage_counts_flagged_mistakes(result, running, judge):
    (evaluation, judged), labels = result
    batch = judged.sources['inside']
    wrong = batch.predicted != labels
    assert evaluation.accuracy == pytest.approx(1 - wrong.mean())
    for score, coverage in evaluation.coverage.items():
        thresholds = judge.calibration.thresholds[score]
        flagged = judged.p_values['inside'][score] <= thresholds[batch.predicted]
        assert coverage.flagged == flagged.sum() and coverage.images == 300
        assert coverage.misclassified == wrong.sum()
        assert coverage.misclassified_flagged == (flagged & wrong).sum()


def test_patterns_beyond_gamma_are_counted_for_all_and_for_each_predicted_class(
    result, judge, running
):
    (evaluation, _), labels = result
    batch = run(running, from_arrays('inside', tiny.images(5, 300)[0]))
    wrong = batch.predicted != labels
    # By the definition, one pair of patterns at a time.
    pattern = judge.scores['pattern']
    distances = []
    for features, label in zip(batch.features, batch.predicted, strict=True):
        _, _, distance = pattern.nearest(features, int(label))
        distances.append(distance)
    distances = np.array(distances)
    for gamma in (0, 1, 2, 3):
        coverage = evaluation.out_of_pattern[gamma]
        assert coverage.flagged == (distances > gamma).sum()
        assert coverage.misclassified_flagged == ((distances > gamma) & wrong).sum()
        parts = [c[gamma] for c in evaluation.out_of_pattern_of_class.values()]
        assert sum(part.flagged for part in parts) == coverage.flagged
        assert sum(part.misclassified for part in parts) == coverage.misclassified
    for label, name in enumerate(tiny.CLASSES):
        rows = batch.predicted == label
        assert evaluation.out_of_pattern_of_class[name][1].images == rows.sum()
        assert evaluation.out_of_pattern_of_class[name][1].flagged == (distances[rows] > 1).sum()


def test_without_patterns_there_is_nothing_to_count(tiny_bundle, running):
    judge = tiny_bundle.judge(decisive='msp')
    batch = run(running, tiny.source(5, 20))
    assert out_of_pattern(judge, judge.scores_of(batch), np.zeros(20, bool)) == {}


def said(flags):
    """Return what frames say of which three in a row raise the alert, and two do not."""
    return [
        FrameEvidence(0.0005, True, 60.0) if flag else FrameEvidence(0.5, False, 0.5)
        for flag in flags
    ]


def evidence(frames):
    columns = [np.array(column) for column in zip(*frames, strict=True)]
    return ImageEvidence(*columns)


def test_alarms_of_a_stream_are_counted_as_the_node_raises_them():
    flags = np.zeros(1000, bool)
    flags[[10, 11]] = True  # two in a row: no alarm
    flags[100:103] = True  # three: one alarm
    flags[104] = True  # not yet cleared: the same alarm
    flags[500:510] = True  # one alarm
    images = {
        'usual': evidence(said(flags)), 'always': evidence(said([True] * 50)),
        'never': evidence(said([False] * 50)),
    }
    stream = metrics.streams_of(
        lambda score, source: images[source], ['fused'], 'usual', ['always', 'never'],
        StreamPlan(rate=10.0, ood_seconds=9.0),
    )['fused']
    assert stream.false_alarms == 2
    # Raised from the third flagged frame to the fifth clear one.
    assert stream.share_alerted == pytest.approx(((109 - 102) + (514 - 502)) / 1000)
    assert stream.hours == pytest.approx(100 / 3600)
    assert stream.false_alarms_per_hour == pytest.approx(2 * 36)
    # Two events: the exact 95 % upper bound of a Poisson mean is 6.296.
    assert stream.at_most_per_hour == pytest.approx(6.2958 * 36, rel=1e-4)
    assert stream.frames_to_alert == {'always': 3.0, 'never': None}
    assert stream.frames_to_alert_p95 == {'always': 3.0, 'never': None}
    assert stream.never_alerted == {'always': 0.0, 'never': 1.0}


def test_the_delay_is_that_of_every_starting_place():
    plan = StreamPlan(rate=10.0, ood_seconds=9.0)
    delays = metrics._delays(said([True, True, True, False] * 20), metrics.EvidenceRules(), plan)
    # From the first flag of three 3 frames; from all others 4, with the gap among them.
    assert sorted(set(delays.tolist())) == [3.0, 4.0]
    assert (delays == 3).sum() == 20


def test_every_score_is_timed_and_every_table_has_its_columns(result):
    (evaluation, _), _ = result
    assert set(evaluation.microseconds) == set(evaluation.separation['lying'])
    assert all(cost > 0 for cost in evaluation.microseconds.values())
    for caption, headings, rows in text_tables(evaluation):
        assert rows and all(len(row) == len(headings) for row in rows), caption


def test_without_strange_images_there_are_false_alarms_only(running, judge):
    evaluation, judged = evaluate(running, judge, tiny.source(5, 60), {})
    assert evaluation.separation == {} and set(judged.scores) == {'tiny-5'}
    assert set(evaluation.false_alarms) == {*judge.scores, 'fused'}
    captions = [caption for caption, _, _ in text_tables(evaluation)]
    assert len(captions) == 2 and captions[0].startswith('False alarms')


def test_peers_need_labels_and_images_of_their_own(running, judge):
    inside = tiny.source(5, 60)
    unlabelled = from_arrays('unlabelled', tiny.images(1, 20)[0])
    with pytest.raises(NavMonitorError, match='unlabelled: the images need labels'):
        evaluate(running, judge, inside, {}, peers_training=unlabelled)
    with pytest.raises(NavMonitorError, match='all of its images are also in --inside'):
        evaluate(running, judge, inside, {}, peers_training=inside)


def test_images_of_inside_are_left_out_of_what_peers_are_fitted_to(running, judge, monkeypatch):
    seen = {}

    def fit_peers(training, labels, head):
        seen['count'] = len(training)
        return []

    monkeypatch.setattr(evaluation_module, 'fit_peers', fit_peers)
    pixels, labels = tiny.images(7, 100)
    evaluate(
        running, judge, from_arrays('some', pixels[:30], labels[:30]), {},
        peers_training=from_arrays('all', pixels, labels),
    )
    assert seen['count'] == 70


def test_the_reports_figures_are_those_of_the_tables_where_each_class_has_its_threshold(
    tiny_bundle, running, judge, tmp_path
):
    limits = np.array([0.6, 0.001, 0.05])
    own = copy.copy(judge)
    # What ran the network may have a calibration of its own, which is not the bundle's.
    own.calibration = dataclasses.replace(
        judge.calibration, alpha=0.034,
        thresholds=dict.fromkeys(judge.calibration.thresholds, limits))
    own.thresholds = limits
    inside = from_arrays('inside', *tiny.images(5, 300))
    outside = {
        'lying': from_arrays('lying', tiny.strange(5, 80)),
        'others': from_arrays('others', tiny.images(6, 50)[0]),
    }
    evaluation, judged = evaluate(running, own, inside, outside)
    data = evaluation_report(tiny_bundle, own, inside, outside, evaluation, judged)
    write_report(tmp_path / 'report.html', data)
    page = (tmp_path / 'report.html').read_text()
    [false] = {
        row[1] for caption, _, rows in text_tables(evaluation) if caption.startswith('False')
        for row in rows if row[0] == 'fused'}
    seen = 0
    for caption, headings, rows in text_tables(evaluation):
        if headings[-1] == 'flagged':
            [row] = [row for row in rows if row[0] == 'fused']
            assert f'{false} %, {row[-1]} %</span>' in page
            assert f'AUROC {row[1]} %</span>' in page
            assert re.search(
                f'flagged: {false} %</span>.*?flagged: {row[-1]} %</span>', page, re.DOTALL
            ), caption
            seen += 1
    assert seen == 2 and 'thresholds by class' in page
    # Not those of the median of the thresholds.
    p_values = judged.p_values['inside']['fused']
    assert false != f'{100 * (p_values <= 0.05).mean():.2f}'
    assert any('at most 3.40%' in line for line in data.lines)
    assert len(data.false_alarms) == min(24, round(300 * evaluation.false_alarms['fused'].rate))


def test_classes_of_one_name_are_counted_apart(running, judge):
    twins = copy.copy(judge)
    twins.class_names = ('crane', 'bus', 'crane')
    evaluation, judged = evaluate(running, twins, from_arrays('inside', *tiny.images(5, 90)), {})
    counts = np.bincount(judged.sources['inside'].predicted, minlength=3).tolist()
    found = evaluation.out_of_pattern_of_class
    assert {name: by_gamma[0].images for name, by_gamma in found.items()} == {
        'crane (0)': counts[0], 'bus': counts[1], 'crane (2)': counts[2]}


def test_pictures_of_the_report_are_turned_as_they_were_judged(tiny_bundle, running, judge):
    images = from_arrays('inside', *tiny.images(5, 300)), from_arrays('lying', tiny.strange(5, 80))
    stored = [
        dataclasses.replace(
            one, read=lambda place, one=one: np.ascontiguousarray(one.read(place)[:, ::-1]),
            read_turned=one.read,
        ) for one in images
    ]
    bundle = dataclasses.replace(
        tiny_bundle, preprocess=dataclasses.replace(tiny_bundle.preprocess, exif='apply'))
    strict = copy.copy(judge)
    strict.thresholds = np.full(3, 0.5)  # so that there are false alarms
    evaluation, judged = evaluate(running, judge, images[0], {'lying': images[1]})
    data, wanted = (
        evaluation_report(bundle, strict, inside, {'lying': outside}, evaluation, judged)
        for inside, outside in (stored, images)
    )
    assert data.false_alarms and len(data.false_alarms) == len(wanted.false_alarms)
    for kind in ('false_alarms', 'missed'):
        for one, other in zip(getattr(data, kind), getattr(wanted, kind), strict=True):
            assert np.array_equal(one.pixels, other.pixels), kind


def test_a_source_that_is_called_as_the_in_distribution_one_is_refused(running, judge):
    source = tiny.source(5, 60)
    with pytest.raises(NavMonitorError, match='choose another name'):
        evaluate(running, judge, source, {source.name: tiny.source(6, 60)})


def test_images_that_the_monitor_was_made_of_are_warned_of(running, judge, tiny_bundle):
    from nav_monitor_ros.bundle.used_images import TrainingImages

    fresh = tiny.source(31, 40)
    outside = {'strange': from_arrays('strange', tiny.strange(5, 20))}
    evaluation, judged = evaluate(running, judge, fresh, outside)
    assert reuse_warning(tiny_bundle, fresh.name, judged) == ''
    trained = dataclasses.replace(
        tiny_bundle, training_images=TrainingImages.of([fresh.digest(i) for i in range(25)]))
    wanted = f'of the 40 images of {fresh.name}, 25 were used to fit this monitor'
    assert wanted in reuse_warning(trained, fresh.name, judged)
    report = evaluation_report(trained, judge, fresh, outside, evaluation, judged)
    assert [line for line in report.lines if line.startswith(f'Warning: {wanted}')]


def test_peers_see_the_network_as_it_is(monkeypatch):
    network = tiny.network()
    with torch.no_grad():
        network.fc2.bias -= 82
        network.fc2.weight *= 3
    running = Classifier(network, tiny.PREPROCESS)
    judge = tiny.fitted(running).judge()
    seen = []

    def fit_peers(training, labels, head):
        seen.append((training, head))
        return [Peer('peer', lambda batch: seen.append((batch, head)) or torch.zeros(len(batch)))]

    monkeypatch.setattr(evaluation_module, 'fit_peers', fit_peers)
    evaluate(running, judge, tiny.source(8, 20), {}, peers_training=tiny.source(7, 40))
    assert len(seen) > 2
    for batch, head in seen:
        np.testing.assert_array_equal(head.weight, network.fc2.weight.detach())
        np.testing.assert_allclose(
            head.logits(head.entering(batch.features)), batch.logits, rtol=1e-5, atol=1e-4)
        assert batch.logits.mean() < -70
