"""Passes with dropout on, and the background class: what one forward pass yields with them."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess

SIX = Preprocess(6, 6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
PIXELS = 3 * 6 * 6


class Pooled(nn.Module):
    """Built as torchvision's networks are: pooling, a functional flatten, dropout, the head."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(inplace=True)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.4, inplace=True), nn.Linear(7, 4))

    def forward(self, images):
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))


class Softmaxed(nn.Module):
    """Ends in a softmax that is no layer."""

    def __init__(self):
        super().__init__()
        self.body = one_dropout()

    def forward(self, images):
        return self.body(images).softmax(1)


def one_dropout(p=0.4):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 12), nn.ReLU(), nn.Dropout(p), nn.Linear(12, 4)
    )


def two_dropouts(*, inplace=False):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(PIXELS, 12), nn.ReLU(inplace), nn.Dropout(0.5, inplace),
        nn.Linear(12, 9), nn.ReLU(inplace), nn.Dropout(0.2, inplace),
        nn.Linear(9, 4),
    )


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(20, 8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(8, 4),
    )


def dropout_first():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 12), nn.Dropout(0.4), nn.LeakyReLU(0.3, inplace=True),
        nn.Linear(12, 4),
    )


def dropped_maps():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.6), nn.Linear(20, 4), nn.Softmax(dim=1),
    )


NETWORKS = {
    'one dropout': one_dropout,
    'two dropouts': two_dropouts,
    'two dropouts, in place': lambda: two_dropouts(inplace=True),
    'a convolutional part before': convolutional,
    'an in-place layer behind dropout': dropout_first,
    'maps that drop out': dropped_maps,
    'pooling and a functional flatten': Pooled,
    'a softmax at the end': Softmaxed,
    'all drops out': lambda: one_dropout(1.0),
    'nothing drops out': lambda: one_dropout(0.0),
    'torchvision': lambda: torchvision.models.mobilenet_v3_small(num_classes=4),
}
every_network = pytest.mark.parametrize('make', NETWORKS.values(), ids=NETWORKS)


def built(make, seed=3):
    """Return the network with weights and statistics that are not the initial ones."""
    torch.manual_seed(seed)
    network = make()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight, 1.0, 0.1)
    return network.eval()


def in_service(make, passes=0, seed=0, **options):
    network = make if isinstance(make, nn.Module) else built(make)
    classifier = Classifier(copy.deepcopy(network), SIX, **options)
    if passes:
        classifier.sample_dropout(passes, seed)
    return classifier


