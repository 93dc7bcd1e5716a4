"""A plain network with ReLU6 and a flattened head, for over-fitting to few images."""

from torch import nn


class SmallNet(nn.Sequential):
    """A Sequential that is its own class."""

    def __init__(self, k: int, width: int = 32) -> None:
        def step(i: int, o: int) -> list[nn.Module]:
            return [nn.Conv2d(i, o, 3, padding=1), nn.ReLU6(inplace=True), nn.MaxPool2d(2)]

        super().__init__(
            *step(3, width), *step(width, 2 * width), *step(2 * width, 3 * width),
            nn.Flatten(), nn.Linear(3 * width * 16, 256), nn.ReLU6(inplace=True),
            nn.Linear(256, k),
        )
