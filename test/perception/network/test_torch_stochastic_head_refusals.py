"""Networks whose passes cannot be repeated from the first dropout layer on."""

from __future__ import annotations

import pytest
from dropout_networks import (
    PIXELS,
    assert_same,
    batch_of,
    built,
    in_service,
)
from torch import nn

from nav_monitor_ros.errors import NavMonitorError


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
    'functional dropout not before the head': (
        'calls dropout as a function elsewhere than immediately before the last linear layer',
        lambda: Custom(
            lambda n, x: n.fc3(n.fc2(nn.functional.dropout(n.fc1(x), 0.5, n.training)))),
    ),
    'functional dropout of channels': (
        'calls dropout as a function',
        lambda: Custom(lambda n, x: n.fc3(nn.functional.dropout1d(n.fc1(x), 0.5, n.training))),
    ),
    'functional dropout with the probability 0': (
        'no dropout layer',
        lambda: Custom(lambda n, x: n.fc3(nn.functional.dropout(n.fc1(x), 0.0, n.training))),
    ),
    'dropout with the probability 0': (
        'no dropout layer',
        lambda: Custom(lambda n, x: n.fc3(n.drop(n.fc1(x))), drop=nn.Dropout(0.0)),
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
