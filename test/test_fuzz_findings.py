"""Everything that the fuzzers have found, so that it stays mended."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import recorded
import tiny
import yaml
from safetensors.numpy import load_file, save_file

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.bundle.networks import load_network
from nav_monitor_ros.bundle.saving import save_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.files.untrusted_yaml import LARGEST, read_yaml, write_yaml
from nav_monitor_ros.perception.compressed_images import decode_compressed
from nav_monitor_ros.perception.decoded_image import ImageError
from nav_monitor_ros.perception.network.specification import NetworkSpec
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.runtime.monitor_parameters import BY_NAME, PARAMETERS, check_all
from nav_monitor_ros.scores.fdbd import MAX_CLASSES
from nav_monitor_ros.scores.registry import make_score

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / 'bundles' / 'digits'
sys.path.insert(0, str(ROOT / 'benchmarks'))
from fuzzing.watching import bounded_memory, memory  # noqa: E402

needs_proc = pytest.mark.skipif(
    not memory('VmHWM'), reason='this kernel does not tell the peak of memory')


# Found in bundles: code that ran.


def described(folder):
    return yaml.safe_load((folder / 'bundle.yaml').read_text())


def change(folder, *path, value):
    """Change one entry of a bundle's description."""
    whole = described(folder)
    parent = whole
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    (folder / 'bundle.yaml').write_text(yaml.safe_dump(whole, sort_keys=False))


def change_tensors(folder, alter):
    """Change the fitted tensors, and the hash that the description has of them."""
    path = folder / 'monitor.safetensors'
    tensors = load_file(path)
    alter(tensors)
    save_file({key: np.ascontiguousarray(t) for key, t in tensors.items()}, path)
    change(folder, 'files', path.name, value=hashlib.sha256(path.read_bytes()).hexdigest())


def refused(folder, trusted=('tiny',)):
    with pytest.raises(NavMonitorError) as caught:
        load_network(load_bundle(folder), device='cpu', trusted_packages=trusted)
    text = str(caught.value)
    assert '\n' not in text and len(text) < 2000
    return text


def test_a_bundle_cannot_run_a_command_through_this_packages_imports(bundle_copy, tmp_path):
    change(bundle_copy, 'network', 'spec', value='nav_monitor_ros.bundle.shipped:os.system')
    change(bundle_copy, 'network', 'arguments', value={'command': f'touch {tmp_path}/ran'})
    assert 'holds no networks' in refused(bundle_copy, ())
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'name',
    ['torch.hub.load', 'nn.Linear', 'torch', 'DigitsNet.load_state_dict', 'DigitsNet.__init__',
     'DigitsNet.__subclasses__', 'DigitsNet.__class__', '_block'],
)
def test_of_this_package_nothing_but_its_networks_is_called(name):
    with pytest.raises(NavMonitorError, match='leads out of the package|has no'):
        NetworkSpec(f'nav_monitor_ros.perception.reference_networks:{name}').build()


@pytest.mark.parametrize('name', ['torch.hub.load', 'np', 'lru_cache', 'Bars.__init__'])
def test_a_trusted_packages_imports_are_not_called_either(name):
    with pytest.raises(NavMonitorError, match='leads out of the package'):
        NetworkSpec(f'tiny:{name}').build(['tiny'])


def test_networks_of_torchvision_that_fetch_weights_are_refused():
    with pytest.raises(NavMonitorError, match='that classifies'):
        NetworkSpec('torchvision:fasterrcnn_resnet50_fpn').build()


# Found in bundles: memory without bound.


@needs_proc
@pytest.mark.parametrize('arguments', [{'width': 40_000_000}, {'classes': 400_000_000}])
def test_a_network_takes_no_more_memory_than_its_weights(tmp_path, arguments):
    folder = Path(shutil.copytree(SHIPPED, tmp_path / 'b'))
    change(folder, 'network', 'arguments', value=arguments)
    with bounded_memory(1 << 30):
        assert 'larger than its weights' in refused(folder)


@needs_proc
@pytest.mark.parametrize(
    ('path', 'value', 'said'),
    [
        (('box', 'clusters'), 10**8, 'box'),
        (('window_kl', 'window'), 10**30, 'it must be a whole number, at least 2'),
        (('mc_dropout',), {'count': 10**8}, 'it must be a whole number, at least 2'),
    ],
)
def test_a_score_takes_no_more_memory_than_is_stored(bundle_copy, path, value, said):
    change(bundle_copy, 'monitor', 'scores', *path, value=value)
    with bounded_memory(512 << 20):
        assert said in refused(bundle_copy)


