"""Standard output that is closed, full or read in part: one line at most, and the usual status."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import ROOT, environment

pytestmark = pytest.mark.once

CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended


def shell(script):
    command = f'{sys.executable} -m nav_monitor_ros.cli.command'
    done = subprocess.run(
        ['bash', '-c', script.replace('nav_monitor', command)], cwd=ROOT, env=environment(),
        capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('command', ['show digits', 'view layers digits --device cpu', '--help'])
def test_a_reader_that_has_seen_enough_is_no_error(command):
    # `true` reads nothing, and is gone before anything is written.
    status, out, err = shell(f'nav_monitor {command} | true; exit ${{PIPESTATUS[0]}}')
    assert (status, out, err) == (CLOSED_PIPE, '', '')


@pytest.mark.parametrize(('command', 'who'), [
    ('show digits', 'nav_monitor show'), ('fit --help', 'nav_monitor'),
    ('view layers digits --device cpu', 'nav_monitor view'),
])
def test_a_closed_standard_output_is_told_in_one_line(command, who):
    status, _, err = shell(f'nav_monitor {command} >&-')
    assert (status, err) == (2, f'{who}: standard output: Bad file descriptor\n')


def test_closed_descriptors_are_taken_by_no_file(tmp_path):
    status, out, err = shell(f'nav_monitor show digits <&- 2>&- > {tmp_path}/out')
    assert (status, out, err) == (0, '', '')
    assert 'Bundle digits' in (tmp_path / 'out').read_text()
    status, _, err = shell(f'nav_monitor view layers digits --device cpu <&- >&- 2> {tmp_path}/err')
    assert status == 2 and (tmp_path / 'err').read_text().endswith('Bad file descriptor\n')
