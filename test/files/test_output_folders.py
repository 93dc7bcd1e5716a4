"""Folders that commands write to: nothing that is there is lost, and what may be is asked for."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.output_folder import check_output
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.bundle.shipped import find_bundle
from nav_monitor_ros.cli import main
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files import atomic_folder
from nav_monitor_ros.files.atomic_file import atomic_file
from nav_monitor_ros.tuning.recorded_training import RecordedTraining
from nav_monitor_ros.tuning.recorder import TuningOptions, TuningRecorder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob('*')
    }


def add_others(folder):
    """Put what a user may keep there into a folder."""
    (folder / 'notes.txt').write_text('three years')
    (folder / '.hidden').write_text('h')
    (folder / 'runs' / 'deep').mkdir(parents=True)
    (folder / 'runs' / 'deep' / 'log.csv').write_bytes(b'1,2')
    (folder / 'runs' / 'empty').mkdir()
    (folder / 'exported').mkdir(exist_ok=True)
    (folder / 'exported' / 'mine.engine').write_bytes(b'trt')
    (folder / 'latest').symlink_to('runs/deep', target_is_directory=True)
    (folder / 'dangling').symlink_to('nowhere')


def check_others(folder):
    assert (folder / 'notes.txt').read_text() == 'three years'
    assert (folder / 'runs' / 'deep' / 'log.csv').read_bytes() == b'1,2'
    assert (folder / 'runs' / 'empty').is_dir()
    assert (folder / 'exported' / 'mine.engine').read_bytes() == b'trt'
    assert (folder / '.hidden').read_text() == 'h'
    assert os.readlink(folder / 'latest') == 'runs/deep'
    assert os.readlink(folder / 'dangling') == 'nowhere'


@pytest.mark.parametrize('links', [True, False])
def test_other_files_stay_when_a_bundle_is_written_again(
    bundle_copy, tiny_bundle, tiny_classifier, monkeypatch, links
):
    add_others(bundle_copy)
    inode = (bundle_copy / 'notes.txt').stat().st_ino
    if not links:  # as on a disk without hard links

        def refuse(*_args, **_options):
            raise OSError(1, 'Operation not permitted')

        monkeypatch.setattr(atomic_folder.os, 'link', refuse)
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    check_others(bundle_copy)
    assert ((bundle_copy / 'notes.txt').stat().st_ino == inode) == links
    assert (bundle_copy / 'MODEL_CARD.md').read_text() == '# new\n'
    load_bundle(bundle_copy)
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']


def test_what_of_the_old_bundle_the_new_one_lacks_goes(bundle_copy, tiny_bundle, tiny_classifier):
    (bundle_copy / 'exported').mkdir()
    description = bundle_copy / 'bundle.yaml'
    described = yaml.safe_load(description.read_text())
    for name in ('model.onnx', 'classes.txt', 'exported/probe.safetensors'):
        (bundle_copy / name).write_text('old')
        described['files'][name] = '0' * 64
    description.write_text(yaml.safe_dump(described))
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='')
    assert not {'model.onnx', 'classes.txt', 'exported'} & set(contents(bundle_copy))


def test_files_that_the_old_bundle_does_not_list_are_their_owners(
    bundle_copy, tiny_bundle, tiny_classifier
):
    for name in ('model.onnx', 'classes.txt'):
        (bundle_copy / name).write_text('mine')
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='')
    assert {(bundle_copy / name).read_text() for name in ('model.onnx', 'classes.txt')} == {'mine'}
    load_bundle(bundle_copy)


@pytest.mark.parametrize('name', ['MODEL_CARD.md', 'model.safetensors', 'bundle.yaml'])
def test_a_file_of_somebody_else_is_never_replaced(
    tmp_path, tiny_bundle, tiny_classifier, name
):
    (tmp_path / name).write_text('years of work')
    before = contents(tmp_path)
    with pytest.raises(NavMonitorError, match=f'{name} does not belong to a bundle'):
        save_bundle(tiny_bundle, tiny_classifier, tmp_path, card='', force=True)
    assert contents(tmp_path) == before


def test_folders_keep_who_may_read_them(bundle_copy, tiny_bundle, tiny_classifier):
    (bundle_copy / 'private' / 'empty').mkdir(parents=True)
    (bundle_copy / 'private' / 'notes').write_text('n')
    for folder, mode in (('private/empty', 0o750), ('private', 0o700), ('.', 0o2770)):
        (bundle_copy / folder).chmod(mode)
    os.utime(bundle_copy / 'private', (1e9, 1e9))
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='')
    for folder, mode in (('private/empty', 0o750), ('private', 0o700), ('.', 0o2770)):
        assert (bundle_copy / folder).stat().st_mode & 0o7777 == mode
    assert (bundle_copy / 'private').stat().st_mtime == 1e9


def test_a_link_to_a_bundle_stays_a_link(bundle_copy, tiny_bundle, tiny_classifier, tmp_path):
    link = tmp_path / 'current'
    link.symlink_to(bundle_copy.name, target_is_directory=True)
    save_bundle(tiny_bundle, tiny_classifier, link, card='# new\n')
    assert link.is_symlink() and (bundle_copy / 'MODEL_CARD.md').read_text() == '# new\n'
    assert {path.name for path in tmp_path.iterdir()} == {'copy', 'current'}


# ------------------------------------------------------------------ files


def write(path, text):
    with atomic_file(path) as scratch:
        scratch.write_text(text)


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'disk' / 'table').write_text('old')
    for name, target in (('link', 'disk/table'), ('new', 'disk/lacking'), ('two', 'link')):
        (tmp_path / name).symlink_to(target)
        write(tmp_path / name, name)
        assert os.readlink(tmp_path / name) == target and (tmp_path / name).read_text() == name
    assert sorted(path.name for path in (tmp_path / 'disk').iterdir()) == ['lacking', 'table']


def test_pipes_and_devices_are_written_to(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, 'through')
        assert os.read(reader, 100) == b'through' and pipe.is_fifo()
    finally:
        os.close(reader)
    write(Path('/dev/null'), 'gone')
    assert Path('/dev/null').is_char_device()
    with (tmp_path / 'redirected').open('w+') as file:
        write(Path(f'/dev/fd/{file.fileno()}'), 'as a shell does')
        assert file.read() == 'as a shell does'
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / 'socket'))
        with pytest.raises(OSError, match='neither a file'):
            write(tmp_path / 'socket', '')
    with pytest.raises(IsADirectoryError):
        write(tmp_path, '')


def test_a_file_keeps_its_mode_and_leaves_its_neighbours(tmp_path):
    (tmp_path / '.table.part').write_text('mine')
    (tmp_path / 'table').write_text('old')
    (tmp_path / 'table').chmod(0o600)
    write(tmp_path / 'table', 'new')
    assert (tmp_path / 'table').stat().st_mode & 0o777 == 0o600
    long = 'é' * 127  # 254 bytes of the 255 that a name may have
    write(tmp_path / long, 'long')
    with pytest.raises(KeyError), atomic_folder.atomic_folder(tmp_path / ('é' * 126 + 'ff')):
        raise KeyError
    assert contents(tmp_path) == {
        '.table.part': b'mine', 'table': b'new', long: b'long'}


# ------------------------------------------------------------------ the commands


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Work in a folder with images and weights, without a process of its own for each command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    for name, seed, count in (('train', 1, 400), ('held_out', 2, 200)):
        images, labels = tiny.images(seed, count)
        np.savez(tmp_path / f'{name}.npz', x=images, y=labels)
    tiny.classifier().save(tmp_path / 'weights.safetensors')
    return tmp_path


def fit(*more, output='out', weights='weights.safetensors', inside='.'):
    preprocess = ['--size', '12x12', '--mean', '0.5,0.5,0.5', '--std', '0.25,0.25,0.25']
    return main.main([
        'fit', '--model', 'tiny:Bars', '--weights', f'{inside}/{weights}',
        '--data', f'{inside}/train.npz', '--calibration', f'{inside}/held_out.npz',
        '--false-alarm-rate', '0.05', '--device', 'cpu',
        '--scores', 'pattern,energy', *preprocess, '--output', output, *more,
    ])


def test_fit_refuses_a_folder_with_something_in_it_and_force_keeps_it(desk, capsys):
    assert fit() == 0
    add_others(desk / 'out')
    before = contents(desk)
    assert fit('--name', 'second') == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert 'out already holds a bundle' in said and '--force' in said
    assert contents(desk) == before
    assert fit('--name', 'second', '--force') == 0
    assert load_bundle(desk / 'out').name == 'second'
    check_others(desk / 'out')
    # A folder that holds no bundle is treated alike.
    (desk / 'work').mkdir()
    add_others(desk / 'work')
    assert fit(output='work') == 2
    assert 'work is not empty' in capsys.readouterr().err.splitlines()[-1]
    assert fit('--force', output='work') == 0
    check_others(desk / 'work')
    assert load_bundle(desk / 'work').name == 'work'


def test_export_adds_to_its_own_bundle_and_refuses_another(desk, capsys):
    assert fit() == 0
    shutil.copytree(desk / 'out', desk / 'other')
    add_others(desk / 'out')
    add_others(desk / 'other')
    arguments = ['export', 'out', '--backend', 'onnxruntime', '--calibration', 'held_out.npz',
                 '--trust', 'tiny']
    before = contents(desk)
    assert main.main([*arguments, '--output', 'other']) == 2
    assert 'other already holds a bundle' in capsys.readouterr().err.splitlines()[-1]
    assert contents(desk) == before
    assert main.main(arguments) == 0
    check_others(desk / 'out')
    assert load_bundle(desk / 'out').stored is not None
    assert main.main([*arguments, '--output', 'other', '--force']) == 0
    check_others(desk / 'other')
    assert load_bundle(desk / 'other').stored is not None


@pytest.mark.parametrize('bundle', ['digits', str(find_bundle('digits'))])
def test_export_leaves_a_shipped_bundle_as_it_is(desk, capsys, bundle):
    before = contents(find_bundle('digits'))
    arguments = ['export', bundle, '--backend', 'onnxruntime', '--calibration', 'held_out.npz']
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert f"'{bundle}' is part of the package" in said and '--output my_digits' in said
    assert said.count('\n') == 1
    assert contents(find_bundle('digits')) == before


def test_train_refuses_a_folder_with_something_in_it(desk, capsys):
    (desk / 'work').mkdir()
    add_others(desk / 'work')
    before = contents(desk)
    assert main.main(['train', 'digits', '--epochs', '1', '--output', 'work']) == 2
    assert 'work is not empty' in capsys.readouterr().err.splitlines()[-1]
    assert contents(desk) == before


@pytest.mark.parametrize('place', ['out', 'out/kept'])
def test_a_checkpoint_in_the_output_folder_is_refused_before_the_work(desk, capsys, place):
    assert fit('--checkpoint', place) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert ('the same file as --output' if place == 'out' else 'lies in the output folder') in said
    assert not (desk / 'out').exists()


def test_a_recording_of_tuning_takes_no_folder_of_others(tmp_path, tiny_classifier):
    (tmp_path / '0000.npz').write_text('mine')
    with pytest.raises(NavMonitorError, match='is not empty and holds no recording'):
        TuningRecorder(tmp_path, tiny_classifier, tiny.source(1, 10), tiny.CLASSES,
                       TuningOptions(), network='tiny')
    with pytest.raises(NavMonitorError, match='is not empty and holds no recording'):
        RecordedTraining(tmp_path, 'tiny', tiny.PREPROCESS, tiny.CLASSES, TuningOptions())
    assert contents(tmp_path) == {'0000.npz': b'mine'}


def test_a_recording_that_is_replaced_takes_no_file_elsewhere_with_it(tmp_path, tiny_classifier):
    converted = tmp_path / 'runs' / 'last.pth.safetensors'
    converted.parent.mkdir()
    converted.write_text('mine')
    folder = tmp_path / 'tuning'
    recorder = TuningRecorder(folder, tiny_classifier, tiny.source(1, 10), tiny.CLASSES,
                              TuningOptions(), network='tiny')
    for name in (str(tmp_path / 'runs' / 'last.pth'), '../../runs/last.pth'):
        recorder.record(name)  # as ``tuning record`` calls checkpoints whose files have one name
    training = RecordedTraining(folder, 'tiny', tiny.PREPROCESS, tiny.CLASSES, TuningOptions(),
                                replace=True)
    training.look('untrained', tiny.network(), tiny.source(1, 10))
    assert converted.read_text() == 'mine'
    assert (folder / 'weights' / 'untrained.safetensors').is_file()


def test_force_refuses_before_the_work_what_would_replace_the_input(desk, capsys):
    (desk / 'work').mkdir()
    (desk / 'work' / 'model.safetensors').write_bytes((desk / 'weights.safetensors').read_bytes())
    before = contents(desk)
    assert fit('--force', weights='work/model.safetensors', output='work') == 2
    assert 'contains --weights work/model.safetensors, which is read' in capsys.readouterr().err
    assert contents(desk) == before
    assert fit() == 0
    (desk / 'out' / 'exported').mkdir()
    (desk / 'out' / 'exported' / 'network.onnx').write_text('mine')
    arguments = ['export', 'out', '--backend', 'onnxruntime', '--calibration', 'held_out.npz',
                 '--trust', 'tiny']
    assert main.main(arguments) == 2
    assert 'network.onnx does not belong to a bundle' in capsys.readouterr().err.splitlines()[-1]
    assert (desk / 'out' / 'exported' / 'network.onnx').read_text() == 'mine'


def test_the_current_folder_is_filled_if_it_is_empty_and_not_replaced(desk, capsys, monkeypatch):
    (desk / 'out').mkdir()
    monkeypatch.chdir(desk / 'out')
    inode = (desk / 'out').stat().st_ino
    assert fit('--name', 'here', output='.', inside=desk) == 0
    assert (desk / 'out').stat().st_ino == inode
    assert load_bundle(desk / 'out').name == 'here'
    assert not list(desk.rglob('.*'))
    before = contents(desk)
    assert fit('--force', output='.', inside=desk) == 2
    assert 'it is, or contains, the current folder' in capsys.readouterr().err.splitlines()[-1]
    assert main.main(['export', '.', '--backend', 'onnxruntime', '--trust', 'tiny',
                     '--calibration', str(desk / 'held_out.npz')]) == 2
    assert 'it is, or contains, the current folder' in capsys.readouterr().err.splitlines()[-1]
    assert contents(desk) == before


def test_a_failed_fill_leaves_the_folder_empty(
    tmp_path, tiny_bundle, tiny_classifier, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rename = Path.rename

    def full(self, target):
        if self.name == 'monitor.safetensors':
            raise OSError(28, 'No space left on device')
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', full)
    with pytest.raises(NavMonitorError, match='No space left'):
        save_bundle(tiny_bundle, tiny_classifier, Path('.'), card='')
    assert contents(tmp_path) == {}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NavMonitorError, match='file is not a folder'):
        check_output(tmp_path / 'file' / 'deep' / 'out')
    with pytest.raises(NavMonitorError, match='a disk is mounted there'):
        check_output(Path('/proc'), force=True)
    with pytest.raises(NavMonitorError, match='File name too long'):
        check_output(tmp_path / ('n' * 300))


def test_backends_are_checked_before_the_fit(desk, capsys):
    assert fit('--export', 'tensorrt') == 2
    assert "--export 'tensorrt' is not" in capsys.readouterr().err.splitlines()[-1]
    assert not (desk / 'out').exists()
