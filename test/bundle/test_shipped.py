"""Bundles are found by their path or by the name of a shipped one."""

from __future__ import annotations

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
