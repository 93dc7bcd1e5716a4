"""Fitting: from images to a bundle."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from rich.console import Console

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.bundle.show import show
from nav_monitor_ros.bundle.used_images import reused_images
from nav_monitor_ros.data.batches import run
from nav_monitor_ros.data.image_source import from_arrays, split
from nav_monitor_ros.data.source_spec import source_label
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.decision.false_alarm_budget import images_needed, p_value_threshold
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.scores.registry import SCORES

SMALL = FitOptions(false_alarm_rate=0.1)


def tensors(bundle):
    return {
        f'{name}/{key}': array
        for name, score in bundle.scores.items()
        for key, array in score.tensors().items()
    } | bundle.calibration.tensors()


def same(one, other):
    ours, theirs = tensors(one), tensors(other)
    return list(ours) == list(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def fit_tiny(data, calibration=None, options=SMALL, **more):
    return fit(
        tiny.classifier(), tiny.SPEC, data, calibration or tiny.source(2, 80), options, **more
    )


# What is fitted.


def test_fitting_twice_gives_the_same_monitor():
    assert same(fit_tiny(tiny.source(1, 150)), fit_tiny(tiny.source(1, 150)))


def test_other_data_or_another_seed_give_another_monitor():
    first = fit_tiny(tiny.source(1, 150))
    assert not same(first, fit_tiny(tiny.source(3, 150)))
    other = fit_tiny(tiny.source(1, 150), options=FitOptions(false_alarm_rate=0.1, seed=1))
    assert not same(first, other)  # the calibration images are divided differently
    assert np.array_equal(first.scores['pattern'].patterns, other.scores['pattern'].patterns)


def test_the_order_of_the_images_changes_nothing_that_matters():
    source = tiny.source(1, 150)
    first = fit_tiny(source)
    second = fit_tiny(source.subset(np.random.default_rng(0).permutation(150)))
    assert np.array_equal(first.scores['pattern'].patterns, second.scores['pattern'].patterns)
    assert np.allclose(first.scores['gaussian'].mean, second.scores['gaussian'].mean, atol=1e-4)
    assert first.provenance['data']['sha256'] == second.provenance['data']['sha256']


def test_only_correctly_classified_images_are_learned():
    source = tiny.source(1, 150)
    wrong = source.own_labels.copy()
    wrong[:50] = (wrong[:50] + 1) % 3
    spoiled = from_arrays('spoiled', tiny.images(1, 150)[0], wrong)
    clean = source.subset(np.arange(50, 150))
    first, second = fit_tiny(spoiled), fit_tiny(clean)
    assert first.provenance['correctly_classified'] == 100
    assert np.array_equal(first.scores['pattern'].patterns, second.scores['pattern'].patterns)
    assert np.array_equal(first.scores['gaussian'].count, second.scores['gaussian'].count)


def test_without_labels_the_networks_predictions_serve():
    pixels, _ = tiny.images(1, 150)
    unlabelled = fit_tiny(from_arrays('unlabelled', pixels))
    assert unlabelled.provenance['labels'] == 'network predictions'
    assert unlabelled.provenance['correctly_classified'] == 150
    assert fit_tiny(tiny.source(1, 150)).provenance['labels'] == 'data'
    # The tiny network is right on all of them, so the result is the same.
    assert same(unlabelled, fit_tiny(tiny.source(1, 150)))


def test_the_calibration_holds_exactly_the_images_of_its_half():
    calibration = tiny.source(2, 81)
    bundle = fit_tiny(tiny.source(1, 150), calibration)
    second, first = split(calibration, 1 / 3, 0)
    running = bundle.scores['channel_means'].channel_mean_layers
    classifier = tiny.classifier()
    classifier.watch(running)
    scores = bundle.scores['energy'].score(run(classifier, first))
    assert np.array_equal(bundle.calibration.fusion_p_values['energy'].scores, np.sort(scores))
    everything = bundle.scores['gaussian'].score(run(classifier, calibration))
    assert np.array_equal(
        bundle.calibration.scores['gaussian'].pooled.scores, np.sort(everything)
    )
    assert len(bundle.calibration.scores['gaussian']) == 81 and len(first) == 27
    assert len(bundle.calibration.fused) == len(second)
    for name, mondrian in bundle.calibration.scores.items():
        threshold = p_value_threshold(len(mondrian), 0.1, 0.95)
        assert (bundle.calibration.thresholds[name] == threshold).all()


def test_layer_ranges_are_percentiles_of_the_training_images():
    bundle = fit_tiny(tiny.source(1, 64))
    classifier = tiny.classifier()
    assert list(bundle.layer_ranges) == [layer.name for layer in classifier.layers]
    classifier.tap(['fc1'])
    pixels = np.stack([tiny.PREPROCESS.apply(image) for image in tiny.images(1, 64)[0]])
    expected = np.percentile(classifier(pixels).maps['fc1'], (1, 99))
    assert bundle.layer_ranges['fc1'] == pytest.approx(tuple(expected), rel=1e-4)
    assert bundle.layer_ranges['relu1'][0] >= 0


def test_the_taps_are_left_as_they_were():
    classifier = tiny.classifier()
    classifier.tap(['pool'])
    fit(classifier, tiny.SPEC, tiny.source(1, 80), tiny.source(2, 80), SMALL)
    assert classifier.taps == ('pool',)


def test_progress_is_told_from_nothing_to_everything():
    told = []
    fit_tiny(tiny.source(1, 150), progress=lambda *args: told.append(args))
    whole = {what: total for what, _, total in told}
    assert whole['fitting'] == 150 and whole['calibrating'] == 80
    for what, total in whole.items():
        done = [d for w, d, _ in told if w == what]
        assert done[0] == 0 and done[-1] == total and done == sorted(done)


def test_chosen_scores_and_options_are_fitted():
    options = FitOptions(
        scores={'energy': {}, 'pattern': {'select': 0.25, 'gamma': 2}}, fuse=('pattern',),
        false_alarm_rate=0.1,
    )
    bundle = fit_tiny(tiny.source(1, 150), options=options)
    assert list(bundle.scores) == ['energy', 'pattern']
    assert bundle.scores['pattern'].settings['gamma'] == 2
    assert not bundle.scores['pattern'].monitored.all()
    assert bundle.calibration.fusion_members == ('pattern',)


def test_what_it_was_made_of_is_noted():
    bundle = fit_tiny(
        open_npz := from_arrays('/home/ann/secret/train.npz?split=train', *tiny.images(1, 150)),
        provenance={'weights': 'bars.pth'},
    )
    noted = bundle.provenance
    assert noted['data'] == {
        'source': 'train.npz?split=train', 'images': 150, 'sha256': open_npz.fingerprint()
    }
    assert noted['weights'] == 'bars.pth'
    assert noted['versions']['torch'] == torch.__version__.partition('+')[0]
    assert 'ann' not in json.dumps(noted)


@pytest.mark.parametrize(
    ('spec', 'label'),
    [
        ('/home/ann/photos', 'photos'), ('photos/train/', 'train'),
        ('sample:digits', 'sample:digits'),
        ('/a/b.npz?split=train&group=x/y', 'b.npz?split=train&group=x/y'), ('x', 'x'),
    ],
)
def test_folders_of_the_machine_are_not_noted(spec, label):
    assert source_label(spec) == label


# Classes.


def test_class_names_come_from_the_options_then_the_data_then_numbers():
    data = tiny.source(1, 150, class_names=('l', 'm', 'r'))
    named = FitOptions(false_alarm_rate=0.1, class_names=('L', 'M', 'R'))
    assert fit_tiny(data, options=named).class_names == ('L', 'M', 'R')
    assert fit_tiny(data).class_names == ('l', 'm', 'r')
    assert fit_tiny(tiny.source(1, 150)).class_names == ('class_0', 'class_1', 'class_2')


def test_labels_are_translated_by_the_names_of_the_classes():
    """A folder numbers its classes by the alphabet, the network in its own order."""
    pixels, labels = tiny.images(1, 150)
    alphabet = ('apple', 'bean', 'corn')
    order = ('corn', 'apple', 'bean')  # the network's left, middle, right
    numbers = np.array([alphabet.index(order[label]) for label in labels])
    data = from_arrays('fruit', pixels, numbers, class_names=alphabet)
    bundle = fit_tiny(data, options=FitOptions(false_alarm_rate=0.1, class_names=order))
    assert bundle.provenance['correctly_classified'] == 150
    assert bundle.class_names == order


def test_a_wrong_number_of_class_names_is_refused():
    with pytest.raises(NavMonitorError, match='2 class names are given, but the network has 3'):
        fit_tiny(tiny.source(1, 20), options=FitOptions(class_names=('a', 'b')))


@pytest.mark.parametrize('label', [-1, 3, 1000])
def test_labels_that_the_network_does_not_know_are_refused(label):
    pixels, labels = tiny.images(1, 20)
    labels[7] = label
    with pytest.raises(NavMonitorError, match=r'labels from .* classes 0 to 2; check'):
        fit_tiny(from_arrays('odd', pixels, labels))


def test_data_whose_labels_are_all_wrong_are_refused():
    pixels, labels = tiny.images(1, 50)
    with pytest.raises(NavMonitorError, match='no training image was classified correctly'):
        fit_tiny(from_arrays('shifted', pixels, (labels + 1) % 3))


# What must not be calibrated on.


def test_calibration_images_that_were_trained_on_are_left_out_and_counted():
    pixels, labels = tiny.images(2, 90)
    data_pixels, data_labels = tiny.images(1, 150)
    mixed = from_arrays(
        'mixed', np.concatenate([pixels, data_pixels[:30]]),
        np.concatenate([labels, data_labels[:30]]),
    )
    bundle = fit_tiny(tiny.source(1, 150), mixed)
    assert len(bundle.calibration.scores['gaussian']) == 90
    assert bundle.provenance['calibration_images_shared_with_data'] == 30
    assert bundle.provenance['calibration']['images'] == 90
    assert 'calibration_images_shared_with_data' not in fit_tiny(
        tiny.source(1, 150)
    ).provenance


def test_copies_among_the_calibration_images_count_once(caplog):
    pixels, labels = tiny.images(2, 90)
    twice = from_arrays('twice', np.concatenate([pixels, pixels[:60]]), np.tile(labels, 2)[:150])
    bundle = fit_tiny(tiny.source(1, 150), twice)
    assert len(bundle.calibration.scores['gaussian']) == 90
    assert bundle.provenance['calibration_images_copied'] == 60
    assert '60 of 150 calibration images are copies' in caplog.text
    few = from_arrays('few', np.concatenate([pixels[:20]] * 10), np.tile(labels[:20], 10))
    with pytest.raises(NavMonitorError, match='of which 180 are copies of others, are too few'):
        fit_tiny(tiny.source(1, 150), few)


def test_a_bundle_tells_which_images_it_was_made_of():
    data, calibration = tiny.source(1, 150), tiny.source(2, 80)
    bundle = fit_tiny(data, calibration)
    mixed = [data.digest(3), calibration.digest(0), tiny.source(7, 1).digest(0), data.digest(9)]
    found = reused_images(bundle.training_images, bundle.calibration_images, mixed)
    assert (found.images, found.training, found.calibration) == (4, 2, 1)
    assert found.warning('test') == (
        'of the 4 images of test, 2 were used to fit and 1 were used to calibrate this '
        'monitor: results on them are better than on new images'
    )
    assert reused_images(None, None, mixed).warning('test') == ''
    assert not reused_images(
        bundle.training_images, bundle.calibration_images, mixed[2:3]).warning('test')


def test_a_single_score_is_calibrated_on_all_images():
    bundle = fit_tiny(
        tiny.source(1, 150), tiny.source(2, 80),
        options=FitOptions(scores={'msp': {}}, false_alarm_rate=0.1),
    )
    assert len(bundle.calibration.fused) == len(bundle.calibration.scores['msp']) == 80
    # The fusion of one score is that score: every image has the same p-value by both.
    batch = run(tiny.classifier(), tiny.source(5, 100))
    p_values = bundle.judge(also=['msp']).p_values(batch)
    np.testing.assert_array_equal(p_values['fused'], p_values['msp'])
    enough = images_needed(0.1, 0.95)
    with pytest.raises(NavMonitorError, match=f'{enough} are needed; give more'):
        fit_tiny(
            tiny.source(1, 150), tiny.source(2, enough - 1),
            options=FitOptions(scores={'msp': {}}, false_alarm_rate=0.1),
        )


def test_a_calibration_on_the_training_images_is_refused():
    with pytest.raises(NavMonitorError, match='all images of the calibration source'):
        fit_tiny(tiny.source(1, 150), tiny.source(1, 150))


def test_what_the_network_cannot_serve_is_left_out_with_its_reason():
    bundle = fit_tiny(tiny.source(1, 150))
    assert set(bundle.provenance['left_out']) == {'mc_dropout', 'decoy'}
    assert 'mc_dropout is left out: the network has no dropout layer' in bundle.notes()


# Too little.


def test_too_few_calibration_images_are_answered_with_the_number_needed():
    needed = images_needed(0.01, 0.95)
    said = f'80 calibration images .*are too few.*{needed} plus half as many'
    with pytest.raises(NavMonitorError, match=said):
        fit_tiny(tiny.source(1, 60), options=FitOptions())
    enough = images_needed(0.1, 0.95)
    fit_tiny(tiny.source(1, 60), tiny.source(2, math.ceil(1.5 * enough) + 1))
    with pytest.raises(NavMonitorError, match='too few'):
        fit_tiny(tiny.source(1, 60), tiny.source(2, math.floor(1.5 * enough) - 2))


def test_a_single_calibration_image_is_refused():
    with pytest.raises(NavMonitorError, match='too few'):
        fit_tiny(tiny.source(1, 60), tiny.source(2, 1))


def test_unknown_scores_and_members_are_refused():
    with pytest.raises(NavMonitorError, match="no score 'knm'"):
        fit_tiny(tiny.source(1, 20), options=FitOptions(scores={'knm': {}}))
    with pytest.raises(NavMonitorError, match='score .pattern.*depth'):
        fit_tiny(tiny.source(1, 20), options=FitOptions(scores={'pattern': {'depth': 3}}))
    with pytest.raises(NavMonitorError, match='fitted are'):
        fit_tiny(
            tiny.source(1, 20),
            options=FitOptions(scores={'msp': {}}, fuse=('energy',), false_alarm_rate=0.1),
        )


@pytest.mark.parametrize(('choices', 'said'), [
    ({'scores': {'energy': {}, 'msp': {}}, 'fuse': ('energy', 'energy')}, "'energy' is named twi"),
    ({'scores': {'energy': {}}, 'fuse': ('knn',)}, "'knn' is not fitted; fitted are energy"),
    ({'scores': {'window_kl': {}}}, 'one frame alone; fitted are window_kl'),
    # Found when the network has been asked, and when the sample has been seen.
    ({'fuse': ('energy', 'mc_dropout')}, r"'mc_dropout' is not fitted \(.*dropout.*fitted are pat"),
    ({'fuse': ('energy', 'decoy')}, r"'decoy' is not fitted \(.*background.*fitted are pattern"),
])
def test_members_that_cannot_be_fused_end_the_fit_before_all_images_are_read(choices, said):
    stages = set()
    with pytest.raises(NavMonitorError, match=said):
        fit(
            tiny.classifier(), tiny.SPEC, tiny.source(1, 400), tiny.source(2, 200),
            FitOptions(false_alarm_rate=0.1, **choices),
            progress=lambda what, done, total: stages.add(what),
        )
    assert stages <= {'sampling'}


def test_an_image_that_cannot_be_read_ends_the_fit(tmp_path):
    import cv2

    for number, image in enumerate(tiny.images(1, 5)[0]):
        cv2.imwrite(str(tmp_path / f'{number}.png'), image)
    (tmp_path / '3.png').write_bytes(b'nothing')
    with pytest.raises(NavMonitorError, match=r'3\.png'):
        fit_tiny(open_source(str(tmp_path)))


# Scores that carry no information.


def narrow_classifier():
    """Return the tiny network with four living neurons, fewer than ViM's principal subspace has."""
    network = tiny.network()
    with torch.no_grad():
        network.fc1.weight[4:] = 0
        network.fc1.bias[4:] = 0
    return Classifier(network, tiny.PREPROCESS)


