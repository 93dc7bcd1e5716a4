"""Sources of images: folders, and what is common to all."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import pictures, refused, write_picture

from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

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


def test_images_that_belong_together_are_in_one_part(tmp_path):
    tracks = np.repeat(np.arange(20), 5)
    np.savez(tmp_path / 'tracks.npz', x=np.zeros((100, 4, 4), np.uint8), track=tracks)
    parts = [open_source(f'{tmp_path}/tracks.npz?group=track&part={n}/3') for n in (1, 2, 3)]
    assert sorted(np.concatenate([part.places for part in parts]).tolist()) == list(range(100))
    assert {len(part) for part in parts} == {30, 35}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not {*tracks[parts[one].places]} & {*tracks[parts[other].places]}
    with pytest.raises(NavMonitorError, match='20 groups of images .* too few for 21 parts'):
        open_source(f'{tmp_path}/tracks.npz?group=track&part=1/21')


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
