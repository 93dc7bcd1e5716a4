"""Class tuning: what is recorded against brute force, what is measured, what goes wrong."""

import dataclasses
import json

import numpy as np
import pytest
import sklearn.metrics
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.tuning import recorder
from nav_monitor_ros.tuning.recorder import (
    TuningOptions,
    TuningRecorder,
    merge_recordings,
    record_checkpoints,
)
from nav_monitor_ros.tuning.recording_files import TuningRecording
from nav_monitor_ros.tuning.selectivity import (
    MEASURES,
    class_selectivity_index,
    informedness,
    normalized_mutual_information,
    precision,
    selectivity,
)
from nav_monitor_ros.tuning.statistics import (
    BINS,
    KEPT,
    PREDICTED,
    TRUE,
    ZERO_BIN,
    LayerTuning,
    bin_centres,
    bin_of,
)
from nav_monitor_ros.tuning.tuning_page import tuning_page

CLASSES = 6
PLANTED, UNIFORM, DEAD, SILENCED = range(4)  # units of the planted network's penultimate layer


class Planted(nn.Module):
    """Reads the class from the first pixel, and noise from the second."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 + CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.cat([torch.zeros(CLASSES, 4), torch.eye(CLASSES)], dim=1))

    def forward(self, images):
        pixels = self.flatten(images) * 255
        read = ((pixels[:, :1] - torch.arange(CLASSES) * 40).abs() < 0.5).float()
        units = torch.stack(
            [read[:, 3] * 2, pixels[:, 1] / 255, pixels[:, 0] * 0, 1 - read[:, 1]], dim=1
        )
        return self.fc(torch.cat([units, read], dim=1))


PREPROCESS = Preprocess(4, 4, color='gray', mean=(0.0,), std=(1.0,), interpolation='area')


def planted_images(count=900, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = rng.integers(0, 256, (count, 4, 4)).astype(np.uint8)
    pixels[:, 0, 0] = labels * 40
    return from_arrays('planted', pixels, labels)


def names(count=CLASSES):
    return tuple(f'class {i}' for i in range(count))


def recorded(folder, classifier, source, options=TuningOptions(), checkpoints=('only',)):  # noqa: B008
    recorder = TuningRecorder(
        folder, classifier, source, names(classifier.classes), options, network='a network'
    )
    for name in checkpoints:
        recorder.record(name)
    return recorder.recording


def measured(seen, place, kind=TRUE, permutations=100):
    highest = int(seen.images.max()) + 1
    labels = np.full(highest, -1)
    labels[seen.images] = seen.labels[kind]
    return selectivity(
        seen.layers[place], kind, labels, seen.class_counts(kind, CLASSES), permutations
    )


# What is recorded.


def test_bins_rise_with_the_response_and_hold_it():
    values = np.concatenate([-np.geomspace(5000, 1e-5, 300), [0], np.geomspace(1e-5, 5000, 300)])
    bins = bin_of(values)
    assert (np.diff(bins) >= 0).all()
    assert bins.min() == 0 and bins.max() == BINS - 1
    assert bin_of(np.array([0.0, 1e-9, -1e-9])).tolist() == [ZERO_BIN] * 3
    inside = (np.abs(values) > 2.0**-12) & (np.abs(values) < 2.0**12)
    assert np.allclose(bin_centres()[bins[inside]] / values[inside], 1, atol=2 ** (1 / 16) - 1)
    assert (bin_of(bin_centres()) == np.arange(BINS)).all()


def awkward(rng, count, components):
    responses = rng.normal(0, 3, (count, components)).astype(np.float32)
    responses[rng.random(responses.shape) < 0.3] = 0
    if count:
        responses[rng.integers(count), rng.integers(components)] = np.nan
        responses[rng.integers(count), rng.integers(components)] = np.inf
    labels = np.stack([rng.integers(-1, 3, count), rng.integers(0, 3, count)])
    return responses, labels, rng.permutation(1000)[:count]


def brute(responses, labels, images, classes):
    """Return the statistics one number at a time."""
    layer = LayerTuning.empty('layer', np.arange(responses.shape[1]), classes)
    for column, values in enumerate(responses.T):
        good = []
        for value, image, both in zip(values, images, labels.T, strict=True):
            if not np.isfinite(value):
                layer.broken[column] += 1
                continue
            good.append((-value, image))
            layer.lowest[column] = min(layer.lowest[column], value)
            layer.highest[column] = max(layer.highest[column], value)
            for kind, label in enumerate(both):
                if label >= 0:
                    layer.counts[kind, label, column, bin_of(np.array(value))] += 1
                    layer.sums[kind, label, column] += float(value)
                    layer.squares[kind, label, column] += float(value) ** 2
                    layer.positive[kind, label, column] += max(float(value), 0)
        for rank, (value, image) in enumerate(sorted(good)[:KEPT]):
            layer.top_values[column, rank] = -value
            layer.top_images[column, rank] = image
    return layer


def assert_equal(one, other):
    for field in ('counts', 'broken', 'lowest', 'highest', 'top_values', 'top_images'):
        assert np.array_equal(getattr(one, field), getattr(other, field)), field
    for field in ('sums', 'squares', 'positive'):
        assert np.allclose(getattr(one, field), getattr(other, field), rtol=1e-12), field


@given(st.integers(0, 10**6), st.integers(1, 180), st.integers(1, 4), st.integers(0, 180))
@settings(max_examples=25, deadline=None)
def test_streamed_equals_brute_force_and_merged_equals_whole(seed, count, components, cut):
    rng = np.random.default_rng(seed)
    responses, labels, images = awkward(rng, count, components)
    expected = brute(responses, labels, images, 3)
    whole, first, second = (
        LayerTuning.empty('layer', np.arange(components), 3) for _ in range(3)
    )
    whole.add(responses, labels, images)
    first.add(responses[:cut], labels[:, :cut], images[:cut])
    second.add(responses[cut:], labels[:, cut:], images[cut:])
    first.merge(second)
    assert_equal(whole, expected)
    assert_equal(first, expected)


def test_recordings_of_parts_merge_to_the_recording_of_the_whole(tmp_path, tiny_classifier):
    source = from_arrays('bars', *tiny.images(5, 300))
    rows = np.random.default_rng(0).permutation(300)
    whole = recorded(tmp_path / 'whole', tiny_classifier, source, checkpoints=('a', 'b'))
    for name, part in (('first', rows[:110]), ('second', rows[110:])):
        recorded(
            tmp_path / name, tiny_classifier, source.subset(np.sort(part)), checkpoints=('a', 'b')
        )
    merged = merge_recordings([tmp_path / 'first', tmp_path / 'second'], tmp_path / 'merged')
    assert merged.checkpoints == whole.checkpoints == ['a', 'b']
    for place in range(2):
        one, other = merged.checkpoint(place), whole.checkpoint(place)
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
        for mine, theirs in zip(one.layers, other.layers, strict=True):
            assert_equal(mine, theirs)
    # The images that it shows of the whole, it has of the parts.
    assert set(whole.thumbnails()) <= set(merged.thumbnails())


def test_a_channel_answers_with_the_largest_or_the_mean_of_its_positions(tmp_path, tiny_classifier):
    pixels, labels = tiny.images(6, 40)
    source = from_arrays('bars', pixels, labels)
    batch = np.stack([tiny_classifier.preprocess.apply(p) for p in pixels])
    tiny_classifier.tap(['conv'])
    maps = tiny_classifier(batch).maps['conv']
    tiny_classifier.tap(())
    for response, expected in (('max', maps.max(axis=(2, 3))), ('mean', maps.mean(axis=(2, 3)))):
        recording = recorded(
            tmp_path / response, tiny_classifier, source, TuningOptions(('conv',), 256, response)
        )
        layer = recording.checkpoint(0).layers[0]
        assert np.allclose(layer.top_values[:, :40], -np.sort(-expected.T), rtol=1e-5)


def test_an_interrupted_recording_goes_on(tmp_path, tiny_classifier):
    source = from_arrays('bars', *tiny.images(7, 30))
    loaded = []

    def checkpoint(name, fail=False):
        def load():
            loaded.append(name)
            if fail:
                raise NavMonitorError('the file is torn')
            return tiny_classifier
        return name, load

    def recorder():
        return TuningRecorder(
            tmp_path / 'tuning', tiny_classifier, source, tiny.CLASSES, TuningOptions(),
            network='tiny',
        )

    with pytest.raises(NavMonitorError, match='torn'):
        record_checkpoints(recorder(), [checkpoint('a'), checkpoint('b', fail=True)])
    record_checkpoints(recorder(), [checkpoint('a'), checkpoint('b'), checkpoint('c')])
    assert loaded == ['a', 'b', 'a', 'b', 'c']  # what is there has to be the same
    assert TuningRecording.open(tmp_path / 'tuning').checkpoints == ['a', 'b', 'c']


def test_a_checkpoint_of_the_same_name_and_other_weights_is_refused(tmp_path, tiny_classifier):
    source = from_arrays('bars', *tiny.images(7, 30))
    other = tiny.classifier()
    with torch.no_grad():
        next(iter(other._network.parameters())).add_(1.0)

    def recorder(classifier=tiny_classifier, folder='tuning'):
        return TuningRecorder(
            tmp_path / folder, classifier, source, tiny.CLASSES, TuningOptions(), network='tiny'
        )

    assert record_checkpoints(recorder(), [('a', lambda: tiny_classifier)]) == 1
    assert record_checkpoints(recorder(), [('a', lambda: tiny_classifier)]) == 0
    with pytest.raises(NavMonitorError, match="checkpoint 'a' of other weights"):
        record_checkpoints(recorder(), [('a', lambda: other)])
    assert record_checkpoints(recorder(folder='other'), [('a', lambda: other)]) == 1
    with pytest.raises(NavMonitorError, match='other weights'):
        merge_recordings([tmp_path / 'tuning', tmp_path / 'other'], tmp_path / 'merged')
    classifier = tiny.classifier()
    classifier.preprocess = dataclasses.replace(classifier.preprocess, mean=(0.25, 0.25, 0.25))
    with pytest.raises(NavMonitorError, match='another preprocess'):
        recorder(classifier)


def test_recordings_of_two_sources_are_not_merged(tmp_path, tiny_classifier):
    for name in ('first', 'second'):
        TuningRecorder(
            tmp_path / name, tiny_classifier, from_arrays(name, *tiny.images(7, 30)), tiny.CLASSES,
            TuningOptions(), network='tiny',
        ).record('a')
    with pytest.raises(NavMonitorError, match='of different sources'):
        merge_recordings([tmp_path / 'first', tmp_path / 'second'], tmp_path / 'merged')


# How selective a component is.


def test_planted_uniform_and_dead_units_are_told_apart(tmp_path):
    seen = recorded(
        tmp_path / 'planted', Classifier(Planted(), PREPROCESS), planted_images(),
        TuningOptions(('penultimate', 'output')),
    ).checkpoint(0)
    assert seen.accuracy == 1.0
    found = measured(seen, 0)
    above = found.values > found.floors
    for number, name in enumerate(MEASURES):
        assert found.classes[number, PLANTED] == 3, name
        assert above[number, PLANTED], name
        assert not above[number, UNIFORM], name
    assert found.values[:3, PLANTED].tolist() == pytest.approx([1, 1, 1])
    assert seen.layers[0].dead.tolist()[:4] == [False, False, True, False]
    # Silence for class 1 tells much of it, but does not drive the unit.
    assert found.by_class[1, SILENCED] == 0
    assert found.values[0, SILENCED] == pytest.approx(0.2, abs=0.03)
    output = measured(seen, 1)
    assert output.values[0].tolist() == [1.0] * CLASSES
    assert output.classes[0].tolist() == list(range(CLASSES))


def test_informedness_is_youdens_best_threshold():
    rng = np.random.default_rng(3)
    bins = rng.integers(0, 12, (400, 5))
    labels = rng.integers(0, 3, 400)
    bins[:, 0] += labels == 2
    counts = np.stack([
        [np.bincount(column[labels == label], minlength=14) for column in bins.T]
        for label in range(3)
    ])
    found = informedness(counts)
    for label in range(3):
        for column in range(5):
            rates = sklearn.metrics.roc_curve(labels == label, bins[:, column])
            assert found[label, column] == pytest.approx(max(rates[1] - rates[0]))
    assert (informedness(np.zeros((3, 2, 4), int)) == 0).all()


def test_mutual_information_is_scikit_learns():
    rng = np.random.default_rng(4)
    bins, labels = rng.integers(0, 6, 500), rng.integers(0, 4, 500)
    bins[labels == 1] = 5
    counts = np.zeros((4, 1, 6), int)
    np.add.at(counts, (labels, 0, bins), 1)
    expected = sklearn.metrics.normalized_mutual_info_score(labels, bins)
    assert normalized_mutual_information(counts)[0] == pytest.approx(expected)
    assert normalized_mutual_information(np.zeros((4, 1, 6), int))[0] == 0


def test_class_selectivity_is_morcoss_index():
    means = np.array([[3.0, 0.0, 1.0], [1.0, 0.0, np.nan], [1.0, 0.0, 3.0]])
    values, classes = class_selectivity_index(means)
    assert values.tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert classes.tolist()[0] == 0 and classes.tolist()[2] == 2


def test_precision_is_the_commonest_class_among_the_top_images():
    values, classes = precision(np.array([[2, 2, 1, -1], [-1, -1, -1, -1]]), 3)
    assert values.tolist() == pytest.approx([2 / 3, 0])
    assert classes[0] == 2


def test_the_floor_is_what_shuffled_labels_reach(tmp_path):
    rng = np.random.default_rng(8)
    count = 400
    responses = np.maximum(rng.normal(0, 1, (count, 3)), 0).astype(np.float32)
    labels = rng.integers(0, 4, count)
    layer = LayerTuning.empty('layer', np.arange(3), 4)
    layer.add(responses, np.stack([labels, labels]), np.arange(count))
    found = selectivity(layer, TRUE, labels, np.bincount(labels), permutations=400)
    reached = []
    for _ in range(400):
        shuffled = rng.permutation(labels)
        other = LayerTuning.empty('layer', np.arange(3), 4)
        other.add(responses, np.stack([shuffled, shuffled]), np.arange(count))
        reached.append(
            selectivity(other, TRUE, shuffled, np.bincount(labels), permutations=0).values
        )
    expected = np.quantile(reached, 0.99, axis=0)
    for number, name in enumerate(MEASURES):
        if name != 'precision':  # its bound is the union over classes
            assert found.floors[number] == pytest.approx(expected[number], rel=0.15), name
    assert (found.floors[1] >= expected[1]).all()
    assert (found.floors[1] <= expected[1] + 0.05).all()


@pytest.mark.parametrize('kind', [TRUE, PREDICTED])
def test_labels_that_mean_nothing_stay_below_the_floor(kind):
    rng = np.random.default_rng(9)
    layer = LayerTuning.empty('layer', np.arange(200), CLASSES)
    labels = np.stack([rng.integers(0, CLASSES, 500)] * 2)
    layer.add(rng.normal(0, 1, (500, 200)).astype(np.float32), labels, np.arange(500))
    found = selectivity(layer, kind, labels[kind], np.bincount(labels[kind]))
    assert ((found.values > found.floors).mean(axis=1) < 0.05).all()


# From the command line.


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
    assert not any('layer layer' in line for line in lines)


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
     'there is none'),
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
