"""Bundles are found by their path or by the name of a shipped one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nav_monitor_ros.bundle import shipped as shipped_module
from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.shipped import find_bundle, shipped_bundles
from nav_monitor_ros.errors import NavMonitorError


def test_a_folder_is_found_from_home(monkeypatch, tiny_folder):
    monkeypatch.setenv('HOME', str(tiny_folder.parent))
    assert find_bundle('~/tiny') == tiny_folder


def test_shipped_bundles_are_found_by_name(monkeypatch, tiny_folder, tmp_path):
    share = tmp_path / 'share'
    (share / 'bundles').mkdir(parents=True)
    (share / 'bundles' / 'bars').symlink_to(tiny_folder)
    (share / 'bundles' / 'no_bundle').mkdir()
    monkeypatch.setattr(shipped_module, '_share_folders', lambda: [tmp_path / 'empty', share])
    assert list(shipped_bundles()) == ['bars']
    assert load_bundle('bars').name == 'tiny'
    with pytest.raises(NavMonitorError, match=r'\(bars\)'):
        find_bundle('digits_')


@pytest.mark.parametrize(
    ('module', 'share', 'prefixes'),
    [
        ('src', 'src', ()),  # a checkout, on the path or linked by colcon
        ('ws/lib/python3.12/site-packages', 'ws/share/nav_monitor_ros', ()),  # colcon, pip
        ('usr/local/lib/python3.12/dist-packages', 'usr/local/share/nav_monitor_ros', ()),
        ('home/.local/lib/python3.12/site-packages', 'home/.local/share/nav_monitor_ros', ()),
        ('build/elsewhere', 'underlay/share/nav_monitor_ros', ('overlay', 'underlay')),
    ],
)
def test_shipped_bundles_are_found_however_the_package_is_installed(
    monkeypatch, tmp_path, tiny_folder, module, share, prefixes
):
    code = tmp_path / module / 'nav_monitor_ros' / 'bundle' / 'shipped.py'
    for folder in (code.parent, tmp_path / share / 'bundles'):
        folder.mkdir(parents=True)
    code.touch()
    if share == 'src':
        (tmp_path / 'src' / 'package.xml').touch()
    (tmp_path / share / 'bundles' / 'bars').symlink_to(tiny_folder)
    monkeypatch.setattr(shipped_module, '__file__', str(code))
    monkeypatch.setenv('AMENT_PREFIX_PATH', ':'.join(str(tmp_path / p) for p in prefixes))
    assert shipped_bundles() == {'bars': tmp_path / share / 'bundles' / 'bars'}


def test_a_checkout_finds_its_bundles_without_ros(tmp_path):
    root = Path(__file__).parents[2]
    code = 'from nav_monitor_ros.bundle.shipped import shipped_bundles; print(*shipped_bundles())'
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True,
        timeout=120, env={'PYTHONPATH': str(root), 'PATH': os.environ['PATH']},
    )
    assert {'digits', 'traffic_signs', 'corridor'} <= set(done.stdout.split())
