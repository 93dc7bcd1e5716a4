"""Images on which a network gives NaN or infinity: named at once, or left out if that is asked."""

from __future__ import annotations

import logging

import numpy as np

from nav_monitor_ros.data.image_source import ImageSource
from nav_monitor_ros.decision.judge import InvalidActivationsError
from nav_monitor_ros.perception.activations import Activations

_NAMED = 5  # images that a message names
_log = logging.getLogger(__name__)


class InvalidImages:
    """Looks through what a network gives, and keeps account of the images that were left out."""

    def __init__(self, *, skip: bool = False) -> None:
        """Start without any.

        Args:
            skip: Leave such images out instead of ending with the first.
        """
        self.skip = skip
        self.names: list[str] = []  # of those that were left out

    def report(self, what: str) -> None:
        """Log which images there were, after a few words, if there were any."""
        if self.names:
            more = f' and {len(self.names) - _NAMED} more' if len(self.names) > _NAMED else ''
            _log.warning('%s %s%s', what, ', '.join(self.names[:_NAMED]), more)

    @staticmethod
    def unchecked() -> InvalidImages:
        """Return one that lets everything pass, where the numbers are judged later."""
        return _Unchecked()

    def valid(self, source: ImageSource, places: np.ndarray, seen: Activations) -> np.ndarray:
        """Return which rows of what the network gave can be worked with, bool (N,).

        Args:
            source: Of the images.
            places: Theirs in it, int (N,).
            seen: What the network gave.

        Raises:
            InvalidActivationsError: One of them cannot, and they are not to be skipped.
        """
        kept = np.ones(len(seen), bool)
        for what, values in _of(seen):
            finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if finite.all():
                continue
            if not self.skip:
                name = source.image_name(int(places[np.flatnonzero(~finite)[0]]))
                raise InvalidActivationsError(
                    f'{name}: the network gave {what} that are not finite numbers; look at this '
                    'image, at the weights and the preprocessing'
                )
            kept &= finite
        self.names += [source.image_name(int(place)) for place in places[~kept]]
        return kept


class _Unchecked(InvalidImages):
    def valid(self, source: ImageSource, places: np.ndarray, seen: Activations) -> np.ndarray:
        return np.ones(len(seen), bool)


def _of(seen: Activations) -> list[tuple[str, np.ndarray]]:
    """Return what the scores look at, with the names that a message calls it."""
    found = [('logits', seen.logits), ('features', seen.features)]
    found += [(f'channel means of layer {name}', means) for name, means in seen.means.items()]
    if seen.samples is not None:
        found.append(('logits with dropout', seen.samples))
    if seen.background is not None:
        found.append(('background logits', seen.background))
    return found
