"""Strided convolutions with functional leaky ReLU, flattened into one hidden layer."""

import torch
from torch.nn import Conv2d, Linear, Module
from torch.nn.functional import leaky_relu


class LeakyPlain(Module):
    """No pooling, no normalisation, no dropout."""

    def __init__(self, outputs=43, slope=0.2):
        super().__init__()
        self.slope = slope
        self.conv_a = Conv2d(3, 24, 3, stride=2, padding=1)
        self.conv_b = Conv2d(24, 48, 3, stride=2, padding=1)
        self.conv_c = Conv2d(48, 64, 3, stride=2, padding=1)
        self.dense = Linear(64 * 4 * 4, 192)
        self.logits = Linear(192, outputs)

    def forward(self, x):
        """Return logits."""
        for conv in (self.conv_a, self.conv_b, self.conv_c):
            x = leaky_relu(conv(x), self.slope)
        x = torch.flatten(x, start_dim=1)
        x = leaky_relu(self.dense(x), self.slope, inplace=True)
        return self.logits(x)
