"""What a folder of pictures holds: torchvision's ImageFolder is the rule, and the rest is said."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    written = path if path.suffix else path.with_suffix('.png')
    assert cv2.imwrite(str(written), pixels)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two classes with sessions, as cameras and archives leave them."""
    for name in ('cat/0.png', 'cat/monday/1.JPG', 'cat/monday/am/2.bmp', 'dog/tuesday/3.png',
                 'dog/4.TIFF'):
        picture(tmp_path / name)
    return tmp_path


def left_out(folder):
    (note,) = open_source(str(folder)).notes
    return note.partition('; files not used: ')[2]


def refused(spec):
    with pytest.raises(NavMonitorError) as caught:
        open_source(str(spec))
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_read_in_the_order_of_torchvisions_image_folder(folder):
    datasets = pytest.importorskip('torchvision.datasets')
    for name in ('cat/b-1/x.png', 'cat/b/1/x.png', 'cat/b/x.png', 'dog/Z.png', 'dog/a.webp'):
        picture(folder / name, seed=len(name))
    theirs = datasets.ImageFolder(str(folder))
    ours = open_source(str(folder))
    assert list(ours.class_names) == theirs.classes
    assert ours.own_labels.tolist() == theirs.targets and len(ours) == 10
    for index in (0, 1, 2, 3, 4, 5, 7):  # those of another format may differ by rounding
        pixels = np.array(theirs[index][0])
        assert np.abs(ours.image(index).astype(int) - pixels).max() <= 3, theirs.samples[index]
    assert ours.notes == ()


def test_pictures_beside_class_folders_do_not_make_them_unlabelled(folder):
    for number in range(3):
        picture(folder / f'preview{number}.png')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog') and source.own_labels.tolist() == [0, 0, 0, 1, 1]
    assert left_out(folder) == (
        '3 next to the class folders (preview0.png, preview1.png, ...)'
    )


def test_hidden_and_foreign_files_are_left_out_and_counted(folder):
    for name in ('__MACOSX/cat/._0.png', 'cat/._0.png', '.thumbnails/0.png', 'cat/@eaDir/0.jpg'):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b'\0\5\x16\7 no picture')
    for name in ('.DS_Store', 'cat/Thumbs.db', 'dog/film.gif', 'dog/raw.HEIC', 'dog/raw2.heic'):
        (folder / name).write_bytes(b'no picture')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog') and len(source) == 5
    for index in range(5):
        source.image(index)
    said = left_out(folder)
    assert '4 hidden (' in said
    assert '5 of other types (1 .DS_Store, 1 .db, 1 .gif, 2 .heic)' in said


def test_a_class_without_images_keeps_its_place_and_is_said(folder):
    (folder / 'cow' / 'none').mkdir(parents=True)
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'cow', 'dog')
    assert source.own_labels.tolist() == [0, 0, 0, 2, 2]
    assert source.notes == (f'{folder}: 1 class folders without images: cow',)


def test_links_in_a_circle_end(folder):
    (folder / 'cat' / 'loop').symlink_to(folder)
    (folder / 'cat' / 'monday' / 'up').symlink_to('..')
    (folder / 'self').symlink_to('.')
    (folder / 'round').symlink_to('round')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog') and len(source) == 5
    assert '3 links to folders that have already been read' in left_out(folder)


def test_a_folder_is_read_once_however_many_links_lead_to_it(folder, tmp_path_factory):
    """Else one picture would be of several classes."""
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    picture(elsewhere / 'eel' / '9.png')
    (folder / 'alias').symlink_to('cat')  # comes first by its name
    (folder / 'cat' / 'dogs').symlink_to('../dog')
    (folder / 'eel').symlink_to(elsewhere / 'eel')
    (folder / 'fish').symlink_to(elsewhere / 'eel')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog', 'eel')
    assert source.own_labels.tolist() == [0, 0, 0, 1, 1, 2]
    said = left_out(folder)
    assert '3 links to folders that have already been read (' in said and 'cat/dogs' in said


def test_links_to_pictures_and_classes_elsewhere_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    picture(elsewhere / 'eel' / '9.png')
    (folder / 'eel').symlink_to(elsewhere / 'eel')
    (folder / 'cat' / 'linked.png').symlink_to(elsewhere / 'eel' / '9.png')
    source = open_source(str(folder))
    assert source.class_names == ('cat', 'dog', 'eel') and len(source) == 7
    assert source.notes == ()


def test_a_link_that_leads_nowhere_is_refused_before_the_work(folder):
    (folder / 'dog' / 'gone.png').symlink_to('/nowhere/gone.png')
    assert 'dog/gone.png is a broken link' in refused(folder)


