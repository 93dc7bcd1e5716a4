"""Gradients of logits: against central differences, against answers that are known, left alone."""

from __future__ import annotations

import builtins
import re

import numpy as np
import pytest
import tiny
import torch
import vision_networks
from torch import nn
from torch.nn.utils import parametrizations

from nav_monitor_ros.bundle.loading import load_bundle
from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.inspection.attribution import METHODS, SIGNED, attribute
from nav_monitor_ros.inspection.gradients import Differentiable, trainable_copy

SHAPE = (3, tiny.SIDE, tiny.SIDE)


class Linear(nn.Module):
    """A network whose gradient is its weights."""

    def __init__(self, shape=SHAPE, classes=3):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(int(np.prod(shape)), classes)

    def forward(self, images):
        return self.fc(self.flatten(images))


class Awkward(nn.Module):
    """What foreign networks do: work in place, end in a softmax, parametrise, run a layer twice."""

    def __init__(self):
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv2d(3, 4, 3, padding=1))
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, images):
        maps = self.relu(self.first(images))
        maps = self.relu(self.twice(maps))
        maps = self.relu(self.twice(maps))
        maps += 1
        return self.softmax(self.head(maps.mean((2, 3))))


def noise(shape=SHAPE, count=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make().eval()


def awkward():
    return seeded(Awkward)


# ------------------------------------------------------------------ filters


def central_differences(network, weight, entries, image, target, step):
    """Differentiate by hand, float64, with nothing of the code under test."""
    slopes = []
    with torch.no_grad():
        flat = weight.view(-1)
        for entry in entries:
            before = float(flat[entry])
            values = []
            for side in (1, -1):
                flat[entry] = before + side * step
                values.append(float(network(image)[0, target]))
            flat[entry] = before
            slopes.append((values[0] - values[1]) / (2 * step))
    return np.array(slopes)


def shipped_digits():
    bundle = load_bundle('digits')
    return bundle.network.build(weights=bundle.folder / 'model.safetensors'), (1, 28, 28)


@pytest.mark.parametrize(('make', 'layer'), [
    (lambda: (tiny.network(), SHAPE), 'conv'),
    (shipped_digits, 'conv1.0'),
    (shipped_digits, 'conv4.0'),
], ids=['tiny', 'digits, first', 'digits, fourth'])
def test_weight_gradients_equal_central_differences_in_float64(make, layer):
    network, shape = make()
    image = noise(shape, 1)
    differentiable = Differentiable(network, shape, dtype=torch.float64)
    gradient = differentiable.weight_gradient(image[0], 1, layer)
    reference = network.double().eval()
    weight = dict(reference.named_modules())[layer].weight
    assert gradient.dtype == np.float64 and gradient.shape == tuple(weight.shape)
    # Where a ReLU or a maximum switches between the two ends, there is no derivative to compare.
    entries = np.random.default_rng(1).choice(weight.numel(), 40, replace=False)
    # A short step crosses fewer switches, a long one suffers less from rounding, which is larger
    # on processors that add in another order.
    wanted = np.stack([
        central_differences(
            reference, weight, entries, torch.from_numpy(image).double(), 1, step=step
        )
        for step in (1e-6, 1e-5)
    ])
    scale = np.abs(wanted).max()
    assert scale > 1e-3
    error = np.abs(gradient.ravel()[entries] - wanted) / np.maximum(np.abs(wanted), 1e-3 * scale)
    assert error.min(axis=0).max() < 1e-6


def test_importance_is_the_sum_of_gradient_times_weight_where_a_filter_has_one_position():
    network = seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 6, tiny.SIDE), nn.Tanh(), nn.Flatten(), nn.Linear(6, 3)
    ))
    differentiable = Differentiable(network, SHAPE, dtype=torch.float64)
    images, targets = noise(), np.array([0, 1, 2, 0])
    importance = differentiable.filter_importance(images, targets, '0')
    for image, target, row in zip(images, targets, importance, strict=True):
        copied = network.double()
        copied.zero_grad()
        copied(torch.from_numpy(image[None]).double())[0, target].backward()
        conv = copied[0]
        by_hand = (conv.weight.grad * conv.weight).flatten(1).sum(1) + conv.bias.grad * conv.bias
        assert np.allclose(row, np.abs(by_hand.detach().numpy()), rtol=1e-9)


