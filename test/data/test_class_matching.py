"""Names decide which class an image is, in every command that looks at labels."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

import nav_monitor_ros
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.class_matching import (
    how_matched,
    names_from,
    network_labels,
    require_known_classes,
)
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.evaluation.evaluate import evaluate
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.fitting.train import TASKS, train
from nav_monitor_ros.inspection.evolution_views import watch
from nav_monitor_ros.inspection.gradient_views import Subject
from nav_monitor_ros.inspection.inspected_network import Viewed
from nav_monitor_ros.inspection.training_steps import TrainingOptions
from nav_monitor_ros.inspection.weight_gradients import compare_filters
from nav_monitor_ros.tuning.recorder import TuningOptions, TuningRecorder

NAMES = ('dog', 'bus', 'cat')  # of the tiny network's outputs; no folder has them in this order
ORDERS = (('bus', 'cat', 'dog'), ('cat', 'dog', 'bus'), ('dog', 'bus', 'cat'))


def source(count=60, seed=5, names=NAMES, own=ORDERS[0], name='pictures'):
    """Return images of the tiny network's classes, numbered in the order ``own`` of their names."""
    pixels, labels = tiny.images(seed, count)
    numbers = np.array([own.index(names[label]) for label in labels])
    return from_arrays(name, pixels, numbers, class_names=tuple(own))


def truth(count=60, seed=5):
    return tiny.images(seed, count)[1].tolist()


# What is matched with what.


@pytest.mark.parametrize('own', ORDERS)
def test_the_order_of_a_sources_classes_does_not_matter(own):
    assert network_labels(source(own=own), NAMES).tolist() == truth()
    relabelled = source(own=own).numbered_for(NAMES)
    assert relabelled.labels.tolist() == truth() and relabelled.class_names == NAMES
    assert how_matched(source(own=own), NAMES) == ''


def test_a_source_may_have_some_of_the_classes_only():
    some = source(own=('cat', 'bus', 'dog'))
    cats = some.subset(np.flatnonzero(some.own_labels == 0))
    assert set(network_labels(cats, NAMES)) == {2}
    alone = from_arrays('cats', cats.image(0)[None], np.array([0]), class_names=('cat',))
    assert network_labels(alone, NAMES).tolist() == [2]


@pytest.mark.parametrize('own', [
    ('bus', 'cat', 'dogs'), ('dogs', 'cat', 'bus'),  # as many classes as the network has
    ('bus', 'cat', 'dog', 'dogs'), ('bus', 'dogs'),
])
def test_one_unknown_class_among_known_ones_is_named(own):
    pixels, _ = tiny.images(5, 8)
    images = from_arrays('pictures', pixels, np.arange(8) % len(own), class_names=own)
    with pytest.raises(NavMonitorError, match=r"the class 'dogs' \(is it 'dog'\?\)") as caught:
        network_labels(images, NAMES)
    assert '?without=dogs' in str(caught.value) and '\n' not in str(caught.value)
    # Without its images there is nothing wrong.
    known = images.subset(np.flatnonzero(images.own_labels != own.index('dogs')))
    assert [NAMES[n] for n in network_labels(known, NAMES)] == [own[n] for n in known.own_labels]


def test_position_decides_only_where_no_name_is_known_and_that_is_said(caplog):
    own = ('n01', 'n02', 'n03')
    images = source(names=own, own=own)
    with caplog.at_level(logging.WARNING):
        assert network_labels(images, NAMES).tolist() == truth()
    assert "position decides: 'n01' is 'dog', 'n02' is 'bus', 'n03' is 'cat'" in caplog.text
    assert 'position decides' in how_matched(images, NAMES)


@pytest.mark.parametrize('own', [('n01', 'n02'), ('n01', 'n02', 'n03', 'n04')])
def test_other_names_of_another_number_are_refused(own):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    with pytest.raises(NavMonitorError, match="the class 'n01' and 1 more, which is none"):
        network_labels(images, NAMES)


