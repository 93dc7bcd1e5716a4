"""What ends a command from outside: a full disk, and code that calls sys.exit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny
from command_line import ROOT, environment
from recorded import write_images
from safetensors.torch import save_file

from nav_monitor_ros.cli.main import main

pytest.importorskip('rosbags')

pytestmark = pytest.mark.once

# A disk that takes no more than so many bytes of a file: its errors are those of a full one.
LIMITED = """
import json, resource, signal, sys
from nav_monitor_ros.cli import main
commands = json.load(sys.stdin)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for arguments in commands:
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
    status = main.main(arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print('status', status, file=sys.stderr)
"""


def test_a_disk_that_is_full_is_told_in_one_line_and_leaves_nothing(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder, tmp_path / 'bundle')
    for name, seed in (('data', 1), ('held_out', 2)):
        pixels, labels = tiny.images(seed, 80)
        np.savez(tmp_path / f'{name}.npz', x=pixels, y=labels)
    for name in ('bars', 'other'):
        save_file(tiny.network().state_dict(), tmp_path / f'{name}.safetensors')
    write_images(tmp_path / 'drive', {'/front/image': [
        *tiny.images(7, 12)[0], *tiny.strange(7, 8)]})
    trusted = ['--trust', 'tiny', '--device', 'cpu']
    assert main(['replay', str(tmp_path / 'drive'), '--bundle', str(tmp_path / 'bundle'), *trusted,
                 '--csv', str(tmp_path / 'a.csv')]) == 0
    text = (tmp_path / 'a.csv').read_text()
    (tmp_path / 'b.csv').write_text(text.replace(',left,', ',middle,'))
    replay = ['replay', 'drive', '--bundle', 'bundle', *trusted]
    viewed = ['bundle', '--image', 'held_out.npz', *trusted]
    commands = [
        ['fit', '--model', 'tiny:Bars', '--weights', 'bars.safetensors', '--size', '12x12',
         '--data', 'data.npz', '--calibration', 'held_out.npz', '--device', 'cpu', '--scores',
         'energy', '--fuse', 'energy', '--false-alarm-rate', '0.1', '--output', 'new'],
        ['evaluate', 'bundle', '--inside', 'held_out.npz', *trusted, '--output', 'new'],
        ['evaluate', 'bundle', '--inside', 'held_out.npz', *trusted, '--image-scores', 'new.npz'],
        [*replay, '--csv', 'new.csv'], [*replay, '--html', 'new.html'],
        [*replay, '--output', 'new'],
        ['compare', 'a.csv', 'b.csv', '--csv', 'new.csv'],
        ['compare', 'a.csv', 'b.csv', '--html', 'new.html'],
        ['view', 'grid', *viewed, '--output', 'new.png'],
        ['view', 'volume', *viewed, '--output', 'new.vox'],
        ['view', 'backprop', *viewed, '--output', 'new.png'],
        ['tuning', 'record', 'bundle', '--weights', 'bars.safetensors', '--weights',
         'other.safetensors', '--images', 'held_out.npz', *trusted, '--output', 'new'],
        ['benchmark', 'judge', '--features', '8', '--patterns', '8', '--classes', '3', '--frames',
         '4', '--json', 'new.json'],
    ]
    before = sorted(tmp_path.rglob('*'))
    done = subprocess.run(
        [sys.executable, '-c', LIMITED], cwd=tmp_path, env=environment(), text=True,
        input=json.dumps(commands), capture_output=True, check=False, timeout=300)
    lines = done.stderr.splitlines()
    assert lines[1::2] == ['status 2'] * len(commands), done.stderr
    for line, command in zip(lines[::2], commands, strict=True):
        assert line.startswith(f'nav_monitor {command[0]}: ') and 'File too large' in line, line
        assert 'new' in line, line
    assert sorted(tmp_path.rglob('*')) == before
    assert 'Traceback' not in done.stdout and ROOT.exists()


def test_code_that_calls_exit_ends_a_command_as_an_error(monkeypatch, capsys):
    from nav_monitor_ros.bundle import show

    def leave(*_):
        raise SystemExit('no licence\nfound')

    monkeypatch.setattr(show, 'show', leave)
    assert main(['show', 'digits']) == 2
    assert capsys.readouterr().err == (
        'nav_monitor show: imported code called sys.exit (SystemExit: no licence found); the code '
        'of a network must not do so\n')


def test_a_missing_package_is_one_line(tmp_path):
    (tmp_path / 'safetensors.py').write_text(
        "raise ModuleNotFoundError('No module named safetensors', name='safetensors')\n")
    variables = environment()
    variables['PYTHONPATH'] = f"{tmp_path}:{variables['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, '-m', 'nav_monitor_ros.cli.command', 'show', 'digits'], cwd=ROOT,
        env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert 'the Python package safetensors is not installed' in line
