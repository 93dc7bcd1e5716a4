"""What to fit, and how to calibrate it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nav_monitor_ros.errors import NavMonitorError

# Chosen by benchmarks/choose_fusion.py from in-distribution images alone; docs/judging.md.
FUSED_MEMBERS = ('pattern', 'relative_mahalanobis', 'vim', 'channel_means', 'energy')


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What to fit and how to calibrate it."""

    name: str = 'monitor'
    scores: Mapping[str, Mapping[str, Any]] | None = None
    # score name -> its options; None for all scores that the network allows
    fuse: tuple[str, ...] | None = None  # None for those of FUSED_MEMBERS that are fitted
    false_alarm_rate: float = 0.01  # share of in-distribution frames, each taken alone, in (0, 1)
    confidence: float = 0.95  # with which the rate holds, in (0, 1)
    class_images: int | None = None
    # calibration images with which a class is calibrated on its own; None for as many as pay
    class_names: tuple[str, ...] | None = None  # in the order of the network's outputs
    seed: int = 0
    skip_invalid: bool = False  # leave out images that give NaN or infinity; else they end the fit

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.class_images is not None and self.class_images < 1:
            raise NavMonitorError(f'--class-images {self.class_images}: must be at least 1')
