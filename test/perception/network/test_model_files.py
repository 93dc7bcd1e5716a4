"""Files of weights and graphs that are not what their name says, damaged, or not to be read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.onnx.untrusted_model import read_model
from nav_monitor_ros.perception.network.specification import load_weights

POINTER = (
    b'version https://git-lfs.github.com/spec/v1\n'
    b'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n'
)
SUFFIXES = ['.pth', '.ckpt', '.safetensors', '.onnx']
NOBODY = 65534


def read(path: Path) -> None:
    if path.suffix == '.onnx':
        read_model(path)
    else:
        load_weights(tiny.Bars(), path)


def written(path: Path) -> Path:
    """Write the tiny network's weights."""
    state = dict(tiny.network().state_dict())
    if path.suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@contextmanager
def unprivileged() -> Iterator[None]:
    """Have permissions count, also where tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(path: Path) -> str:
    with pytest.raises(NavMonitorError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert '\n' not in text
    assert len(text) < len(str(path)) + 300
    # torch's own advice, which would run whatever the file holds.
    assert 'weights_only' not in text
    return text


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize(('content', 'words'), [
    (POINTER, 'Git LFS pointer, not the file itself; run git lfs pull'),
    (b'<!DOCTYPE html>\n<html><body>Sign in</body></html>', 'this is a web page'),
    (b'\xef\xbb\xbf\r\n  <html lang="en"><head>', 'this is a web page'),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'this is a web page'),
    (b'', 'the file is empty; copy or download it again'),
], ids=['pointer', 'page', 'page with a mark', 'XML', 'empty'])
def test_what_was_stored_in_place_of_the_file_is_named_with_the_remedy(
    tmp_path, suffix, content, words
):
    path = tmp_path / f'network{suffix}'
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_text_is_neither_weights_nor_a_graph(tmp_path, suffix):
    path = tmp_path / f'network{suffix}'
    path.write_bytes(b'Not Found')
    assert 'copy or download' in refusal(path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kept', [0.001, 0.5, 0.99])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path, suffix, kept):
    path = written(tmp_path / f'weights{suffix}')
    whole = path.read_bytes()
    path.write_bytes(whole[: max(9, int(kept * len(whole)))])
    assert 'damaged' in refusal(path)


def test_a_truncated_file_of_the_older_format_is_said_to_be_damaged(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(tiny.network().state_dict(), path, _use_new_zipfile_serialization=False)
    read(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert 'damaged' in refusal(path)


def test_one_changed_bit_of_the_weights_is_found(tmp_path):
    path = written(tmp_path / 'weights.pth')
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + 400] ^= 0x10
    path.write_bytes(content)
    assert f'{largest.filename} has a wrong checksum' in refusal(path)


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'set_crc32_options'), reason='this torch always writes them')
def test_a_file_that_was_written_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = written(tmp_path / 'weights.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    read(path)


class Thing:
    """Something that a training script keeps beside its weights."""


@pytest.mark.parametrize(('content', 'named'), [
    (tiny.Bars(), r'tiny.Bars'),
    ({'state_dict': {}, 'best': np.float64(0.5)}, r'scalar'),
    ({'state_dict': {}, 'folder': Path('runs')}, r'pathlib'),
    ({'state_dict': {}, 'made_by': Thing()}, r'Thing'),
], ids=['network', 'numpy', 'path', 'object'])
def test_pickled_objects_are_refused_with_the_way_to_save_the_tensors(tmp_path, content, named):
    path = tmp_path / 'weights.pth'
    torch.save(content, path)
    text = refusal(path)
    assert named in text
    assert 'torch.save(network.state_dict(), FILE)' in text


def test_a_plain_pickle_is_refused_with_the_way_to_save_the_tensors(tmp_path):
    path = tmp_path / 'weights.pth'
    path.write_bytes(pickle.dumps({'weight': [1.0, 2.0]}))
    assert 'torch.save(network.state_dict(), FILE)' in refusal(path)


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_torchscript_is_refused_with_the_way_to_save_its_tensors(tmp_path):
    path = tmp_path / 'network.pt'
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    assert 'torch.save(torch.jit.load(FILE).state_dict(), OTHER)' in refusal(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_without_permission_is_named(tmp_path, suffix):
    path = tmp_path / f'network{suffix}'
    path.write_bytes(b'secret')
    path.chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    with unprivileged():
        assert 'cannot be read: Permission denied; check its permissions' in refusal(path)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_file_in_a_folder_without_permission_is_named(tmp_path, suffix):
    inside = tmp_path / 'closed'
    inside.mkdir()
    (inside / f'network{suffix}').write_bytes(b'secret')
    inside.chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    try:
        with unprivileged():
            assert 'Permission denied' in refusal(inside / f'network{suffix}')
    finally:
        inside.chmod(0o755)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_disk_that_cannot_be_read_is_named(tmp_path, suffix):
    path = tmp_path / f'network{suffix}'
    path.symlink_to('/proc/self/mem')  # whose first bytes nobody can read
    assert 'cannot be read: Input/output error' in refusal(path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_read_only_weights_are_loaded(tmp_path, suffix):
    path = written(tmp_path / f'weights{suffix}')
    path.chmod(0o444)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    with unprivileged():
        network = tiny.Bars()
        load_weights(network, path)
    assert torch.equal(network.fc2.weight, tiny.network().fc2.weight)


def test_weights_that_cannot_be_written_are_an_error_of_the_system(tmp_path, tiny_classifier):
    closed = tmp_path / 'closed'
    closed.mkdir(mode=0o555)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    with unprivileged(), pytest.raises(PermissionError) as caught:
        tiny_classifier.save(closed / 'model.safetensors')
    assert caught.value.filename == str(closed / 'model.safetensors')
