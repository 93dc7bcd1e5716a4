"""The page of the closed-loop measurements. Needs MuJoCo."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mujoco')
sys.path.insert(0, str(Path(__file__).parents[2] / 'tools' / 'demo'))

import closed_loop_page  # noqa: E402

ORDINARY = {
    'hours': 2.0, 'false_stops_per_hour': 1.5, 'false_stops_per_hour_interval': [0.3, 4.4],
    'share_true': 0.004, 'distance_share': 0.97,
}


@pytest.fixture
def folder(tmp_path):
    """Return results with one encounter that the monitor missed, and one that does not count."""
    kinds = {'ball': {'encounters': 1, 'stopped': 0}, 'all': {'encounters': 1, 'stopped': 0}}
    for part, kind in (('development', 'ball'), ('sealed', 'animal')):
        named = {kind if name == 'ball' else name: cell for name, cell in kinds.items()}
        (tmp_path / f'summary_{part}.json').write_text(json.dumps({
            'ordinary': ORDINARY, 'encounters': {'monitor': named, 'knn': named}}))
    encounters = tmp_path / 'encounters' / 'monitor'
    encounters.mkdir(parents=True)
    record = {'kind': 'ball', 'seed': 1, 'alert_gap': None, 'end_time': 9.0, 'end_gap': -0.01,
              'end_x': 1.0, 'end_y': 1.0}
    (encounters / 'ball_1.json').write_text(json.dumps({**record, 'outcome': 'contact'}))
    (encounters / 'ball_2.json').write_text(json.dumps(
        {**record, 'seed': 2, 'outcome': 'excluded_alert'}))
    cv2.imwrite(str(encounters / 'ball_1.png'), np.full((240, 320, 3), 90, np.uint8))
    return tmp_path


def test_the_page_tells_what_was_missed(folder):
    closed_loop_page.write_page(folder, 'no bundle is needed without a stop to film')
    page = (folder / 'index.html').read_text()
    assert '0 of 1 robots stopped before contact' in page
    assert 'false stops per hour (95 % interval: 0.3 to 4.4) in 2.0 h' in page
    assert page.count('0 of 1</td>') == 4  # two kinds, two detectors
    assert '<td>ball</td>' in page and '<td>animal (sealed)</td>' in page
    assert 'no alert' in page and '<svg' in page
    assert 'http://' not in page.replace('http://www.w3.org', '')


def test_a_folder_without_results_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['closed_loop_page', str(tmp_path)])
    assert closed_loop_page.main() == 2
    assert 'holds no summary; run benchmarks/closed_loop.py first' in capsys.readouterr().err
