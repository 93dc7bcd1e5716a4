"""Values that the hooks of a network record in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from nav_monitor_ros.errors import NavMonitorError
from nav_monitor_ros.perception.network.logits import follow_from


@dataclass(eq=False)
class PassValues:
    """What the hooks recorded since ``forget``, which belongs before each pass."""

    maps: dict[str, torch.Tensor] = field(default_factory=dict)  # of tapped layers
    means: dict[str, torch.Tensor] = field(default_factory=dict)  # of watched layers
    head_input: torch.Tensor | None = None  # (N, D)
    head_output: torch.Tensor | None = None  # as the head returned it
    logits: torch.Tensor | None = None  # a copy of it, (N, outputs)
    feature: torch.Tensor | None = None  # of a monitored layer other than the penultimate, (N, D)
    before_dropout: torch.Tensor | None = None  # input of the first dropout layer

    def forget(self) -> None:
        """Discard the values of an earlier pass, which must not pass for those of the next one."""
        self.maps.clear()
        self.means.clear()
        self.head_input = self.head_output = self.logits = None
        self.feature = self.before_dropout = None

    def require(
        self, *, maps: Iterable[str], means: Iterable[str], head: str | None,
        monitored: str | None, dropout: str | None,
    ) -> None:
        """Check that the network has run every layer that is needed, since it may branch.

        Args:
            maps: Names of the tapped layers.
            means: Names of the watched layers.
            head: Name of the head; None without one.
            monitored: Name of a monitored layer other than the penultimate one; None without one.
            dropout: Name of the first dropout layer, if its input is needed.

        Raises:
            NavMonitorError: It has not run one of them.
        """
        missing = [name for name in means if name not in self.means]
        missing += [name for name in maps if name not in self.maps]
        missing += [
            name for name, value in (
                (head, self.logits), (monitored, self.feature), (dropout, self.before_dropout),
            ) if name is not None and value is None
        ]
        if missing:
            raise NavMonitorError(
                f'the network did not run its layer {missing[0]} on this image, as with an early '
                'exit; such an image cannot be judged'
            )


def require_consistent(found: Mapping[str, np.ndarray], images: int, head: str | None) -> None:
    """Check that the values of a pass belong to its images.

    Args:
        found: ``logits`` and ``features`` of the pass, and ``result``, what the network returned,
            unless that is the output of the head.
        images: Number of images.
        head: Name of the head; None without one.

    Raises:
        NavMonitorError: There is not one row for each image, or what the network returned cannot
            come from the head, as where the network selects one of several heads.
    """
    for what in ('logits', 'features'):
        if len(found[what]) != images:
            raise NavMonitorError(
                f'the network gives {what} for {len(found[what])} of {images} images, as if it ran '
                'its last layers on some of them only; such images cannot be judged'
            )
    result = found.get('result')
    if result is None:
        return
    if result.shape != found['logits'].shape or not follow_from(found['logits'], result).all():
        raise NavMonitorError(
            f'what the network returns for an image does not come from its layer {head}, although '
            'it did for noise, as if it selected one of several heads: it cannot be monitored like '
            'this; let it return the output of one linear layer'
        )
