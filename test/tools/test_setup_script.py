"""How tools/setup.sh installs Debian packages beside another apt."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

SETUP = Path(__file__).parents[2] / 'tools' / 'setup.sh'
# Says what SAYS holds, and succeeds once it was called as often as CALLS says.
FAKE_APT = """#!/bin/sh
echo call >>calls
[ "$(wc -l <calls)" -ge "$CALLS" ] && exit 0
echo "$SAYS" >&2
exit 100
"""
RUN = """
set -euo pipefail
log=$PWD/log
say() { echo "setup: $*"; }
become_root=()
FUNCTION
{ apt_get install -y thing; } >>"$log" 2>&1
"""


def install(folder, says, calls):
    """Run apt_get with a fake apt-get; return its exit status and how often that was called."""
    function = re.search(r'^apt_get\(\) \{.*?^\}$', SETUP.read_text(), re.DOTALL | re.MULTILINE)
    fake = folder / 'apt-get'
    fake.write_text(FAKE_APT)
    fake.chmod(0o755)
    (folder / 'log').touch()
    done = subprocess.run(
        ['bash', '-c', RUN.replace('FUNCTION', function.group())], cwd=folder, timeout=60,
        env={
            **os.environ, 'PATH': f'{folder}:{os.environ["PATH"]}', 'NAV_MONITOR_APT_PAUSE': '0',
            'SAYS': says, 'CALLS': str(calls),
        },
    )
    return done.returncode, len((folder / 'calls').read_text().split())


@pytest.mark.parametrize(
    'lock',
    ['/var/lib/dpkg/lock-frontend', '/var/cache/apt/archives/lock', '/var/lib/apt/lists/lock'],
)
def test_it_waits_for_each_of_apts_locks(tmp_path, lock):
    says = f'E: Could not get lock {lock}. It is held by process 1 (apt-get)'
    assert install(tmp_path, says, calls=4) == (0, 4)


def test_another_failure_ends_it_at_once(tmp_path):
    assert install(tmp_path, 'E: Unable to locate package thing', calls=4) == (1, 1)


def test_it_gives_up_at_last(tmp_path):
    assert install(tmp_path, 'E: Could not get lock /var/lib/apt/lists/lock', calls=99) == (1, 30)
