"""Check that a network gives an image the same scores every time, alone and in a batch.

A monitor compares activations on one frame with those on batches of training images. A network
whose outputs depend on the whole batch or on random numbers cannot be monitored that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line
from nav_monitor_ros.perception.network.backends import F32

if TYPE_CHECKING:
    from nav_monitor_ros.perception.activations import Activations
    from nav_monitor_ros.perception.network.running_network import RunningNetwork

# Largest difference, relative to the spread of the values, due to other kernels for another batch
# size.
_TOLERANCE = 1e-3
_ROUGH_TOLERANCE = 3e-2  # for 16-bit floating point and TensorFloat-32
_ROUNDING = 1e-5  # likewise, relative to the values themselves


def require_repeatable(network: RunningNetwork, *, rough: bool = False) -> None:
    """Check that a network's logits and features depend only on the image.

    Two images of noise, of different brightness and contrast, are run together twice, and then each
    alone: six images in total.

    Args:
        network: Network in use.
        rough: Whether it computes with 16 bits.

    Raises:
        NavMonitorError: Its outputs are random, depend on the other images of a batch, or it fails
            on an image alone.
    """
    rough = rough or network.engine.precision != F32
    tolerance = _ROUGH_TOLERANCE if rough else _TOLERANCE
    noise = np.random.default_rng(1).random((2, *network.input_shape), dtype=np.float32)
    images = noise * np.array([0.5, 2], np.float32)[:, None, None, None]
    images[1] -= 1.5
    together, again = network(images), network(images)
    if not _agree(together, again, tolerance):
        raise NavMonitorError(
            'the network returns different values for the same image each time, as with '
            'torch.nn.functional.dropout without training=self.training; make it deterministic in '
            'evaluation mode'
        )
    for row in range(len(images)):
        try:
            alone = network(images[row : row + 1])
        except Exception as error:  # raised by the network's own code
            raise NavMonitorError(
                f'the network fails on a single image, though not on two: {one_line(error)}; make '
                'it treat each image of a batch independently in evaluation mode'
            ) from error
        if not _agree(together[row : row + 1], alone, tolerance):
            raise NavMonitorError(
                'what the network returns for an image depends on the other images of its batch, '
                'as with batch norm in training mode, or attention or a softmax over axis 0; make '
                'it treat each image independently in evaluation mode'
            )


def _agree(one: Activations, other: Activations, tolerance: float) -> bool:
    return _close(one.logits, other.logits, tolerance) and _close(
        one.features, other.features, tolerance
    )


def _close(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    """Return whether rows (N, values) agree; infinity and NaN must be at the same positions."""
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    if not finite.any():
        return True
    one, other = (np.where(finite, values, 0).astype(np.float64) for values in (one, other))
    spread = np.abs(one - one.mean(axis=1, keepdims=True)).max()
    allowed = tolerance * spread + _ROUNDING * np.abs(one).max()
    return bool(np.abs(one - other).max() <= allowed)
