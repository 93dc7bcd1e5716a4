"""Sources of images: folders, arrays, idx files, samples; splitting and excluding."""

from __future__ import annotations

import gzip
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.data.image_source import from_arrays, split, without
from nav_monitor_ros.data.samples import SAMPLES, draw_triangle
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError


def pictures(count, seed=0, shape=(6, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_picture(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[:, :, ::-1])


def write_idx(path, array, kind=8):
    header = struct.pack('>BBBB', 0, 0, kind, array.ndim) + struct.pack(
        f'>{array.ndim}I', *array.shape
    )
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)


def all_images(source):
    return [source.image(index) for index in range(len(source))]


def refused(spec):
    """Return the one line with which a source is refused."""
    with pytest.raises(NavMonitorError) as caught:
        all_images(open_source(str(spec)))
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Folders.


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three classes, four pictures of each."""
    for label, name in enumerate(('cat', 'dog', 'eel')):
        for number, picture in enumerate(pictures(4, seed=label)):
            write_picture(tmp_path / name / f'{number}.png', picture)
    return tmp_path


def test_a_folder_has_one_class_for_each_sub_folder_in_the_order_of_their_names(folder):
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog', 'eel')
    assert source.own_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for label in range(3):
        expected = pictures(4, seed=label)
        for number in range(4):
            image = source.image(4 * label + number)
            assert image.dtype == np.uint8 and np.array_equal(image, expected[number])  # RGB


def test_hidden_folders_and_other_files_are_no_classes_and_no_images(folder):
    write_picture(folder / '.thumbnails' / '0.png', pictures(1)[0])
    (folder / 'cat' / 'notes.txt').write_text('no picture')
    (folder / 'README').write_text('no picture')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog', 'eel') and len(source) == 12


def test_a_flat_folder_has_no_labels(folder):
    source = open_source(str(folder / 'dog'))
    assert len(source) == 4 and source.own_labels is None and source.class_names is None


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.bmp', '.ppm', '.tiff', '.webp'])
def test_the_usual_formats_are_images(tmp_path, suffix):
    write_picture(tmp_path / f'one{suffix}', np.full((9, 7, 3), (200, 100, 50), np.uint8))
    image = open_source(str(tmp_path)).image(0)
    assert image.shape == (9, 7, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 6  # RGB, not BGR


def test_a_table_names_the_classes(folder):
    flat = folder / 'cat'
    (flat / 'labels.tsv').write_text('file\tclass\n2.png\tyellow\n0.png\tblue\n\n1.png\tyellow\n')
    source = open_source(str(flat))
    assert source.class_names == ('blue', 'yellow')
    assert source.own_labels.tolist() == [1, 0, 1]
    assert np.array_equal(source.image(0), pictures(4)[2])


def test_a_table_may_number_the_classes(folder):
    flat = folder / 'cat'
    (flat / 'labels.tsv').write_text('0.png\t12\n1.png\t3\n')
    source = open_source(str(flat))
    assert source.own_labels.tolist() == [12, 3] and source.class_names is None


def test_a_very_long_number_is_a_name(folder):
    (folder / 'cat' / 'labels.tsv').write_text('0.png\t99999999999999999999\n')
    assert open_source(str(folder / 'cat')).class_names == ('99999999999999999999',)


@pytest.mark.parametrize(
    ('table', 'said'),
    [
        ('0.png\t1\n9.png\t1\n', 'line 2: 9.png does not exist'),
        ('0.png\t1\n1.png 1\n', 'line 2: not a file name, a tab and a class'),
        ('heading\tclass\n', 'holds no images'),
        ('', 'holds no images'),
        (b'0.png\t\xff\xfe\n', 'labels.tsv'),
    ],
)
def test_a_bad_table_is_refused(folder, table, said):
    content = table if isinstance(table, bytes) else table.encode()
    (folder / 'cat' / 'labels.tsv').write_bytes(content)
    assert said in refused(folder / 'cat')


def test_folders_without_images_are_refused(tmp_path):
    assert 'holds no images' in refused(tmp_path)
    (tmp_path / 'empty_class').mkdir()
    assert 'holds no images' in refused(tmp_path)


def test_a_broken_picture_is_named(folder):
    (folder / 'dog' / '2.png').write_bytes(b'\x89PNG and then nothing')
    assert 'dog/2.png' in refused(folder)
    (folder / 'dog' / '2.png').write_bytes(b'')
    assert 'dog/2.png' in refused(folder)


def test_a_picture_that_vanished_is_named(folder):
    source = open_source(str(folder))
    (folder / 'cat' / '1.png').unlink()
    with pytest.raises(NavMonitorError, match=r'cat/1\.png'):
        source.image(1)


# What is common to all sources.


def test_classes_and_limits_keep_a_part(folder):
    assert open_source(f'{folder}?classes=cat,eel').own_labels.tolist() == [0] * 4 + [2] * 4
    limited = open_source(f'{folder}?limit=5&seed=3')
    assert len(limited) == 5
    assert limited.places.tolist() == open_source(f'{folder}?limit=5&seed=3').places.tolist()
    assert limited.places.tolist() != open_source(f'{folder}?limit=5&seed=4').places.tolist()
    # Images and labels stay together.
    assert np.array_equal(limited.own_labels, limited.places // 4)
    assert len(open_source(f'{folder}?limit=999')) == 12


def test_a_source_is_named_as_it_was_asked_for(folder):
    assert open_source(f'{folder}?limit=5').name == f'{folder}?limit=5'


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ('limit=-1', 'limit'),
        ('limit=two', "limit is 'two'"),
        ('limit=5&seed=x', 'seed'),
        ('limit=0', 'holds no images'),
        ('classes=7', "has no class '7' for classes=; it has cat, dog, eel"),
        ('without=0', "has no class '0'"), ('classes=cat&without=1', "has no class '1'"),
        ('classes=cow', "has no class 'cow'"), ('without=cat,cow', 'it has cat, dog, eel'),
        ('colour=red', "no option 'colour'"),
        ('limit', 'key=value'),
    ],
)
def test_bad_options_are_refused(folder, options, said):
    assert said in refused(f'{folder}?{options}')


def test_classes_need_labels(folder):
    assert 'has no labels' in refused(f'{folder / "cat"}?classes=1')


def test_places_that_do_not_exist_are_refused(tmp_path):
    assert 'does not exist' in refused(tmp_path / 'nothing')
    assert 'does not exist' in refused('')
    (tmp_path / 'video.mp4').write_bytes(b'')
    assert 'neither a folder nor an .npz' in refused(tmp_path / 'video.mp4')


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
        ({'x': pictures(3), 'town': np.arange(3)}, '?town=Bonn', "'Bonn' is none"),
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


# Samples.


@pytest.mark.parametrize('name', ['triangles', 'photos', 'textures', 'noise'])
def test_drawn_samples_have_as_many_images_as_asked_and_depend_on_the_seed(name):
    source = open_source(f'sample:{name}?count=7')
    assert len(source) == 7 and source.own_labels is None
    again, other = (open_source(f'sample:{name}?count=7&seed={seed}') for seed in (0, 1))
    assert source.fingerprint() == again.fingerprint() != other.fingerprint()
    for image in all_images(source):
        assert image.dtype == np.uint8 and image.ndim in (2, 3) and image.std() > 0


def test_photos_have_a_cameras_aspect_ratio():
    for image in all_images(open_source('sample:photos?count=14')):
        assert image.shape[1] / image.shape[0] == pytest.approx(4 / 3, rel=0.01)


def test_digits_are_mixed_and_labelled():
    source = open_source('sample:digits')
    assert source.class_names == tuple('0123456789')
    assert np.bincount(source.own_labels).tolist() == [500] * 10
    assert len(set(source.own_labels[:50].tolist())) == 10
    assert source.image(0).shape == (28, 28) and source.image(0).max() > 200


@given(st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_triangles_are_white_on_black_and_not_cut_off(seed):
    image = draw_triangle(np.random.default_rng(seed))
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert image.max() == 255
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert border.max() < 200  # a thick outline may reach into it
    assert 0.02 < (image > 127).mean() < 0.6


@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('sample:cats', 'there are digits, triangles'),
        ('sample:', 'there is no sample'),
        ('sample:noise?count=0', 'count is 0'),
        ('sample:noise?count=-1', "count is '-1'"),
        ('sample:noise?count=9999999', 'give 1 to 1000000'),
        ('sample:noise?seed=one', 'seed'),
        ('sample:noise?size=3', "no option 'size'"),
        ('sample:digits?split=test', "no option 'split'"),
    ],
)
def test_bad_samples_are_refused(spec, said):
    assert said in refused(spec)


def test_every_sample_is_documented_by_its_name():
    with pytest.raises(NavMonitorError) as caught:
        open_source('sample:?')
    assert all(name in str(caught.value) for name in SAMPLES)


# Splitting.


@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=120),
    fraction=st.floats(0.1, 0.9), seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_splitting_divides_every_class_alike(labels, fraction, seed):
    labels = np.array(labels)
    source = from_arrays('some', np.zeros((len(labels), 1, 1), np.uint8), labels)
    try:
        rest, part = split(source, fraction, seed)
    except NavMonitorError:
        assert round(len(labels) * fraction) in (0, len(labels))
        return
    assert sorted([*rest.places, *part.places]) == list(range(len(labels)))
    assert len(part) == round(len(labels) * fraction)
    for label in set(labels.tolist()):
        wanted = fraction * (labels == label).sum()
        assert abs((part.own_labels == label).sum() - wanted) <= 2


@given(
    groups=st.lists(st.integers(0, 12), min_size=2, max_size=100),
    fraction=st.floats(0.1, 0.9), seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_groups_never_straddle_a_split(groups, fraction, seed):
    groups = np.array(groups)
    source = from_arrays('some', np.zeros((len(groups), 1, 1), np.uint8), groups=groups)
    count = len(set(groups.tolist()))
    try:
        rest, part = split(source, fraction, seed)
    except NavMonitorError:
        assert round(count * fraction) in (0, count)
        return
    assert not set(rest.groups.tolist()) & set(part.groups.tolist())
    assert len(rest) + len(part) == len(groups)
    assert len(set(part.groups.tolist())) == round(count * fraction)


def test_a_split_depends_on_its_seed_alone():
    source = from_arrays('some', np.zeros((50, 1, 1), np.uint8))
    assert split(source, 0.3, 1)[1].places.tolist() == split(source, 0.3, 1)[1].places.tolist()
    assert split(source, 0.3, 1)[1].places.tolist() != split(source, 0.3, 2)[1].places.tolist()


def test_one_image_cannot_be_split():
    with pytest.raises(NavMonitorError, match='too few'):
        split(from_arrays('one', pictures(1)), 0.5, 0)


# Excluding and fingerprints.


def test_excluded_images_are_recognised_by_their_pixels():
    images = pictures(10)
    kept = without(
        from_arrays('all', images, np.arange(10)), from_arrays('some', images[[7, 2]].copy())
    )
    assert kept.own_labels.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]


def test_the_same_bytes_in_another_shape_are_another_image():
    image = pictures(1)
    turned = image.reshape(1, 8, 6, 3)
    assert len(without(from_arrays('all', image), from_arrays('some', turned))) == 1


def test_a_fingerprint_changes_with_pixels_labels_and_number_but_not_with_order():
    images, labels = pictures(5), np.arange(5)
    whole = from_arrays('all', images, labels)
    assert len(whole.fingerprint()) == 64
    assert whole.subset(np.array([3, 1, 4, 0, 2])).fingerprint() == whole.fingerprint()
    changed = images.copy()
    changed[2, 0, 0, 0] ^= 1
    others = [
        from_arrays('all', changed, labels), from_arrays('all', images, labels[::-1].copy()),
        from_arrays('all', images), whole.subset(np.arange(4)),
        whole.subset(np.array([0, 1, 2, 3, 4, 4])),
    ]
    assert len({whole.fingerprint(), *(other.fingerprint() for other in others)}) == 6


def test_a_subset_of_a_subset_keeps_images_and_labels_together():
    images = pictures(10)
    source = from_arrays('all', images, np.arange(10), groups=np.arange(10) // 2)
    inner = source.subset(np.array([8, 6, 4])).subset(np.array([2, 0]))
    assert inner.own_labels.tolist() == [4, 8] and inner.groups.tolist() == [2, 4]
    assert np.array_equal(inner.image(1), images[8])


# What is done to any source.


def test_classes_can_be_left_out():
    source = open_source('sample:digits?without=0,1,2,3,4,5,6,7&limit=50')
    assert set(source.own_labels.tolist()) == {8, 9} and len(source) == 50
    with pytest.raises(NavMonitorError, match="has no class 'zero' for without=; it has 0, 1, 2"):
        open_source('sample:digits?without=zero')
    with pytest.raises(NavMonitorError, match='no labels'):
        open_source('sample:noise?without=0')


def test_only_names_choose_among_classes_that_have_names(tmp_path):
    for label, name in enumerate(('00', '03', '04', '05', '07')):
        write_picture(tmp_path / name / '0.png', pictures(1, seed=label)[0])
    source = open_source(f'{tmp_path}?classes=05')
    assert [source.class_names[label] for label in source.own_labels] == ['05']
    for wrong in ('5', '1', '77', '\u0665'):
        for key in ('classes', 'without'):
            assert f"has no class '{wrong}' for {key}=; it has 00, 03" in refused(
                f'{tmp_path}?{key}={wrong}')


def test_a_number_chooses_among_classes_without_names_if_an_image_has_it(tmp_path):
    np.savez(tmp_path / 'n.npz', x=pictures(4), y=np.array([0, 5, 5, 700]))
    source = tmp_path / 'n.npz'
    assert open_source(f'{source}?classes=5,700').own_labels.tolist() == [5, 5, 700]
    assert open_source(f'{source}?without=005').own_labels.tolist() == [0, 700]
    assert open_source(f'{source}?classes=5,0&without=5').own_labels.tolist() == [0]
    assert "has no class '77' for without=; it has 0, 5, 700" in refused(f'{source}?without=77')
    assert "(0, 5, 700), and classes= has 'cat'" in refused(f'{source}?classes=cat')
    assert "has no class '99" in refused(f'{source}?classes={"9" * 5000}')


def test_images_can_be_inverted_and_turned():
    plain = open_source('sample:digits?limit=5')
    inverted = open_source('sample:digits?limit=5&transform=invert')
    turned = open_source('sample:digits?limit=5&transform=rotate90')
    assert inverted.own_labels.tolist() == plain.own_labels.tolist()
    for index in range(5):
        assert np.array_equal(inverted.image(index), 255 - plain.image(index))
        # A quarter turn to the left: the right column becomes the top row.
        assert np.array_equal(turned.image(index)[0], plain.image(index)[:, -1])
        assert turned.image(index).flags.c_contiguous
    assert plain.fingerprint() != inverted.fingerprint()
    with pytest.raises(NavMonitorError, match="transform is 'flip', not one of invert, rotate90"):
        open_source('sample:digits?transform=flip')


def test_parts_are_disjoint_and_make_up_the_whole():
    parts = [open_source(f'sample:digits?part={n}/3&seed=4') for n in (1, 2, 3)]
    places = np.concatenate([part.places for part in parts])
    assert sorted(places.tolist()) == list(range(5000))
    assert {len(part) for part in parts} == {1666, 1667}
    assert parts[0].places.tolist() != sorted(range(0, 5000, 3))  # by chance
    few = open_source('sample:digits?part=1/3&seed=4&limit=9')
    assert len(few) == 9 and set(few.places) <= set(parts[0].places)
    for wrong in ('0/3', '4/3', '1', 'a/b', '1/0'):
        with pytest.raises(NavMonitorError, match='write part=1/3'):
            open_source(f'sample:digits?part={wrong}')