def batch_of(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# What the samples are.


class Masked(nn.Module):
    """Dropout whose mask is given."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, values):
        return values * self.mask


def slow_samples(network, classifier, batch):
    """Run the whole network once for each pass, with the masks that the classifier drew."""
    stochastic = classifier._stochastic
    name_of = {module: name for name, module in classifier._network.named_modules()}
    drawn = {
        name_of[module]: mask
        for module, mask in zip(stochastic._chain, stochastic._masks, strict=True)
        if mask is not None
    }
    dropouts = [name for name, m in network.named_modules() if isinstance(m, nn.Dropout)]
    assert sorted(drawn) == sorted(dropouts)
    results = []
    for k in range(classifier._passes):
        real = copy.deepcopy(network)
        for name in dropouts:
            parent, _, child = name.rpartition('.')
            setattr(real.get_submodule(parent), child, Masked(drawn[name][k]))
        logits = []
        linear = [m for m in real.modules() if isinstance(m, nn.Linear)][-1]
        linear.register_forward_hook(lambda _m, _i, output, kept=logits: kept.append(output))
        with torch.inference_mode():
            real(torch.from_numpy(batch))
        results.append(logits[0].numpy())
    return np.stack(results, axis=1)


@every_network
def test_samples_equal_the_whole_network_run_with_the_same_masks(make):
    network, batch = built(make), batch_of(3)
    classifier = in_service(network, 6, seed=5)
    for _ in range(2):
        samples = classifier(batch).samples
        assert (samples.shape, samples.dtype) == ((3, 6, 4), np.float32)
        close(samples, slow_samples(network, classifier, batch))


@pytest.mark.parametrize('p', [0.1, 0.5, 0.8])
def test_every_subset_of_the_neurons_is_left_as_often_as_it_should(p):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, 3), nn.Dropout(p), nn.Linear(3, 4)
    ).eval()
    passes, batch = 4000, batch_of(2)
    activations = in_service(network, passes)(batch)
    weight, bias = network[3].weight.detach().numpy(), network[3].bias.detach().numpy()
    for features, samples in zip(activations.features, activations.samples, strict=True):
        found = np.zeros(passes, int)
        for kept in itertools.product([0, 1], repeat=3):
            logits = weight @ (features * kept / (1 - p)) + bias
            hits = (np.abs(samples - logits) < 1e-4).all(axis=1)
            share = np.prod(np.where(kept, 1 - p, p))
            assert abs(hits.mean() - share) < 5 * np.sqrt(share * (1 - share) / passes)
            found += hits
        assert (found == 1).all()


@pytest.mark.parametrize('p', [0.2, 0.5, 0.9])
def test_many_passes_before_a_linear_head_average_to_the_logits(p):
    passes = 6000  # more than are run at once
    activations = in_service(lambda: one_dropout(p), passes)(batch_of(4))
    samples = activations.samples.astype(np.float64)
    error = samples.std(axis=1) / np.sqrt(passes)
    assert (error > 0).all()
    assert (np.abs(samples.mean(axis=1) - activations.logits) < 5 * error).all()


def test_the_two_extremes_of_dropout_are_the_bias_and_the_logits():
    batch = batch_of(3)
    network = built(lambda: one_dropout(1.0))
    samples = in_service(network, 4)(batch).samples
    close(samples, np.broadcast_to(network[4].bias.detach().numpy(), samples.shape))
    activations = in_service(lambda: one_dropout(0.0), 4)(batch)
    close(activations.samples, np.repeat(activations.logits[:, None], 4, axis=1))


@pytest.mark.parametrize(
    'end',
    [
        lambda: [nn.Flatten(), nn.Linear(20, 4), nn.BatchNorm1d(4)],
        lambda: [nn.Flatten(), nn.Linear(20, 4), nn.LeakyReLU(0.1, inplace=True)],
        lambda: [nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    ],
    ids=['a layer behind the last linear one', 'an activation behind it', 'a convolution'],
)
def test_without_a_linear_head_the_passes_give_what_the_network_gives(end):
    activations = in_service(
        lambda: nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.0), *end()
        ),
        4,
        layer='1',
    )(batch_of(3))
    close(activations.samples, np.repeat(activations.logits[:, None], 4, axis=1))


@every_network
def test_an_image_has_the_same_samples_alone_and_in_a_batch(make):
    classifier = in_service(make, 20)
    batch = batch_of(5)
    together = classifier(batch).samples
    for i in (3, 0, 4):
        close(classifier(batch[i : i + 1]).samples[0], together[i])


def test_more_rows_than_run_at_once_change_nothing():
    batch = batch_of(9)
    classifier = in_service(two_dropouts, 1500)  # 13500 rows
    together = classifier(batch).samples
    assert together.shape == (9, 1500, 4)
    for i in range(9):
        close(classifier(batch[i : i + 1]).samples[0], together[i])


@pytest.mark.parametrize('make', [one_dropout, two_dropouts, dropped_maps])
def test_the_seed_alone_decides(make):
    batch = batch_of(4)
    first = in_service(make, 8, seed=1)
    expected = first(batch).samples
    torch.manual_seed(77)  # torch's own state plays no part
    second = in_service(make)
    second(batch)
    second.sample_dropout(3, seed=9)
    second(batch[:1])
    second.sample_dropout(8, seed=1)
    np.testing.assert_array_equal(second(batch).samples, expected)
    np.testing.assert_array_equal(first(batch).samples, expected)
    second.sample_dropout(8, seed=2)
    assert (np.abs(second(batch).samples - expected) > 1e-3).any(axis=(0, 2)).sum() >= 6
    assert len(np.unique(expected[0], axis=0)) == 8  # each pass has masks of its own


def test_torchs_own_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    classifier = in_service(one_dropout)
    torch.manual_seed(5)
    classifier.sample_dropout(10)
    classifier(batch_of(2))
    assert torch.equal(torch.rand(3), expected)


# The rest of the forward pass.


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.features, theirs.features)
    for kind in ('means', 'maps'):
        mine, others = getattr(ours, kind), getattr(theirs, kind)
        assert mine.keys() == others.keys()
        for name, array in mine.items():
            np.testing.assert_array_equal(array, others[name], err_msg=f'{kind} of {name}')


def maps_of(classifier):
    return [layer.name for layer in classifier.layers]


@every_network
def test_the_passes_disturb_nothing_else(make):
    network = built(make)
    watched = maps_of(in_service(network))
    plain, sampling = in_service(network, watch=watched), in_service(network, 7, watch=watched)
    for classifier in (plain, sampling):
        classifier.tap(watched)
    for seed, count in enumerate((1, 3, 2)):
        batch = batch_of(count, seed)
        expected, found = plain(batch), sampling(batch)
        assert expected.samples is None
        assert found.samples.shape == (count, 7, 4)
        assert_same(found, expected)
        # What was handed out stays as it was when the next pass runs.
        kept = copy.deepcopy(found)
        sampling(batch_of(count, 50))
        assert_same(found, kept)
        np.testing.assert_array_equal(found.samples, kept.samples)


@pytest.mark.parametrize('make', [two_dropouts, NETWORKS['two dropouts, in place'], dropped_maps])
def test_any_monitored_layer_is_left_alone(make):
    network, batch = built(make), batch_of(3)
    for layer in maps_of(in_service(network)):
        sampling = in_service(network, 7, layer=layer)
        for _ in range(2):
            found = sampling(batch)
            assert_same(found, in_service(network, layer=layer)(batch))
            close(found.samples, in_service(network, 7)(batch).samples)


def test_no_passes_switch_it_off():
    classifier, batch = in_service(one_dropout), batch_of(2)
    assert classifier(batch).samples is None
    classifier.sample_dropout(0)
    assert classifier(batch).samples is None
    classifier.sample_dropout(5)
    assert classifier(batch).samples.shape == (2, 5, 4)
    classifier.sample_dropout(0)
    assert classifier(batch).samples is None
    in_service(lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4))).sample_dropout(0)


def test_parts_of_a_batch_join_and_split_with_their_samples():
    classifier, batch = in_service(one_dropout, 5, background=0), batch_of(6)
    whole = classifier(batch)
    joined = Activations.concatenate([classifier(batch[:2]), classifier(batch[2:])])
    close(joined.samples, whole.samples)
    close(joined.background, whole.background)
    np.testing.assert_array_equal(whole[1:4].samples, whole.samples[1:4])
    np.testing.assert_array_equal(whole[1:4].background, whole.background[1:4])


# Networks whose passes cannot be repeated from the first dropout layer on.


class Custom(nn.Module):
    """Layers, and a function that says how images run through them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        self.fc1 = nn.Linear(PIXELS, 16)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(16, 16)
        self.fc3 = nn.Linear(16, 4)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images):
        return self.run(self, images.flatten(1))


