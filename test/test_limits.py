"""The limits of the tests: a hung one ends the run with the stacks of all threads."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import with_default_signals

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
HUNG = """
import ctypes, threading, time

def waits_in_a_thread():
    time.sleep(60)

def test_hangs():
    threading.Thread(target=waits_in_a_thread, daemon=True).start()
    time.sleep(0.2)
    {hang}
"""


@pytest.mark.parametrize(
    ('hang', 'limit'),
    [
        ('time.sleep(60)', 'timeout=2'),
        # With the interpreter's lock held, so that no other thread of Python's runs.
        ('ctypes.PyDLL(None).sleep(60)', 'faulthandler_timeout=2'),
    ],
    ids=['waiting', 'with the lock held'],
)
def test_a_hung_test_ends_the_run_with_the_stacks_of_all_threads(tmp_path, hang, limit):
    (tmp_path / 'test_hung.py').write_text(HUNG.format(hang=hang))
    done = subprocess.run(
        with_default_signals(
            sys.executable, '-m', 'pytest', '-c', str(ROOT / 'pyproject.toml'), '--rootdir',
            str(tmp_path), '-p', 'no:cacheprovider', '-o', limit, str(tmp_path)),
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    for function in ('waits_in_a_thread', 'test_hangs'):
        assert f'in {function}' in said
    assert 'Segmentation' not in said
