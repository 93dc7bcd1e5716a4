"""What a command writes never replaces, fills or contains what it reads."""

import os
import subprocess
from pathlib import Path

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.output_paths import check_output_paths, require_place


@pytest.fixture
def images(tmp_path):
    """Return a folder that is read, with one file."""
    folder = tmp_path / 'images'
    (folder / 'cat').mkdir(parents=True)
    (folder / 'cat' / '0.png').write_text('')
    return folder


@pytest.mark.parametrize(
    ('output', 'problem'),
    [
        ('images', 'is the same file as --data'),
        ('images/.', 'is the same file as --data'),
        ('images/out', 'lies in --data'),
        ('images/cat/new/deep', 'lies in --data'),
        ('missing/../images/out', 'lies in --data'),
        ('.', 'contains --data'),
        ('link', 'is the same file as --data'),
        ('link/out', 'lies in --data'),
        ('two/out', 'lies in --data'),
    ],
)
def test_an_output_over_in_or_around_an_input_is_refused(tmp_path, images, output, problem):
    (tmp_path / 'link').symlink_to('images')
    (tmp_path / 'two').symlink_to('link/cat')
    with pytest.raises(NavMonitorError, match=f'--output .*{problem} .*images'):
        check_output_paths({'--output': tmp_path / output}, {'--data': images})


@pytest.mark.parametrize('output', ['out', 'images2', 'images.csv', 'other/images'])
def test_an_output_beside_the_inputs_passes(tmp_path, images, output):
    check_output_paths(
        {'--output': tmp_path / output, '--csv': None},
        {'--data': [images, images / 'cat'], '--labels': None},
    )


def test_a_hard_link_to_an_input_is_the_input(tmp_path, images):
    os.link(images / 'cat' / '0.png', tmp_path / 'copy.png')
    with pytest.raises(NavMonitorError, match='is the same file as --weights'):
        check_output_paths(
            {'--csv': tmp_path / 'copy.png'}, {'--weights': images / 'cat' / '0.png'})


def test_a_bind_mount_of_an_input_is_the_input(tmp_path, images):
    (tmp_path / 'mounted').mkdir()
    done = subprocess.run(
        ['mount', '--bind', images, tmp_path / 'mounted'], capture_output=True, check=False)
    if done.returncode:
        pytest.skip('this user may not mount')
    try:
        for output in ('mounted', 'mounted/out'):
            with pytest.raises(NavMonitorError, match='--data'):
                check_output_paths({'--output': tmp_path / output}, {'--data': images})
    finally:
        subprocess.run(['umount', tmp_path / 'mounted'], check=True)


def test_two_outputs_are_two_files(tmp_path):
    (tmp_path / 'link').symlink_to('table')
    with pytest.raises(NavMonitorError, match='--html .*link is the same file as --csv'):
        check_output_paths({'--csv': tmp_path / 'table', '--html': tmp_path / 'link'}, {})
    with pytest.raises(NavMonitorError, match='--csv .*table is the same file as --csv'):
        check_output_paths({'--csv': [tmp_path / 'table', tmp_path / 'table']}, {})


def test_devices_and_pipes_take_whatever_comes(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    paths = {'--csv': Path('/dev/null'), '--html': Path('/dev/null'), '--json': tmp_path / 'pipe'}
    check_output_paths(paths, {'--data': Path('/dev/null')})
    require_place(Path('/dev/null'))


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(NavMonitorError, match='it is a folder'):
        require_place(tmp_path)
    with pytest.raises(NavMonitorError, match='Not a directory'):
        require_place(tmp_path / 'file' / 'table')
