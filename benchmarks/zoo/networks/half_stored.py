"""Batch norm after functional ReLU, two hidden layers; its weights are stored as float16."""

import torch
from torch import nn
from torch.nn import functional as F


class SignNet(nn.Module):
    """Normalises after the activation, which is unusual but found in the wild."""

    def __init__(self, n):
        super().__init__()
        chans = [3, 20, 40, 80]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1)
                                    for a, b in zip(chans, chans[1:], strict=False)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(b) for b in chans[1:]])
        self.fc1 = nn.Linear(80 * 4 * 4, 256)
        self.fc2 = nn.Linear(256, 256)
        self.fc3 = nn.Linear(256, n)

    def forward(self, x):
        """Return logits."""
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = F.max_pool2d(bn(F.relu(conv(x))), 2)
        x = torch.reshape(x, (x.shape[0], -1))
        x = F.relu(self.fc1(x))
        x = F.dropout(x, 0.3, self.training)
        x = F.relu(self.fc2(x))
        return self.fc3(x)
