"""Names decide which class an image is."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import tiny
from named_images import NAMES, ORDERS, source, truth

from nav_monitor_ros.data.class_matching import (
    chance_note,
    how_matched,
    names_from,
    network_labels,
    require_known_classes,
)
from nav_monitor_ros.data.image_source import from_arrays
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError

# What is matched with what.


@pytest.mark.parametrize('own', ORDERS)
def test_the_order_of_a_sources_classes_does_not_matter(own):
    assert network_labels(source(own=own), NAMES).tolist() == truth()
    relabelled = source(own=own).numbered_for(NAMES)
    assert relabelled.labels.tolist() == truth() and relabelled.class_names == NAMES
    assert how_matched(source(own=own), NAMES) == ''


def test_a_source_may_have_some_of_the_classes_only():
    some = source(own=('cat', 'bus', 'dog'))
    cats = some.subset(np.flatnonzero(some.own_labels == 0))
    assert set(network_labels(cats, NAMES)) == {2}
    alone = from_arrays('cats', cats.image(0)[None], np.array([0]), class_names=('cat',))
    assert network_labels(alone, NAMES).tolist() == [2]


@pytest.mark.parametrize('own', [
    ('bus', 'cat', 'dogs'), ('dogs', 'cat', 'bus'),  # as many classes as the network has
    ('bus', 'cat', 'dog', 'dogs'), ('bus', 'dogs'),
])
def test_one_unknown_class_among_known_ones_is_named(own):
    pixels, _ = tiny.images(5, 8)
    images = from_arrays('pictures', pixels, np.arange(8) % len(own), class_names=own)
    with pytest.raises(NavMonitorError, match=r"the class 'dogs' \(is it 'dog'\?\)") as caught:
        network_labels(images, NAMES)
    assert '?without=dogs' in str(caught.value) and '\n' not in str(caught.value)
    # Without its images there is nothing wrong.
    known = images.subset(np.flatnonzero(images.own_labels != own.index('dogs')))
    assert [NAMES[n] for n in network_labels(known, NAMES)] == [own[n] for n in known.own_labels]


def test_position_decides_only_where_no_name_is_known_and_that_is_said(caplog):
    own = ('n01', 'n02', 'n03')
    images = source(names=own, own=own)
    with caplog.at_level(logging.WARNING):
        assert network_labels(images, NAMES).tolist() == truth()
    assert "position decides: 'n01' is 'dog', 'n02' is 'bus', 'n03' is 'cat'" in caplog.text
    assert 'position decides' in how_matched(images, NAMES)


@pytest.mark.parametrize('own', [('n01', 'n02'), ('n01', 'n02', 'n03', 'n04')])
def test_other_names_of_another_number_are_refused(own):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    with pytest.raises(NavMonitorError, match="the class 'n01' and 1 more, which is none"):
        network_labels(images, NAMES)


@pytest.mark.parametrize(('own', 'names'), [
    (('Bus', 'Cat', 'Dog'), NAMES), (('BUS', 'CAT', 'DOG'), NAMES),
    (('speed_limit', 'STOP', 'yield-sign'), ('Yield sign', 'stop', 'speed limit')),
])
def test_names_that_differ_in_writing_alone_are_no_reason_for_position(own, names):
    images = from_arrays('odd', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    expected = {NAMES: [1, 2, 0]}.get(names, [2, 1, 0])
    assert network_labels(images, names).tolist() == expected
    assert how_matched(images, names) == (
        "class names of odd are spelled differently from the network's: "
        + ', '.join(f"'{mine}' is '{names[place]}'"
                    for mine, place in zip(own, expected, strict=True))
    )
    other = from_arrays('odd', images.image(0)[None], np.array([0]), class_names=('Tram', 'Stop'))
    with pytest.raises(NavMonitorError, match="the class 'Tram'"):
        network_labels(other, ('tram 2', 'stop'))


@pytest.mark.parametrize(('own', 'names', 'said'), [
    (('Steer +30', 'Steer -30'), ('steer_30', 'steer_0'), r"'Steer \+30' \(is it 'steer_30'"),
    (('Steer \u221230', 'Steer 30'), ('steer_30', 'go'), "'Steer \u221230'"),
    (('left_1_5', 'left_15'), ('Left 1.5', 'right'), "'left_15'"),
    (('Limit 1.5', 'Limit 2.5'), ('limit_15', 'limit_25'), "'Limit 1.5' .is it 'limit_15'"),
    (('C', 'C++'), ('c++', 'python'), r"'C' \(is it 'c\+\+'"),
    (('> 3', '< 3'), ('>3', 'more'), "'< 3'"),
    (('speed 30', 'speed-30'), ('Speed_30', 'stop'), "both match the network's class 'Speed_30'"),
    (('STOP', 'Stop'), ('stop', 'go'), "'STOP' and 'Stop', and both"),
    (('stra\u00dfe', 'Strasse'), ('STRASSE', 'go'), 'both match'),
    (('left 15', 'GO'), ('Left_15', 'Left-15', 'go'), 'that name more than once'),
    (('\u0915\u093f', '\u0915\u0940'), ('\u0915\u093f x', '\u0915'), 'which is none'),
])
def test_two_classes_never_become_one(own, names, said):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    with pytest.raises(NavMonitorError, match=said) as caught:
        network_labels(images, names)
    assert '\n' not in str(caught.value)
    with pytest.raises(NavMonitorError):
        require_known_classes(images, names)


@pytest.mark.parametrize(('own', 'names'), [
    (('steer -30', 'steer +30'), ('Steer_-30', 'Steer_+30')),
    (('left_1_5', 'left_15'), ('Left 1.5', 'Left 15')),
    (('speed-limit-30', 'SPEED-LIMIT-50'), ('Speed limit 30', 'Speed limit 50')),
    (('Steer \u22125', 'Steer 5'), ('steer -5', 'steer 5')),
])
def test_signs_and_numbers_are_matched_where_both_have_them_and_that_is_said(own, names):
    images = from_arrays('odd', tiny.images(5, 2)[0], np.arange(2), class_names=own)
    assert network_labels(images, names).tolist() == [0, 1]
    assert f"'{own[0]}' is '{names[0]}'" in how_matched(images, names)


def test_names_are_the_same_however_accents_and_spaces_are_written():
    names = ('stra\u00dfe', 'b\u00fcrgersteig', 'rad weg')
    own = ('bu\u0308rgersteig', ' rad weg ', 'stra\u00dfe')
    images = from_arrays('ways', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    assert network_labels(images, names).tolist() == [1, 2, 0]


def test_a_name_that_the_network_has_twice_is_refused_where_it_is_used():
    names = ('crane', 'bus', 'crane')
    images = from_arrays('birds', tiny.images(5, 2)[0], np.arange(2), class_names=('bus', 'crane'))
    with pytest.raises(NavMonitorError, match='more than once, at 0 and 2'):
        network_labels(images, names)
    assert network_labels(images.subset(np.array([0])), names).tolist() == [1]


def test_numbers_are_positions_and_that_is_said():
    pixels, labels = tiny.images(5, 60)
    numbered = from_arrays('some.npz', pixels, labels)
    assert network_labels(numbered, NAMES).tolist() == labels.tolist()
    assert how_matched(numbered, NAMES) == (
        "the labels of some.npz are numbers, so position decides: '0' is 'dog', '1' is 'bus', "
        "'2' is 'cat'"
    )
    with pytest.raises(NavMonitorError, match='labels from 0 to 2, but the network has'):
        network_labels(numbered, NAMES[:2])


FOLDERS = tuple(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2, ..., as a folder numbers them


def test_numbers_are_names_where_the_networks_names_are_other_numbers(caplog):
    pixels = tiny.images(5, 3)[0]
    numbered = from_arrays('Test.npz', pixels, np.array([10, 2, 0]))
    by_output = numbered.numbered_for(FOLDERS)
    assert by_output.labels.tolist() == [2, 4, 0]
    assert [FOLDERS[label] for label in by_output.labels] == ['10', '2', '0']
    assert by_output.numbered_for(FOLDERS).labels.tolist() == [2, 4, 0]  # not moved twice
    assert "'2' is output 4" in how_matched(numbered, FOLDERS) and "'2' is output 4" in caplog.text
    with pytest.raises(NavMonitorError, match='the label 12, which is the name of none'):
        network_labels(from_arrays('Test.npz', pixels, np.array([10, 2, 12])), FOLDERS)
    caplog.clear()
    padded = tuple(f'{number:05d}' for number in range(12))
    assert network_labels(numbered, padded).tolist() == [10, 2, 0] and not caplog.text


def test_a_table_of_numbers_agrees_with_folders_of_the_same_numbers(tmp_path):
    (tmp_path / 'table').mkdir()
    lines = []
    for number in range(12):
        (tmp_path / 'folders' / str(number)).mkdir(parents=True)
        for file in (tmp_path / 'folders' / str(number) / 'a.png',
                     tmp_path / 'table' / f'{number}.png'):
            cv2.imwrite(str(file), np.full((6, 6, 3), 20 * number, np.uint8))
        lines.append(f'{number}.png\t{number}')
    (tmp_path / 'table' / 'labels.tsv').write_text('\n'.join(lines))
    folders, table = (open_source(str(tmp_path / name)) for name in ('folders', 'table'))
    names = names_from(folders, 12)
    truth = {folders.digest(i): label for i, label in enumerate(network_labels(folders, names))}
    assert [truth[table.digest(i)] for i in range(12)] == network_labels(table, names).tolist()


def test_classes_of_calibration_images_must_be_known_where_any_is():
    own = ('bus', 'cat', 'tram')
    images = from_arrays('held out', tiny.images(5, 3)[0], np.arange(3), class_names=own)
    with pytest.raises(NavMonitorError, match="the class 'tram'"):
        require_known_classes(images, NAMES)
    require_known_classes(images, ('class_0', 'class_1'))  # nobody knows the names


def test_a_network_is_named_after_the_classes_that_have_images():
    pixels = tiny.images(5, 8)[0]
    images = from_arrays('pictures', pixels, np.arange(8) % 4, class_names=('a', 'b', 'c', 'tram'))
    assert names_from(images, 4) == ('a', 'b', 'c', 'tram')
    known = images.subset(np.flatnonzero(images.own_labels != 3))
    assert names_from(known, 3) == ('a', 'b', 'c') and names_from(known, 5) is None
    assert network_labels(known, ('a', 'b', 'c')).tolist() == known.own_labels.tolist()
    assert names_from(from_arrays('numbers', pixels, np.arange(8) % 3), 3) is None


def test_classes_of_a_source_are_chosen_by_name():
    digits = open_source('sample:fashion_mnist?classes=bag,dress&limit=40')
    assert {digits.class_names[label] for label in digits.own_labels} == {'bag', 'dress'}
    rest = open_source('sample:fashion_mnist?without=bag,dress')
    assert set(rest.own_labels.tolist()) == {0, 1, 2, 4, 5, 6, 7, 9}


def numbered(own):
    """Return images of the classes that a folder of these names has, one each."""
    pixels = np.zeros((len(own), 4, 4, 3), np.uint8)
    return from_arrays('numbers', pixels, np.arange(len(own)), class_names=own)


@pytest.mark.parametrize(('own', 'names'), [
    (('0001', '0002', '0010'), ('1', '10', '2')),
    (('00000', '00001', '00002', '00010'), ('0', '1', '10', '2')),
    (('1', '10', '2'), ('01', '02', '10')),
    (('000', '001', '002'), ('0', '1', '2')),
])
def test_numbers_are_the_same_with_leading_zeros_and_that_is_said(own, names):
    images = numbered(own)
    labels = network_labels(images, names)
    assert [int(names[label]) for label in labels] == [int(name) for name in own]
    assert 'are spelled differently' in how_matched(images, names)


@pytest.mark.parametrize(('own', 'names', 'said'), [
    (('000', '001', '003'), ('0', '1', '2'), "class '003'"),
    (('01', '001', '02'), ('1', '2', '3'), 'both match'),
])
def test_numbers_with_leading_zeros_must_all_be_known_and_different(own, names, said):
    with pytest.raises(NavMonitorError, match=said):
        network_labels(numbered(own), names)


@pytest.mark.parametrize(('accuracy', 'classes', 'warned'), [
    (None, 3, False), (0.0, 3, True), (0.33, 3, True), (20 / 60, 3, False), (1.0, 1, False),
])
def test_a_network_that_is_less_accurate_than_guessing_is_warned_of(accuracy, classes, warned):
    note = chance_note(accuracy, classes)
    assert bool(note) == warned
    if warned:
        assert note == (
            f'warning: {accuracy:.1%} of the labelled images are classified correctly, and '
            'guessing gives 33.3%; check labels, class order, weights and preprocessing'
        )
