"""Names of classes: what the loader of a bundle would refuse is refused before the work."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tiny
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.model_card import model_card
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.data.image_source import ImageSource, from_arrays
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.untrusted_yaml import LARGEST
from nav_monitor_ros.fitting.fit import fit
from nav_monitor_ros.fitting.fit_options import FitOptions
from nav_monitor_ros.perception.network.class_names import (
    LONGEST_NAME,
    problem_of,
    read_class_names,
    read_listed,
    shown,
    write_listed,
)
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.network.torch.classifier import Classifier

IMAGENET_21K = 21841


def names_in(tmp_path, content):
    path = tmp_path / 'names.txt'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_class_names(path)


@pytest.mark.parametrize('content', [
    'left\nmiddle\nright\n', '\ufeffleft\nmiddle\nright', 'left\r\nmiddle\r\nright\r\n',
    '\ufeff\r\nleft \r\n\tmiddle\r\n\u00a0right\u3000\r\n\r\n',
])
def test_names_are_lines_however_an_editor_writes_them(tmp_path, content):
    assert names_in(tmp_path, content) == ('left', 'middle', 'right')


@pytest.mark.parametrize(('content', 'said'), [
    ('left\n\nmid\x07dle\n', r'line 3: the name (mid\x07dle) has the character U+0007'),
    ('left\nmid\ufeffdle\n', r'line 2: the name (mid\ufeffdle) has the character U+FEFF, ZERO'),
    ('left\nmid\u2028dle\n', 'line 2: the name (mid\\u2028dle) has the character U+2028, LINE'),
    ('left\nmid\x85dle\n', 'line 2: the name'),
    ('left\nhard\u00a0space\n', 'line 2: the name (hard\\xa0space) has the character U+00A0, NO-'),
    ('left\n' + 501 * 'x', f'has 501 characters, more than {LONGEST_NAME}'),
    (b'left\nmitte\nstra\xdfe\n', 'line 3: byte 0xdf is not UTF-8; save the file as UTF-8'),
    ('\ufeffleft\nright'.encode('utf-16-le'), 'line 1: byte 0xff is not UTF-8'),
    ('\n \n', 'the file has none'),
])
def test_a_line_that_can_be_no_name_is_named(tmp_path, content, said):
    with pytest.raises(NavMonitorError) as caught:
        names_in(tmp_path, content)
    assert said in str(caught.value) and 'names.txt' in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.lists(st.text(min_size=1, max_size=30).filter(lambda n: not problem_of(n)), min_size=1))
def test_listed_names_are_read_as_they_were_written(tmp_path_factory, names):
    path = tmp_path_factory.mktemp('names') / 'classes.txt'
    write_listed(path, names)
    assert read_listed(path) == tuple(names)


@given(st.text(max_size=200))
def test_what_is_shown_of_a_name_can_be_shown(name):
    assert shown(name).isprintable() and len(shown(name)) <= 83
    assert shown(os.fsdecode(b'caf\xe9')) == r'caf\udce9'


# Nothing is fitted for hours that could not be loaded.


@pytest.fixture
def desk(tmp_path, monkeypatch):
    for name, seed, count in (('data', 1, 120), ('held_out', 2, 80)):
        pixels, labels = tiny.images(seed, count)
        np.savez(tmp_path / f'{name}.npz', x=pixels, y=labels)
    save_file(tiny.network().state_dict(), tmp_path / 'bars.safetensors')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit_into(output, *more, weights='bars.safetensors', data='data.npz'):
    return main([
        'fit', '--model', 'tiny:Bars', '--weights', weights, '--size', '12x12', '--mean',
        '0.5,0.5,0.5', '--std', '0.25,0.25,0.25', '--data', data, '--calibration',
        'held_out.npz', '--scores', 'msp', '--false-alarm-rate', '0.1', '--output', output, *more,
    ])


def test_a_byte_order_mark_is_no_part_of_the_first_class(desk):
    (desk / 'names.txt').write_text('\ufeffleft\nmiddle\nright\n', encoding='utf-8')
    assert fit_into('fitted', '--classes', 'names.txt') == 0
    assert load_bundle('fitted').class_names == tiny.CLASSES


@pytest.mark.parametrize(('output', 'more', 'said'), [
    ('out', ('--classes', 'names.txt'), 'names.txt, line 2: the name'),
    ('out', ('--name', 'bell\x07'), 'the name of the bundle'),
    (os.fsdecode(b'caf\xe9'), (), 'choose another one (--name)'),
])
def test_names_that_no_bundle_may_have_are_refused_before_the_work(
    desk, monkeypatch, capsys, output, more, said
):
    (desk / 'names.txt').write_text('left\nmid\x07dle\nright\n')
    monkeypatch.setattr(ImageSource, 'image', lambda *_: pytest.fail('an image was read'))
    assert fit_into(output, *more) == 2
    assert said in capsys.readouterr().err
    assert not (desk / output).exists()


def test_files_with_undecodable_names_are_noted_so_that_everything_can_be_shown(desk, capsys):
    odd = os.fsdecode(b'caf\xe9')
    shutil.copy(desk / 'data.npz', desk / f'{odd}.npz')
    torch.save(tiny.network().state_dict(), desk / f'{odd}.pth')
    assert fit_into('fitted', data=f'{odd}.npz', weights=f'{odd}.pth') == 0
    noted = load_bundle('fitted').provenance
    assert noted['data']['source'] == r'caf\udce9.npz' and noted['weights'] == r'caf\udce9.pth'
    assert r'caf\udce9' in (desk / 'fitted' / 'MODEL_CARD.md').read_text(encoding='utf-8')
    assert main(['show', 'fitted']) == 0
    capsys.readouterr().out.encode()


# Very many classes.


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    """Return a bundle of as many classes as ImageNet has in all, and their names."""
    torch.manual_seed(0)
    names = tuple(f'category of things, or synonym of that, n{i:08d}' for i in range(IMAGENET_21K))
    classifier = Classifier(tiny.Bars(classes=IMAGENET_21K).eval(), tiny.PREPROCESS)
    bundle = fit(
        classifier, NetworkSpec('tiny:Bars', {'classes': IMAGENET_21K}),
        from_arrays('data', tiny.images(1, 150)[0]), from_arrays('held out', tiny.images(2, 80)[0]),
        FitOptions(false_alarm_rate=0.1, class_names=names, scores={'pattern': {}, 'msp': {}}),
    )
    folder = tmp_path_factory.mktemp('large') / 'bundle'
    save_bundle(bundle, classifier, folder, card=model_card(bundle))
    return folder, names


def test_a_bundle_of_very_many_classes_is_written_and_read(large):
    folder, names = large
    assert sum(map(len, names)) > LARGEST > (folder / 'bundle.yaml').stat().st_size * 10
    bundle = load_bundle(folder)
    assert bundle.class_names == names
    assert load_network(bundle, trusted_packages=['tiny'], device='cpu').classes == IMAGENET_21K
    assert (folder / 'classes.txt').read_text().splitlines() == list(names)
    assert main(['show', str(folder)]) == 0


@pytest.mark.parametrize(('spoil', 'said'), [
    (lambda f: (f / 'classes.txt').unlink(), 'lacks classes.txt'),
    (lambda f: (f / 'classes.txt').write_text('x'), 'classes.txt was changed'),
    (lambda f: swapped(f, {'file': '../../etc/passwd'}), 'neither a list nor the file classes.txt'),
    (lambda f: swapped(f, 'classes.txt'), 'class_names is not a list'),
])
def test_a_spoilt_list_of_classes_is_refused(large, tmp_path, spoil, said):
    folder = tmp_path / 'copy'
    shutil.copytree(large[0], folder)
    spoil(folder)
    with pytest.raises(NavMonitorError, match=said):
        load_bundle(folder)


def swapped(folder, class_names):
    described = yaml.safe_load((folder / 'bundle.yaml').read_text())
    (folder / 'bundle.yaml').write_text(yaml.safe_dump({**described, 'class_names': class_names}))


def test_a_bundle_that_could_not_be_read_is_not_written(tiny_bundle, tiny_classifier, tmp_path):
    from dataclasses import replace

    odd = replace(tiny_bundle, provenance={'notes': 'x' * (LARGEST + 1)})
    with pytest.raises(NavMonitorError, match='is not written: it could not be read: .*larger'):
        save_bundle(odd, tiny_classifier, tmp_path / 'out', card='x')
    assert list(tmp_path.iterdir()) == []
