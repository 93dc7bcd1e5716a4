"""A topic of a bag as a source of images."""

from __future__ import annotations

import sqlite3

import cv2
import numpy as np
import pytest
from recorded import PACKED, PERIOD, RAW, START, file_of, frame, write_bag

from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

pytest.importorskip('rosbags')
zstd = pytest.importorskip('backports.zstd')
lz4_frame = pytest.importorskip('lz4.frame')


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_topic_of_a_bag_is_a_source_without_labels(tmp_path, kind):
    path = write_bag(tmp_path / 'b', kind)
    source = open_source(f'{path}:{RAW}')
    assert len(source) == 12 and source.own_labels is None
    assert np.array_equal(source.image(5), frame(5))
    assert source.received_ns.tolist() == [START + n * PERIOD for n in range(12)]
    few = open_source(f'{path}:{PACKED}?limit=2&transform=invert')
    assert len(few) == len(few.received_ns) == 2
    number = (int(few.received_ns[1]) - START) // PERIOD
    assert np.array_equal(few.image(1), 255 - frame(number))
    assert len(open_source(f'{file_of(path)}:{RAW}')) == 12


def test_a_source_of_a_bag_needs_its_topic(tmp_path):
    path = write_bag(tmp_path / 'b', 'mcap')
    for spec in (path, file_of(path)):
        with pytest.raises(NavMonitorError, match=f'name the topic .* one of: .*{RAW}'):
            open_source(str(spec))
    for spec, said in (
        (f'{path}:/front', 'is not there'), (f'{path}:{RAW}?split=train', 'no option'),
        (f'{tmp_path / "none"}:{RAW}', 'does not exist'), (f'{path}:{RAW}?classes=1', 'no labels'),
    ):
        with pytest.raises(NavMonitorError, match=said):
            open_source(spec)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path):
    folder = tmp_path / 'a:b'
    folder.mkdir()
    with pytest.raises(NavMonitorError, match='holds no images'):
        open_source(str(folder))
    path = write_bag(folder / 'bag', 'mcap')
    assert len(open_source(f'{path}:{RAW}')) == 12


def test_a_folder_of_classes_may_have_metadata_of_its_own(tmp_path):
    (tmp_path / 'cat').mkdir()
    (tmp_path / 'cat' / '0.png').write_bytes(cv2.imencode('.png', frame(0))[1].tobytes())
    (tmp_path / 'metadata.yaml').write_text('author: somebody')
    assert open_source(str(tmp_path)).class_names == ('cat',)


def test_a_damaged_bag_is_a_source_of_what_is_left_with_a_warning(tmp_path, caplog):
    path = file_of(write_bag(tmp_path / 'b', 'mcap', frames=40))
    path.write_bytes(path.read_bytes()[:12000])
    source = open_source(f'{path}:{RAW}')
    assert 0 < len(source) < 40
    assert 'is damaged' in caplog.text and f'{len(source)} images can be read' in caplog.text


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    path = write_bag(tmp_path / 'b', 'sqlite3')
    connection = sqlite3.connect(file_of(path))
    rows = connection.execute('SELECT id, data FROM messages WHERE topic_id = 1').fetchall()
    for row, data in rows:
        connection.execute(
            'UPDATE messages SET data = ? WHERE id = ?', (data.replace(b'rgb8', b'rgb9'), row)
        )
    connection.commit()
    connection.close()
    with pytest.raises(NavMonitorError, match=rf'{RAW}, image 3 .*rgb9'):
        open_source(f'{path}:{RAW}').image(3)
