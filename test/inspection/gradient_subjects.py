"""Small networks with known gradients, as subjects of the gradient views."""

from __future__ import annotations

import tiny
from torch import nn

from nav_monitor_ros.inspection.gradient_views import (
    Subject,
)
from nav_monitor_ros.inspection.inspected_network import Viewed
from nav_monitor_ros.perception.network.torch.classifier import Classifier
from nav_monitor_ros.perception.preprocess import Preprocess
from nav_monitor_ros.views.gradients.panels import (
    SIDE,
)

GREY = (128, 128, 128)
BLUE, VERMILLION = (0, 114, 178), (213, 94, 0)
PANEL = slice(76, 76 + SIDE), slice(14 + SIDE + 14, 14 + SIDE + 14 + SIDE)  # second panel


def subject(network=None, preprocess=tiny.PREPROCESS, names=tiny.CLASSES):
    """Return a network as a subject of the gradient commands."""
    made = tiny.network() if network is None else network
    viewed = Viewed('tiny', Classifier(made, preprocess), tuple(names), None)
    return Subject.of(viewed, lambda: made)


def gray_subject(network, side):
    preprocess = Preprocess(side, side, color='gray', mean=(0.5,), std=(0.5,))
    return subject(network, preprocess, ('a', 'b'))


class HalfBlind(nn.Module):
    """Network that uses only the left half of a gray image."""

    def __init__(self, side=12):
        super().__init__()
        self.side = side
        self.fc = nn.Linear(side * side // 2, 2, bias=False)

    def forward(self, images):
        return self.fc(images[:, :, :, : self.side // 2].flatten(1))
