"""The one interface of all scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.options import NoOptions, checked, plain


class NotApplicableError(NavMonitorError):
    """The network cannot give what a score needs; other scores can be fitted to it."""


class Score(ABC):
    """Says how unusual an image's activations are; larger is more unusual.

    A score is built from a stream: ``prepare`` once with a bounded sample, ``update`` with each
    batch, ``merge`` with the same score built elsewhere from other images, ``finish`` once. Then
    ``score`` and ``score_frame`` may be called from any thread. ``tensors`` and ``settings``
    hold all of it, and ``restore`` brings it back bit for bit. Before ``finish``, ``prepared`` and
    ``seen`` hold what there is so far, and ``resume`` goes on with it, here or on another machine;
    neither grows with the number of images once it is large.

    A ``windowed`` score looks at the frames before as well: to it a batch is a stream that starts
    afresh, ``score_frame`` goes on from the last frame, and one thread at a time may call it.
    """

    name: ClassVar[str]
    declared: ClassVar[type] = NoOptions  # dataclass of the score's options
    options: Any  # an instance of ``declared``
    windowed: ClassVar[bool] = False
    # The attributes that ``prepare`` sets, and those that ``update`` adds to, by their paths.
    _prepared: ClassVar[tuple[str, ...]] = ()
    _streamed: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start an empty score.

        Args:
            classes: C, the number of classes.
            width: D, the number of monitored neurons.
            head: Weights that turn the monitored features into logits; None where another layer
                is monitored.
            options: Fields of ``declared`` that are not to have their defaults.

        Raises:
            NavMonitorError: There is no such option, or its value has another type or is out of
                range.
        """
        self.options = checked(self.name, self.declared, options)
        self.classes = classes
        self.width = width
        self.head = head

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the layers whose channel means the score needs."""
        return ()

    @property
    def passes(self) -> int:
        """Return how many passes with dropout on the score needs, 0 for none."""
        return 0

    @property
    def reach(self) -> int:
        """Return how many frames before a frame its score looks at, 0 but for windowed scores."""
        return 0

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword options, as plain YAML values."""
        return plain(self.options)

    def check_layers(self, channels: Mapping[str, int]) -> None:
        """Check a fitted score against the layers of the network that it is to serve with.

        Args:
            channels: Layer name -> channels.

        Raises:
            NavMonitorError: A layer is missing, or has other channels than were fitted.
        """

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Look at a bounded sample of the training images before the stream.

        Args:
            sample: N images.
            labels: int64 (N,), the true classes.

        Raises:
            NotApplicableError: The network cannot give what the score needs.
        """

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Take a batch of training images in.

        Args:
            batch: N images.
            labels: int64 (N,), the true classes.
        """

    def merge(self, other: Score) -> None:
        """Take in what ``other``, prepared with the same sample, has seen."""

    def prepared(self) -> dict[str, np.ndarray]:
        """Return what ``prepare`` left: the same on every machine that takes part."""
        return {path: np.asarray(attrgetter(path)(self)) for path in self._prepared}

    def seen(self) -> dict[str, np.ndarray]:
        """Return what the stream has left so far."""
        return {path: np.asarray(attrgetter(path)(self)) for path in self._streamed}

    def resume(self, prepared: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``prepared`` and ``seen`` returned; without the latter from the start.

        Raises:
            NavMonitorError: An array is missing.
        """
        wanted = [*self._prepared, *(self._streamed if seen else ())]
        there = {**prepared, **seen}
        for path in wanted:
            if path not in there:
                raise self._inconsistent()
            owner, _, name = path.rpartition('.')
            value = there[path].item() if there[path].ndim == 0 else there[path].copy()
            setattr(attrgetter(owner)(self) if owner else self, name, value)

    def finish(self) -> None:
        """Close the stream; afterwards the score can be asked.

        Raises:
            NavMonitorError: What was seen is not enough, or says nothing.
        """

    @abstractmethod
    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""

    def forget(self) -> None:
        """Forget the frames before, after a gap in the stream."""

    def score_frame(self, frame: Activations) -> float:
        """Return the score of one image; up to rounding the one that it has in a batch."""
        return float(self.score(frame)[0])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything that was fitted, as arrays."""
        return {}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take back what ``tensors`` returned.

        Raises:
            NavMonitorError: An array is missing or has another shape.
        """

    def notes(self) -> list[str]:
        """Return one line for each thing a person should know of what was fitted."""
        return []

    def _require_head(self) -> Head:
        """Return the head's weights.

        Raises:
            NotApplicableError: They do not act on the monitored layer.
        """
        if self.head is None:
            raise NotApplicableError(
                f'{self.name}: needs the weights of the last layer, which do not act on the '
                'monitored layer; monitor the penultimate layer or leave this score out (--scores)'
            )
        return self.head

    def _inconsistent(self) -> NavMonitorError:
        return NavMonitorError(f"the fitted score '{self.name}' is inconsistent; fit it again")

    def _nothing_correct(self) -> NavMonitorError:
        return NavMonitorError(
            f'{self.name}: no training image was classified correctly; check labels, class order '
            'and preprocessing'
        )

    def _take(
        self,
        tensors: Mapping[str, np.ndarray],
        key: str,
        shape: tuple[int | None, ...],
        *,
        kind: str = 'f',
    ) -> np.ndarray:
        """Return one stored array, checked; None in ``shape`` stands for any length.

        Args:
            tensors: All of them.
            key: The array's name.
            shape: That it has to have.
            kind: Letters of numpy's kinds of types that it may have, 'f' for floating point.

        Raises:
            NavMonitorError: It is missing, or has another shape or type.
        """
        if key not in tensors:
            raise NavMonitorError(f"the fitted score '{self.name}' lacks '{key}'; fit it again")
        array = tensors[key]
        fits = array.ndim == len(shape) and all(
            wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise NavMonitorError(
                f"the fitted score '{self.name}' has '{key}' of shape {array.shape}, not "
                f'{tuple("any" if n is None else n for n in shape)}; fit it again'
            )
        if array.dtype.kind not in kind:
            raise NavMonitorError(
                f"the fitted score '{self.name}' has '{key}' of type {array.dtype}; fit it again"
            )
        return array


def listed(numbers: np.ndarray) -> str:
    """Return the first few numbers as text, with the count of the others."""
    more = f' and {len(numbers) - 8} more' if len(numbers) > 8 else ''
    return ', '.join(map(str, numbers[:8])) + more


def known(batch: Activations, labels: np.ndarray) -> np.ndarray:
    """Return which images were classified correctly, bool (N,)."""
    return batch.predicted == labels
