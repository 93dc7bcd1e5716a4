"""Virtual-logit matching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.activations import Activations, Head
from nav_monitor_ros.scores.base import Score
from nav_monitor_ros.scores.energy import free_energy
from nav_monitor_ros.scores.evidence_kind import EvidenceKind
from nav_monitor_ros.scores.moments import Scatter, require_square
from nav_monitor_ros.scores.score_options import option

_ROUNDING = 1e-6  # of single precision, relative to the length of the features


@dataclass(frozen=True)
class VimOptions:
    """Options of ``vim``."""

    subspace: int = option(
        0, 'Dimension of the principal subspace, below the number of neurons; 0 selects the rule '
        'given in the paper (Wang et al., CVPR 2022).', low=0,
    )


class VirtualLogitMatching(Score):
    """Residual of the features outside the principal subspace, compared with the logits.

    ``alpha * |R^T (f - u)| - log sum_c exp(logit_c)``: u is the origin ``-pinv(W) b``, the columns
    of R span the complement of the ``subspace`` leading eigenvectors of the second moments of the
    training features about u (of all that are not 0, if there are fewer), and alpha scales the
    residual to the mean of the largest centred logit over the sample that ``prepare`` gets (1 where
    that sample has no residual).

    Needs features (N, D), logits (N, C) and the head's weights; O(D^2) per frame.
    Source: Wang et al., ViM, CVPR 2022.
    """

    name = 'vim'
    evidence_kind = EvidenceKind.FEATURES
    extends = 'energy'
    options_type = VimOptions
    options: VimOptions
    _sample_attributes = ('_scatter.origin', '_sample_entering', '_sample_largest')
    _stream_attributes = ('_scatter.count', '_scatter.sum', '_scatter.products')

    def __init__(
        self, *, classes: int, width: int, head: Head | None, **options: Any
    ) -> None:
        """Start empty.

        Args:
            classes: C, the number of classes.
            width: D, the number of monitored neurons.
            head: The head's weights on the monitored features.
            options: Fields of ``VimOptions``.

        Raises:
            NavMonitorError: ``subspace`` is out of range.
        """
        super().__init__(classes=classes, width=width, head=head, **options)
        if self.options.subspace >= width:
            raise NavMonitorError(
                f'vim: option subspace is {self.options.subspace}; it must be below the {width} '
                'monitored neurons'
            )
        self._scatter = Scatter(width)
        # R^T (f - u) as R^T (f - centre) + offset, where the centre, the mean of the training
        # features, is nearer to f: less is lost in single precision.
        self.centre: np.ndarray = np.zeros(0, np.float32)  # (D,)
        self.residual: np.ndarray = np.zeros((width, 0), np.float32)  # R
        self.offset: np.ndarray = np.zeros(0, np.float32)
        self.alpha = np.ones(1)
        self._degenerate = ''
        # of the S images of the sample: input of the head, (S, D), and largest logits, (S,)
        self._sample_entering: np.ndarray = np.zeros((0, width), np.float32)
        self._sample_largest: np.ndarray = np.zeros(0, np.float32)

    def prepare(self, sample: Activations, labels: np.ndarray) -> None:
        """Keep the sample, from which alpha is computed."""
        require_square(self.name, self.width)
        # A copy: a view would keep all activations of the sample in memory during the stream.
        self._sample_entering = self._require_head().entering(sample.features).copy()
        self._sample_largest = sample.logits.max(axis=1)
        self._scatter.centre(self._sample_entering)

    def update(self, batch: Activations, labels: np.ndarray) -> None:
        """Add all images, correctly classified or not."""
        self._scatter.add(self._require_head().entering(batch.features))

    def merge(self, other: Score) -> None:
        """Add the sums of ``other``."""
        assert isinstance(other, VirtualLogitMatching)
        self._scatter.merge(other._scatter)

    def finish(self) -> None:
        """Compute the subspace and alpha."""
        if not self._scatter.count or not len(self._sample_entering):
            raise NavMonitorError('vim: no training image was seen')
        head = self._require_head()
        # Weights have 24 bits: smaller singular values are rounding, with huge inverses.
        rounding = max(head.weight.shape) * float(np.finfo(np.float32).eps)
        inverse = np.linalg.pinv(head.weight.astype(np.float64), rcond=rounding)
        origin = -(inverse @ head.bias)
        values, vectors = np.linalg.eigh(self._scatter.about(origin))
        # Directions in which the features do not vary have no order: all are in the residual.
        varying = int((values > _ROUNDING**2 * values[-1]).sum())
        # eigh sorts by rising eigenvalue: the residual comes first.
        residual = vectors[:, : self.width - min(self._dimension(), varying)]
        centre = self._scatter.mean()
        self.centre, self.residual = centre.astype(np.float32), residual.astype(np.float32)
        self.offset = ((self.centre - origin) @ residual).astype(np.float32)
        norm = self._residual_norm(self._sample_entering).sum()
        largest = self._sample_largest.sum(dtype=np.float64)
        deviation = self._sample_entering - origin
        length = np.sqrt(np.square(deviation).sum(axis=1)).sum()
        # Without a residual above rounding its scale is unknown.
        if not norm > 10 * _ROUNDING * length:
            self._degenerate = 'no training image has a residual, so that it is the energy'
        elif not largest > 0:
            self._degenerate = 'the logits are constant, so that the residual has no scale'
        self.alpha = np.array([1.0 if self._degenerate else largest / norm])
        self._sample_entering, self._sample_largest = np.zeros((0, self.width)), np.zeros(0)

    def score(self, batch: Activations) -> np.ndarray:
        """Return the score of each image, float64 (N,)."""
        entering = self._require_head().entering(batch.features)
        return self.alpha[0] * self._residual_norm(entering) + free_energy(batch.logits)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return centre, residual space, offset and alpha."""
        return {
            'centre': self.centre, 'residual': self.residual, 'offset': self.offset,
            'alpha': self.alpha,
        }

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Load centre, residual space, offset and alpha."""
        self.centre = self._checked_array(tensors, 'centre', (self.width,))
        self.residual = self._checked_array(tensors, 'residual', (self.width, None))
        self.offset = self._checked_array(tensors, 'offset', (self.residual.shape[1],))
        self.alpha = self._checked_array(tensors, 'alpha', (1,))
        if not self.alpha[0] > 0 or (self.residual.size and not self.residual.any()):
            raise self._inconsistent()

    def degeneracy(self) -> str:
        """Return why the residual adds nothing to the energy; '' if it does."""
        return self._degenerate

    def _dimension(self) -> int:
        if self.options.subspace:
            return self.options.subspace
        return 1000 if self.width >= 2048 else 512 if self.width >= 768 else self.width // 2

    def _residual_norm(self, entering: np.ndarray) -> np.ndarray:
        outside = (entering - self.centre) @ self.residual + self.offset
        return np.sqrt(np.square(outside, dtype=np.float64).sum(axis=1))
