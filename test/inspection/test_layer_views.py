"""Views of a layer's outputs: the grid, orders that are permutations, volumes byte for byte."""

import re
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.cli.main import main
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection import layer_views
from nav_monitor_ros.inspection.channel_order import ORDERS, channel_order, neighbour_distance
from nav_monitor_ros.inspection.inspected_network import Viewed, read_image, view_bundle
from nav_monitor_ros.inspection.layer_views import facts, grid, ordered_grids, volume
from nav_monitor_ros.perception.decoded_image import DecodedImage
from nav_monitor_ros.runtime.monitor import Monitor
from nav_monitor_ros.scores.pattern import Pattern
from nav_monitor_ros.views.activation_maps import draw_activations, image_scale
from nav_monitor_ros.views.volume import as_stack, binary_volume, gray_volume, volume_page

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)


@pytest.fixture(scope='module')
def digits():
    return view_bundle('digits')


@pytest.fixture(scope='module')
def signs():
    return view_bundle('traffic_signs')


# Orders.


@pytest.mark.parametrize('method', ORDERS)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 99), kind=st.sampled_from(['normal', 'constant', 'broken', 'twins']),
)
def test_every_order_is_a_permutation_and_the_same_twice(method, shape, seed, kind):
    maps = np.random.default_rng(seed).normal(size=shape)
    if kind == 'constant':
        maps[:] = 3.0
    if kind == 'broken':
        maps.flat[:: 3] = np.nan
        maps.flat[1::7] = np.inf
    if kind == 'twins':
        maps[1::2] = maps[: len(maps[1::2])]
    order = channel_order(maps, method)
    assert sorted(order.tolist()) == list(range(shape[0]))
    assert np.array_equal(order, channel_order(maps.copy(), method))
    assert np.isfinite(neighbour_distance(maps, order))


@pytest.mark.parametrize('method', [o for o in ORDERS if o != 'index'])
def test_orders_find_a_sequence_that_was_shuffled(method):
    line = np.linspace(0, 1, 30)[:, None, None] * np.random.default_rng(1).random((1, 5, 5))
    shuffled = np.random.default_rng(2).permutation(30)
    order = channel_order(line[shuffled], method)
    found = shuffled[order]
    assert neighbour_distance(line[shuffled], order) == pytest.approx(
        neighbour_distance(line, np.arange(30))
    )
    assert found.tolist() in (list(range(30)), list(range(29, -1, -1)))


def test_optimal_leaves_are_no_worse_than_the_tree_they_come_from():
    from scipy.cluster.hierarchy import leaves_list, linkage

    maps = np.random.default_rng(3).normal(size=(40, 4, 4))
    plain = leaves_list(linkage(maps.reshape(40, -1), 'average'))
    best = channel_order(maps, 'leaves')
    assert neighbour_distance(maps, best) <= neighbour_distance(maps, plain) + 1e-9


def test_the_neighbour_distance_is_the_sum_of_the_steps():
    maps = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])
    assert neighbour_distance(maps, np.array([0, 1, 2])) == pytest.approx(6.0)
    assert neighbour_distance(maps, np.array([2, 0, 1])) == pytest.approx(np.hypot(3, 5) + 5)


# Volumes.


def test_eight_bits_are_the_rounded_range_byte_for_byte(digits):
    layer = digits.layer('conv4')
    found, order = volume(digits, IMAGE, layer, bits=8, order='index')
    maps = digits.look(IMAGE, layer).maps['conv4'][0].astype(np.float64)
    expected = np.rint((maps - maps.min()) / (maps.max() - maps.min()) * 255).astype(np.uint8)
    assert found.content() == expected.tobytes()
    assert order.tolist() == list(range(48))


def test_one_bit_is_the_monitors_pattern(digits):
    found, _ = volume(digits, IMAGE, digits.layer('penultimate'), bits=1, order='index')
    monitor = Monitor(load_bundle('digits'), device='cpu')
    seen = monitor.look(DecodedImage(IMAGE, 'gray'))
    bits = np.unpackbits(np.frombuffer(found.content(), np.uint8), bitorder='little')[:128]
    assert np.array_equal(bits.astype(bool), seen.verdict.explanation.pattern)
    pattern = next(s for s in monitor.bundle.scores.values() if isinstance(s, Pattern))
    assert np.array_equal(bits.astype(bool), seen.activations.features[0] > pattern.thresholds)