def test_a_filter_that_nothing_depends_on_has_no_importance_and_no_gradient():
    network = tiny.network()
    with torch.no_grad():
        network.fc1.weight.view(-1, 5, 36)[:, 2] = 0
    differentiable = Differentiable(network, SHAPE)
    image = noise(count=1)
    importance = differentiable.filter_importance(image, np.array([0]), 'conv')[0]
    gradient = differentiable.weight_gradient(image[0], 0, 'conv')
    assert importance[2] == 0 and (gradient[2] == 0).all()
    assert (np.delete(importance, 2) > 0).all()


def test_zeroed_filters_are_those_whose_weights_and_bias_are_zero():
    network, images = tiny.network(), noise()
    zeroed = Differentiable(network, SHAPE).predict(images, 'conv', [1, 3])
    with torch.no_grad():
        network.conv.weight[[1, 3]] = 0
        network.conv.bias[[1, 3]] = 0
        wanted = network(torch.from_numpy(images)).numpy()
    assert np.allclose(zeroed, wanted, atol=1e-5)


def test_only_a_convolution_has_filters():
    differentiable = Differentiable(tiny.network(), SHAPE)
    with pytest.raises(NavMonitorError, match=r"'fc1' \(Linear\) is not a convolution; there are"):
        differentiable.weight_gradient(noise()[0], 0, 'fc1')
    with pytest.raises(NavMonitorError, match='no convolution'):
        Differentiable(Linear(), SHAPE).convolution()
    assert differentiable.convolution().name == 'conv'


# ------------------------------------------------------------------ the input


@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 1, 1), (1, 5, 9), (3, 12, 12)])
def test_the_input_gradient_of_a_linear_network_is_its_weights(shape):
    network = seeded(lambda: Linear(shape))
    gradients = Differentiable(network, shape).input_gradient(noise(shape), np.array([0, 1, 2, 1]))
    weights = network.fc.weight.detach().numpy().reshape(-1, *shape)
    assert np.array_equal(gradients, weights[[0, 1, 2, 1]])


def test_many_images_are_differentiated_as_one_by_one():
    differentiable = Differentiable(awkward(), SHAPE, dtype=torch.float64)
    images = noise(count=70)
    targets = np.arange(70) % 3
    together = differentiable.input_gradient(images, targets)
    alone = [
        differentiable.input_gradient(images[i : i + 1], targets[i : i + 1])[0] for i in range(70)
    ]
    assert np.allclose(together, alone, rtol=1e-9, atol=1e-15)


def test_logits_are_those_before_a_softmax_without_the_background_class():
    network, images = awkward(), noise()
    with torch.no_grad():
        logs = network(torch.from_numpy(images)).log().numpy()
    logits = Differentiable(network, SHAPE, columns=(0, 2)).predict(images)
    assert logits.shape == (4, 2)
    assert np.allclose(logits[:, 1] - logits[:, 0], logs[:, 2] - logs[:, 0], atol=1e-5)


def test_awkward_networks_have_gradients_of_every_layer_that_runs():
    differentiable = Differentiable(awkward(), SHAPE, dtype=torch.float64)
    assert [layer.name for layer in differentiable.convolutions] == ['first', 'twice']
    image = noise(count=1)
    for layer in differentiable.convolutions:
        assert np.abs(differentiable.weight_gradient(image[0], 2, layer.name)).sum() > 0
        assert (differentiable.filter_importance(image, np.array([2]), layer.name) >= 0).all()
    assert np.abs(differentiable.input_gradient(image, np.array([2]))).sum() > 0


# ------------------------------------------------------------------ nothing else changes


def test_the_network_in_service_stays_as_it_is():
    classifier = tiny.classifier()
    classifier.tap(['conv'])
    images = noise()
    before = classifier(images)
    network = classifier._network
    state = {name: value.clone() for name, value in network.state_dict().items()}
    differentiable = Differentiable(network, SHAPE)
    differentiable.input_gradient(noise(seed=9), np.array([0, 1, 2, 0]))
    differentiable.weight_gradient(images[0], 0, 'conv')
    # Its hooks saw none of that.
    assert np.array_equal(classifier._seen.maps['conv'].numpy(), before.maps['conv'])
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert np.array_equal(classifier(images).logits, before.logits)


