"""How a source is written: paths and values are taken as they stand."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import RAW, write_bag

from nav_monitor_ros.data.source_spec import SourceSpec, absolute, source_label
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

ODD = ('lab+1', 'a b', '100%', '50%25', 'a&b', 'a=b', 'what?', 'what?limit=3', 'tür', 'a:b', '#1',
       'a%20b', 'a;b', "o'clock", '(1)', 'x~', 'a,b')


def folder_of(path, classes=('cat', 'dog')):
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((4, 4, 3), 40 * label + number, np.uint8)
            assert cv2.imwrite(str(path / name / f'{number}.png'), pixels)
    return path


@pytest.mark.parametrize('name', ODD)
def test_folders_may_be_called_as_they_like(tmp_path, name):
    folder = folder_of(tmp_path / name)
    assert len(open_source(str(folder))) == 6
    source = open_source(f'{folder}?classes=dog&limit=2')
    assert len(source) == 2 and set(source.own_labels.tolist()) == {1}
    assert source_label(f'{folder}?classes=dog') == f'{name}?classes=dog'
    assert len(open_source(absolute(f'{os.path.relpath(folder)}?limit=2'))) == 2


@pytest.mark.parametrize('name', ODD)
def test_files_of_arrays_may_be_called_as_they_like(tmp_path, name):
    np.savez(tmp_path / f'{name}.npz', x=np.zeros((5, 4, 4), np.uint8))
    assert len(open_source(f'{tmp_path}/{name}.npz?limit=2')) == 2


@pytest.mark.parametrize('name', [name for name in ODD if '&' not in name])
def test_files_of_labels_may_be_called_as_they_like(tmp_path, monkeypatch, name):
    pytest.importorskip('rosbags')
    bag = write_bag(tmp_path / name / 'drive', 'mcap')
    table = tmp_path / name / f'{name}.csv'
    table.write_text('0,0.1,stop\n0.1,0.2,go\n')
    source = open_source(f'{bag}:{RAW}?labels={table}&group=0')
    assert source.class_names == ('go', 'stop') and len(source) == 7
    (note,) = source.notes
    assert f'5 of 12 images are in no interval of {table}' in note
    # The same from elsewhere, as workers of a cluster open it.
    monkeypatch.chdir(tmp_path / name)
    spec = absolute(f'drive:{RAW}?labels={name}.csv&group=0')
    monkeypatch.chdir('/')
    assert len(open_source(spec)) == 7


def test_what_would_end_a_value_is_escaped(tmp_path):
    folder = folder_of(tmp_path / 'x', ('a,b', 'c&d', '100%', 'e%41', 'f+g'))
    chosen = {
        'a%2Cb': 'a,b', 'c%26d': 'c&d', '100%': '100%', '100%25': '100%', 'e%2541': 'e%41',
        'f+g': 'f+g',
    }
    for written, name in chosen.items():
        source = open_source(f'{folder}?classes={written}')
        assert {source.class_names[label] for label in source.own_labels} == {name}
    two = open_source(f'{folder}?without=a%2Cb,c%26d')
    assert {two.class_names[label] for label in two.own_labels} == {'100%', 'e%41', 'f+g'}


def test_values_of_arrays_are_taken_as_they_stand(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.zeros((3, 4, 4), np.uint8),
             town=np.array(['A+B', 'A B', 'C&D']))
    for written in ('A+B', 'A B', 'A%20B', 'C%26D'):
        assert len(open_source(f'{tmp_path}/a.npz?town={written}')) == 1


@pytest.mark.parametrize('options', ['limit', 'limit=3&', '=3', 'labels=a&b.csv'])
def test_what_is_no_option_is_refused(tmp_path, options):
    folder = folder_of(tmp_path / 'x')
    with pytest.raises(NavMonitorError, match=r'write options as \?key=value&key=value'):
        open_source(f'{folder}?{options}')


@pytest.mark.parametrize(('options', 'said'), [
    ('limit=', "limit is '', not a whole number"), ('seed=&limit=3', "seed is ''"),
])
def test_an_empty_value_is_no_reason_to_forget_an_option(tmp_path, options, said):
    folder = folder_of(tmp_path / 'x')
    with pytest.raises(NavMonitorError, match=said):
        open_source(f'{folder}?{options}')


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(NavMonitorError, match='cannot be opened: File name too long'):
        open_source('x' * 5000)
    with pytest.raises(NavMonitorError, match='cannot be opened: embedded null'):
        open_source('x\0y')


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        spec = SourceSpec.parse(text)
        assert isinstance(spec.options, dict)
    except NavMonitorError as error:
        assert '\n' not in str(error) or '\n' in text
    assert source_label(text).encode() is not None


@pytest.mark.parametrize('spec', ['x?limit=10&limit=20', 'x?classes=a&seed=1&classes=b'])
def test_an_option_that_is_given_twice_is_refused(spec):
    with pytest.raises(NavMonitorError, match='is given twice'):
        SourceSpec.parse(spec)
