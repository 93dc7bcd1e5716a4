"""ROS 2's own linters, where ROS 2 has them: the wheels on PyPI do not, a distribution does."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ['nav_monitor_ros', 'launch', 'setup.py', 'test', 'tools']


@pytest.mark.linter
@pytest.mark.flake8
def test_ament_flake8_finds_no_problems(monkeypatch):
    main = pytest.importorskip('ament_flake8.main', reason='ROS 2 here has no ament_flake8')
    monkeypatch.chdir(ROOT)
    configuration = str(Path(__file__).with_name('ament_flake8.ini'))
    status, problems = main.main_with_errors(argv=['--config', configuration, *SOURCES])
    assert status == 0, '\n'.join(problems)


@pytest.mark.linter
@pytest.mark.pep257
def test_ament_pep257_finds_no_problems(monkeypatch):
    main = pytest.importorskip('ament_pep257.main', reason='ROS 2 here has no ament_pep257')
    monkeypatch.chdir(ROOT)
    assert main.main(argv=['--convention', 'google', '--add-ignore', 'D105', 'D107', '--',
                           'nav_monitor_ros', 'tools']) == 0
