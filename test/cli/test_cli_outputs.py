"""Outputs that would replace an input, or that cannot be written, are refused before any work."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tiny
from recorded import write_images
from safetensors.torch import save_file

from nav_monitor_ros.cli.main import main

pytest.importorskip('rosbags')
FIT = ['fit', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--size', '12x12', '--data',
       'data.npz', '--calibration', 'held_out.npz', '--device', 'cpu']
REPLAY = ['replay', 'drive', '--bundle', 'bundle', '--trust', 'tiny', '--device', 'cpu']
VIEW = ['bundle', '--image', 'image.png', '--trust', 'tiny', '--device', 'cpu']
EVALUATE = ['evaluate', 'bundle', '--inside', 'inside/test.npz', '--ood', 'a=strange.npz',
            '--trust', 'tiny', '--device', 'cpu']
RECORD = ['tuning', 'record', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--weights',
          'other.safetensors', '--size', '12x12', '--images', 'data.npz', '--device', 'cpu']


@pytest.fixture
def desk(tmp_path, tiny_folder, monkeypatch):
    """Return the current folder, with one of everything that a command reads."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_folder, 'bundle')
    for name, seed in (('data', 1), ('held_out', 2)):
        pixels, labels = tiny.images(seed, 80)
        np.savez(f'{name}.npz', x=pixels, y=labels)
    np.savez('strange.npz', x=tiny.strange(4, 20))
    (tmp_path / 'inside').mkdir()
    shutil.copy('data.npz', 'inside/test.npz')
    for name in ('bars', 'other'):
        save_file(tiny.network().state_dict(), f'{name}.safetensors')
    (tmp_path / 'classes.txt').write_text('left\nmiddle\nright\n')
    (tmp_path / 'image.png').write_bytes(b'no picture')
    (tmp_path / 'params.yaml').write_text('/**:\n  ros__parameters: {exit_count: 3}\n')
    (tmp_path / 'a.csv').write_text('')
    write_images(tmp_path / 'drive', {'/front/image': list(tiny.images(7, 4)[0])})
    (tmp_path / 'file').write_text('')
    return tmp_path


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
    }


