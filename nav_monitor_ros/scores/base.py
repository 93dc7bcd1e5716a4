"""The interface that all scores share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.score_options import NoOptions, checked, plain


class NotApplicableError(NavMonitorError):
    """The network lacks what a score needs; other scores can be fitted to it."""


class Score(ABC):
    """Measures how unusual the activations of an image are; larger is more unusual.

    A score is fitted to a stream of training images: call ``prepare`` once with a bounded sample,
    ``update`` with each batch, ``merge`` with the same score that was fitted to other images on
    another machine, and ``finish`` once. Then ``score`` and ``score_frame`` may be called from any
    thread. ``settings`` and ``tensors`` describe a fitted score completely; ``restore`` loads the
    tensors bit for bit.

    Before ``finish``, ``sample_state`` and ``stream_state`` return the state of an unfinished fit,
    and ``resume`` continues from it, here or on another machine. Their size does not depend on the
    number of images once that is large.

    A ``windowed`` score depends on earlier frames too: it treats each batch as a new stream,
    ``score_frame`` continues from the last frame, and only one thread at a time may call it.
    """

    name: ClassVar[str]
    evidence_kind: ClassVar[EvidenceKind]  # what an image with a high score is unusual in
    options_type: ClassVar[type] = NoOptions  # dataclass of the score's options
    options: Any  # an instance of ``options_type``
    windowed: ClassVar[bool] = False
    extends: ClassVar[str] = ''  # a score that ranks images as this one does if this adds nothing
    # Dotted names of the attributes that ``prepare`` sets, and of those that ``update`` changes.
    _sample_attributes: ClassVar[tuple[str, ...]] = ()
    _stream_attributes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start an empty score.

        Args:
            classes: C, the number of classes.
            width: D, the number of monitored neurons.
            head: Weights that turn the monitored features into logits; None if another layer is
                monitored.
            options: Fields of ``options_type``; the others keep their defaults.

        Raises:
            NavMonitorError: There is no such option, or its value has another type or is out of
                range.
        """
        self.options = checked(self.name, self.options_type, options)
        self.classes = classes
        self.width = width
        self.head = head

    @property
    def channel_mean_layers(self) -> tuple[str, ...]:
        """Return the layers whose channel means the score needs."""
        return ()

    @property
    def dropout_passes(self) -> int:
        """Return the number of forward passes with dropout that the score needs."""
        return 0

    @property
    def history(self) -> int:
        """Return the number of earlier frames on which a score depends; 0 unless it is windowed."""
        return 0

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's keyword options, as plain YAML values."""
        return plain(self.options)

    def check_layers(self, channels: Mapping[str, int]) -> None:
        """Check that the layers of a network match those that the score was fitted to.

        Args:
            channels: Number of channels by layer name.

        Raises:
            NavMonitorError: A layer is missing, or has a different number of channels.
        """

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Set the parameters needed before the stream, from a bounded sample of training images.

        Args:
            sample: N images.
            labels: int64 (N,), the true classes.

        Raises:
            NotApplicableError: The network lacks what the score needs.
        """

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add a batch of training images.

        Args:
            batch: N images.
            labels: int64 (N,), the true classes.
        """

    def merge(self, other: Score) -> None:
        """Add the images of ``other``, which was prepared with the same sample."""

    def sample_state(self) -> dict[str, np.ndarray]:
        """Return the state set by ``prepare``; the same on every machine that takes part."""
        return {path: np.asarray(attrgetter(path)(self)) for path in self._sample_attributes}

    def stream_state(self) -> dict[str, np.ndarray]:
        """Return the state accumulated by ``update`` and ``merge``."""
        return {path: np.asarray(attrgetter(path)(self)) for path in self._stream_attributes}

    def resume(
        self, sample_state: Mapping[str, np.ndarray], stream_state: Mapping[str, np.ndarray]
    ) -> None:
        """Continue an unfinished fit.

        Args:
            sample_state: Returned by ``sample_state``.
            stream_state: Returned by ``stream_state``; empty to start with the first image.

        Raises:
            NavMonitorError: An array is missing.
        """
        wanted = [*self._sample_attributes, *(self._stream_attributes if stream_state else ())]
        state = {**sample_state, **stream_state}
        for path in wanted:
            if path not in state:
                raise self._inconsistent()
            owner, _, name = path.rpartition('.')
            value = state[path].item() if state[path].ndim == 0 else state[path].copy()
            setattr(attrgetter(owner)(self) if owner else self, name, value)

    def finish(self) -> None:
        """End fitting; only then can images be scored.

        Raises:
            NavMonitorError: The training images do not suffice.
        """

    @abstractmethod
    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""

    def evidence_kinds(self, batch: Activations) -> np.ndarray:
        """Return what each image with a high score would be unusual in.

        Returns:
            Values of ``EvidenceKind``, text (N,).
        """
        return np.full(len(batch), self.evidence_kind.value)

    def forget(self) -> None:
        """Forget earlier frames, after a gap in the stream."""

    def score_frame(self, frame: Activations) -> float:
        """Return the score of one image, equal to its score in a batch up to rounding."""
        return float(self.score(frame)[0])

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all fitted arrays by name."""
        return {}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load the arrays that ``tensors`` returned.

        Raises:
            NavMonitorError: An array is missing or has another shape.
        """

    def degeneracy(self) -> str:
        """Return why the score as it was just fitted carries no information; '' if it may."""
        return ''

    def notes(self, class_names: Sequence[str] = ()) -> list[str]:
        """Return remarks on the fit for the user, one line each.

        Args:
            class_names: Names of the classes; without them, classes are named by index.
        """
        return []

    def _require_head(self) -> Head:
        """Return the weights of the head.

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

    def _checked_array(
        self,
        tensors: Mapping[str, np.ndarray],
        key: str,
        shape: tuple[int | None, ...],
        *,
        kind: str = 'f',
    ) -> np.ndarray:
        """Return one of the stored arrays if it has the expected shape and type.

        Args:
            tensors: All stored arrays.
            key: Name of the array.
            shape: Expected shape; None stands for any length.
            kind: Allowed kinds of numpy's types, one letter each; 'f' is floating point.

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


def classes_have(classes: np.ndarray, names: Sequence[str] = ()) -> str:
    """Return the beginning of a sentence on classes: 'classes left, right have'.

    Args:
        classes: Indices of at least one class; at most eight are named.
        names: Names of all classes; without them, the indices are given.
    """
    named = [names[c] if names else str(c) for c in classes[:8].tolist()]
    if len(classes) == 1:
        return f'class {named[0]} has'
    more = f' and {len(classes) - 8} more' if len(classes) > 8 else ''
    return f'classes {", ".join(named)}{more} have'


def correctly_classified(batch: Activations, labels: np.ndarray) -> np.ndarray:
    """Return which images were classified correctly, bool (N,)."""
    return batch.predicted == labels