CHAIN = 'not a plain chain of layers'
REFUSED = {
    'no dropout': (
        'no dropout layer', lambda: Custom(lambda n, x: n.fc3(n.fc1(x).relu()))
    ),
    'functional dropout': (
        'no dropout layer',
        lambda: Custom(lambda n, x: n.fc3(nn.functional.dropout(n.fc1(x), 0.5, n.training))),
    ),
    'dropout that never runs': (
        'no dropout layer', lambda: Custom(lambda n, x: n.fc3(n.fc1(x)), drop=nn.Dropout(0.5))
    ),
    'dropout behind the head': (
        'no dropout layer', lambda: Custom(lambda n, x: n.drop(n.fc3(n.fc1(x))))
    ),
    'a functional ReLU': (
        CHAIN, lambda: Custom(lambda n, x: n.fc3(n.fc2(n.drop(n.fc1(x))).relu()))
    ),
    'a functional flatten': (
        CHAIN,
        lambda: Custom(
            lambda n, x: n.fc3(n.conv(n.drop(n.fc1(x).unflatten(1, (1, 4, 4)))).flatten(1)),
            conv=nn.Conv2d(1, 1, 3, padding=1),
        ),
    ),
    'a shortcut': (
        CHAIN, lambda: Custom(lambda n, x: (lambda y: n.fc3(n.fc2(y) + y))(n.drop(n.fc1(x))))
    ),
    'a branch before dropout': (
        CHAIN,
        lambda: Custom(lambda n, x: (lambda y: n.fc3(n.fc2(n.drop(y)) + y))(n.fc1(x))),
    ),
    'one dropout layer in two places': (
        CHAIN, lambda: Custom(lambda n, x: n.fc3(n.drop(n.fc2(n.drop(n.fc1(x))).relu())))
    ),
    'dropout of channels before': (
        CHAIN,
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 4)
        ),
    ),
    'dropout of channels after': (
        CHAIN,
        lambda: nn.Sequential(
            nn.Dropout(0.3), nn.Conv2d(3, 4, 3), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(64, 4)
        ),
    ),
    'alpha dropout': (
        CHAIN,
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(PIXELS, 8), nn.SELU(), nn.AlphaDropout(0.3), nn.Linear(8, 4)
        ),
    ),
    'alpha dropout of channels after': (
        CHAIN,
        lambda: nn.Sequential(
            nn.Dropout(0.3), nn.Conv2d(3, 4, 3), nn.FeatureAlphaDropout(0.3), nn.Flatten(),
            nn.Linear(64, 4),
        ),
    ),
    'a reshape that a layer relies on': (
        CHAIN,
        lambda: Custom(
            lambda n, x: n.fc3(n.flat(n.drop(n.fc1(x)).unflatten(1, (2, 8)))),
            flat=nn.Flatten(1, 2),
        ),
    ),
    'a recurrent layer': (
        CHAIN,
        lambda: Custom(
            lambda n, x: n.fc3(n.flat(n.cell(n.drop(n.fc1(x))[:, None])[0])),
            cell=nn.LSTM(16, 16, batch_first=True),
            flat=nn.Flatten(),
        ),
    ),
    'dropout called by keyword': (
        CHAIN, lambda: Custom(lambda n, x: n.fc3(n.drop(input=n.fc1(x))))
    ),
    'a layer of two inputs': (
        CHAIN,
        lambda: Custom(
            lambda n, x: (lambda y: n.fc3(n.pair(n.drop(y), y)))(n.fc1(x)),
            pair=nn.Bilinear(16, 16, 16),
        ),
    ),
}


