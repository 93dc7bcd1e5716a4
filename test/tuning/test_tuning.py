"""Class tuning from the command line: recorded, shown as a page, and what goes wrong."""

import json
import re

import numpy as np
import pytest
import tiny
import torch
from planted_network import (
    CLASSES,
    PREPROCESS,
    Planted,
    planted_images,
    recorded,
)
from safetensors.torch import save_file

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.tuning import recorder
from nav_monitor_ros.tuning.recorder import (
    TuningOptions,
    merge_recordings,
)
from nav_monitor_ros.tuning.recording_files import TuningRecording
from nav_monitor_ros.tuning.selectivity import (
    informedness,
)
from nav_monitor_ros.tuning.statistics import (
    TRUE,
)
from nav_monitor_ros.tuning.tuning_page import tuning_page

pytestmark = pytest.mark.once


@pytest.fixture(scope='module')
def training(tmp_path_factory):
    """Return the recording of a short training of the digits network."""
    folder = tmp_path_factory.mktemp('training')
    assert main([
        'train', 'digits', '--data', 'sample:digits?limit=4000', '--epochs', '2',
        '--record-tuning', str(folder / 'tuning'), '--record-every', '0.5',
        '--output', str(folder / 'bundle'),
    ]) == 0
    return folder


def test_an_interrupted_training_continues_its_recording_and_force_replaces_it(capsys, tmp_path):
    folder = tmp_path / 'tuning'

    def run(*more):
        return main([
            'train', 'digits', '--data', 'sample:digits?limit=4000', '--epochs', '1',
            '--record-tuning', str(folder), '--record-every', '0.5',
            '--output', str(tmp_path / 'bundle'), *more,
        ])

    def stop(self, *_args, **_options):
        raise NavMonitorError('interrupted')

    with pytest.MonkeyPatch.context() as patch:  # after the first two checkpoints
        add, added = TuningRecording.add, []

        def add_two(self, *args, **options):
            if len(added) == 2:
                stop(self)
            added.append(args)
            add(self, *args, **options)

        patch.setattr(TuningRecording, 'add', add_two)
        assert run() == 2
    assert TuningRecording.open(folder).checkpoints == ['untrained', 'epoch 0.5']
    first = (folder / '0000.npz').read_bytes()
    assert run('--seed', '1') == 2
    assert 'holds a recording of another training' in capsys.readouterr().err.splitlines()[-1]
    assert run() == 0
    assert TuningRecording.open(folder).checkpoints == ['untrained', 'epoch 0.5', 'epoch 1']
    assert (folder / '0000.npz').read_bytes() == first
    (folder / 'notes.txt').write_text('mine')
    assert run('--seed', '1', '--force') == 0
    assert TuningRecording.open(folder).checkpoints == ['untrained', 'epoch 0.5', 'epoch 1']
    assert (folder / '0000.npz').read_bytes() != first
    assert (folder / 'notes.txt').read_text() == 'mine'


def test_a_training_is_recorded_and_its_outputs_become_selective(training, capsys, tmp_path):
    recording = TuningRecording.open(training / 'tuning')
    assert recording.checkpoints == ['untrained', 'epoch 0.5', 'epoch 1', 'epoch 1.5', 'epoch 2']
    assert len(list((training / 'tuning/weights').glob('*.safetensors'))) == 5
    output = [layer[0] for layer in recording.about.layers].index('output')
    found = [
        informedness(recording.checkpoint(place).layers[output].counts[TRUE]).max(axis=0).mean()
        for place in range(5)
    ]
    assert found[0] < 0.6 and found[-1] > 0.9 and found[-1] > found[0] + 0.3
    page = tmp_path / 'tuning.html'
    assert main(['view', 'tuning', str(training / 'tuning'), '--permutations', '5',
                 '--output', str(page)]) == 0
    told = f'{found[0]:.3f} at untrained -> {found[-1]:.3f} at epoch 2'
    assert told in capsys.readouterr().out
    assert told.replace('>', '&gt;') in page.read_text()
    titles = re.findall('"title": "([^"]*)"', page.read_text())
    assert titles[-2:] == ['penultimate', 'output'] and len(titles) > 3
    assert r'layer 8 \u0027conv2\u0027 (Sequential)' in titles