def refused(capsys, arguments):
    """Return the one line with which a command is refused."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == '' and said.err.count('\n') == 1, said
    return said.err


OVER_INPUTS = [
    ([*FIT, '--output', 'data.npz'], 'data.npz'),
    ([*FIT, '--output', 'new', '--checkpoint', 'held_out.npz'], 'held_out.npz'),
    ([*EVALUATE[:3], 'inside', '--output', 'inside/report'], 'inside'),
    ([*EVALUATE, '--image-scores', 'strange.npz'], 'strange.npz'),
    ([*EVALUATE, '--image-scores', 'inside/test.npz'], 'inside/test.npz'),
    (['export', 'bundle', '--calibration', 'inside', '--output', 'inside/new', '--trust', 'tiny'],
     'inside'),
    (['export', 'bundle', '--calibration', 'data.npz', '--output', 'bundle/new', '--trust', 'tiny'],
     'bundle'),
    ([*REPLAY, '--params', 'params.yaml', '--csv', 'params.yaml'], 'params.yaml'),
    ([*REPLAY, '--html', 'drive/page.html'], 'drive'),
    ([*REPLAY, '--csv', 'bundle/bundle.yaml'], 'bundle'),
    (['compare', 'a.csv', 'bundle', '--bag', 'drive', '--html', 'a.csv'], 'a.csv'),
    (['compare', 'a.csv', 'bundle', '--bag', 'drive', '--csv', 'drive/metadata.yaml'], 'drive'),
    (['view', 'grid', *VIEW, '--output', 'image.png'], 'image.png'),
    (['view', 'order', *VIEW, '--output', 'bundle/order.png'], 'bundle'),
    (['view', 'volume', *VIEW, '--output', 'v.vox', '--turnable', 'v.html'], 'v.html'),
    (['view', 'backprop', *VIEW, '--output', 'image.png'], 'image.png'),
    (['view', 'weight-gradient', 'bundle', '--images', 'inside', '--output', 'inside/a.png'],
     'inside'),
    ([*RECORD, '--output', 'bars.safetensors'], 'bars.safetensors'),
    (['tuning', 'merge', 'inside', 'bundle', '--output', 'bundle'], 'bundle'),
    (['train', 'digits', '--data', 'inside', '--output', 'inside/new'], 'inside'),
    (['train', 'digits', '--data', 'data.npz', '--test', 'inside', '--output', 'new',
      '--record-tuning', 'inside'], 'inside'),
    (['benchmark', 'startup', '--bundle', 'bundle', '--json', 'bundle/bundle.yaml'], 'bundle'),
]


@pytest.mark.parametrize(('arguments', 'named'), OVER_INPUTS, ids=lambda value: str(value)[:60])
def test_no_output_takes_the_place_of_an_input(desk, capsys, arguments, named):
    before = contents(desk)
    said = refused(capsys, arguments)
    assert named in said and ('which is read' in said or 'the same file as' in said), said
    assert contents(desk) == before


def test_the_same_file_is_known_by_links_and_hard_links(desk, capsys):
    (desk / 'link.csv').symlink_to('params.yaml')
    os.link('params.yaml', 'hard.csv')
    for name in ('link.csv', 'hard.csv', 'bundle/../params.yaml'):
        said = refused(capsys, [*REPLAY, '--params', 'params.yaml', '--csv', name])
        assert 'same file as --params' in said


UNWRITABLE = [
    ([*EVALUATE, '--output'], 'folder'),
    ([*EVALUATE, '--image-scores'], 'file'),
    (['benchmark', 'judge', '--json'], 'file'),
    ([*REPLAY, '--csv'], 'file'),
    ([*REPLAY, '--html'], 'file'),
    ([*REPLAY, '--output'], 'folder'),
    (['compare', 'a.csv', 'bundle', '--csv'], 'file'),
    (['compare', 'a.csv', 'bundle', '--html'], 'file'),
    (['view', 'grid', *VIEW, '--output'], 'file'),
    (['view', 'order', *VIEW, '--output'], 'file'),
    (['view', 'tuning', 'file', '--output'], 'file'),
    ([*RECORD, '--output'], 'folder'),
    ([*FIT, '--output'], 'folder'),
]


PLACES = {'file': ('below a file', 'a folder', 'read-only'), 'folder': ('below a file', 'a file')}


@pytest.mark.parametrize(('command', 'place'), [
    pytest.param(command, place, id=f'{" ".join(command[:2])} {command[-1]} {place}')
    for command, kind in UNWRITABLE for place in PLACES[kind]
])
def test_what_cannot_be_written_is_found_before_the_work(desk, capsys, command, place):
    endings = {'tuning': '.html', 'bundle': '.npz'}  # where a command accepts no other
    ending = endings.get(command[1], '.png')
    path = {'below a file': f'file/x{ending}', 'a folder': f'taken{ending}',
            'read-only': f'read_only{ending}', 'a file': 'classes.txt'}[place]
    if place == 'a folder':
        (desk / path).mkdir()
    if place == 'read-only':
        (desk / path).write_text('kept')
        (desk / path).chmod(0o444)
    before = contents(desk)
    said = refused(capsys, [*command, path])
    assert path in said or 'metrics.json' in said, said
    assert 'AUROC' not in said and contents(desk) == before


def test_a_bag_that_is_there_is_found_before_any_bag_is_judged(desk, capsys):
    shutil.copytree('drive', 'other')
    (desk / 'out' / 'other').mkdir(parents=True)
    said = refused(capsys, ['replay', 'other', *REPLAY[1:], '--output', 'out'])
    assert 'out/other already exists' in said
    assert not (desk / 'out' / 'drive').exists()


def test_an_evaluation_is_replaced_only_if_asked_for(desk, capsys):
    evaluate = [*EVALUATE, '--scores', 'msp', '--output', 'report']
    assert main(evaluate) == 0
    assert 'fused decides:' in capsys.readouterr().out
    (desk / 'report' / 'notes.txt').write_text('mine')
    (desk / 'report' / 'report.html').write_text('old')
    before = contents(desk)
    said = refused(capsys, evaluate)
    assert 'report already holds an evaluation' in said and '--force' in said
    assert contents(desk) == before
    assert main([*evaluate, '--force']) == 0
    assert (desk / 'report' / 'notes.txt').read_text() == 'mine'
    assert (desk / 'report' / 'report.html').read_text() != 'old'
    capsys.readouterr()
    (desk / 'report' / 'metrics.json').write_text('{"loss": 1}')
    said = refused(capsys, [*evaluate, '--force'])
    assert 'report/metrics.json does not belong to an evaluation' in said


def test_an_evaluation_of_a_network_that_is_hardly_right_ends_with_a_warning(desk, capsys):
    with np.load('data.npz') as data:
        np.savez('turned.npz', x=data['x'], y=(data['y'] + 1) % 3)
    assert main([*EVALUATE[:3], 'turned.npz', '--trust', 'tiny', '--device', 'cpu', '--scores',
                 'msp', '--output', 'report']) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith('warning: the network classifies 0.0 % of the labelled images of turned')
    assert '<b>Warning:</b> the network classifies 0.0 %' in (
        desk / 'report' / 'report.html').read_text(encoding='utf-8')


@pytest.mark.parametrize('option', [
    '--model=tiny:Bars', '--model-arg=width=24', '--weights=bars.safetensors', '--output-index=1',
    '--classes=classes.txt', '--size=12x12', '--preprocess=params.yaml', '--fit=letterbox',
    '--mean=0,0,0', '--exif=apply',
])
def test_a_bundle_brings_its_own_network(desk, capsys, option):
    name = option.partition('=')[0]
    for command in (['view', 'layers', 'bundle'], ['view', 'grid', *VIEW, '--output', 'a.png'],
                    ['tuning', 'record', 'bundle', '--weights', 'other.safetensors', '--images',
                     'data.npz', '--output', 'new']):
        if command[0] == 'tuning' and name == '--weights':
            continue
        said = refused(capsys, [*command, option])
        assert f'{name} describes a network' in said and "the bundle 'bundle'" in said


def test_a_checkpoint_that_is_given_twice_is_refused(desk, capsys):
    (desk / 'copies').mkdir()
    os.link('bars.safetensors', 'copies/linked.safetensors')
    for again in ('bars.safetensors', './bars.safetensors', 'copies/linked.safetensors'):
        said = refused(capsys, [
            'tuning', 'record', 'bundle', '--trust', 'tiny', '--weights', 'bars.safetensors',
            '--weights', again, '--images', 'data.npz', '--output', 'new'])
        assert again.removeprefix('./') in said and 'given twice' in said