def hooks_of(classifier):
    modules = classifier._network.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@pytest.mark.parametrize(('said', 'make'), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_repeated_is_refused_and_still_runs(said, make):
    network, batch = built(make), batch_of(3)
    classifier = in_service(network)
    expected = classifier(batch)
    hooks = hooks_of(classifier)
    for _ in range(2):
        with pytest.raises(NavMonitorError, match=said) as caught:
            classifier.sample_dropout(5)
        assert str(caught.value).startswith('mc_dropout: ')
        assert '(--scores)' in str(caught.value)
        assert '\n' not in str(caught.value)
    assert hooks_of(classifier) == hooks
    found = classifier(batch)
    assert found.samples is None
    assert_same(found, expected)


# The background class.


@pytest.mark.parametrize('index', [0, 2, 3, -1, -4])
@pytest.mark.parametrize(
    'make', [one_dropout, Pooled, Softmaxed], ids=['plain', 'pooled', 'softmax']
)
def test_the_background_class_is_none_of_the_classes(make, index):
    network, batch = built(make), batch_of(20)
    plain = in_service(network, 6)
    classifier = in_service(network, 6, background=index)
    everything, found = plain(batch), classifier(batch)
    assert everything.background is None
    assert (plain.background, plain.classes) == (None, 4)
    assert (classifier.background, classifier.classes) == (index % 4, 3)
    rest = [i for i in range(4) if i != index % 4]
    np.testing.assert_array_equal(found.logits, everything.logits[:, rest])
    np.testing.assert_array_equal(found.background, everything.logits[:, index])
    assert (found.background.shape, found.background.dtype) == ((20,), np.float32)
    np.testing.assert_array_equal(found.samples, everything.samples[:, :, rest])
    np.testing.assert_array_equal(found.features, everything.features)
    assert set(found.predicted) <= {0, 1, 2}
    # The head gives the classes' logits alone.
    assert (classifier.head.weight.shape, classifier.head.bias.shape) == (
        (3, classifier.width), (3,),
    )
    close(classifier.head.logits(classifier.head.entering(found.features)), found.logits)
    assert plain.head.weight.shape == (4, plain.width)


def test_a_head_without_bias_has_a_background_too():
    classifier = in_service(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4, bias=False)), background=1
    )
    assert classifier.head.bias.shape == (3,)
    found = classifier(batch_of(2))
    close(classifier.head.logits(found.features), found.logits)


@pytest.mark.parametrize('index', [4, 5, -5, 1000])
def test_a_background_class_that_is_not_there_is_refused(index):
    with pytest.raises(NavMonitorError, match=f'has 4 outputs.*background.*number {index}$'):
        in_service(one_dropout, background=index)


@pytest.mark.parametrize('index', [0, -1])
def test_the_only_output_cannot_be_the_background(index):
    with pytest.raises(NavMonitorError, match='has 1 outputs.*background'):
        in_service(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 1)), background=index
        )
