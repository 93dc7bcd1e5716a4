"""Arrays and idx files as sources of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import all_images, pictures, refused, write_idx

from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

# Arrays.


def test_arrays_are_read_with_labels(tmp_path):
    np.savez(tmp_path / 'a.npz', x=pictures(5), y=np.array([0, 1, 2, 1, 0], np.uint8))
    source = open_source(f'{tmp_path}/a.npz')
    assert source.own_labels.dtype == np.int64 and source.own_labels.tolist() == [0, 1, 2, 1, 0]
    assert np.array_equal(source.image(3), pictures(5)[3])


def test_gray_arrays_have_no_channel_axis(tmp_path):
    gray = pictures(3, shape=(6, 8))
    np.savez(tmp_path / 'a.npz', x=gray)
    np.savez(tmp_path / 'b.npz', x=gray[..., None])
    for name in ('a', 'b'):
        source = open_source(f'{tmp_path}/{name}.npz')
        assert source.image(1).shape == (6, 8) and source.own_labels is None


def test_a_split_takes_its_own_arrays(tmp_path):
    np.savez(
        tmp_path / 'a.npz', x_train=pictures(5), y_train=np.arange(5), x_test=pictures(2, seed=9),
        y_test=np.arange(2),
    )
    assert len(open_source(f'{tmp_path}/a.npz?split=train')) == 5
    assert np.array_equal(
        open_source(f'{tmp_path}/a.npz?split=test').image(1), pictures(2, seed=9)[1]
    )
    assert "no array 'x_val'" in refused(f'{tmp_path}/a.npz?split=val')
    assert "no array 'x'" in refused(f'{tmp_path}/a.npz')


def test_rows_are_chosen_by_the_values_of_an_array(tmp_path):
    np.savez(
        tmp_path / 'a.npz', x=pictures(6), y=np.arange(6), is_val=np.arange(6) % 2 == 1,
        town=np.array(['Bonn', 'Kiel', 'Bonn', 'Bonn', 'Kiel', 'Kiel']), track=np.arange(6) // 2,
    )
    assert open_source(f'{tmp_path}/a.npz?is_val=1').own_labels.tolist() == [1, 3, 5]
    assert open_source(f'{tmp_path}/a.npz?is_val=0&town=Bonn').own_labels.tolist() == [0, 2]
    grouped = open_source(f'{tmp_path}/a.npz?is_val=1&group=track')
    assert grouped.groups.tolist() == [0, 1, 2]


def test_rows_are_chosen_by_an_array_of_bytes_whatever_they_encode(tmp_path):
    np.savez(tmp_path / 'a.npz', x=pictures(4), y=np.arange(4),
             town=np.array(['Köln'.encode(), 'Köln'.encode('latin-1'), b'Bonn', b'Kiel']))
    for town, rows in (('Köln', [0]), ('K%F6ln', [1]), ('Bonn', [2])):
        assert open_source(f'{tmp_path}/a.npz?town={town}').own_labels.tolist() == rows


@pytest.mark.parametrize(
    ('arrays', 'options', 'said'),
    [
        ({'x': pictures(3).astype(np.float32)}, '', 'not uint8'),
        ({'x': pictures(3, shape=(6, 8, 2))}, '', 'not uint8'),
        ({'x': pictures(3, shape=(6,))}, '', 'not uint8'),
        ({'x': pictures(3), 'y': np.arange(4)}, '', 'labels of shape (4,)'),
        ({'x': pictures(3), 'y': np.eye(3)}, '', 'labels of shape (3, 3)'),
        ({'x': pictures(3), 'y': np.array(['a', 'b', 'c'])}, '', 'labels'),
        ({'x': pictures(3), 'y': np.array([0.0, np.nan, 1.0])}, '', 'labels'),
        ({'x': pictures(3), 'y': np.array([0.0, 0.5, 1.0])}, '', 'labels'),
        ({'x': pictures(3, shape=(0, 8, 3))}, '', 'not uint8'),
        ({'x': pictures(3)}, '?group=track', "no array 'track'"),
        ({'x': pictures(3), 'track': np.arange(2)}, '?group=track', 'groups of shape'),
        ({'x': pictures(3)}, '?town=Bonn', "no array 'town'"),
        ({'x': pictures(3), 'town': np.arange(2)}, '?town=1', 'one value for each image'),
        ({'x': pictures(3), 'town': np.arange(3)}, '?town=Bonn', "'Bonn' is not a number"),
        ({'x': pictures(3), 'town': np.arange(3)}, '?town=7', 'holds no images'),
        ({'x': np.array([object()])}, '', 'not a readable .npz'),
        ({}, '', "no array 'x'"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, options, said):
    np.savez(tmp_path / 'a.npz', **arrays)
    assert said in refused(f'{tmp_path}/a.npz{options}')


# numpy complains of damaged headers; no file may stay open.
@pytest.mark.filterwarnings(
    'ignore:Reading', 'error::ResourceWarning', 'error::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_file_of_arrays_is_refused_or_read(tmp_path):
    path = tmp_path / 'a.npz'
    np.savez_compressed(path, x=pictures(2), y=np.arange(2))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refusals = 0
    for number in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content))] if number % 5 == 0 else content)
        try:
            all_images(open_source(str(path)))
        except NavMonitorError as error:
            assert '\n' not in str(error)
            refusals += 1
    assert refusals > 300


def test_an_array_alone_is_no_archive(tmp_path):
    with (tmp_path / 'a.npz').open('wb') as stream:
        np.save(stream, pictures(3))
    assert 'not a readable .npz' in refused(tmp_path / 'a.npz')


# Idx files.


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_idx_files_are_read(tmp_path, suffix):
    images = pictures(4, shape=(5, 6))
    write_idx(tmp_path / f'train-images-idx3-ubyte{suffix}', images)
    write_idx(tmp_path / f'train-labels-idx1-ubyte{suffix}', np.array([3, 1, 0, 2], np.uint8))
    source = open_source(str(tmp_path))
    assert source.own_labels.tolist() == [3, 1, 0, 2]
    assert np.array_equal(source.image(2), images[2])
    assert 't10k-images' in refused(f'{tmp_path}?split=test')
    assert 'split=train or split=test' in refused(f'{tmp_path}?split=val')


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda c: c[:-1], 'truncated'),
        (lambda c: c + b'\0', 'truncated'),
        (lambda c: c[:7], 'not an idx file'),
        (lambda c: b'', 'not an idx file'),
        (lambda c: b'\1' + c[1:], 'not an idx file'),
        (lambda c: c[:3] + b'\1' + c[4:], 'not an idx file'),
        (lambda c: c[:2] + b'\x0d' + c[3:], 'not of bytes'),
        (lambda c: c[:4] + b'\xff' * 12 + c[16:], 'truncated'),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, damage, said):
    write_idx(tmp_path / 'train-labels-idx1-ubyte', np.zeros(4, np.uint8))
    path = tmp_path / 'train-images-idx3-ubyte'
    write_idx(path, pictures(4, shape=(5, 6)))
    path.write_bytes(damage(path.read_bytes()))
    assert said in refused(tmp_path)


@given(place=st.integers(0, 200), value=st.integers(0, 255), length=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_damaged_compressed_idx_files_are_refused_or_read(tmp_path_factory, place, value, length):
    folder = tmp_path_factory.mktemp('idx')
    write_idx(folder / 'train-labels-idx1-ubyte', np.zeros(4, np.uint8))
    path = folder / 'train-images-idx3-ubyte.gz'
    write_idx(path, pictures(4, shape=(5, 6)))
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content[:length])
    try:
        open_source(str(folder))
    except NavMonitorError as error:
        assert '\n' not in str(error)
