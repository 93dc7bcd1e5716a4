"""Documentation that is written by a command is what the command would write today."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_generated_parts_are_up_to_date():
    done = subprocess.run(
        [sys.executable, 'tools/write_docs.py', '--check'], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_and_pictures_of_the_documentation_exist():
    for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        for target in re.findall(r'\]\(([^)#]+)\)', page.read_text(encoding='utf-8')):
            if not target.startswith('http'):
                assert (page.parent / target).exists(), f'{page.name}: {target}'
