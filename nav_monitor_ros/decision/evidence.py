"""Evidence over a stream of frames: when unusual frames can no longer be chance."""

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
    """The evidence of one frame."""

    p_value: float  # in (0, 1]
    flagged: bool  # whether the frame, taken alone, is out-of-distribution
    e_value: float  # above 0; at most 1 on average over in-distribution frames


@dataclass(frozen=True)
class EvidenceRules:
    """How the evidence of frames is accumulated."""

    evidence: str = 'e_cusum'  # or 'k_of_n'
    false_alarms_per_hour: float = 1.0  # budget of e_cusum
    evidence_rate: float = 15.0  # Hz: number of frames per second that count as independent
    enter_count: int = 3  # k_of_n: number of flagged frames that raise the alert
    enter_window: int = 3  # k_of_n: number of latest frames among which they are counted
    exit_count: int = 5  # number of consecutive clear frames that lower it

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
                f'{SECONDS_PER_HOUR * self.evidence_rate:g} independent frames per hour '
                'at evidence_rate'
            )

    @property
    def sentence(self) -> str:
        """Return how images raise and lower the alert, for people."""
        if self.evidence == 'k_of_n':
            raised = f'{self.enter_count} flagged images of {self.enter_window} raise ood_alert'
        else:
            raised = (
                'The alert, ood_alert, rises once the evidence of unusual images exceeds what '
                f'chance produces at most {self.false_alarms_per_hour:g} times per hour'
            )
        return f'{raised}; {self.exit_count} images in a row that are not flagged lower it.'

    @property
    def frames_between_alarms(self) -> float:
        """Return the number of independent frames per false alarm of the budget."""
        return SECONDS_PER_HOUR * self.evidence_rate / self.false_alarms_per_hour


class Evidence(ABC):
    """Accumulates the evidence of frames and decides whether the stream is out-of-distribution.

    The stream is out-of-distribution once ``level`` reaches 1, and clear again after ``exit_count``
    consecutive frames that are not flagged. The result depends only on the frames and on the time
    between them.
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start without evidence."""
        self.rules = rules
        self.is_ood = False
        self.clear_run = 0  # number of latest consecutive frames that are not flagged
        self.flagged_run = 0

    @abstractmethod
    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        """Add a frame that came ``elapsed`` seconds after the previous one."""

    @abstractmethod
    def _forget(self) -> None:
        """Discard the accumulated evidence."""

    @property
    @abstractmethod
    def level(self) -> float:
        """Return the accumulated evidence as a share of what raises the alert, in [0, 1]."""

    def update(self, frame: FrameEvidence, elapsed: float) -> None:
        """Add the next frame.

        Args:
            frame: Its evidence.
            elapsed: Seconds since the previous frame; infinite for the first.
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
        """Require ``exit_count`` clear frames anew; the evidence against the stream is kept."""
        self.clear_run = 0

    def restart(self) -> None:
        """Discard everything except whether the stream is out-of-distribution."""
        self._forget()
        self.clear_run = self.flagged_run = 0

    @property
    def is_at_rest(self) -> bool:
        """Return whether frames that are not flagged, with e-values of at most 1, change nothing.

        A simulation may then skip them. A scheme that cannot tell returns False.
        """
        return False

    @property
    def is_suspect(self) -> bool:
        """Return whether unusual frames accumulate, but do not suffice for an alert."""
        return not self.is_ood and (self.flagged_run > 0 or self.level >= SUSPECT_LEVEL)

    @property
    def is_clear(self) -> bool:
        """Return whether the latest ``exit_count`` frames are clear."""
        return self.clear_run >= self.rules.exit_count


class ECusum(Evidence):
    """Page's CUSUM of log e-values: ``W = max(0, W + w log e)``, alarm at ``W >= h``.

    ``h = log(frames between false alarms)``. If the e-value of every frame is at most 1 on average,
    given the previous frames, the mean time between false alarms is at least ``e^h`` frames.
    Neighbouring frames of a camera are nearly identical, so a frame that comes ``dt`` after the
    previous one has the weight ``w = min(1, dt * evidence_rate)``: a weighted geometric mean of
    e-values is an e-value, however they depend on each other, so the bound holds if frames that are
    ``1 / evidence_rate`` apart are independent.

    Sources: Page, Biometrika 41, 1954; Shin, Ramdas and Rinaldo, E-detectors, 2022 (the bound);
    Vovk and Wang, E-values, Annals of Statistics 49, 2021 (merging).
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start without evidence."""
        super().__init__(rules)
        self._sum = 0.0

    @property
    def level(self) -> float:
        """Return W / h, at most 1."""
        return min(1.0, self._sum / math.log(self.rules.frames_between_alarms))

    @property
    def is_at_rest(self) -> bool:
        """Return whether W is 0 and the frames before were clear."""
        return self._sum == 0.0 and self.is_clear and not self.is_ood

    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        weight = min(1.0, elapsed * self.rules.evidence_rate)
        # Bounded, so that a long alarm cannot raise the next one.
        limit = math.log(self.rules.frames_between_alarms)
        self._sum = min(limit, max(0.0, self._sum + weight * math.log(frame.e_value)))

    def _forget(self) -> None:
        self._sum = 0.0


class KOfN(Evidence):
    """``enter_count`` flagged frames among the last ``enter_window`` raise the alert.

    The simplest scheme: it ignores p-values and time, and promises no false-alarm rate.
    """

    def __init__(self, rules: EvidenceRules) -> None:
        """Start without evidence."""
        super().__init__(rules)
        self._flags: deque[bool] = deque()

    @property
    def level(self) -> float:
        """Return the flagged frames in the window as a share of ``enter_count``, at most 1."""
        return min(1.0, sum(self._flags) / self.rules.enter_count)

    @property
    def is_at_rest(self) -> bool:
        """Return whether no frame in the window is flagged, and those before it were clear."""
        return not any(self._flags) and self.is_clear and not self.is_ood

    def _add(self, frame: FrameEvidence, elapsed: float) -> None:
        self._flags.append(frame.flagged)
        while len(self._flags) > self.rules.enter_window:
            self._flags.popleft()

    def _forget(self) -> None:
        self._flags.clear()


_SCHEMES: dict[str, type[Evidence]] = {'e_cusum': ECusum, 'k_of_n': KOfN}
SCHEMES = tuple(_SCHEMES)


def make_evidence(rules: EvidenceRules) -> Evidence:
    """Return the scheme that the rules name, without evidence."""
    return _SCHEMES[rules.evidence](rules)
