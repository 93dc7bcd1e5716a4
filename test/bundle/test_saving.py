"""Writing a bundle: the folder is complete, or as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bundle_edits import contents

from nav_monitor_ros.bundle import saving as saving_module
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError


def test_a_bundle_replaces_the_one_that_was_there(bundle_copy, tiny_bundle, tiny_classifier):
    (bundle_copy / 'exported').mkdir()
    (bundle_copy / 'exported' / 'network.onnx').write_text('of the old one')
    description = bundle_copy / 'bundle.yaml'
    described = yaml.safe_load(description.read_text())
    described['files']['exported/network.onnx'] = '0' * 64
    description.write_text(yaml.safe_dump(described))
    save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    assert (bundle_copy / 'MODEL_CARD.md').read_text() == '# new\n'
    assert not (bundle_copy / 'exported').exists()
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']
    load_bundle(bundle_copy)


def test_what_is_no_bundle_is_not_replaced(tiny_bundle, tiny_classifier, tmp_path):
    thesis = tmp_path / 'work' / 'thesis.txt'
    thesis.parent.mkdir()
    thesis.write_text('three years')
    for target in (thesis.parent, thesis):
        with pytest.raises(NavMonitorError, match='is not empty|is not a folder'):
            save_bundle(tiny_bundle, tiny_classifier, target, card='')
    assert thesis.read_text() == 'three years'
    assert [path.name for path in tmp_path.rglob('*')] == ['work', 'thesis.txt']


def test_an_empty_folder_is_filled_and_parents_are_made(tiny_bundle, tiny_classifier, tmp_path):
    (tmp_path / 'empty').mkdir()
    for folder in (tmp_path / 'empty', tmp_path / 'a' / 'b' / 'c'):
        save_bundle(tiny_bundle, tiny_classifier, folder, card='')
        assert load_bundle(folder).scores.keys() == tiny_bundle.scores.keys()


class PowerCutError(BaseException):
    """No error that code would expect."""


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), PowerCutError()])
@pytest.mark.parametrize('step', ['save_file', 'sha256_of', 'describe', 'write_yaml'])
def test_an_interrupted_save_leaves_the_old_bundle(
    bundle_copy, tiny_bundle, tiny_classifier, monkeypatch, step, error
):
    before = contents(bundle_copy)

    def fail(*_):
        raise error

    monkeypatch.setattr(saving_module, step, fail)
    with pytest.raises((NavMonitorError, PowerCutError)) as caught:
        save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    if isinstance(error, OSError):
        assert str(caught.value) == f'cannot write {bundle_copy}: No space left on device'
    monkeypatch.undo()
    assert contents(bundle_copy) == before
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']
    load_bundle(bundle_copy)


@pytest.mark.parametrize('error', [OSError(5, 'Input/output error'), PowerCutError()])
@pytest.mark.parametrize('number', [1, 2])
def test_a_failure_while_folders_are_exchanged_leaves_the_old_bundle(
    bundle_copy, tiny_bundle, tiny_classifier, monkeypatch, number, error
):
    before = contents(bundle_copy)
    rename, calls = Path.rename, []

    def fail_once(path, target):
        calls.append(path)
        if len(calls) == number:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, 'rename', fail_once)
    with pytest.raises((NavMonitorError, PowerCutError)):
        save_bundle(tiny_bundle, tiny_classifier, bundle_copy, card='# new\n')
    assert len(calls) >= number
    assert contents(bundle_copy) == before
    assert [path.name for path in bundle_copy.parent.iterdir()] == ['copy']


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import tiny
from nav_monitor_ros.bundle import loading, saving
from pathlib import Path
saving.save_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
loaded = loading.load_bundle({folder!r})
saving.save_bundle(loaded, tiny.classifier(), Path({folder!r}), card='# new')
"""


def test_a_process_that_is_killed_while_saving_leaves_the_old_bundle(bundle_copy):
    before = contents(bundle_copy)
    script = KILLED.format(tests=str(Path(__file__).parents[1]), folder=str(bundle_copy))
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=Path(__file__).parents[2],
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=False, timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert contents(bundle_copy) == before
    load_bundle(bundle_copy)


def test_a_place_that_cannot_be_written_is_named(tiny_bundle, tiny_classifier, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NavMonitorError, match='cannot write .*file/b'):
        save_bundle(tiny_bundle, tiny_classifier, tmp_path / 'file' / 'b', card='')


def test_a_bundle_can_be_read_by_everybody(tiny_folder):
    assert tiny_folder.stat().st_mode & 0o777 == 0o755