def test_a_degenerate_member_is_named_and_left_out_of_the_fusion(tmp_path, capsys):
    classifier = narrow_classifier()
    bundle = fit(classifier, tiny.SPEC, tiny.source(1, 300), tiny.source(2, 200), SMALL)
    assert 'vim' in bundle.scores and 'vim' not in bundle.calibration.fusion_members
    reason = 'no training image has a residual, so that it is the energy'
    assert bundle.degenerate['vim'] == reason
    assert f'vim is degenerate and not fused: {reason}' in bundle.notes()
    assert f'- vim is degenerate and not fused: {reason}' in model_card(bundle)
    save_bundle(bundle, classifier, tmp_path / 'bundle', card=model_card(bundle))
    read = load_bundle(tmp_path / 'bundle')
    assert read.degenerate == bundle.degenerate
    assert read.calibration.fusion_members == bundle.calibration.fusion_members
    show(read, Console(width=200))
    assert 'vim is degenerate and not fused' in capsys.readouterr().out


def test_a_degenerate_member_that_is_asked_for_is_fused_with_a_warning():
    options = FitOptions(false_alarm_rate=0.1, fuse=('energy', 'vim'))
    bundle = fit(
        narrow_classifier(), tiny.SPEC, tiny.source(1, 300), tiny.source(2, 200), options)
    assert bundle.calibration.fusion_members == ('energy', 'vim')
    assert any(
        note.startswith('warning: vim is fused as requested, but it is degenerate: ')
        for note in bundle.notes()
    )


