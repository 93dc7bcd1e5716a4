"""A disk that is full ends a command with one line, and leaves nothing half written."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny

from nav_monitor_ros.cli import main
from nav_monitor_ros.data.sources import open_source
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.atomic_file import atomic_file, write_file
from nav_monitor_ros.files.atomic_folder import atomic_folder

ROOM = 16384  # bytes that fit


@pytest.fixture(params=['tmpfs', 'limit'])
def disk(request, tmp_path):
    """Return a folder in which few bytes fit, or a process that may write no larger files."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if request.param == 'tmpfs':
        mounted = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={ROOM}', 'none', folder], capture_output=True,
            check=False)
        if mounted.returncode:
            pytest.skip('this user may not mount')
        yield folder
        subprocess.run(['umount', folder], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = 'No space left on device|File too large'


def write_into(folder):
    with atomic_folder(folder) as scratch:
        (scratch / 'small').write_bytes(b'x')
        (scratch / 'large').write_bytes(bytes(4 * ROOM))


def test_nothing_is_left_of_a_file_or_a_folder_that_does_not_fit(disk):
    (disk / 'file').write_text('old')
    with pytest.raises(NavMonitorError, match=f'cannot write .*file: ({FULL})'):
        write_file(disk / 'file', bytes(4 * ROOM))
    with pytest.raises(OSError, match=FULL), atomic_file(disk / 'new' / 'file') as scratch:
        scratch.write_bytes(bytes(4 * ROOM))
    with pytest.raises(OSError, match=FULL):
        write_into(disk / 'new' / 'folder')
    assert [path.name for path in disk.rglob('*')] == ['file']
    assert (disk / 'file').read_text() == 'old'


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Work in a folder with images and weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    for name, seed, count in (('train', 1, 200), ('held_out', 2, 200)):
        images, labels = tiny.images(seed, count)
        np.savez(tmp_path / f'{name}.npz', x=images, y=labels)
    tiny.classifier().save(tmp_path / 'weights.safetensors')
    write_picture(tmp_path / 'image.png')
    return tmp_path


def write_picture(path):
    from nav_monitor_ros.files.pictures import write_png

    write_png(path, np.random.default_rng(0).integers(0, 255, (28, 28, 3), np.uint8))


@pytest.mark.parametrize('command', [
    'fit --model tiny:Bars --weights weights.safetensors --data train.npz --calibration '
    'held_out.npz --false-alarm-rate 0.05 --size 12x12 --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 '
    '--device cpu --scores pattern,energy --output disk/out',
    'view grid digits --image image.png --output disk/out.png',
    'view volume digits --image image.png --output disk/out.html',
])
def test_commands_end_with_one_line(inputs, disk, capsys, command):
    assert main.main(command.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'cannot write disk/out' in said and said.endswith(tuple(FULL.split('|')))
    assert list(disk.iterdir()) == []


def test_a_full_temporary_folder_is_told_with_the_remedy(tmp_path, disk, monkeypatch):
    """Compressed arrays are unpacked there."""
    monkeypatch.setattr(tempfile, 'tempdir', str(disk))
    np.savez_compressed(tmp_path / 'zeros.npz', x=np.zeros((64, 32, 32), np.uint8))
    with pytest.raises(NavMonitorError, match=rf'zeros.npz .*({FULL}).*TMPDIR'):
        open_source(str(tmp_path / 'zeros.npz'))
    assert list(disk.iterdir()) == []
