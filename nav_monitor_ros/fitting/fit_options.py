"""Options for fitting and calibrating a monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.errors import NavMonitorError

# Chosen from in-distribution images only; see docs/judging.md.
FUSED_MEMBERS = ('pattern', 'relative_mahalanobis', 'vim', 'channel_means', 'energy')

EQUAL, WEIGHTED = 'equal', 'weighted'  # weights of the members in the fused score
FUSIONS = (EQUAL, WEIGHTED)


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options for fitting and calibrating a monitor."""

    name: str = 'monitor'
    scores: Mapping[str, Mapping[str, Any]] | None = None
    # score name -> options; None for all scores that apply to the network
    required: frozenset[str] | None = None
    # those of ``scores`` that must apply to the network, others are left out; None: all of them
    fuse: tuple[str, ...] | None = None  # None for those of FUSED_MEMBERS that are fitted
    fusion: str = EQUAL  # EQUAL, or WEIGHTED: weights learned from proxy images
    false_alarm_rate: float = 0.01  # share of individual in-distribution frames, in (0, 1)
    confidence: float = 0.95  # confidence with which the rate holds, in (0, 1)
    class_images: int | None = None
    # fewest images to calibrate a class separately; None: automatic
    class_names: tuple[str, ...] | None = None  # in the order of the network's outputs
    seed: int = 0
    skip_invalid: bool = False  # leave out images that give NaN or infinity instead of raising

    @property
    def named(self) -> frozenset[str]:
        """Return the names of the scores that must apply to the network."""
        return frozenset(self.scores or ()) if self.required is None else self.required

    def __post_init__(self) -> None:
        """Check the values."""
        if self.fusion not in FUSIONS:
            raise NavMonitorError(f"--fusion '{self.fusion}' is not {' or '.join(FUSIONS)}")
        if self.class_images is not None and self.class_images < 1:
            raise NavMonitorError(f'--class-images {self.class_images}: must be at least 1')
