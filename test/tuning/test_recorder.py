"""Recordings of class tuning: against brute force, in parts, interrupted, merged."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_network import (
    recorded,
)

from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.tuning.recorder import (
    TuningOptions,
    TuningRecorder,
    merge_recordings,
    record_checkpoints,
)
from nav_monitor_ros.tuning.recording_files import TuningRecording
from nav_monitor_ros.tuning.statistics import (
    BINS,
    KEPT,
    ZERO_BIN,
    LayerTuning,
    bin_centres,
    bin_of,
)


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


def test_titles_of_layers_are_recorded_for_display_only(tmp_path, tiny_classifier):
    source = from_arrays('bars', *tiny.images(6, 40))
    options = TuningOptions(('conv', 'penultimate', 'output'))
    recording = recorded(tmp_path / 'a', tiny_classifier, source, options)
    titles = ("layer 1 'conv' (Conv2d)", 'penultimate', 'output')
    assert recording.about.shown_layers == titles
    assert TuningRecording.open(tmp_path / 'a').about.shown_layers == titles
    # Earlier versions recorded none: such recordings can be read, continued and merged.
    index = tmp_path / 'a/tuning.json'
    described = json.loads(index.read_text())
    assert described.pop('titles') == list(titles)
    index.write_text(json.dumps(described))
    old = TuningRecording.open(tmp_path / 'a')
    assert old.about.shown_layers == ('conv', 'penultimate', 'output')
    rest = from_arrays('bars', *tiny.images(6, 80)).subset(np.arange(40, 80))
    recorded(tmp_path / 'b', tiny_classifier, rest, options)
    merge_recordings([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'merged')
    continued = recorded(tmp_path / 'a', tiny_classifier, source, options, ('only', 'next'))
    assert continued.checkpoints == ['only', 'next'] and continued.about.shown_layers == titles
    index.write_text(json.dumps({**described, 'titles': ['one']}))
    with pytest.raises(NavMonitorError, match='unreadable'):
        TuningRecording.open(tmp_path / 'a')


def test_a_layer_that_cannot_be_recorded_is_answered_with_what_can(tmp_path, tiny_classifier):
    source = from_arrays('bars', *tiny.images(6, 10))
    with pytest.raises(NavMonitorError, match="it has penultimate, output, 1 'conv'"):
        recorded(tmp_path / 'a', tiny_classifier, source, TuningOptions(('conv9',)))
    other = tiny.classifier(layer='relu1')
    with pytest.raises(NavMonitorError, match="cannot be chosen here; choose one of output, 1 'c"):
        recorded(tmp_path / 'a', other, source, TuningOptions(('penultimate',)))


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


@pytest.mark.parametrize(('first', 'second', 'merged'), [
    ('first', 'second', False),
    ('x.npz?split=train', 'x.npz?split=test', False),
    ('x.npz?transform=invert&limit=9', 'x.npz?limit=9', False),
    ('bag:/image?labels=a.csv', 'bag:/image?labels=b.csv', False),
    ('x.npz?split=train&part=1/2&seed=3', 'x.npz?seed=3&part=2/2&split=train', True),
    ('x.npz?classes=bar', 'x.npz?without=bar', True),
])
def test_only_recordings_of_one_source_are_merged(
    tmp_path, tiny_classifier, first, second, merged
):
    pixels, labels = tiny.images(7, 30)
    for folder, name, rows in (('a', first, slice(15)), ('b', second, slice(15, 30))):
        whole = from_arrays(name, pixels, labels)
        TuningRecorder(
            tmp_path / folder, tiny_classifier, whole.subset(np.arange(30)[rows]), tiny.CLASSES,
            TuningOptions(), network='tiny',
        ).record('a')
    with nullcontext() if merged else pytest.raises(NavMonitorError, match='different sources'):
        merge_recordings([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'merged')
    assert (tmp_path / 'merged').exists() == merged
