"""Form of a network's outputs: logits, or the result of a softmax or sigmoid.

The monitor uses logits. If a network returns something else, the logits are taken before the last
operation or recovered from its result. A softmax loses a constant per row, which is irrelevant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError, one_line

if TYPE_CHECKING:
    import torch

LOGITS = 'logits'
PROBABILITIES = 'probabilities'  # non-negative, each row sums to 1
LOG_PROBABILITIES = 'log_probabilities'  # logarithms of these
SIGMOIDS = 'sigmoids'  # each output independently between 0 and 1
FORMS = (LOGITS, PROBABILITIES, LOG_PROBABILITIES, SIGMOIDS)
CLASSIFIERS = (
    'this monitors classifiers, which return one row of class scores for each image: '
    '(images, classes)'
)
OutputName = int | str  # one of several outputs: 0-based number or name

_SUM_ERROR = 1e-3  # tolerance of a row's sum of probabilities
_LEAST = 1e-37  # smallest probability; smaller ones get its logit
_FALL = 0.02  # largest fall of outputs in the order of the logits, relative to their range
_NEAREST = 2.0**-24  # closest to 1 that a float32 sigmoid comes without reaching it


def form_of(outputs: np.ndarray) -> str:
    """Return the form of outputs (N, C), as far as their values tell.

    Args:
        outputs: For at least two images, float.

    Returns:
        The form; ``LOGITS`` if they are neither probabilities nor their logarithms.
    """
    if outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return LOGITS
    rows = outputs.astype(np.float64)
    if rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() <= _SUM_ERROR:
        return PROBABILITIES
    if rows.max() <= _SUM_ERROR and np.abs(np.exp(rows).sum(1) - 1).max() <= _SUM_ERROR:
        return LOG_PROBABILITIES
    return LOGITS


def logits_of(outputs: np.ndarray, form: str) -> np.ndarray:
    """Return the logits of outputs (..., C); after a softmax their mean is 0.

    NaN and infinity are preserved.
    """
    if form == LOGITS:
        return outputs
    if form == SIGMOIDS:
        inside = np.clip(outputs, _LEAST, 1 - _NEAREST)
        return np.log(inside) - np.log1p(-inside)
    if form == PROBABILITIES:
        outputs = np.log(np.maximum(outputs, _LEAST))
    return outputs - outputs.mean(axis=-1, keepdims=True)


def torch_logits_of(outputs: torch.Tensor, form: str) -> torch.Tensor:
    """Return the result of ``logits_of`` for a tensor, differentiably."""
    if form == LOGITS:
        return outputs
    if form == SIGMOIDS:
        inside = outputs.clamp(_LEAST, 1 - _NEAREST)
        return inside.log() - (-inside).log1p()
    if form == PROBABILITIES:
        outputs = outputs.clamp(min=_LEAST).log()
    return outputs - outputs.mean(dim=-1, keepdim=True)


def scale_between(linear: np.ndarray, outputs: np.ndarray, form: str) -> float | None:
    """Return the factor from a linear layer's output to the logits of a network's outputs.

    It is 1 for most networks, and the inverse of the temperature if there is one.

    Args:
        linear: float (N, C).
        outputs: float (N, C), of this form.
        form: One of ``FORMS``.

    Returns:
        A positive factor; None if the outputs do not follow from this layer in that way.
    """
    linear, outputs = linear.astype(np.float64), outputs.astype(np.float64)
    if not (np.isfinite(linear).all() and np.isfinite(outputs).all()):
        return 1.0 if np.array_equal(linear, outputs, equal_nan=True) else None
    if _agree(linear, outputs, form):
        return 1.0
    wanted, clear = _unbent(outputs, form)
    known = np.where(clear, linear, 0)
    if form != SIGMOIDS:  # a constant per row is irrelevant
        count = np.maximum(clear.sum(1, keepdims=True), 1)
        wanted = np.where(clear, wanted - wanted.sum(1, keepdims=True) / count, 0)
        known = np.where(clear, known - known.sum(1, keepdims=True) / count, 0)
    size = float((known * known).sum())
    factor = float((known * wanted).sum()) / size if size else 0.0
    return factor if factor > 0 and _agree(factor * linear, outputs, form) else None


def follow_from(logits: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return for each image whether outputs can follow from logits, bool (N,).

    Softmax, sigmoid, a temperature and a limit of the logits keep the order of the classes; the
    outputs of another layer hardly do. Rows that are not finite count as following.

    Args:
        logits: float (N, C).
        outputs: float (N, C), of any form.
    """
    finite = np.isfinite(logits).all(axis=1) & np.isfinite(outputs).all(axis=1)
    rows = np.where(finite[:, None], outputs, 0).astype(np.float64)
    rows = np.take_along_axis(rows, np.argsort(logits, axis=1, kind='stable'), axis=1)
    fall = (np.maximum.accumulate(rows, axis=1) - rows).max(axis=1)
    # Values of 16 bits are equal where the logits differ, and the other way round.
    return ~finite | (fall <= _FALL * (rows.max(axis=1) - rows.min(axis=1)))