@pytest.mark.parametrize(('own', 'names'), [
    (('Bus', 'Cat', 'Dog'), NAMES), (('BUS', 'CAT', 'DOG'), NAMES),
    (('speed_limit', 'STOP', 'yield-sign'), ('Yield sign', 'stop', 'speed limit')),
])
def test_names_that_differ_in_writing_alone_are_no_reason_for_position(own, names):
    images = from_arrays('odd', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    expected = {NAMES: [1, 2, 0]}.get(names, [2, 1, 0])
    assert network_labels(images, names).tolist() == expected
    assert how_matched(images, names) == (
        "class names of odd are spelled differently from the network's: "
        + ', '.join(f"'{mine}' is '{names[place]}'"
                    for mine, place in zip(own, expected, strict=True))
    )
    other = from_arrays('odd', images.image(0)[None], np.array([0]), class_names=('Tram', 'Stop'))
    with pytest.raises(NavMonitorError, match="the class 'Tram'"):
        network_labels(other, ('tram 2', 'stop'))


@pytest.mark.parametrize(('own', 'names', 'said'), [
    (('Steer +30', 'Steer -30'), ('steer_30', 'steer_0'), r"'Steer \+30' \(is it 'steer_30'"),
    (('Steer \u221230', 'Steer 30'), ('steer_30', 'go'), "'Steer \u221230'"),
    (('left_1_5', 'left_15'), ('Left 1.5', 'right'), "'left_15'"),
    (('Limit 1.5', 'Limit 2.5'), ('limit_15', 'limit_25'), "'Limit 1.5' .is it 'limit_15'"),
    (('C', 'C++'), ('c++', 'python'), r"'C' \(is it 'c\+\+'"),
    (('> 3', '< 3'), ('>3', 'more'), "'< 3'"),
    (('speed 30', 'speed-30'), ('Speed_30', 'stop'), "both match the network's class 'Speed_30'"),
    (('STOP', 'Stop'), ('stop', 'go'), "'STOP' and 'Stop', and both"),
    (('stra\u00dfe', 'Strasse'), ('STRASSE', 'go'), 'both match'),
    (('left 15', 'GO'), ('Left_15', 'Left-15', 'go'), 'that name more than once'),
    (('\u0915\u093f', '\u0915\u0940'), ('\u0915\u093f x', '\u0915'), 'which is none'),
])
def test_two_classes_never_become_one(own, names, said):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    with pytest.raises(NavMonitorError, match=said) as caught:
        network_labels(images, names)
    assert '\n' not in str(caught.value)
    with pytest.raises(NavMonitorError):
        require_known_classes(images, names)


@pytest.mark.parametrize(('own', 'names'), [
    (('steer -30', 'steer +30'), ('Steer_-30', 'Steer_+30')),
    (('left_1_5', 'left_15'), ('Left 1.5', 'Left 15')),
    (('speed-limit-30', 'SPEED-LIMIT-50'), ('Speed limit 30', 'Speed limit 50')),
    (('Steer \u22125', 'Steer 5'), ('steer -5', 'steer 5')),
])
def test_signs_and_numbers_are_matched_where_both_have_them_and_that_is_said(own, names):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    assert network_labels(images, names).tolist() == [0, 1]
    assert f"'{own[0]}' is '{names[0]}'" in how_matched(images, names)


def test_names_are_the_same_however_accents_and_spaces_are_written():
    names = ('stra\u00dfe', 'b\u00fcrgersteig', 'rad weg')
    own = ('bu\u0308rgersteig', ' rad weg ', 'stra\u00dfe')
    images = from_arrays('ways', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    assert network_labels(images, names).tolist() == [1, 2, 0]


def test_a_name_that_the_network_has_twice_is_refused_where_it_is_used():
    names = ('crane', 'bus', 'crane')
    images = from_arrays('birds', tiny.images(5, 2)[0], np.arange(2), class_names=('bus', 'crane'))
    with pytest.raises(NavMonitorError, match='more than once, at 0 and 2'):
        network_labels(images, names)
    assert network_labels(images.subset(np.array([0])), names).tolist() == [1]


def test_numbers_are_positions_and_that_is_said():
    pixels, labels = tiny.images(5, 60)
    numbered = from_arrays('some.npz', pixels, labels)
    assert network_labels(numbered, NAMES).tolist() == labels.tolist()
    assert how_matched(numbered, NAMES) == (
        "the labels of some.npz are numbers, so position decides: '0' is 'dog', '1' is 'bus', "
        "'2' is 'cat'"
    )
    with pytest.raises(NavMonitorError, match='labels from 0 to 2, but the network has'):
        network_labels(numbered, NAMES[:2])


FOLDERS = tuple(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2, ..., as a folder numbers them


def test_numbers_are_names_where_the_networks_names_are_other_numbers(caplog):
    pixels = tiny.images(5, 3)[0]
    numbered = from_arrays('Test.npz', pixels, np.array([10, 2, 0]))
    by_output = numbered.numbered_for(FOLDERS)
    assert by_output.labels.tolist() == [2, 4, 0]
    assert [FOLDERS[label] for label in by_output.labels] == ['10', '2', '0']
    assert by_output.numbered_for(FOLDERS).labels.tolist() == [2, 4, 0]  # not moved twice
    assert "'2' is output 4" in how_matched(numbered, FOLDERS) and "'2' is output 4" in caplog.text
    with pytest.raises(NavMonitorError, match='the label 12, which is the name of none'):
        network_labels(from_arrays('Test.npz', pixels, np.array([10, 2, 12])), FOLDERS)
    caplog.clear()
    padded = tuple(f'{number:05d}' for number in range(12))
    assert network_labels(numbered, padded).tolist() == [10, 2, 0] and not caplog.text


def test_a_table_of_numbers_agrees_with_folders_of_the_same_numbers(tmp_path):
    (tmp_path / 'table').mkdir()
    lines = []
    for number in range(12):
        (tmp_path / 'folders' / str(number)).mkdir(parents=True)
        for file in (tmp_path / 'folders' / str(number) / 'a.png',
                     tmp_path / 'table' / f'{number}.png'):
            cv2.imwrite(str(file), np.full((6, 6, 3), 20 * number, np.uint8))
        lines.append(f'{number}.png\t{number}')
    (tmp_path / 'table' / 'labels.tsv').write_text('\n'.join(lines))
    folders, table = (open_source(str(tmp_path / name)) for name in ('folders', 'table'))
    names = names_from(folders, 12)
    truth = {folders.digest(i): label for i, label in enumerate(network_labels(folders, names))}
    assert [truth[table.digest(i)] for i in range(12)] == network_labels(table, names).tolist()


def test_classes_of_calibration_images_must_be_known_where_any_is():
    own = ('bus', 'cat', 'tram')
    images = from_arrays('held out', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        require_known_classes(images, NAMES)
    require_known_classes(images, ('class_0', 'class_1'))  # nobody knows the names


def test_a_network_is_named_after_the_classes_that_have_images():
    pixels = tiny.images(5, 8)[0]
    images = from_arrays('pictures', pixels, np.arange(8) % 4, class_names=('a', 'b', 'c', 'tram'))
    assert names_from(images, 4) == ('a', 'b', 'c', 'tram')
    known = images.subset(np.flatnonzero(images.own_labels != 3))
    assert names_from(known, 3) == ('a', 'b', 'c') and names_from(known, 5) is None
    assert network_labels(known, ('a', 'b', 'c')).tolist() == known.own_labels.tolist()
    assert names_from(from_arrays('numbers', pixels, np.arange(8) % 3), 3) is None


def test_classes_of_a_source_are_chosen_by_name():
    digits = open_source('sample:fashion_mnist?classes=bag,dress&limit=40')
    assert {digits.class_names[label] for label in digits.own_labels} == {'bag', 'dress'}
    rest = open_source('sample:fashion_mnist?without=bag,dress')
    assert set(rest.own_labels.tolist()) == {0, 1, 2, 4, 5, 6, 7, 9}


# Every command, against what it does with images that are numbered as the network's classes are.


@pytest.fixture(scope='module')
def running():
    return tiny.classifier()


@pytest.fixture(scope='module')
def bundle(running, tmp_path_factory):
    from nav_monitor_ros.bundle.saving import save_bundle

    folder = tmp_path_factory.mktemp('labels') / 'animals'
    save_bundle(tiny.fitted(running, class_names=NAMES), running, folder, card='x')
    return load_bundle(folder)


def test_train_learns_the_same_in_whatever_order_the_classes_come():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    names = TASKS['fashion'].class_names
    labels = np.arange(60) % 10
    own = sorted(names)
    numbers = np.array([own.index(names[label]) for label in labels])
    plain = from_arrays('numbered', pixels, labels)
    named = from_arrays('named', pixels, numbers, class_names=tuple(own))
    trained = [train('fashion', data, test=data, epochs=1) for data in (plain, named)]
    first, second = (one.network.state_dict() for one in trained)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert trained[0].test_accuracy == trained[1].test_accuracy
    assert trained[0].fit_data.labels.tolist() == trained[1].fit_data.labels.tolist()
    unknown = replace(named, class_names=(*own[:-1], 'hat'))
    with pytest.raises(NavMonitorError, match="the class 'hat'"):
        train('fashion', unknown, epochs=1)


def test_a_trained_network_is_as_right_on_pictures_as_on_numbers(tmp_path):
    digits = open_source('sample:digits?limit=150')
    words = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
    for number in range(len(digits)):
        place = tmp_path / words[digits.own_labels[number]] / f'{number}.png'
        place.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(place), digits.image(number))
    folder = open_source(str(tmp_path))
    assert folder.class_names != words
    labels, shipped = network_labels(folder, words), load_bundle('digits')
    predicted = load_network(shipped)(np.stack([
        shipped.preprocess.apply(folder.image(i)) for i in range(len(folder))
    ])).predicted
    assert (labels == predicted).mean() > 0.98


@pytest.mark.parametrize('own', ORDERS)
def test_evaluation_and_its_peers_are_the_same(running, bundle, own):
    pytest.importorskip('pytorch_ood')
    judge = bundle.judge(also=('pattern',))
    outside = {'odd': from_arrays('odd', tiny.strange(4, 40))}
    pixels, labels = tiny.images(7, 150)
    plain, _ = evaluate(
        running, judge, from_arrays('inside', *tiny.images(8, 90)), outside,
        peers_training=from_arrays('training', pixels, labels),
    )
    named, _ = evaluate(
        running, judge, source(90, 8, own=own, name='inside'), outside,
        peers_training=source(150, 7, own=own, name='training'),
    )
    assert named.accuracy == plain.accuracy > 0.9
    assert named.separation == plain.separation
    assert any(name.startswith('pytorch-ood') for name in named.separation['odd'])
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        evaluate(
            running, judge, source(90, 8), outside,
            peers_training=source(own=('bus', 'cat', 'tram'), names=('tram', 'bus', 'cat')),
        )


@pytest.mark.parametrize('own', ORDERS)
def test_tuning_counts_true_classes_by_their_names(running, tmp_path, own):
    recorded = []
    for name, images in (('plain', from_arrays('p', *tiny.images(5, 60))),
                         ('named', source(own=own))):
        recorder = TuningRecorder(
            tmp_path / name, running, images, NAMES, TuningOptions(), network='tiny'
        )
        recorded.append(recorder.record('now'))
    plain, named = recorded
    assert np.array_equal(plain.labels, named.labels)
    assert named.accuracy == plain.accuracy > 0.9
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        TuningRecorder(
            tmp_path / 'odd', running,
            source(own=('bus', 'cat', 'tram'), names=('tram', 'bus', 'cat')), NAMES,
            TuningOptions(), network='tiny',
        )


@pytest.fixture(scope='module')
def subject(running):
    return Subject.of(Viewed('tiny', running, NAMES, None), tiny.network)


@pytest.mark.parametrize('own', ORDERS)
def test_weight_gradients_take_classes_by_their_names(subject, own):
    compared = compare_filters(
        subject.network, tiny.PREPROCESS, source(own=own), NAMES, measured=0
    )
    assert compared.answers.labels.tolist() == truth()
    assert (compared.answers.predicted == compared.answers.labels).mean() > 0.9


@pytest.mark.parametrize('own', ORDERS)
def test_evolution_trains_on_classes_by_their_names(subject, own):
    options = TrainingOptions(steps=3, frames=2, batch=8, learning_rate=1e-3, measured=20)
    image = tiny.images(9, 1)[0][0]
    losses = []
    for images in (from_arrays('p', *tiny.images(5, 60)), source(own=own)):
        seen, _ = watch(subject, subject.network.network, images, image, options)
        losses.append([frame.loss for frame in seen.frames])
    assert losses[0] == losses[1] and losses[0][0] < 0.7


@pytest.mark.parametrize('own', ORDERS)
def test_fit_takes_data_by_name_and_refuses_unknown_calibration(running, own):
    options = FitOptions(
        false_alarm_rate=0.1, class_names=NAMES, scores={'pattern': {}, 'msp': {}}
    )
    fitted = fit(
        running, tiny.SPEC, source(150, 1, own=own), source(80, 2, own=own[::-1]), options
    )
    assert fitted.provenance['correctly_classified'] > 140
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        fit(
            running, tiny.SPEC, source(150, 1, own=own),
            source(80, 2, own=('bus', 'cat', 'tram'), names=('tram', 'bus', 'cat')), options,
        )


def test_export_refuses_calibration_images_of_an_unknown_class(running, bundle, tmp_path):
    pytest.importorskip('onnxruntime')
    from nav_monitor_ros.fitting.engine_export import export

    own = ('bus', 'cat', 'tram')
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        export(
            bundle, running, source(80, 2, own=own, names=('tram', 'bus', 'cat')),
            ['onnxruntime'], tmp_path / 'out',
        )
    assert not (tmp_path / 'out').exists()


# On the command line, from folders.


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
    """Return a folder with pictures by class, weights and names."""
    folder = tmp_path_factory.mktemp('desk')
    for name, seed, count in (('train', 1, 120), ('held_out', 2, 80), ('test', 3, 60)):
        for number, (image, label) in enumerate(zip(*tiny.images(seed, count), strict=True)):
            place = folder / name / NAMES[label] / f'{number}.png'
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), image[:, :, ::-1])
    save_file(tiny.network().state_dict(), folder / 'bars.safetensors')
    (folder / 'names.txt').write_text('\n'.join(NAMES))
    return folder


NETWORK = ('--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--size', '12x12',
           '--mean', '0.5,0.5,0.5', '--std', '0.25,0.25,0.25')


def test_every_command_goes_by_the_names_of_folders(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    named = (*NETWORK, '--classes', 'names.txt')
    assert main(['fit', *named, '--data', 'train', '--calibration', 'held_out',
                 '--false-alarm-rate', '0.1', '--output', 'fitted']) == 0
    out = capsys.readouterr().out
    assert '120 of 120 training images are classified correctly' in out
    assert 'position' not in out
    assert main(['evaluate', 'fitted', '--inside', 'test', '--trust', 'tiny']) == 0
    assert 'accuracy on test: 100.00%' in capsys.readouterr().out
    assert main(['tuning', 'record', *named, '--images', 'test', '--output', 'tuning']) == 0
    from nav_monitor_ros.tuning.recording_files import TuningRecording

    assert TuningRecording.open(desk / 'tuning').checkpoint(0).accuracy == 1.0
    assert main(['view', 'weight-gradient', *named, '--images', 'test', '--reference', 'cat',
                 '--output', 'filters.png']) == 0
    assert 'requested; missed 0 of' in capsys.readouterr().out


def test_outputs_without_names_get_those_of_the_training_images_and_that_is_said(
    desk, tmp_path, monkeypatch, capsys
):
    # In the order of the alphabet, as torchvision's ImageFolder numbers them in training.
    for name, plain in zip(('a_left', 'b_middle', 'c_right'), NAMES, strict=True):
        (tmp_path / name).symlink_to(desk / 'train' / plain)
    monkeypatch.chdir(desk)
    assert main(['fit', *NETWORK, '--data', str(tmp_path), '--calibration', 'held_out',
                 '--false-alarm-rate', '0.1', '--scores', 'msp,pattern', '--output', 'odd']) == 0
    out = capsys.readouterr().out
    assert "output 0 is 'a_left', output 1 is 'b_middle', output 2 is 'c_right'; give" in out
    assert '120 of 120 training images' in out
    assert load_bundle(desk / 'odd').class_names == ('a_left', 'b_middle', 'c_right')


def test_nothing_outside_the_room_reads_labels_as_a_source_numbers_them():
    package = Path(nav_monitor_ros.__file__).parent
    readers = {
        path.relative_to(package).parts[0] for path in package.rglob('*.py')
        if 'own_labels' in path.read_text()
    }
    assert readers == {'data'}


def test_a_source_that_is_numbered_for_a_network_stays_so(caplog):
    cats = source(own=('cat', 'bus', 'dog')).numbered_for(NAMES)
    again = cats.subset(np.arange(2)).numbered_for(NAMES)
    assert type(again) is type(cats) and again.labels.tolist() == cats.labels[:2].tolist()
    assert not caplog.records