def test_what_is_neither_a_file_nor_a_folder_is_not_waited_for(folder):
    os.mkfifo(folder / 'dog' / 'pipe.png')
    (folder / 'cat' / 'folder.png').mkdir()  # one with a picture's name is a folder
    picture(folder / 'cat' / 'folder.png' / 'x.png')
    assert len(open_source(str(folder))) == 6
    assert left_out(folder) == '1 neither files nor folders (dog/pipe.png)'


def test_a_folder_with_nothing_but_hidden_pictures_says_so(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / '._1.png').write_bytes(b'x')
    said = refused(tmp_path)
    assert 'holds no images' in said and '1 hidden (cat/._1.png)' in said


def test_a_folder_that_may_not_be_read_is_named():
    root = Path(tempfile.mkdtemp())  # unlike tmp_path, of a place that others may look into
    try:
        root.chmod(0o755)
        picture(root / 'cat' / '0.png')
        picture(root / 'dog' / 'night' / '0.png')
        (root / 'dog' / 'night').chmod(0o000)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)  # whom permissions mean something to
        try:
            assert f'{root}/dog/night is unreadable: Permission denied' in refused(root)
        finally:
            os.seteuid(me)
    finally:
        (root / 'dog' / 'night').chmod(0o700)
        shutil.rmtree(root)


def test_class_folders_whose_names_cannot_be_shown_are_refused(folder):
    odd = os.fsencode(folder) + b'/caf\xe9'
    os.mkdir(odd)
    shutil.copy(folder / 'cat' / '0.png', os.fsdecode(odd))
    said = refused(folder)
    assert r'caf\udce9' in said and 'not UTF-8; rename it' in said
    said.encode()  # a terminal can show it
    shutil.rmtree(odd)
    (folder / 'two\nlines').mkdir()
    assert r'two\nlines' in refused(folder)


def test_pictures_with_undecodable_names_are_images(folder):
    shutil.copy(folder / 'cat' / '0.png', os.fsencode(folder) + b'/cat/caf\xe9.png')
    shutil.copy(folder / 'cat' / '0.png', os.fsencode(folder) + b'/caf\xe9.png')
    source = open_source(str(folder))
    assert len(source) == 6
    for index in range(6):
        source.image(index)
    assert r'caf\udce9.png' in left_out(folder)


# A table.


def test_a_table_decides_over_folders_and_what_it_does_not_list_is_said(folder):
    (folder / 'labels.tsv').write_text('cat/0.png\tyellow\ndog/4.TIFF\tblue\n')
    source = open_source(str(folder))
    assert source.class_names == ('blue', 'yellow') and source.own_labels.tolist() == [1, 0]
    assert left_out(folder).startswith('3 not in labels.tsv (cat/monday/1.JPG, ')


def test_a_byte_order_mark_does_not_cost_the_first_image(folder):
    (folder / 'labels.tsv').write_bytes(b'\xef\xbb\xbfcat/0.png\tyellow\r\ndog/4.TIFF\tblue\r\n')
    source = open_source(str(folder))
    assert len(source) == 2 and source.class_names == ('blue', 'yellow')


@pytest.mark.parametrize(('table', 'said'), [
    ('cat/9.png\tyellow\n', 'line 1: cat/9.png does not exist'),  # no heading: a picture is missing
    ('cat/0.png\tyellow\ndog/4.TIFF\t\n', 'line 2: not a file name'),
    ('cat/0.png\tyel\u2028low\n', 'line 1: the class'),
])
def test_a_bad_line_of_a_table_is_named(folder, table, said):
    (folder / 'labels.tsv').write_text(table)
    assert said in refused(folder)


def test_the_command_line_says_what_is_not_used(folder, tmp_path, capsys):
    picture(folder / 'preview.png')
    (folder / 'cat' / 'notes.txt').write_text('x')
    main(['evaluate', 'digits', '--inside', f'{folder}?without=cat,dog'])
    assert capsys.readouterr().err.endswith('holds no images\n')
    assert main(['evaluate', 'digits', '--inside', 'sample:digits?limit=300', '--ood',
                 f'odd={folder}']) == 0
    assert (
        f'{folder}: 5 images in 2 class folders; files not used: 1 next to the class folders '
        '(preview.png), 1 of other types (1 .txt)'
    ) in capsys.readouterr().out


def test_a_table_lists_each_picture_once(tmp_path):
    for name in ('a.png', 'b.png'):
        picture(tmp_path / name)
    table = tmp_path / 'labels.tsv'
    table.write_text('a.png\tone\n./a.png\tone\nb.png\ttwo\n')
    source = open_source(str(tmp_path))
    assert source.own_labels.tolist() == [0, 1]
    assert 'listed in labels.tsv before' in left_out(tmp_path)
    table.write_text('a.png\tone\nb.png\ttwo\n./a.png\ttwo\n')
    assert "line 3: ./a.png is 'two', and in line 1 'one'" in refused(tmp_path)
