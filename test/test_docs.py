"""Documentation that is written by a command is what the command would write today."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent


def test_the_generated_parts_are_up_to_date():
    done = subprocess.run(
        [sys.executable, 'tools/write_docs.py', '--check'], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code, where brackets are no links."""
    text = page.read_text(encoding='utf-8')
    return re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)


def test_links_and_pictures_of_the_documentation_exist():
    for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        for target in re.findall(r'\]\(([^)#]+)\)', prose(page)):
            if not target.startswith('http'):
                assert (page.parent / target).exists(), f'{page.name}: {target}'


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    found = re.findall(r'^#+ (.+)$', page.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in found}


def test_links_into_pages_name_a_heading():
    for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        text = prose(page)
        for target, anchor in re.findall(r'\]\(([^)#:]*)#([^)]+)\)', text):
            other = page.parent / target if target else page
            if other.suffix == '.md':
                assert anchor in headings(other), f'{page.name}: {target}#{anchor}'


def test_every_page_is_in_the_index_and_links_back_to_it():
    index = (ROOT / 'docs' / 'README.md').read_text(encoding='utf-8')
    for page in (ROOT / 'docs').glob('*.md'):
        if page.name != 'README.md':
            assert f']({page.name})' in index, page.name
            assert '[All pages](README.md)' in page.read_text(encoding='utf-8')[:400], page.name


def test_the_measured_faults_keep_the_contract():
    rows = json.loads((ROOT / 'docs' / 'measured' / 'faults.json').read_text(encoding='utf-8'))
    assert len(rows) > 20
    late = [
        row['fault'] for row in rows
        if (row['to_zero'] if row['to_true'] is None else row['to_true']) > row['within']
    ]
    assert not late


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 150


def test_modules_that_the_documentation_names_exist():
    """A file of the package that a page names in back quotes is there."""
    folders = {path.name for path in (ROOT / 'nav_monitor_ros').iterdir() if path.is_dir()}
    folders |= {'nav_monitor_ros', 'test', 'tools', 'benchmarks', 'launch', 'config'}
    seen = 0
    for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        text = page.read_text(encoding='utf-8')
        for name in re.findall(r'`([\w./-]+?/[\w./-]*\w\.(?:py|yaml|xml|sh))`', text):
            if name.split('/')[0] in folders:
                seen += 1
                places = (ROOT / name, ROOT / 'nav_monitor_ros' / name)
                assert any(place.exists() for place in places), f'{page.name}: {name}'
    assert seen > 10
