"""Every file of a bundle, damaged in every way that copying damages files: one clear line each."""

from __future__ import annotations

import os
import shutil

import pytest
import tiny

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.fitting.engine_export import export
from nav_monitor_ros.perception.network.loading import start_network
from nav_monitor_ros.perception.network.specification import NetworkSpec

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

pytestmark = pytest.mark.once

LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n' % (b'0' * 64)
TORCH_FILES = (
    'bundle.yaml', 'model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md', 'classes.txt',
    'exported/network.onnx', 'exported/probe.safetensors',
)
ONNX_FILES = ('bundle.yaml', 'model.onnx', 'monitor.safetensors')


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_link(path, target):
    path.unlink()
    path.symlink_to(target)


def move_out(path):
    """Leave a link to the same content outside of the bundle."""
    bundle = next(folder for folder in path.parents if folder.name == 'bundle')
    outside = bundle.with_name(f'outside-{path.name}')
    shutil.move(path, outside)
    path.symlink_to(outside)


DAMAGE = {
    'deleted': lambda path: path.unlink(),
    'empty': lambda path: path.write_bytes(b''),
    'truncated': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'first byte': lambda path: flip(path, 0),
    'last byte': lambda path: flip(path, -1),
    'folder': replace_by_folder,
    'dangling link': lambda path: replace_by_link(path, 'nowhere'),
    'circular link': lambda path: replace_by_link(path, path.name),
    'foreign link': move_out,
    'LFS pointer': lambda path: path.write_bytes(LFS),
    'web page': lambda path: path.write_bytes(b'<!DOCTYPE html><html>404</html>'),
    'pipe': lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Return a bundle with every file that one may have: an export, and very many class names."""
    folder = tmp_path_factory.mktemp('whole') / 'bundle'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('nav_monitor_ros.bundle.bundle_files.LONGEST_LIST', 3)
        network = tiny.classifier()
        save_bundle(tiny.fitted(network), network, folder, card='# tiny')
        bundle = load_bundle(folder)
        reference = load_network(bundle, device='cpu', trusted_packages=['tiny'])
        export(bundle, reference, tiny.source(2, 200), ['onnxruntime'], folder, force=True)
    assert {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()} == set(
        TORCH_FILES)
    return folder


@pytest.fixture(scope='module')
def onnx(tmp_path_factory, whole):
    """Return a bundle of a network that was given as an ONNX file."""
    folder = tmp_path_factory.mktemp('onnx') / 'bundle'
    spec = NetworkSpec('onnx')
    network = start_network(spec, whole / 'exported/network.onnx', tiny.PREPROCESS, device='cpu')
    save_bundle(tiny.fitted(network, spec), network, folder, card='# tiny')
    return folder


def use(folder):
    """Load a bundle and run its network by the exported engine, or by its own."""
    bundle = load_bundle(folder)
    return load_network(
        bundle, device='cpu', backend='onnxruntime', trusted_packages=['tiny']
    )


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize(('kind', 'name'), [
    *(('whole', name) for name in TORCH_FILES), *(('onnx', name) for name in ONNX_FILES)])
def test_a_damaged_file_is_named_with_the_remedy(request, tmp_path, kind, name, damage):
    folder = tmp_path / 'bundle'
    shutil.copytree(request.getfixturevalue(kind), folder)
    use(folder)
    DAMAGE[damage](folder / name)
    if (name, damage) == ('bundle.yaml', 'last byte'):
        return  # the line break at its end
    with pytest.raises(NavMonitorError) as caught:
        use(folder)
    said = str(caught.value)
    assert '\n' not in said and len(said) < 700
    assert name in said and str(folder) in said
    assert any(word in said for word in (
        'copy', 'again', 'fit', 'export', 'git lfs pull', 'download')), said
    if damage == 'LFS pointer':
        assert 'git lfs pull' in said