@pytest.mark.parametrize('bits', [1, 8])
def test_the_header_and_the_size_are_right(digits, bits):
    layer = digits.layer('conv3')
    found, order = volume(digits, IMAGE, layer, bits=bits, order='leaves')
    told = dict(line.split(': ', 1) for line in found.header(layer.name, order).splitlines())
    voxels = 48 * 14 * 14
    assert (told['columns'], told['rows'], told['channels']) == ('14', '14', '48')
    assert told['bits'] == str(bits)
    assert int(told['bytes']) == len(found.content()) == (voxels if bits == 8 else voxels // 8)
    assert sorted(map(int, told['channel_order'].split())) == list(range(48))
    assert told['layer'] == 'conv3'
    maps = digits.look(IMAGE, layer).maps['conv3'][0]
    if bits == 1:
        read = np.unpackbits(np.frombuffer(found.content(), np.uint8), bitorder='little')
        assert np.array_equal(read[:voxels].reshape(48, 14, 14).astype(bool), maps[order] > 0)


@pytest.mark.parametrize(
    'maps',
    [
        np.full((3, 4, 4), np.nan), np.full((3, 4, 4), 7.0), np.zeros((1, 1, 1)),
        np.array([[[np.inf, 1.0], [0.0, -np.inf]]]), np.arange(2048.0),
        np.random.default_rng(0).normal(size=(2048, 1, 1)), np.ones((5, 6)),
    ],
    ids=['nan', 'constant', 'single', 'infinite', 'strip', 'channels', 'tokens'],
)
def test_odd_layers_become_volumes_and_pages_with_a_note(maps):
    stack = as_stack(maps)
    assert stack.ndim == 3
    gray, binary = gray_volume(stack), binary_volume(stack, 0.0, 'above 0')
    assert len(gray.content()) == maps.size
    assert len(binary.content()) == -(-maps.size // 8)
    if not np.isfinite(maps).all():
        assert 'NaN or infinite' in gray.meaning
    elif maps.min() == maps.max():
        assert 'constant' in gray.meaning
    page = volume_page(gray, 'title <b>', [gray.meaning], list(range(len(stack))))
    assert 'title &lt;b&gt;' in page and 'data:image/png' in page and '://' not in page


# The grid.


def test_the_command_draws_what_the_node_publishes(signs):
    colored = np.random.default_rng(1).integers(0, 256, (60, 70, 3), np.uint8)
    layer = signs.layer('conv4')
    drawn = grid(
        signs, colored, layer, channels=64, order='strongest', colormap='viridis', width=640
    )
    maps = signs.look(colored, layer).maps['conv4'][0]
    published = draw_activations(
        maps, scale=signs.bundle.layer_ranges['conv4'], layer="layer 17 'conv4' (Sequential)",
        channels=64,
    )
    assert np.array_equal(drawn[-len(published) :], published)


@pytest.fixture
def drawn(monkeypatch):
    """Return the arguments with which the maps of layers were drawn."""
    calls = []

    def draw(maps, **options):
        calls.append(options)
        return draw_activations(maps, **options)

    monkeypatch.setattr(layer_views, 'draw_activations', draw)
    return calls


def test_the_grid_names_network_prediction_image_and_layer(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.png', np.full((30, 30), 9, np.uint8))
    for image in (['sample:digits', '--index', '7'], [str(tmp_path / 'photo.png')]):
        assert main(['view', 'grid', 'digits', '--image', *image, '--output', 'g.png']) == 0
    first, second = drawn
    assert re.fullmatch(
        r'digits predicts 1 \((100|99)\.\d%\) for image 7 of sample:digits', first['heading'])
    assert re.fullmatch(r'digits predicts \d \(.*%\) for photo.png', second['heading'])
    assert first['layer'] == "layer 22 'conv5' (Sequential)"


def test_orders_name_the_layer_once_and_every_order(digits, drawn):
    ordered_grids(
        digits, IMAGE, digits.layer('conv4.1'), channels=4, colormap='viridis', width=480, row=None
    )
    assert [each['layer'] for each in drawn] == [f'by {name}' for name in ORDERS]
    assert [each['heading'] for each in drawn] == [
        "layer 15 'conv4.1' (BatchNorm2d) of digits", '', '', '', '']


def test_a_layer_without_maps_has_no_order_of_maps(digits):
    for name, title in (('fc1', "layer 24 'fc1' (Linear)"), ('penultimate', 'penultimate (mon')):
        with pytest.raises(NavMonitorError) as caught:
            ordered_grids(
                digits, IMAGE, digits.layer(name), channels=4, colormap='viridis', width=480,
                row=None,
            )
        assert str(caught.value).startswith(title)


def test_the_monitored_features_are_drawn_as_the_layer_penultimate(digits, drawn):
    layer = digits.layer('penultimate')
    assert layer == digits.monitored and layer.shape == (128,)
    grid(digits, IMAGE, layer, channels=64, order='index', colormap='viridis', width=640)
    assert drawn[0]['layer'] == 'penultimate (monitored features)'
    # Bundles do not store the range of the features.
    features = digits.look(IMAGE, layer).features[0]
    assert not drawn[0]['trained'] and drawn[0]['scale'] == image_scale(features)
    np.testing.assert_array_equal(digits.maps(IMAGE, layer), features)
    with pytest.raises(NavMonitorError, match="no layer 'penult'; it has penultimate, 1 'conv1.0'"):
        digits.layer('penult')


def test_the_monitored_features_may_be_those_of_any_layer():
    viewed = Viewed('tiny', tiny.classifier(layer='relu1'), tiny.CLASSES, None)
    assert viewed.layer('penultimate').title == 'relu1 (monitored features)'
    assert viewed.maps(tiny.images(0, 1)[0][0], viewed.monitored).shape == (5,)


def test_logits_that_are_no_numbers_predict_nothing(digits):
    seen = digits.look(IMAGE, digits.monitored)
    broken = replace(seen, logits=np.full_like(seen.logits, np.nan))
    assert facts(digits, broken) == 'digits predicts nothing, as its logits are not finite,'


def test_layers_go_by_name_or_number(signs):
    by_name = signs.layer('conv4')
    assert signs.layer(str(by_name.number)) == by_name
    with pytest.raises(NavMonitorError, match="no layer 'conv99'"):
        signs.layer('conv99')


@pytest.mark.parametrize('order', ORDERS)
def test_channels_are_drawn_in_the_order_asked_for(digits, order):
    layer = digits.layer('conv4')
    pictures = {
        name: grid(digits, IMAGE, layer, channels=48, order=name, colormap='inferno', width=640)
        for name in ('index', order)
    }
    assert (order == 'index') == np.array_equal(pictures['index'], pictures[order])


def test_all_orders_stand_below_each_other(digits):
    picture, orders = ordered_grids(
        digits, IMAGE, digits.layer('conv4'), channels=16, colormap='viridis', width=480, row=3
    )
    assert list(orders) == list(ORDERS) and picture.shape[1] == 480
    distances = {name: distance for name, (_, distance) in orders.items()}
    assert distances['leaves'] < distances['index']
    with pytest.raises(NavMonitorError, match='rows 0 to 13'):
        ordered_grids(
            digits, IMAGE, digits.layer('conv4'), channels=16, colormap='viridis', width=480,
            row=14,
        )


@pytest.mark.parametrize('shape', [(1, 1), (1, 900), (700, 3), (33, 65, 3)])
def test_any_image_size_and_channel_count_is_taken(digits, signs, shape):
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    for viewed in (digits, signs):
        picture = grid(
            viewed, image, viewed.layer(), channels=256, order='index', colormap='viridis',
            width=640,
        )
        assert picture.std() > 1


# The commands.


def test_the_commands_write_files_that_can_be_opened(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.random.default_rng(3).integers(
        0, 256, (90, 120, 3), np.uint8
    ))
    image = ['--image', str(tmp_path / 'photo.png')]
    assert main(['view', 'layers', 'digits']) == 0
    assert 'conv4' in capsys.readouterr().out
    assert main(['view', 'grid', 'digits', *image, '--output', str(tmp_path / 'g.png'),
                 '--layer', 'penultimate']) == 0
    assert cv2.imread(str(tmp_path / 'g.png')).shape[1] == 960
    assert main(['view', 'volume', 'digits', *image, '--output', str(tmp_path / 'v.vox')]) == 0
    assert {p.name for p in tmp_path.glob('v.*')} == {'v.vox', 'v.hd', 'v.html'}
    assert '>digits: layer 22 &#39;conv5&#39; (Sequential)<' in (tmp_path / 'v.html').read_text()
    assert main(['view', 'order', 'digits', *image, '--output', str(tmp_path / 'o.png')]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ORDERS) and 'neighbour distance' in out


def test_a_network_without_a_monitor_is_viewed_too(tmp_path, capsys):
    pytest.importorskip('torchvision')
    import torch
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.squeezenet1_1(num_classes=5).state_dict(), tmp_path / 'w.pth')
    network = [
        '--model', 'torchvision:squeezenet1_1', '--model-arg', 'num_classes=5',
        '--weights', str(tmp_path / 'w.pth'), '--size', '64x64',
    ]
    cv2.imwrite(str(tmp_path / 'p.png'), np.full((20, 30, 3), 99, np.uint8))
    assert main([
        'view', 'grid', *network, '--image', str(tmp_path / 'p.png'), '--output',
        str(tmp_path / 'g.png'),
    ]) == 0
    assert cv2.imread(str(tmp_path / 'g.png')).std() > 1


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['grid', '--image', 'x', '--output', 'g.png'], 'name a bundle'),
        (['grid', 'digits', '--image', 'nowhere.png', '--output', 'g.png'], 'nowhere.png'),
        (['grid', 'digits', '--image', 'sample:noise?count=2', '--index', '2', '--output',
          'g.png'], 'images 0 to 1'),
        (['grid', 'digits', '--image', 'sample:noise?count=2', '--output', 'g.jpg'], '.png'),
        (['grid', 'digits', '--image', 'sample:noise?count=2', '--layer', 'no', '--output',
          'g.png'], "no layer 'no'"),
    ],
)
def test_bad_input_gets_one_line_and_status_two(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['view', *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_every_view_has_help_with_an_example():
    shown = subprocess.run(
        [sys.executable, '-m', 'nav_monitor_ros.cli.command', 'view', 'volume', '--help'],
        capture_output=True, text=True, check=True,
    ).stdout
    assert 'example:' in shown and 'nav_monitor view volume' in shown


def test_a_file_is_one_image(tmp_path):
    cv2.imwrite(str(tmp_path / 'p.png'), np.zeros((4, 5, 3), np.uint8))
    assert read_image(str(tmp_path / 'p.png')).shape == (4, 5, 3)
    with pytest.raises(NavMonitorError, match='single image'):
        read_image(str(tmp_path / 'p.png'), 1)
