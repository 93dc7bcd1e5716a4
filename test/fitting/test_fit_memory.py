"""Fitting to many images takes no more memory than fitting to few."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest
import tiny

from nav_monitor_ros.data.array_files import ArrayFile
from nav_monitor_ros.data.batches import BATCH, batches, each
from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting import training_pass
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions

BOUNDED = FitOptions(
    false_alarm_rate=0.1,
    scores={
        'pattern': {'max_patterns': 50}, 'knn': {'bank': 50}, 'gaussian': {}, 'box': {},
        'relative_mahalanobis': {}, 'vim': {}, 'channel_means': {}, 'energy': {},
    },
)


def test_a_fit_to_many_images_holds_no_more_than_one_to_few(tmp_path, monkeypatch):
    monkeypatch.setattr(training_pass, 'SAMPLE', 192)
    pixels, labels = tiny.images(1, 4000)
    np.savez(tmp_path / 'images.npz', x=pixels, y=labels)
    held_out, classifier = tiny.source(2, 80), tiny.classifier()

    def held(count):
        source = open_source(f'{tmp_path}/images.npz?limit={count}')
        tracemalloc.start()
        bundle = fit(classifier, tiny.SPEC, source, held_out, BOUNDED, workers=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert bundle.provenance['data']['images'] == count
        return peak

    held(300)  # whatever is made once and kept
    few, many = held(800), held(4000)
    # The pixels alone, in memory, would be 1.4 MB more; places and labels are 16 bytes an image.
    assert many - few < 300_000, (few, many)


@pytest.mark.parametrize('write', [np.savez, np.savez_compressed])
@pytest.mark.parametrize('side', [(6, 8, 3), (6, 8, 1), (6, 8)])
def test_arrays_of_images_stay_on_disk(tmp_path, write, side):
    images = np.random.default_rng(0).integers(0, 256, (9, *side), np.uint8)
    write(tmp_path / 'a.npz', y_train=np.arange(9), x_train=images, x=images[:2])
    source = open_source(f'{tmp_path}/a.npz?split=train')
    expected = images[..., 0] if side[2:] == (1,) else images
    (tmp_path / 'a.npz').unlink()  # what was opened stays readable
    for place in (8, 0, 3):
        np.testing.assert_array_equal(source.image(place), expected[place])
        source.image(place)[:] = 7  # the reader's own
    np.testing.assert_array_equal(source.image(3), expected[3])


def test_arrays_that_lie_column_by_column_are_read_all_the_same(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    np.savez(tmp_path / 'a.npz', x=np.asfortranarray(images))
    np.testing.assert_array_equal(open_source(f'{tmp_path}/a.npz').image(3), images[3])


def test_a_stored_array_whose_bytes_were_changed_is_refused(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez(path, x=np.zeros((9, 6, 8), np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(NavMonitorError, match='not a readable .npz'):
        open_source(str(path))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / 'a'
    path.write_bytes(bytes(24))
    with path.open('rb') as file:
        array = ArrayFile(file, 0, (4, 2, 3), np.dtype(np.uint8))
    path.write_bytes(bytes(9))
    assert not array[0].any()
    with pytest.raises(OSError, match='truncated'):
        array[3]


def test_compressed_idx_files_stay_on_disk_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    for name, array in (('images-idx3', images), ('labels-idx1', np.arange(4, dtype=np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>u4').tobytes()
        with gzip.open(tmp_path / f'train-{name}-ubyte.gz', 'wb') as file:
            file.write(head + array.tobytes())
    source = open_source(str(tmp_path))
    np.testing.assert_array_equal(source.image(2), images[2])
    assert source.own_labels.tolist() == [0, 1, 2, 3]


# Other threads decode.


@pytest.mark.parametrize('workers', [1, 3])
@pytest.mark.parametrize('count', [1, BATCH, 5 * BATCH + 7])
def test_images_come_in_order_whatever_decodes_them(workers, count):
    source, classifier = tiny.source(4, count), tiny.classifier()
    found = list(batches(classifier, source, workers=workers, digests=True))
    places = [(b.places[0], b.places[-1] + 1) for b in found]
    assert places == [(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
    assert [d for b in found for d in b.digests] == [source.digest(i) for i in range(count)]
    for batch in found:
        pixels = np.stack([
            tiny.PREPROCESS.apply(source.image(i))
            for i in batch.places
        ])
        np.testing.assert_array_equal(batch.activations.logits, classifier(pixels).logits)


def test_no_more_is_decoded_ahead_than_there_is_room_for():
    read = []

    def image(place):
        read.append(place)
        return np.zeros((12, 12, 3), np.uint8)

    source = ImageSource('endless', image, np.arange(100 * BATCH))
    stream = batches(tiny.classifier(), source, workers=2)
    next(stream)
    stream.close()
    assert len(read) <= 6 * BATCH


def test_an_image_that_cannot_be_read_is_named_in_its_place():
    def image(place):
        if place == 3 * BATCH:
            raise NavMonitorError('image 192 is gone')
        return np.zeros((12, 12, 3), np.uint8)

    source = ImageSource('some', image, np.arange(5 * BATCH))
    stream = batches(tiny.classifier(), source, workers=2)
    assert [next(stream).places[0] for _ in range(3)] == [0, BATCH, 2 * BATCH]
    with pytest.raises(NavMonitorError, match='image 192 is gone'):
        next(stream)


def test_each_thing_is_taken_once_and_in_order_and_a_failure_comes_through():
    taken = []
    each(iter(range(50)), taken.append)
    assert taken == list(range(50))
    with pytest.raises(ZeroDivisionError):
        each(iter([1, 0, 2]), lambda number: 1 / number)