def test_distances_of_images_of_a_single_class_are_not_compared():
    """The distance to the class is that to all images, and their difference is rounding."""
    pixels, labels = tiny.images(1, 400)
    held_out, other = tiny.images(2, 400)
    data = from_arrays('left', pixels[labels == 0], labels[labels == 0])
    calibration = from_arrays('held out', held_out[other == 0], other[other == 0])
    bundle = fit_tiny(data, calibration, SMALL)
    assert 'relative_mahalanobis' not in bundle.calibration.fusion_members
    assert 'one class' in ' '.join(bundle.notes())


def test_a_score_with_an_option_leaves_out_the_others_that_do_not_apply():
    options = replace(
        SMALL, scores={'pattern': {'gamma': 1}, 'mc_dropout': {}, 'decoy': {}},
        required=frozenset({'pattern'}))
    bundle = fit_tiny(tiny.source(1, 200), options=options)
    assert list(bundle.scores) == ['pattern']
    assert set(bundle.provenance['left_out']) == {'mc_dropout', 'decoy'}
    with pytest.raises(NavMonitorError, match='mc_dropout'):
        fit_tiny(tiny.source(1, 200), options=replace(options, required=None))


def test_a_member_equal_in_rank_to_another_is_named():
    options = FitOptions(
        false_alarm_rate=0.1, scores={'react': {'quantile': 1.0}, 'energy': {}},
        fuse=('react', 'energy'),
    )
    bundle = fit_tiny(tiny.source(1, 300), options=options)
    assert bundle.degenerate['react'].startswith('it ranks images as energy does')


def test_a_score_that_is_not_finite_is_left_out_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(SCORES['msp'], 'score', lambda _, batch: np.full(len(batch), np.nan))
    bundle = fit_tiny(tiny.source(1, 150))
    assert 'msp' not in bundle.scores
    assert bundle.provenance['left_out']['msp'] == (
        'it is not a finite number for 80 calibration images')
    options = FitOptions(false_alarm_rate=0.1, scores={'msp': {}, 'energy': {}})
    with pytest.raises(NavMonitorError, match="'msp' of a calibration image is not a finite"):
        fit_tiny(tiny.source(1, 150), options=options)


def test_a_network_that_tells_no_images_apart_is_refused():
    network = tiny.network()
    with torch.no_grad():
        network.fc2.weight.zero_()
    options = FitOptions(false_alarm_rate=0.1, scores={'energy': {}, 'max_logit': {}})
    with pytest.raises(NavMonitorError, match='no score of this network tells images apart'):
        fit(Classifier(network, tiny.PREPROCESS), tiny.SPEC, tiny.source(1, 150),
            tiny.source(2, 80), options)