@needs_proc
@pytest.mark.parametrize('width', [10**7, 10**9, 10**12])
def test_neurons_that_nothing_is_stored_of_take_no_memory(tmp_path, width):
    classifier = tiny.classifier('pool')  # the last layer's weights do not tell the width
    save_bundle(tiny.fitted(classifier), classifier, tmp_path / 'b', card='')
    change(tmp_path / 'b', 'monitor', 'width', value=width)
    with bounded_memory(512 << 20):
        refused(tmp_path / 'b')


@needs_proc
@pytest.mark.parametrize('name', ['gaussian', 'mahalanobis', 'box', 'pattern', 'she', 'vim'])
def test_an_empty_score_takes_no_memory(name):
    with bounded_memory(64 << 20):
        score = make_score(name, {}, classes=100_000, width=1_000_000, head=None)
    assert (score.classes, score.width) == (100_000, 1_000_000)


def test_distances_of_too_many_classes_are_refused():
    score = make_score('fdbd', {}, classes=MAX_CLASSES + 1, width=2, head=None)
    with pytest.raises(NavMonitorError, match='at most 8192'):
        score.restore({'mean': np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    'fields',
    [
        {'height': 8192, 'width': 8192}, {'height': 1, 'width': 1 << 21},
        {'height': 8, 'width': 8, 'fit': 'center_crop', 'resize_to': 10**6},
    ],
)
def test_an_input_as_large_as_a_photograph_is_refused(fields):
    with pytest.raises(NavMonitorError, match='input size'):
        Preprocess.from_dict(fields)


# Found in bundles: errors of the wrong kind.


def test_means_of_other_channels_than_the_networks_are_refused(bundle_copy):
    layer = described(bundle_copy)['monitor']['scores']['channel_means']['layers'][0]

    def shorten(tensors):
        for key, keep in (('mean', np.s_[:2]), ('whitening', np.s_[:2, :2])):
            name = f'scores/channel_means/{key}/{layer}'
            tensors[name] = tensors[name][keep]

    change_tensors(bundle_copy, shorten)
    assert f'was fitted to 2 channels of layer {layer}' in refused(bundle_copy)


def test_a_layer_by_its_number_where_a_name_belongs_is_refused(bundle_copy):
    whole = described(bundle_copy)
    layers = whole['monitor']['scores']['channel_means']['layers']

    def rename(tensors):
        for key in ('mean', 'whitening'):
            name = f'scores/channel_means/{key}/'
            tensors[f'{name}1'] = tensors.pop(f'{name}{layers[0]}')

    change_tensors(bundle_copy, rename)
    change(bundle_copy, 'monitor', 'scores', 'channel_means', 'layers', value=['1', *layers[1:]])
    assert 'of layer 1' in refused(bundle_copy)


@pytest.mark.parametrize(('name', 'said'), [
    ('two\nlines', 'U+000A, a control character, which cannot be shown'),
    ('\x1b[2J', 'U+001B, a control character, which cannot be shown'),
    ('a\x00b', 'U+0000, a control character, which cannot be shown'),
    ('x' * 100_000, 'has 100000 characters, more than 500'),
])
@pytest.mark.parametrize('where', [('name',), ('monitor', 'layer'), ('class_names', 0)])
def test_names_that_a_terminal_would_obey_are_refused(bundle_copy, name, said, where):
    change(bundle_copy, *where, value=name)
    assert said in refused(bundle_copy)


@pytest.mark.parametrize('name', ['x' * 100_000, 'a\nb' * 1000])
def test_messages_stay_short_whatever_a_bundle_says(bundle_copy, name):
    change(bundle_copy, 'monitor', 'scores', value={name: {}})
    refused(bundle_copy)
    change(bundle_copy, 'schema', value=name)
    assert 'has schema' in refused(bundle_copy)


def test_a_networks_arguments_are_named_in_short(bundle_copy):
    change(bundle_copy, 'network', 'arguments', value={'a\nb': 'x' * 100_000})
    assert 'failed' in refused(bundle_copy)


def test_a_layer_that_does_not_exist_is_named_in_short(bundle_copy):
    change(bundle_copy, 'monitor', 'layer', value='x' * 400)
    assert f"has no layer '{'x' * 80}...'" in refused(bundle_copy)


@pytest.mark.parametrize(
    'name', ['bundle.yaml', 'model.safetensors', 'monitor.safetensors', 'MODEL_CARD.md'])
def test_a_link_out_of_a_bundle_is_not_followed(bundle_copy, tmp_path, name):
    (bundle_copy / name).rename(tmp_path / name)
    for target in (tmp_path / name, f'../{name}', name):
        (bundle_copy / name).symlink_to(target)
        assert 'leads out of the bundle' in refused(bundle_copy) or target == name
        (bundle_copy / name).unlink()


def test_a_link_within_a_bundle_and_to_a_bundle_is_followed(bundle_copy, tmp_path):
    (bundle_copy / 'MODEL_CARD.md').rename(bundle_copy / 'card')
    (bundle_copy / 'MODEL_CARD.md').symlink_to('card')
    (tmp_path / 'link').symlink_to(bundle_copy)
    assert load_bundle(tmp_path / 'link').name == 'tiny'


# Found in YAML.


def laughs(kind):
    """Return a few lines that stand for billions of values."""
    first = 'l0: &l0 {a: 1}' if kind == 'merge' else 'l0: &l0 [1]'
    many = '<<: [{}]' if kind == 'merge' else '[{}]'
    lines = [
        f'l{n}: &l{n} {{{many.format(refs)}}}' if kind == 'merge' else f'l{n}: &l{n} [{refs}]'
        for n in range(1, 12) for refs in [', '.join([f'*l{n - 1}'] * 9)]
    ]
    return '\n'.join([first, *lines, 'schema: *l11'])


@needs_proc
@pytest.mark.parametrize('kind', ['merge', 'list'])
def test_a_billion_laughs_are_not_heard(bundle_copy, kind):
    (bundle_copy / 'bundle.yaml').write_text(laughs(kind))
    with bounded_memory(64 << 20):
        assert 'refers to other places' in refused(bundle_copy)


@pytest.mark.parametrize(
    'text',
    ['[' * 60, 'a: 1\n' * (LARGEST // 4), 'x: !!timestamp 2001-99-99', 'x: !!binary é',
     'x: !!float ""', 'x: !!python/name:os.system', '\x00', '? - a\n: b'],
)
def test_yaml_that_is_not_plain_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / 'file.yaml'
    path.write_text(text)
    with pytest.raises(NavMonitorError) as caught:
        read_yaml(path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_written_can_be_read(tmp_path):
    same = [1.5, 'two']
    value = {'one': same, 'other': same, 'text': 'naïve\nlines', 'none': None, 'empty': []}
    write_yaml(tmp_path / 'a.yaml', value)
    assert read_yaml(tmp_path / 'a.yaml') == value
    assert '*' not in (tmp_path / 'a.yaml').read_text()


# Found in pictures, bags and parameters.


def test_a_jpeg_of_very_many_scans_is_refused():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    encoded = cv2.imencode('.jpg', picture, options)[1].tobytes()
    assert decode_compressed('jpeg', encoded, max_pixels=4096).pixels.shape == (64, 64, 3)
    scan = encoded[encoded.rindex(b'\xff\xda') : -2]
    with pytest.raises(ImageError, match='scans, more than the 32 allowed'):
        decode_compressed('jpeg', encoded[:-2] + scan * 2000 + encoded[-2:], max_pixels=4096)


def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path):
    pytest.importorskip('rosbags')
    from nav_monitor_ros.data.bags.bag import open_bag

    bag = recorded.write_bag(tmp_path / 'b', 'mcap')
    text = (bag / 'metadata.yaml').read_text()
    (bag / 'metadata.yaml').write_text(text.replace('- b.mcap', f'- {"b" * 5000}'))
    with pytest.raises(NavMonitorError, match='leads out|not there|does not exist'):
        open_bag(bag)


@pytest.mark.parametrize('value', ['x' * 100_000, ['a\nb'] * 1000, ('y',) * 5000, 'a\nb'])
def test_a_parameters_refusal_is_one_short_line(value):
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    for name in BY_NAME:
        try:
            check_all({**defaults, name: value})
        except NavMonitorError as error:
            assert '\n' not in str(error) and len(str(error)) < 400


def test_a_device_is_numbered_in_plain_digits():
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert check_all({**defaults, 'device': 'cuda:3'})['device'] == 'cuda:3'
    with pytest.raises(NavMonitorError, match='auto, cpu or cuda:N'):
        check_all({**defaults, 'device': 'cuda:\u0663'})