def _unbent(outputs: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and which of them float32 preserves, bool; the others are 0."""
    if form == PROBABILITIES:
        clear = outputs > 1e-30
        return np.log(np.where(clear, outputs, 1)), clear
    if form == SIGMOIDS:
        clear = (outputs > 1e-30) & (outputs < 1 - 1e-3)
        inside = np.where(clear, outputs, 0.5)
        return np.log(inside) - np.log1p(-inside), clear
    return outputs, np.ones(outputs.shape, bool)


def _agree(logits: np.ndarray, outputs: np.ndarray, form: str) -> bool:
    """Return whether outputs of this form, of a float32 network, follow from these logits."""
    if form == LOGITS:
        centred = logits - logits.mean(1, keepdims=True)
        away = np.abs(outputs - outputs.mean(1, keepdims=True) - centred).max()
        # Only rounding is tolerated: a slightly nonlinear function is not a factor.
        return bool(away <= 4e-6 * max(np.abs(outputs).max(), np.abs(logits).max()))
    if form == SIGMOIDS:
        made = 0.5 * (1 + np.tanh(0.5 * logits))
    else:
        made = logits - logits.max(1, keepdims=True)
        made = made - np.log(np.exp(made).sum(1, keepdims=True))
        if form == LOG_PROBABILITIES:
            return np.allclose(made, outputs, rtol=1e-4, atol=1e-4)
        made = np.exp(made)
    # Also relative to small values: with thousands of classes, all probabilities are small.
    return np.allclose(made, outputs, rtol=2e-3, atol=1e-5 / outputs.shape[1])


def require_several(outputs: int) -> None:
    """Check that a network has an output for each of at least two classes.

    Raises:
        NavMonitorError: It has a single output, such as the logit of a binary classifier.
    """
    if outputs < 2:
        raise NavMonitorError(
            'the network has a single output, as binary classifiers have that return one logit z: '
            f'let it return two, (0, z) or (-z/2, z/2); {CLASSIFIERS}'
        )


@dataclass(frozen=True)
class SelectedOutput:
    """Forward hook that selects one of several outputs of a network."""

    wanted: OutputName

    def __call__(self, _module: object, _inputs: object, returned: Any) -> Any:
        """Return the selected output.

        Raises:
            NavMonitorError: There is no such output.
        """
        named = named_outputs(returned)
        names = list(named)
        if isinstance(self.wanted, str) and self.wanted in named:
            return named[self.wanted]
        if isinstance(self.wanted, int) and -len(names) <= self.wanted < len(names):
            return named[names[self.wanted]]
        raise NavMonitorError(
            f"the network has no output '{self.wanted}'; it has {shapes_of(named)} "
            '(--output-index)'
        )


def named_outputs(returned: Any) -> dict[str, Any]:
    """Return a network's outputs by name, or by number if they have no names."""
    if isinstance(returned, Mapping):
        return {str(name): value for name, value in returned.items()}
    if hasattr(returned, '_asdict'):  # a named tuple
        return dict(returned._asdict())
    if hasattr(returned, '__dataclass_fields__'):
        return {name: getattr(returned, name) for name in returned.__dataclass_fields__}
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return {str(number): value for number, value in enumerate(returned)}
    return {'0': returned}


def shapes_of(named: Mapping[str, Any]) -> str:
    """Return names and shapes for a message."""
    shown = [
        f'{name} {tuple(value.shape)}' if hasattr(value, 'shape') else
        f'{name} ({type(value).__name__})'
        for name, value in named.items()
    ]
    return one_line(', '.join(shown) or 'nothing', 300)


def refusal(returned: Any) -> NavMonitorError:
    """Return why a network's result for two images is not one row of class scores for each."""
    if hasattr(returned, 'shape'):
        shape = tuple(returned.shape)
        what = (
            f'a map of shape {shape}, as segmentation networks do' if len(shape) == 4 else
            f'{shape} for a batch of images'
        )
        return NavMonitorError(f'the network returns {what}; {CLASSIFIERS}')
    named = named_outputs(returned)
    if named and all(isinstance(value, Mapping) for value in named.values()):
        inner = next(iter(named.values()))
        return NavMonitorError(
            f'the network returns {one_line(", ".join(map(str, inner)), 80)} for each image, as '
            f'detectors do; {CLASSIFIERS}'
        )
    rows = [name for name, value in named.items() if len(getattr(value, 'shape', ())) == 2]
    kind = f'a {type(returned).__name__} of {shapes_of(named)}'
    if rows:
        return NavMonitorError(
            f'the network returns {kind}; name the output with the class scores, such as '
            f'--output-index {rows[0]}'
        )
    if any(len(getattr(value, 'shape', ())) == 4 for value in named.values()):
        kind += ', as segmentation networks do'
    return NavMonitorError(f'the network returns {kind}, none of them class scores; {CLASSIFIERS}')