def test_checkpoints_of_a_training_are_recorded_again_alike(training, tmp_path, capsys):
    weights = training / 'tuning/weights'
    arguments = [
        'tuning', 'record', str(training / 'bundle'),
        *(part for name in ('untrained', 'epoch_2') for part in
          ('--weights', str(weights / f'{name}.safetensors'))),
        '--images', 'sample:digits?limit=500', '--layer', 'penultimate', '--layer', 'output',
        '--layer', 'conv2', '--components', '10', '--output', str(tmp_path / 'tuning'),
    ]
    assert main(arguments) == 0
    recording = TuningRecording.open(tmp_path / 'tuning')
    assert recording.checkpoints == ['untrained', 'epoch_2']
    assert [(name, len(chosen)) for name, _, chosen in recording.about.layers] == [
        ('penultimate', 10), ('output', 10), ('conv2', 10)
    ]
    assert recording.checkpoint(1).accuracy > 0.9
    assert main(arguments) == 0  # nothing is left to do


def test_networks_without_a_bundle_and_images_without_labels_are_recorded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(1)
    save_file(tiny.Bars().state_dict(), tmp_path / 'bars.safetensors')
    np.savez(tmp_path / 'bars.npz', x=tiny.images(3, 50)[0])
    assert main([
        'tuning', 'record', '--model', 'tiny:Bars', '--weights', str(tmp_path / 'bars.safetensors'),
        '--size', '12x12', '--images', str(tmp_path / 'bars.npz'),
        '--output', str(tmp_path / 'tuning'),
    ]) == 0
    recording = TuningRecording.open(tmp_path / 'tuning')
    assert recording.checkpoint(0).accuracy is None
    page, lines = tuning_page(recording, permutations=3)
    assert '"kinds": ["predicted"]' in page
    assert any('(predicted labels)' in line for line in lines)
    assert not any('layer layer' in line or 'guessing' in line for line in lines)


@pytest.mark.parametrize('layer', ['output', 'conv'])
def test_a_network_that_is_less_accurate_than_guessing_is_warned_of(
    tmp_path, tiny_classifier, layer
):
    pixels, labels = tiny.images(3, 60)
    for name, source, warned in (
        ('right', from_arrays('bars', pixels, labels), False),
        ('turned', from_arrays('bars', pixels, (labels + 1) % 3), True),
    ):
        recording = recorded(tmp_path / name, tiny_classifier, source, TuningOptions((layer,)))
        _, lines = tuning_page(recording, permutations=3)
        told = [line for line in lines if line.startswith('warning: 0.0% of the labelled images')]
        assert len(told) == warned and all('guessing gives 33.3%' in line for line in told)
        what = 'the output layer' if layer == 'output' else "layer 1 'conv' (Conv2d), the last one"
        assert any(f'mean J of {what}' in line for line in lines)


BAD = [
    (['tuning', 'record', '--images', 'sample:digits', '--output', 'x'], 'name a bundle'),
    (['tuning', 'record', 'digits', '--images', 'sample:digits', '--output', 'x'], 'checkpoints'),
    (['tuning', 'record', 'digits', '--weights', 'no.pth', '--images', 'sample:digits',
      '--output', 'x'], 'no.pth'),
    (['tuning', 'merge', 'one', '--output', 'x'], 'at least two'),
    (['view', 'tuning', 'nowhere', '--output', 'x.html'], 'nowhere'),
    (['view', 'tuning', 'nowhere', '--output', 'x.png'], '.html'),
    (['train', 'digits', '--record-tuning', 'x', '--record-every', '0', '--output', 'y'],
     '--record-every'),
    (['train', 'digits', '--record-tuning', 'x', '--weights', 'w.pth', '--output', 'y'],
     'skips it'),
]


