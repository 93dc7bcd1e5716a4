"""What the stream of verdicts adds up to."""

from __future__ import annotations

from dataclasses import dataclass

from nav_monitor_ros.errors import NavMonitorError


@dataclass
class Debounce:
    """Enter out-of-distribution after some flagged frames in a row, leave after some clear ones.

    The simplest stream evidence: it weighs each frame's flag, not its p-value, and assumes nothing
    of how frames depend on each other.
    """

    enter_count: int = 3  # flagged frames in a row until the stream is out-of-distribution
    exit_count: int = 5  # clear frames in a row until it is trusted (again)
    flagged_run: int = 0  # flagged frames in a row until now
    clear_run: int = 0  # clear frames in a row until now
    is_ood: bool = False

    def __post_init__(self) -> None:
        """Check the counts."""
        if self.enter_count < 1 or self.exit_count < 1:
            raise NavMonitorError('enter_count and exit_count must be at least 1')

    def update(self, flagged: bool) -> None:
        """Take the flag of the next frame in."""
        self.flagged_run = self.flagged_run + 1 if flagged else 0
        self.clear_run = 0 if flagged else self.clear_run + 1
        if self.flagged_run >= self.enter_count:
            self.is_ood = True
        elif self.clear_run >= self.exit_count:
            self.is_ood = False

    def doubt(self) -> None:
        """Forget what speaks for the stream and keep what speaks against it."""
        self.clear_run = 0

    @property
    def is_suspect(self) -> bool:
        """Return whether flagged frames are adding up."""
        return not self.is_ood and self.flagged_run > 0

    @property
    def is_clear(self) -> bool:
        """Return whether enough clear frames came in a row."""
        return self.clear_run >= self.exit_count

    @property
    def evidence(self) -> float:
        """Return how far the stream is on its way to out-of-distribution, in [0, 1]."""
        return 1.0 if self.is_ood else min(1.0, self.flagged_run / self.enter_count)
