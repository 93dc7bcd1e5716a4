"""Fixtures: a recorded drive, and a quick way to replay bags with a tiny monitor."""

from __future__ import annotations

import pytest
from recorded import RAW, write_bag, write_images
from replayed import FRONT, drive, table_of

from nav_monitor_ros.cli.main import main


@pytest.fixture(scope='session')
def judge(tiny_folder):
    """Return a function that replays a bag with the tiny monitor and returns the exit status."""

    def run(bag, *more):
        return main(['replay', str(bag), '--bundle', str(tiny_folder), '--trust', 'tiny',
                     '--device', 'cpu', *map(str, more)])

    return run


@pytest.fixture(scope='session')
def recording(tmp_path_factory):
    """Return a bag of one camera, which tests must not change."""
    return write_images(tmp_path_factory.mktemp('bags') / 'drive', {FRONT: drive()})


@pytest.fixture(scope='session')
def judged(judge, recording, tmp_path_factory):
    """Return the folder with all outputs of a replay."""
    folder = tmp_path_factory.mktemp('judged')
    assert judge(recording, '--output', folder / 'bag', '--csv', folder / 'table.csv',
                 '--html', folder / 'page.html', '--overlay') == 0
    return folder


@pytest.fixture(scope='session')
def plain(judge, tmp_path_factory):
    folder = tmp_path_factory.mktemp('plain')
    return table_of(judge, write_bag(folder / 'b', 'mcap'), folder / 't.csv', '--topic', RAW)
