"""What the stream of verdicts adds up to: when odd frames are no longer chance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from nav_monitor_ros.errors import NavMonitorError

SECONDS_PER_HOUR = 3600.0
SUSPECT_LEVEL = 0.25  # share of the evidence that raises the alert


class FrameEvidence(NamedTuple):
    """What one frame says of the stream."""

    p_value: float  # in (0, 1]
    flagged: bool  # whether the frame, taken alone, is out-of-distribution
    e_value: float  # above 0; on average at most 1 for in-distribution frames


@dataclass(frozen=True)
class EvidenceRules:
    """How frames add up."""

    evidence: str = 'e_cusum'  # or 'k_of_n'
    false_alarms_per_hour: float = 1.0  # budget of e_cusum
    evidence_rate: float = 15.0  # Hz: so many frames a second count as independent
    enter_count: int = 3  # k_of_n: flagged frames ...
    enter_window: int = 3  # ... among so many that raise the alert
    exit_count: int = 5  # clear frames in a row that lower it

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.evidence not in _SCHEMES:
            raise NavMonitorError(
                f"evidence is '{self.evidence}'; it must be one of {', '.join(_SCHEMES)}"
            )
        if self.enter_count < 1 or self.exit_count < 1:
            raise NavMonitorError('enter_count and exit_count must be at least 1')
        if self.enter_window < self.enter_count:
            raise NavMonitorError(
                f'enter_window ({self.enter_window}) must not be below enter_count '
                f'({self.enter_count})'
            )
        if not (self.evidence_rate > 0 and self.false_alarms_per_hour > 0):
            raise NavMonitorError('evidence_rate and false_alarms_per_hour must be above 0')
        if self.frames_between_alarms <= 1:
            raise NavMonitorError(
                f'false_alarms_per_hour ({self.false_alarms_per_hour:g}) must be below the '
                f'{SECONDS_PER_HOUR * self.evidence_rate:g} looks of an hour at evidence_rate'
            )

    @property
    def sentence(self) -> str:
        """Return how images raise and lower the alert, for people."""
        if self.evidence == 'k_of_n':
            raised = f'{self.enter_count} flagged images of {self.enter_window} raise ood_alert'
        else:
            raised = (
                'The alert, ood_alert, rises once odd images add up to what would be chance '
                f'{self.false_alarms_per_hour:g} times in an hour at most'
            )
        return f'{raised}; {self.exit_count} images in a row that are not flagged lower it.'

    @property
    def frames_between_alarms(self) -> float:
        """Return how many independent frames there are for each false alarm of the budget."""
        return SECONDS_PER_HOUR * self.evidence_rate / self.false_alarms_per_hour


class Evidence(ABC):
    """Collects frames until they cannot be chance, and says when the stream is clear again.

    The alert rises as ``_add`` says, and falls after ``exit_count`` frames in a row that are not
    flagged. All is a function of the frames and of the time between them.
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start knowing nothing."""
        self.rules = rules
        self.is_ood = False
        self.clear_run = 0  # frames in a row that are not flagged, until now
        self.flagged_run = 0

    @abstractmethod
    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        """Take a frame in that came ``elapsed`` seconds after the one before."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop what was collected."""

    @property
    @abstractmethod
    def level(self) -> float:
        """Return what was collected as a share of what raises the alert, in [0, 1]."""

    def update(self, frame: FrameEvidence, elapsed: float) -> None:
        """Take the next frame in.

        Args:
            frame: What it says.
            elapsed: Seconds since the frame before; infinite for the first.
        """
        self._add(frame, elapsed)
        self.flagged_run = self.flagged_run + 1 if frame.flagged else 0
        self.clear_run = 0 if frame.flagged else self.clear_run + 1
        if self.level >= 1.0:
            self.is_ood = True
        elif self.is_ood and self.is_clear:
            self.is_ood = False
            self._forget()

    def reset_clear_run(self) -> None:
        """Forget what speaks for the stream and keep what speaks against it."""
        self.clear_run = 0

    def restart(self) -> None:
        """Forget everything but that the stream is out-of-distribution; it must clear itself."""
        self._forget()
        self.clear_run = self.flagged_run = 0

    @property
    def is_suspect(self) -> bool:
        """Return whether odd frames are adding up."""
        return not self.is_ood and (self.flagged_run > 0 or self.level >= SUSPECT_LEVEL)

    @property
    def is_clear(self) -> bool:
        """Return whether enough clear frames came in a row."""
        return self.clear_run >= self.rules.exit_count


class ECusum(Evidence):
    """Page's CUSUM of log e-values: ``W = max(0, W + w log e)``, alarm at ``W >= h``.

    ``h = log(frames between false alarms)``. If every frame's e-value is at most 1 on average,
    given the frames before, the average time between false alarms is at least ``e^h`` frames.
    Neighbouring frames of a camera are nearly the same one, so a frame that comes ``dt`` after the
    one before counts with the weight ``w = min(1, dt * evidence_rate)``: the weighted geometric
    mean of e-values is one again, however they depend on each other, so the bound holds if what
    lies ``1 / evidence_rate`` apart is independent.

    Sources: Page, Biometrika 41, 1954; Shin, Ramdas and Rinaldo, E-detectors, 2022 (the bound);
    Vovk and Wang, E-values, Annals of Statistics 49, 2021 (merging).
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start with nothing."""
        super().__init__(rules)
        self._sum = 0.0

    @property
    def level(self) -> float:
        """Return W / h, at most 1."""
        return min(1.0, self._sum / math.log(self.rules.frames_between_alarms))

    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        weight = min(1.0, elapsed * self.rules.evidence_rate)
        # Bounded, so that one long alarm leaves nothing that would raise the next.
        limit = math.log(self.rules.frames_between_alarms)
        self._sum = min(limit, max(0.0, self._sum + weight * math.log(frame.e_value)))

    def _forget(self) -> None:
        self._sum = 0.0


class KOfN(Evidence):
    """``enter_count`` flagged frames among the last ``enter_window`` raise the alert.

    The simplest way: it takes no p-values and no time, and promises no rate of false alarms.
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start with nothing."""
        super().__init__(rules)
        self._flags: deque[bool] = deque()

    @property
    def level(self) -> float:
        """Return the flagged frames of the window as a share of those needed, at most 1."""
        return min(1.0, sum(self._flags) / self.rules.enter_count)

    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        self._flags.append(frame.flagged)
        while len(self._flags) > self.rules.enter_window:
            self._flags.popleft()

    def _forget(self) -> None:
        self._flags.clear()


_SCHEMES: dict[str, type[Evidence]] = {'e_cusum': ECusum, 'k_of_n': KOfN}
SCHEMES = tuple(_SCHEMES)


def make_evidence(rules: EvidenceRules) -> Evidence:
    """Return an empty collection of evidence as the rules want it."""
    return _SCHEMES[rules.evidence](rules)
