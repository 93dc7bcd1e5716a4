"""Where the values of a layer lie in the image, whatever the layout of its tensor."""

from __future__ import annotations

import numpy as np
import torch
import vision_networks
from torch import nn

from nav_monitor_ros.perception.network.layers import early_layers, last_spatial
from nav_monitor_ros.perception.network.torch.classifier import Classifier


def running(network, height=32, width=32, **options):
    return Classifier(network, vision_networks.preprocess(height, width), **options)


def change(classifier, layer, rows, columns):
    """Return how much a bright square changes a layer at each position, (h, w)."""
    height, width = classifier.input_shape[1:]
    plain = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    marked = plain.copy()
    marked[:, :, rows, columns] += 5
    classifier.tap([layer.name])
    before, after = (
        layer.as_maps(classifier(images).maps[layer.name][0]) for images in (plain, marked)
    )
    return np.abs(after - before).sum(0)


def named(classifier, name):
    return next(layer for layer in classifier.layers if layer.name == name)


def test_the_tokens_of_a_transformer_are_patches_of_the_image_after_a_class_token():
    classifier = running(vision_networks.vision_transformer())
    tokens = [layer for layer in classifier.layers if len(layer.shape) == 2]
    assert len(tokens) > 15
    assert {(layer.shape[0], layer.grid, layer.leading) for layer in tokens} == {(17, (4, 4), 1)}
    embedded = named(classifier, 'encoder.dropout')
    changed = change(classifier, embedded, slice(8, 16), slice(16, 24))
    # Row 1, column 2; before any attention nowhere else.
    assert np.argwhere(changed > 1e-6).tolist() == [[1, 2]]
    deep = named(classifier, 'encoder.ln')
    found = change(classifier, deep, slice(8, 16), slice(16, 24))
    assert np.unravel_index(found.argmax(), found.shape) == (1, 2)
    assert last_spatial(classifier.layers).name == 'encoder'
    assert deep.label == f"layer {deep.number} 'encoder.ln' (LayerNorm) without token 0"


def test_several_tokens_may_come_first_and_none():
    class Registers(nn.Module):
        def __init__(self, count):
            super().__init__()
            torch.manual_seed(0)
            self.patches, self.norm = nn.Conv2d(3, 6, 8, stride=8), nn.LayerNorm(6)
            self.first = nn.Parameter(torch.randn(1, count, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, images):
            tokens = self.patches(images).flatten(2).mT
            tokens = torch.cat((self.first.expand(len(images), -1, -1), tokens), 1)
            return self.head(self.norm(tokens)[:, 0])

    for count in (1, 5):
        norm = named(running(Registers(count), 24, 48), 'norm')
        assert (norm.grid, norm.leading) == ((3, 6), count)
        values = np.arange((count + 18) * 6).reshape(count + 18, 6)
        maps = norm.as_maps(values)
        assert maps.shape == (6, 3, 6) and maps[2, 1, 4] == values[count + 10, 2]


def test_tokens_in_another_order_than_the_image_have_no_grid():
    class Columns(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.norm = nn.Conv2d(3, 6, 8, stride=8), nn.LayerNorm(6)
            self.head = nn.Linear(6, 3)

        def forward(self, images):
            return self.head(self.norm(self.patches(images).mT.flatten(2).mT).mean(1))

    norm = named(running(Columns(), 24, 48), 'norm')
    assert (norm.shape, norm.grid, norm.spatial) == ((18, 6), None, False)
    values = np.ones(norm.shape, np.float32)
    assert norm.as_maps(values) is values


def test_maps_with_their_channels_last_are_recognised():
    classifier = running(vision_networks.swin_transformer(), 32, 48)
    for name in (
        'features.0', 'features.1.0.norm1', 'features.1.1', 'features.2.norm',
        'features.2.reduction', 'features.3.1.mlp.1', 'norm',
    ):
        layer = named(classifier, name)
        assert layer.channels_last and layer.grid == layer.shape[:2] and layer.spatial, name
        assert layer.shape[0] * 3 == layer.shape[1] * 2
        assert layer.channels == layer.shape[2]
        # A square around two thirds of the height and a quarter of the width.
        found = change(classifier, layer, slice(16, 24), slice(8, 16))
        row, column = np.unravel_index(found.argmax(), found.shape)
        step = 32 // layer.shape[0]
        assert 16 <= (row + 0.5) * step < 24 and 8 <= (column + 0.5) * step < 16, name


def test_maps_with_their_channels_last_inside_a_block_are_recognised():
    classifier = running(vision_networks.convnext(), 32, 48)
    for name in ('features.1.0.block.1', 'features.1.0.block.3'):
        layer = named(classifier, name)
        assert layer.channels_last and layer.grid == layer.shape[:2] == (8, 12)
        # The square covers rows 4 and 5 and columns 2 and 3, and a 7 x 7 convolution follows.
        found = change(classifier, layer, slice(16, 24), slice(8, 16)) > 1e-6
        expected = np.zeros((8, 12), bool)
        expected[1:, :7] = True
        assert np.array_equal(found, expected), name


def test_maps_stay_maps():
    classifier = running(vision_networks.convnext(), 32, 48)
    first = [layer for layer in classifier.layers if layer.name in ('features', 'features.1.0')]
    assert [(layer.channels_last, layer.grid) for layer in first] == [(False, None)] * 2
    assert last_spatial(classifier.layers).name == 'features'
    values = np.zeros((1, 2, 3))
    assert first[0].as_maps(values) is values


def test_the_windows_of_an_image_are_no_rows_and_columns():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mlp, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, images):
            maps = self.conv(images).permute(0, 2, 3, 1)
            parts = maps.reshape(-1, 4, 8, 4, 8, 8).transpose(2, 3).reshape(-1, 16, 64, 8)
            return self.head(self.mlp(parts).mean((1, 2)))

    mlp = named(running(Windows()), 'mlp')
    assert (mlp.shape, mlp.channels, mlp.grid, mlp.spatial) == ((16, 64, 8), 8, None, False)


def test_a_monitored_layer_with_its_channels_last_is_averaged_over_positions():
    classifier = running(vision_networks.swin_transformer(), 32, 48, layer='features.1.1')
    classifier.tap(['features.1.1'])
    found = classifier(np.random.default_rng(0).random((2, 3, 32, 48), dtype=np.float32))
    assert classifier.width == 8
    np.testing.assert_allclose(
        found.features, found.maps['features.1.1'].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_the_early_layers_of_a_transformer_with_windows_are_its_stages():
    layers = running(vision_networks.swin_transformer(), 32, 48).layers
    assert early_layers(layers)[0].startswith('features.1')
