"""Small network with a configurable end."""

from __future__ import annotations

import torch
from torch import nn


class Ending(nn.Module):
    """Network of two layers with an end that the test provides."""

    def __init__(self, end, bias=True):
        super().__init__()
        torch.manual_seed(1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(108, 10)
        self.fc2 = nn.Linear(10, 4, bias=bias)
        self.end = end

    def forward(self, images):
        return self.end(self.fc2(self.fc1(self.flatten(images)).tanh()))
