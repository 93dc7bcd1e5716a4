"""The form in which the logits, features and head of every network are handed out.

A network can be written in many ways without changing its function. A number added to all logits
changes no probability, and a positive factor can be moved from the features into the weights of the
head. The monitor must not depend on either. Therefore logits have the mean 0, and features have the
unit in which the rows of the head's centred weights have the root mean square length 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nav_monitor_ros.perception.activations import Activations, Head


def centred(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean over the classes.

    Args:
        outputs: float32 (..., C), logits of the classes.

    Returns:
        Logits with the mean 0, float32 (..., C), and the means, float64 (...,). A row with NaN or
        infinity is all NaN or infinity.
    """
    exact = outputs.astype(np.float64)
    mean = exact.mean(axis=-1, keepdims=True)
    with np.errstate(invalid='ignore'):
        return (exact - mean).astype(np.float32), mean[..., 0]


def class_logits(
    outputs: np.ndarray, columns: list[int], background: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the centred logits of the classes, their means, and the background class's logit.

    Args:
        outputs: float32 (..., outputs), logits of all outputs of a network.
        columns: Outputs of the classes.
        background: Output of the background class; None without one.

    Returns:
        float32 (..., C); float64 (...,); and float32 (...,), which is shifted by the same number,
        None without a background class.
    """
    if background is None:
        return *centred(outputs), None
    logits, mean = centred(outputs[..., columns])
    with np.errstate(invalid='ignore'):
        return logits, mean, (outputs[..., background] - mean).astype(np.float32)


def canonical_head(own: Head) -> tuple[Head, float]:
    """Return the head in canonical form, and the unit of its features.

    Args:
        own: The last linear layer as the network has it.

    Returns:
        The head, which gives centred logits from features times the unit; and this unit, the root
        mean square length of the rows of the centred weights (1 if they are 0 or not finite).
    """
    weight = own.weight.astype(np.float64) - own.weight.mean(axis=0, dtype=np.float64)
    bias = own.bias.astype(np.float64) - own.bias.mean(dtype=np.float64)
    unit = float(np.sqrt(np.square(weight).sum() / len(weight)))
    if not (np.isfinite(unit) and unit > 0):
        unit = 1.0
    return replace(
        own, weight=(weight / unit).astype(np.float32), bias=bias.astype(np.float32)
    ), unit


def own_form(activations: Activations, unit: float) -> Activations:
    """Return activations as the network itself gives them, for methods that depend on it.

    Args:
        activations: As a running network hands them out.
        unit: Unit of their features.
    """
    logits, shift = activations.logits, activations.shift
    return replace(
        activations,
        logits=logits if shift is None else (logits + shift[:, None]).astype(np.float32),
        features=activations.features / np.float32(unit),
        shift=None,
    )


def agree(features: np.ndarray, entering: np.ndarray) -> bool:
    """Return whether features are a layer's input, apart from rounding; of the same shape."""
    largest = float(np.abs(entering).max(initial=0.0))
    return bool(np.allclose(features, entering, rtol=1e-5, atol=1e-5 * largest))