@pytest.mark.parametrize(('arguments', 'words'), BAD)
def test_bad_input_gets_one_line_and_status_two(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and '\n' not in said
    assert list(tmp_path.iterdir()) == []


def test_recordings_that_do_not_fit_are_refused(tmp_path, tiny_classifier, monkeypatch):
    source = from_arrays('bars', *tiny.images(5, 30))
    recorded(tmp_path / 'a', tiny_classifier, source)
    recorded(tmp_path / 'b', tiny_classifier, source)
    recorded(tmp_path / 'c', tiny_classifier, source, TuningOptions(('conv',)))
    recorded(tmp_path / 'd', tiny_classifier, source, checkpoints=('other',))
    for other, words in (('b', '30 images are in both'), ('c', 'layers'), ('d', 'checkpoints')):
        with pytest.raises(NavMonitorError, match=words):
            merge_recordings([tmp_path / 'a', tmp_path / other], tmp_path / f'merged_{other}')
    with pytest.raises(NavMonitorError, match='another'):
        recorded(tmp_path / 'a', tiny_classifier, source, TuningOptions(('conv',)))
    with pytest.raises(NavMonitorError, match='labels from'):
        recorded(tmp_path / 'e', tiny_classifier,
                 from_arrays('far', tiny.images(5, 3)[0], np.array([0, 1, 7])))
    monkeypatch.setattr(recorder, '_LARGEST', 10_000)
    with pytest.raises(NavMonitorError, match='lower --components'):
        recorded(tmp_path / 'f', tiny_classifier, source)


@pytest.mark.parametrize('spoil', [
    lambda folder: (folder / '0000.npz').write_bytes(b'PK\x03\x04 no zip'),
    lambda folder: (folder / '0000.npz').unlink(),
    lambda folder: (folder / 'tuning.json').write_text('{'),
    lambda folder: (folder / 'tuning.json').write_text(
        json.dumps({**json.loads((folder / 'tuning.json').read_text()), 'format': 99})
    ),
    lambda folder: (folder / 'tuning.json').write_text(
        json.dumps({**json.loads((folder / 'tuning.json').read_text()), 'class_names': ['a']})
    ),
    lambda folder: (folder / 'thumbnails.npz').write_bytes(b''),
])
@pytest.mark.filterwarnings(
    'error::ResourceWarning', 'error::pytest.PytestUnraisableExceptionWarning')
def test_spoilt_recordings_are_named(spoil, tmp_path, tiny_classifier, capsys):
    recorded(tmp_path / 'a', tiny_classifier, from_arrays('bars', *tiny.images(5, 30)))
    spoil(tmp_path / 'a')
    page = tmp_path / 'a.html'
    assert main(['view', 'tuning', str(tmp_path / 'a'), '--output', str(page)]) == 2
    assert str(tmp_path / 'a') in capsys.readouterr().err
    assert not page.exists()


def test_broken_and_constant_answers_are_drawn_with_a_note(tmp_path):
    class Broken(Planted):
        def forward(self, images):
            features = self.fc.weight.new_zeros(len(images), 4 + CLASSES)
            pixels = self.flatten(images)
            features[:, 0] = pixels[:, 1]
            features[pixels[:, 2] > 0.5, 1] = float('nan')
            return self.fc(features)

    recording = recorded(
        tmp_path / 'broken', Classifier(Broken(), PREPROCESS), planted_images(50),
        TuningOptions(('penultimate', 'output')),
    )
    seen = recording.checkpoint(0)
    bright = sum(int(planted_images(50).image(i)[0, 2]) > 127 for i in range(50))
    assert seen.layers[0].broken[:3].tolist() == [0, bright, 0]
    assert seen.layers[0].dead[1:].all()
    assert len(tuning_page(recording, permutations=3)[0]) > 10_000
