"""Folders that are replaced: what is not the new content's own stays, and nothing is lost."""

import errno
import os
import shutil
import subprocess

import pytest

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files import atomic_folder as module
from nav_monitor_ros.files.atomic_folder import atomic_folder, require_writable_folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else None
        for path in folder.rglob('*')
    }


def write(folder, text='new', **options):
    with atomic_folder(folder, **options) as scratch:
        (scratch / 'monitor').write_text(text)


@pytest.fixture
def mounted(tmp_path):
    """Return an output folder in which a disk with a file is mounted."""
    folder = tmp_path / 'out'
    (folder / 'my disk').mkdir(parents=True)
    (folder / 'monitor').write_text('old')
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'disk' / 'thesis').write_text('years')
    # A bind mount of the same disk has the same device number as what is around it.
    done = subprocess.run(
        ['mount', '--bind', tmp_path / 'disk', folder / 'my disk'],
        capture_output=True, check=False)
    if done.returncode:
        pytest.skip('this user may not mount')
    yield folder
    subprocess.run(['umount', folder / 'my disk'], check=True)


def test_a_folder_with_a_disk_mounted_in_it_is_refused_and_kept(mounted, tmp_path):
    before = contents(tmp_path)
    with pytest.raises(NavMonitorError, match='cannot be replaced: a disk is mounted at .*my disk'):
        require_writable_folder(mounted)
    with pytest.raises(OSError, match='Directory not empty'):
        write(mounted, owned={'monitor'})
    assert contents(tmp_path) == before
    assert contents(mounted)['my disk/thesis'] == 'years'


def test_a_disk_that_is_mounted_meanwhile_is_not_emptied(mounted, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'why_not_replaceable', lambda folder: '')
    before = contents(tmp_path)
    with pytest.raises(OSError, match='a disk is mounted at'):
        write(mounted, owned={'monitor'})
    assert contents(tmp_path) == before


def test_a_file_that_is_not_owned_is_never_replaced(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'monitor').write_text('mine')
    with pytest.raises(OSError, match='monitor would be replaced'):
        write(tmp_path / 'out')
    assert contents(tmp_path) == {'out': None, 'out/monitor': 'mine'}


@pytest.mark.skipif(not shutil.which('chattr'), reason='needs chattr')
def test_a_file_that_cannot_be_changed_is_kept_and_nothing_is_lost(tmp_path, caplog):
    (tmp_path / 'out').mkdir()
    fixed = tmp_path / 'out' / 'fixed'
    fixed.write_text('mine')
    if subprocess.run(['chattr', '+i', fixed], capture_output=True, check=False).returncode:
        pytest.skip('this disk or user has no immutable files')
    try:
        write(tmp_path / 'out', owned={'monitor'})
        assert contents(tmp_path / 'out') == {'fixed': 'mine', 'monitor': 'new'}
        assert 'could not be removed' in caplog.text
    finally:
        for path in tmp_path.rglob('fixed'):
            subprocess.run(['chattr', '-i', path], check=True)


def test_folders_that_nobody_may_write_to_are_kept_and_replaced(tmp_path):
    kept = tmp_path / 'out' / 'kept'
    kept.mkdir(parents=True)
    (kept / 'file').write_text('mine')
    (kept / 'file').chmod(0o444)
    kept.chmod(0o555)
    write(tmp_path / 'out', owned={'monitor'})
    assert contents(tmp_path) == {
        'out': None, 'out/kept': None, 'out/kept/file': 'mine', 'out/monitor': 'new'}
    assert kept.stat().st_mode & 0o777 == 0o555
    assert (kept / 'file').stat().st_mode & 0o777 == 0o444
    kept.chmod(0o755)


def test_a_full_disk_leaves_the_old_folder(tmp_path, monkeypatch):
    write(tmp_path / 'out', 'old')

    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write(tmp_path / 'out', owned={'monitor'})
    assert contents(tmp_path) == {'out': None, 'out/monitor': 'old'}


def test_files_and_folder_are_on_the_disk_before_they_take_their_place(tmp_path, monkeypatch):
    flushed, rename = [], module.Path.rename
    monkeypatch.setattr(os, 'fsync', lambda handle: flushed.append(
        os.readlink(f'/proc/self/fd/{handle}').rpartition('/')[2]))
    monkeypatch.setattr(module.Path, 'rename', lambda self, to: (
        flushed.append('renamed'), rename(self, to))[1])
    write(tmp_path / 'out')
    assert flushed == ['monitor', 'out', 'renamed', 'out', tmp_path.name]
