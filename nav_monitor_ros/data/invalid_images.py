"""Images on which a network gives NaN or infinity: an error by default, or left out on request."""

from __future__ import annotations

import logging

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.judge import InvalidActivationsError
from nav_monitor_ros.perception.activations import Activations

_NAMED = 5  # images listed in a message
_log = logging.getLogger(__name__)


class InvalidImages:
    """Checks a network's activations and records the images that were left out."""

    def __init__(self, *, skip: bool = False) -> None:
        """Start with no images recorded.

        Args:
            skip: Leave such images out instead of raising at the first one.
        """
        self.skip = skip
        self.names: list[str] = []  # names of the images left out

    def report(self, what: str) -> None:
        """Log the images that were left out, if any, after ``message``."""
        if self.names:
            more = f' and {len(self.names) - _NAMED} more' if len(self.names) > _NAMED else ''
            _log.warning('%s %s%s', what, ', '.join(self.names[:_NAMED]), more)

    @staticmethod
    def unchecked() -> InvalidImages:
        """Return one that accepts everything, for values that are checked later."""
        return _Unchecked()

    def valid(self, source: ImageSource, places: np.ndarray, seen: Activations) -> np.ndarray:
        """Return which rows of the activations are usable, bool (N,).

        Args:
            source: Source of the images.
            places: Their indices in the source, int (N,).
            seen: Activations of the images.

        Raises:
            InvalidActivationsError: A row is not usable, and such images are not skipped.
        """
        kept = np.ones(len(seen), bool)
        for what, values in _of(seen):
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if finite.all():
                continue
            if not self.skip:
                name = source.image_name(int(places[np.flatnonzero(~finite)[0]]))
                raise InvalidActivationsError(
                    f'{name}: the network gave {what} that are not finite; check this image, the '
                    'weights and the preprocessing'
                )
            kept &= finite
        self.names += [source.image_name(int(place)) for place in places[~kept]]
        return kept


class _Unchecked(InvalidImages):
    def valid(self, source: ImageSource, places: np.ndarray, seen: Activations) -> np.ndarray:
        return np.ones(len(seen), bool)


def _of(seen: Activations) -> list[tuple[str, np.ndarray]]:
    """Return the arrays that the scores use, with their names for messages."""
    found = [('logits', seen.logits), ('features', seen.features)]
    found += [(f'channel means of layer {name}', means) for name, means in seen.means.items()]
    if seen.samples is not None:
        found.append(('logits with dropout', seen.samples))
    if seen.background is not None:
        found.append(('background logits', seen.background))
    return found
