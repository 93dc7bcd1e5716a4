"""Names decide which class an image is, in every command that looks at labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
import torch
from named_images import NAMES, ORDERS, source, truth
from safetensors.torch import save_file

import nav_monitor_ros
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.class_matching import (
    network_labels,
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


IN_ANOTHER_ORDER = ('b_right', 'c_left', 'a_middle')  # of the alphabet


@pytest.mark.parametrize('command', [
    ('tuning', 'record', '--layer', 'output', '--output', 'tuning'),
    ('view', 'weight-gradient', '--measured', '0', '--output', 'filters.png'),
    ('view', 'evolution', '--steps', '1', '--frames', '2', '--side', '100',
     '--output', 'evolution.gif'),
], ids=lambda command: command[1])
@pytest.mark.parametrize('ordered', [True, False])
def test_every_command_says_that_it_names_the_outputs_and_warns_if_that_is_wrong(
    desk, tmp_path, monkeypatch, capsys, command, ordered
):
    aliases = ('a_left', 'b_middle', 'c_right') if ordered else ('b_left', 'c_middle', 'a_right')
    images = tmp_path / 'images'
    images.mkdir()
    for name, plain in zip(aliases, NAMES, strict=True):
        (images / name).symlink_to(desk / 'test' / plain)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bars.safetensors').symlink_to(desk / 'bars.safetensors')
    first = min(images.iterdir()) / '0.png'
    image = () if 'evolution' not in command else ('--image', str(next(first.parent.iterdir())))
    arguments = (*command[:2], *NETWORK, '--images', 'images', *image, *command[2:])
    assert main([*arguments]) == 0
    out = capsys.readouterr().out
    given = ', '.join(f"output {number} is '{name}'" for number, name in enumerate(sorted(aliases)))
    assert f'named after the classes of images, in their order: {given}; give --classes' in out
    assert ('of the labelled images are classified correctly, and guessing' in out) != ordered
    (tmp_path / 'names.txt').write_text('\n'.join(aliases))
    if command[0] == 'view':
        assert main([*arguments, '--classes', 'names.txt']) == 0
        out = capsys.readouterr().out
        assert 'named after' not in out and 'guessing' not in out


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
