"""A small network with in-place ReLU and a wide flattened head, without any regularisation."""

import torch.nn as nn


class WideCNN(nn.Module):
    """Features and classifier as two Sequentials, as in AlexNet."""

    def __init__(self, classes=10, hidden=512):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),
            nn.Conv2d(12, 24, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(24 * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )

    def forward(self, images):
        """Return logits."""
        out = self.features(images)
        out = out.view(out.size(0), -1)
        return self.classifier(out)
