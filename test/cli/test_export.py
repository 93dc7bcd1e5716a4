"""`nav_monitor export` and `fit --export`: what remains if no engine is approved."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny
from command_line import fit_arguments

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting import engine_agreement

pytest.importorskip('onnxruntime')
EXPORT = ['--trust', 'tiny', '--backend', 'onnxruntime', '--calibration']


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.usefixtures('fitted')
def test_an_export_by_other_images_leaves_the_earlier_one(desk, run, tmp_path):
    shutil.copytree(desk / 'fitted', tmp_path / 'own')
    ended = run('export', 'own', *EXPORT, desk / 'held_out.npz', cwd=tmp_path)
    assert ended.status == 0, ended.err
    before = contents(tmp_path / 'own')
    pixels, labels = tiny.images(9, 35)
    np.savez(tmp_path / 'others.npz', x=pixels, y=labels)
    for folder, output in (('own', []), ('new', ['--output', 'new'])):
        ended = run('export', 'own', *EXPORT, 'others.npz', *output, cwd=tmp_path)
        assert ended.status == 2 and ended.out == ''
        *warning, last = ended.err.splitlines()
        assert 'calibrated on none of these images' in ' '.join(' '.join(warning).split())
        assert last.startswith(f'nav_monitor export: nothing is written to {folder}: ')
        assert 'no engine is approved (onnxruntime_f32): ' in last and last.count('too few') == 1
        assert last.endswith('give the calibration images of `fit` (held_out.npz) (--calibration)')
    assert contents(tmp_path / 'own') == before and not (tmp_path / 'new').exists()
    assert load_bundle(tmp_path / 'own').runs_without_code


def test_a_fit_without_an_approved_engine_keeps_its_bundle(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    monkeypatch.setattr(engine_agreement, 'disagreements', lambda *_: ['it differs'])

    def impossible(*_, **__):
        raise NavMonitorError('a score is not finite')

    monkeypatch.setattr(engine_agreement, 'calibrate', impossible)
    assert main(fit_arguments(output='unapproved', export='onnxruntime')) == 2
    said = capsys.readouterr()
    assert 'wrote unapproved (' in said.out and 'nav_monitor replay BAG' in said.out
    assert said.err == (
        'nav_monitor fit: unapproved is complete, but not exported: no engine is approved '
        '(onnxruntime_f32): it differs, and it cannot be calibrated separately: a score is not '
        'finite\n')
    bundle = load_bundle(desk / 'unapproved')
    assert bundle.stored is None and not (desk / 'unapproved' / 'exported').exists()


def test_a_fit_reports_its_bundle_if_a_package_for_the_export_is_missing(
    desk, monkeypatch, capsys
):
    monkeypatch.chdir(desk)

    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'", name='onnxscript')

    monkeypatch.setattr('nav_monitor_ros.cli.fit.export_bundle', missing)
    assert main(fit_arguments(output='lacking', export='onnxruntime')) == 2
    said = capsys.readouterr()
    assert 'wrote lacking (' in said.out
    assert said.err.startswith('nav_monitor fit: lacking is complete, but not exported: the Python '
                               'package onnxscript is not installed')
