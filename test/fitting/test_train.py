"""Training the reference networks: it learns, and what must take no part takes none."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.decoys import decoys
from nav_monitor_ros.fitting.train import TASKS, TRAFFIC_SIGNS, train
from nav_monitor_ros.perception.network.torch.classifier import Classifier

pytestmark = pytest.mark.once

# Training on so few images takes a fraction of a second.
BLANK = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)


@pytest.fixture(scope='module')
def digits():
    return open_source('sample:digits')


def epochs_of(lines):
    return [float(re.fullmatch(r'epoch \d+ of \d+: loss ([\d.]+)', line)[1]) for line in lines]


def test_a_few_images_are_enough_to_learn_something(digits):
    lines = []
    trained = train(
        'digits', digits.subset(np.arange(500)), test=digits.subset(np.arange(500, 700)),
        epochs=4, log=lines.append,
    )
    losses = epochs_of(lines)
    assert len(losses) == 4 and losses[-1] < 0.6 * losses[0]
    assert trained.test_accuracy > 0.4  # chance is 0.1
    assert all(parameter.is_contiguous() for parameter in trained.network.parameters())
    classifier = Classifier(trained.network, trained.task.preprocess)
    assert classifier.classes == 10 and classifier.width == 128


def test_the_same_seed_trains_the_same_network():
    data = from_arrays('noise', BLANK, np.arange(60) % 10)
    first, again, other = (train('digits', data, epochs=1, seed=seed) for seed in (0, 0, 1))
    weights = [trained.network.state_dict() for trained in (first, again, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not torch.equal(weights[0]['fc1.weight'], weights[2]['fc1.weight'])
    assert first.fit_data.places.tolist() == again.fit_data.places.tolist()
    assert first.fit_data.places.tolist() != other.fit_data.places.tolist()


def test_a_background_class_is_one_more_output_that_no_image_is_classified_as(digits):
    data, test = digits.subset(np.arange(400)), digits.subset(np.arange(400, 500))
    trained = train('digits', data, test=test, decoy=True, epochs=6)
    assert trained.network.fc2.out_features == 11
    assert trained.test_accuracy > 0.3  # of ten classes: the background is never the answer
    spec = trained.task.spec(decoy=True)
    assert spec.arguments == {'classes': 11}
    classifier = Classifier(trained.network, trained.task.preprocess, background=-1)
    assert classifier.classes == 10


def test_decoys_are_made_of_the_training_images_alone():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (4, 12, 12, 3), np.uint8)
    images[2:] += 180
    labels = np.array([0, 0, 1, 1])
    made = decoys(images, labels, 60, rng)
    assert made.shape == (60, 12, 12, 3) and made.dtype == np.uint8
    known = {image.tobytes() for image in images}
    assert not any(image.tobytes() in known for image in made)
    values = set(np.unique(images).tolist())
    for number, image in enumerate(made):
        found = set(np.unique(image).tolist())
        if number % 3 < 2:  # moved about, and side by side
            assert found <= values
        else:  # laid over each other: between the two
            assert min(found) >= 50 and max(found) <= 190
    joined_classes = [set(np.unique(image).tolist()) for image in made[1::3]]
    assert all(min(v) < 100 < max(v) for v in joined_classes)  # of both classes


def test_decoys_of_a_single_class_are_shuffled_tiles():
    image = np.arange(144, dtype=np.uint8).reshape(1, 12, 12, 1)
    made = decoys(image, np.array([0]), 9, np.random.default_rng(1))
    for decoy in made:
        assert not np.array_equal(decoy, image[0])
        assert sorted(decoy.reshape(-1)) == sorted(image.reshape(-1))


def test_no_decoys_are_made_where_none_are_asked_for():
    image = np.zeros((3, 12, 12, 1), np.uint8)
    assert decoys(image, np.zeros(3, int), 0, np.random.default_rng(1)).shape == (0, 12, 12, 1)


def test_excluded_images_take_no_part():
    data = from_arrays('noise', BLANK, np.arange(60) % 10)
    excluded = from_arrays('some of them', BLANK[[3, 8, 40, 41]].copy())
    trained = train('digits', data, exclude=excluded, epochs=1)
    known = {excluded.digest(index) for index in range(4)}
    for part in (trained.fit_data, trained.calibration_data):
        assert not known & {part.digest(index) for index in range(len(part))}
    assert len(trained.fit_data) + len(trained.calibration_data) == 56


def test_test_images_that_are_trained_on_do_not_count(caplog):
    data = from_arrays('noise', BLANK, np.arange(60) % 10)
    trained = train('digits', data, epochs=1)
    with pytest.raises(NavMonitorError, match='all 53 test images of noise are training images'):
        train('digits', data, test=trained.fit_data, epochs=1)
    train('digits', data, test=data, epochs=1)  # the 7 that are held out are left
    assert '53 of 60 test images are training images too and are left out' in caplog.text


@pytest.mark.parametrize('device', ['cuda:7', 'cuda:99'])
def test_a_device_that_is_not_there_is_refused_before_the_training(capsys, tmp_path, device):
    assert main(['train', 'digits', '--device', device, '--output', str(tmp_path / 'b')]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'nav_monitor train: device {device} does not exist')
    assert said.count('\n') == 1 and not (tmp_path / 'b').exists()


def test_training_and_calibration_share_no_image():
    trained = train('digits', from_arrays('noise', BLANK, np.arange(60) % 10), epochs=1)
    fit, calibration = (
        set(part.places.tolist()) for part in (trained.fit_data, trained.calibration_data)
    )
    assert not fit & calibration and len(fit | calibration) == 60
    assert len(calibration) == round(60 * TASKS['digits'].held_out)


def test_groups_never_straddle_training_and_calibration():
    tracks = np.arange(60) // 3
    data = from_arrays('tracks', BLANK, np.arange(60) % 10, groups=tracks)
    trained = train('digits', data, epochs=1)
    fit, calibration = (
        set(part.groups.tolist()) for part in (trained.fit_data, trained.calibration_data)
    )
    assert not fit & calibration
    assert len(fit | calibration) == 20 and len(calibration) == round(20 * 0.12)


def test_test_images_influence_nothing():
    data = from_arrays('noise', BLANK, np.arange(60) % 10)
    test = from_arrays('test', BLANK[::-1].copy(), np.arange(60) % 10)
    plain, tested = train('digits', data, epochs=1), train('digits', data, test=test, epochs=1)
    assert plain.test_accuracy is None and 0 <= tested.test_accuracy <= 1
    assert torch.equal(
        plain.network.state_dict()['fc2.weight'], tested.network.state_dict()['fc2.weight']
    )


def test_the_accuracy_is_that_of_the_network_on_the_test_images(digits):
    test = digits.subset(np.arange(100))
    trained = train('digits', from_arrays('noise', BLANK, np.arange(60) % 10), test=test, epochs=1)
    pixels = np.stack([trained.task.preprocess.apply(test.image(i)) for i in range(100)])
    with torch.no_grad():
        predicted = trained.network(torch.from_numpy(pixels)).argmax(1).numpy()
    assert trained.test_accuracy == np.mean(predicted == test.own_labels)


def test_given_weights_are_used_as_they_are(tmp_path):
    data = from_arrays('noise', BLANK, np.arange(60) % 10)
    first = train('digits', data, epochs=1)
    save_file(first.network.state_dict(), tmp_path / 'weights.safetensors')
    lines = []
    second = train('digits', data, weights=tmp_path / 'weights.safetensors', log=lines.append)
    assert lines == []
    ours, theirs = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert first.calibration_data.places.tolist() == second.calibration_data.places.tolist()


def test_traffic_signs_are_trained_in_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (86, 40, 44, 3), np.uint8)
    lines, told = [], []
    trained = train(
        'traffic_signs', from_arrays('signs', pixels, np.arange(86) % 43), epochs=1,
        log=lines.append, progress=lambda *args: told.append(args),
    )
    assert np.isfinite(epochs_of(lines)).all()
    assert told[-1][1] == told[-1][2] > 0
    classifier = Classifier(trained.network, trained.task.preprocess)
    assert classifier.classes == 43 == len(trained.task.class_names)
    assert classifier.input_shape == (3, 32, 32)


def test_every_task_describes_its_network():
    for task in TASKS.values():
        network = task.spec().build()
        assert isinstance(network, task.network)
        classifier = Classifier(network, task.preprocess)
        assert classifier.classes == len(task.class_names)
    assert len(set(TRAFFIC_SIGNS)) == 43


@pytest.mark.parametrize(
    'labels', [None, np.full(60, -1), np.full(60, 10), np.arange(60)]
)
def test_labels_that_do_not_fit_the_task_are_refused(labels):
    with pytest.raises(NavMonitorError, match='have labels from 0 to 9|the 10 classes 0 to 9'):
        train('digits', from_arrays('noise', BLANK, labels), epochs=1)


@pytest.mark.parametrize('labels', [None, np.arange(60)])
def test_test_images_that_do_not_fit_are_refused_before_the_training(labels):
    data, lines = from_arrays('noise', BLANK, np.arange(60) % 10), []
    with pytest.raises(NavMonitorError, match="'exam' (must have|has) labels from"):
        train('digits', data, test=from_arrays('exam', BLANK, labels), epochs=1, log=lines.append)
    assert not lines


@pytest.mark.parametrize('epochs', range(1, 9))
def test_any_number_of_steps_trains(epochs):
    lines = []
    train('digits', from_arrays('noise', BLANK, np.arange(60) % 10), epochs=epochs,
          log=lines.append)
    assert len(lines) == epochs


def test_unknown_tasks_and_too_few_images_are_refused():
    with pytest.raises(NavMonitorError, match="'cats'; there are digits, traffic_signs"):
        train('cats', from_arrays('noise', BLANK))
    with pytest.raises(NavMonitorError, match='too few'):
        train('digits', from_arrays('noise', BLANK[:3], np.arange(3)))
    everything = from_arrays('noise', BLANK, np.arange(60) % 10)
    with pytest.raises(NavMonitorError, match='too few'):
        train('digits', everything, exclude=everything)


def test_training_takes_place_where_it_is_asked_for():
    """A device without memory, which every machine has: a loss on it cannot be read."""
    with pytest.raises(Exception, match='meta'):
        train('digits', from_arrays('noise', BLANK, np.arange(60) % 10), epochs=1, device='meta')