def test_gradients_can_be_taken_inside_inference_mode_and_of_what_it_left_behind():
    class Caching(nn.Module):
        """Computes a table at its first image and keeps it."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.table = None

        def forward(self, images):
            if self.table is None:
                self.table = self.conv.weight.exp().sum() * torch.ones(3, 1, 1)
            return (self.conv(images) * self.table).mean((2, 3))

    network, images = seeded(Caching), noise()
    with torch.inference_mode():
        network(torch.from_numpy(images))
        inside = Differentiable(network, SHAPE)
        gradient = inside.input_gradient(images, np.zeros(4, int))
        attributed = attribute(inside, images[0], 0, 'gradient').values
    outside = Differentiable(network, SHAPE).input_gradient(images, np.zeros(4, int))
    assert np.array_equal(gradient, outside) and np.abs(gradient).sum() > 0
    assert np.allclose(attributed, outside[0])


def test_what_has_no_torch_network_or_no_derivative_is_refused_in_one_line():
    with pytest.raises(NavMonitorError, match='need the network in torch, and this one is a str'):
        trainable_copy('model.onnx')

    class Counted(Linear):
        def forward(self, images):
            return super().forward(images.detach()).round().detach()

    with pytest.raises(NavMonitorError, match='cannot be differentiated') as caught:
        Differentiable(Counted(), SHAPE).input_gradient(noise(), np.zeros(4, int))
    assert '\n' not in str(caught.value)
    with pytest.raises(NavMonitorError, match='no class 3; the network has 3'):
        Differentiable(Linear(), SHAPE).input_gradient(noise(), np.full(4, 3))


# ------------------------------------------------------------------ attribution


@pytest.mark.parametrize('method', SIGNED)
def test_attribution_of_a_linear_network_is_known(method):
    if method != 'gradient':
        pytest.importorskip('captum')
    network = seeded(Linear)
    image, baseline = noise(count=2)
    values = attribute(
        Differentiable(network, SHAPE), image, 1, method, baseline=baseline
    ).values
    weights = network.fc.weight.detach().numpy()[1].reshape(SHAPE)
    wanted = weights * (image - baseline) if method == 'integrated-gradients' else weights
    assert np.allclose(values, wanted, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits():
    pytest.importorskip('captum')
    differentiable = Differentiable(tiny.network(), SHAPE)
    image, baseline = noise(count=2)
    values = attribute(
        differentiable, image, 0, 'integrated-gradients', baseline=baseline
    ).values
    logits = differentiable.predict(np.stack([image, baseline]))[:, 0]
    assert values.sum() == pytest.approx(logits[0] - logits[1], rel=0.05)


def test_grad_cam_looks_where_the_only_filter_fires():
    pytest.importorskip('captum')
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.fill_(0)
        network[3].weight.fill_(1)
    image = np.zeros(SHAPE, np.float32)
    image[:, 2:4, 8:10] = 1
    attribution = attribute(Differentiable(network, SHAPE), image, 0, 'grad-cam', layer='0')
    assert attribution.values.shape == (1, 12, 12)
    assert np.array_equal(attribution.values[0] > 0, image[0] > 0)


def test_equal_seeds_give_equal_noise_and_leave_chance_alone():
    pytest.importorskip('captum')
    differentiable, image = Differentiable(tiny.network(), SHAPE), noise()[0]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (
        attribute(differentiable, image, 0, 'smoothgrad', seed=seed).values for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


@pytest.mark.parametrize('method', METHODS)
def test_random_weights_change_the_attribution(method):
    """Sanity check of Adebayo et al., NeurIPS 2018: what ignores the weights explains nothing."""
    if method != 'gradient':
        pytest.importorskip('captum')
    bundle = load_bundle('digits')
    trained, shape = shipped_digits()
    torch.manual_seed(0)
    untrained = bundle.network.build()
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 13:16] = 255  # a one
    entering = bundle.preprocess.apply(image)
    maps = [
        np.abs(attribute(Differentiable(network, shape), entering, 1, method).values).sum(0)
        for network in (trained, untrained)
    ]
    ranks = [values.ravel().argsort().argsort() for values in maps]
    assert np.corrcoef(*ranks)[0, 1] < 0.8
    # And what is compared is not noise: the same weights give the same picture.
    again = attribute(Differentiable(trained, shape), entering, 1, method).values
    assert np.allclose(np.abs(again).sum(0), maps[0])


@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 1, 7), (1, 6, 6)])
@pytest.mark.parametrize('image', ['constant', 'nan', 'inf'])
@pytest.mark.parametrize('method', METHODS)
def test_odd_images_have_an_attribution_of_their_own_size(shape, image, method):
    if method != 'gradient':
        pytest.importorskip('captum')
    network = seeded(lambda: nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ))
    values = np.full(shape, {'constant': 0.5, 'nan': np.nan, 'inf': np.inf}[image], np.float32)
    attribution = attribute(Differentiable(network, shape), values, 1, method)
    assert attribution.values.shape[1:] == shape[1:]


def test_missing_captum_is_said_with_the_remedy(monkeypatch):
    real = builtins.__import__

    def without_captum(name, *arguments, **options):
        if name.partition('.')[0] == 'captum':
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, '__import__', without_captum)
    differentiable = Differentiable(tiny.network(), SHAPE)
    with pytest.raises(NavMonitorError, match=r"pip install 'nav_monitor_ros\[gradients\]'"):
        attribute(differentiable, noise()[0], 0, 'smoothgrad')
    assert attribute(differentiable, noise()[0], 0, 'gradient').values.shape == SHAPE


def test_unknown_methods_classes_and_layers_without_extent_are_refused():
    differentiable, image = Differentiable(tiny.network(), SHAPE), noise()[0]
    with pytest.raises(NavMonitorError, match=r"no method 'magic'; there are gradient, smoothgrad"):
        attribute(differentiable, image, 0, 'magic')
    with pytest.raises(NavMonitorError, match='no class 7'):
        attribute(differentiable, image, 7)
    pytest.importorskip('captum')
    with pytest.raises(NavMonitorError, match=r"'fc1' \(Linear\) has no spatial.* 1 'conv'"):
        attribute(differentiable, image, 0, 'grad-cam', layer='fc1')


def test_grad_cam_of_a_transformer_takes_the_last_tokens_that_affect_the_class_token():
    network = vision_networks.vision_transformer()
    image = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    differentiable = Differentiable(network, image.shape)
    found = attribute(differentiable, image, 0, 'grad-cam')
    # Behind the last attention only the class token matters.
    assert re.fullmatch(
        r"4 x 4 positions of layer \d+ 'encoder.layers.encoder_layer_1.ln_1' \(LayerNorm\)",
        found.facts,
    )
    assert found.values.shape == (1, 32, 32) and found.values.any()
    behind = attribute(differentiable, image, 0, 'grad-cam', layer='encoder.ln')
    assert behind.facts.startswith('4 x 4 positions') and not behind.values.any()


def test_grad_cam_of_a_layer_with_its_channels_last_is_that_of_the_transposed_layer():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Identity()
            self.turned, self.head = nn.Identity(), nn.Linear(4, 2)

        def forward(self, images):
            maps = self.last(torch.relu(self.first(images)).permute(0, 2, 3, 1))
            return self.head(self.turned(maps.permute(0, 3, 1, 2)).square().mean((2, 3)))

    image = np.random.default_rng(0).normal(size=(3, 8, 14)).astype(np.float32)
    differentiable = Differentiable(Last().eval(), image.shape)
    last, turned = (
        attribute(differentiable, image, 1, 'grad-cam', layer=name) for name in ('last', 'turned')
    )
    assert last.values.any() and last.facts == "8 x 14 positions of layer 2 'last' (Identity)"
    np.testing.assert_allclose(last.values, turned.values, rtol=1e-5)


def test_grad_cam_of_a_logit_that_depends_on_no_position_is_0():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(720, 2)).eval()
    nn.init.zeros_(network[4].weight)
    found = attribute(Differentiable(network, SHAPE), noise()[0], 0, 'grad-cam')
    assert found.values.shape == (1, 12, 12) and not found.values.any()
