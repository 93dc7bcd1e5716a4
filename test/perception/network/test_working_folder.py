"""Network code in the current folder: found by commands, never in place of an installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network import working_folder
from nav_monitor_ros.perception.network.specification import NetworkSpec

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[3]
# A network of somebody's own, with a module beside it that is imported when it is called.
MY_NET = """
import torch
from torch import nn
from torch.nn import functional


class MyNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(180, width), nn.Linear(width, 3)

    def forward(self, images):
        maps = functional.max_pool2d(functional.relu(self.conv(images)), 2)
        return functional.softmax(self.fc2(functional.relu(self.fc1(maps.flatten(1)))), dim=1)


def make():
    from my_sizes import WIDTH
    return MyNet(WIDTH)
"""


@pytest.fixture
def desk(tmp_path):
    (tmp_path / 'my_net.py').write_text(MY_NET)
    (tmp_path / 'my_sizes.py').write_text(f'WIDTH = {tiny.WIDTH}\n')
    for name, seed, count in (('train', 1, 300), ('held_out', 2, 120)):
        images, labels = tiny.images(seed, count)
        np.savez(tmp_path / f'{name}.npz', x=images, y=labels)
    tiny.classifier().save(tmp_path / 'weights.safetensors')
    return tmp_path


def command(*arguments, cwd):
    """Run the command as it is installed: the current folder is not on the path."""
    paths = [str(ROOT), *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    script = 'import sys; from nav_monitor_ros.cli.main import main; sys.exit(main())'
    # -P would keep the folder out as well, but is of Python 3.11.
    script = f'import sys; sys.path = [p for p in sys.path if p not in ("", ".")]; {script}'
    return subprocess.run(
        [sys.executable, '-c', script, *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)),
             'OMP_NUM_THREADS': '1'}, timeout=300, check=False,
    )


FIT = (
    'fit', '--model', 'my_net:make', '--weights', 'weights.safetensors', '--data', 'train.npz',
    '--calibration', 'held_out.npz', '--false-alarm-rate', '0.05', '--size', '12x12', '--mean',
    '0.5,0.5,0.5', '--std', '0.25,0.25,0.25', '--scores', 'pattern,energy', '--device', 'cpu',
    '--output', 'my bundle',
)


def test_a_network_in_the_current_folder_is_fitted_and_the_advice_works(desk):
    done = command(*FIT, cwd=desk)
    assert done.returncode == 0, done.stderr
    advice = next(line for line in done.stdout.splitlines() if 'ros2 launch' in line)
    assert f'PYTHONPATH={desk}:$PYTHONPATH' in advice and 'trusted_packages:=my_net' in advice
    assert f"bundle:='{desk / 'my bundle'}'" in advice
    evaluate = ('evaluate', 'my bundle', '--inside', 'held_out.npz', '--device', 'cpu')
    done = command(*evaluate, cwd=desk)
    assert done.returncode == 2 and '--trust my_net' in done.stderr
    assert command(*evaluate, '--trust', 'my_net', cwd=desk).returncode == 0
    # What the advice says: where the folder is named, whoever runs it finds the code.
    bundle = load_bundle(desk / 'my bundle')
    script = (
        'import sys; from nav_monitor_ros.bundle.loading import load_bundle; '
        'from nav_monitor_ros.bundle.networks import load_network; '
        'load_network(load_bundle(sys.argv[1]), device="cpu", trusted_packages=["my_net"])'
    )
    run = {'cwd': '/', 'capture_output': True, 'text': True, 'check': False}
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    named = subprocess.run([sys.executable, '-c', script, str(bundle.folder)], **run,
                           env={**environment, 'PYTHONPATH': f'{desk}:{paths}'})
    assert named.returncode == 0, named.stderr
    without = subprocess.run([sys.executable, '-c', script, str(bundle.folder)], **run,
                             env={**environment, 'PYTHONPATH': paths})
    assert "'my_net' cannot be imported" in without.stderr and 'PYTHONPATH' in without.stderr


def test_nothing_of_the_folder_takes_the_place_of_an_installed_package(desk):
    for name in ('safetensors', 'yaml', 'onnx', 'tiny', 'json'):
        (desk / f'{name}.py').write_text('open("ran", "w")\nraise SystemExit(3)\n')
    (desk / 'not_there_xyz.py').write_text('open("ran", "w")\n')
    done = command('show', 'digits', cwd=desk)
    assert done.returncode == 0, done.stderr
    assert command(*FIT, cwd=desk).returncode == 0
    assert not (desk / 'ran').exists()


def test_a_package_that_is_not_trusted_is_not_found_there(desk, monkeypatch):
    (desk / 'other_net.py').write_text('raise SystemExit("ran")\n')
    monkeypatch.setattr(working_folder, '_folder', desk)
    with pytest.raises(NavMonitorError, match='--trust other_net'):
        NetworkSpec('other_net:make').build(['my_net'])


def test_the_folder_is_on_the_path_only_meanwhile(desk, monkeypatch):
    monkeypatch.setattr(working_folder, '_folder', desk)
    before = list(sys.path)
    for name in ('my_net', 'my_sizes'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert NetworkSpec('my_net:make').build(['my_net']).fc1.out_features == tiny.WIDTH
    assert sys.path == before
    assert working_folder.folder_of('my_net') == desk
    assert working_folder.folder_of('torch') is None


@pytest.mark.parametrize(('code', 'said'), [
    ('import nothing_of_that_name', 'No module named .nothing_of_that_name.'),
    ('def make(:', 'SyntaxError'),
    ('1 / 0', 'ZeroDivisionError: division by zero'),
])
def test_code_that_cannot_be_imported_is_named_in_one_line(desk, monkeypatch, code, said):
    (desk / 'broken_net.py').write_text(code)
    monkeypatch.setattr(working_folder, '_folder', desk)
    monkeypatch.delitem(sys.modules, 'broken_net', raising=False)
    whole = f"'broken_net' cannot be imported: .*{said}"
    with pytest.raises(NavMonitorError, match=whole) as caught:
        NetworkSpec('broken_net:make').build(['broken_net'])
    assert '\n' not in str(caught.value)
