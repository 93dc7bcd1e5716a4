"""The alert's state machine: when perception may be trusted, and if not, why."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from nav_monitor_ros.decision.alert.frozen_images import FrozenImages
from nav_monitor_ros.decision.alert.input_rate import InputRate
from nav_monitor_ros.decision.alert.mixed_publishers import MixedPublishers
from nav_monitor_ros.decision.alert.reason import Alert, Reason, State
from nav_monitor_ros.decision.drift import Drift
from nav_monitor_ros.decision.evidence import EvidenceRules, FrameEvidence, make_evidence
from nav_monitor_ros.errors import NavMonitorError

SHORTEST_TOLD = 0.1  # seconds since the activation that are worth telling
JUMP = 0.5  # seconds that a stamp must go back to be a jump; drivers mix up less


@dataclass(frozen=True)
class AlertRules(EvidenceRules):
    """When the alert changes."""

    latch: bool = False  # an out-of-distribution alert stays until it is reset
    image_timeout: float = 0.5  # seconds that the image behind a False may be old
    frozen_timeout: float = 1.0  # seconds of identical images that count as frozen; 0: never
    inference_timeout: float = 1.0  # seconds that an image may wait for its verdict
    input_rate_warn: float = 0.0  # images per second below which a warning is due; 0: never
    input_rate_error: float = 0.0  # images per second below which the alert is raised; 0: never
    stamp_tolerance: float = 1.0  # seconds that a stamp may be off the clock; 0: any
    drift_window: float = 600.0  # seconds that the test for drift looks back on; 0: no test

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if self.image_timeout <= 0 or self.inference_timeout <= 0 or self.frozen_timeout < 0:
            raise NavMonitorError(
                'image_timeout and inference_timeout must be above 0 s, frozen_timeout not below'
            )
        if self.input_rate_warn < 0 or self.input_rate_error < 0:
            raise NavMonitorError('input_rate_warn and input_rate_error must not be below 0 Hz')
        if self.stamp_tolerance < 0:
            raise NavMonitorError('stamp_tolerance must not be below 0 s')
        Drift(self.drift_window)


@dataclass
class _Session:
    """What was seen since the monitor began to listen; times in seconds."""

    start: float
    last_arrival: float | None = None
    unjudged_since: float | None = None  # arrival of the oldest image without a result
    last_judged: float | None = None
    capture_time: float | None = None  # of the image that was judged last
    last_stamp: int | None = None  # nanoseconds
    frozen: FrozenImages = field(default_factory=FrozenImages)
    rate: InputRate = field(default_factory=InputRate)
    publishers: MixedPublishers = field(default_factory=MixedPublishers)
    several_publishers: bool = False


class AlertMachine:
    """Takes events in, with their time; ``alert`` says what follows from them.

    Ask for the alert once after each event that others are to hear of. All times are seconds on
    one steady clock of the caller's. False is said only while fresh frames are being judged
    in-distribution: the image that was judged last is at most ``image_timeout`` old at the moment
    False is said, however often new ones arrive. After the start and after every fault,
    ``exit_count`` clear frames in a row have to come first. Faults raise the alert at once; only
    out-of-distribution frames have to add up. Not thread-safe.
    """

    def __init__(self, rules: AlertRules, now: float, *, may_be_restart: bool = False) -> None:
        """Start inactive and enabled.

        Args:
            rules: Rules of the alert.
            now: Seconds.
            may_be_restart: Whether an earlier process may have had a latched alert; with the rule
                ``latch``, the alert is then latched from the start.
        """
        self._rules = rules
        self._stream = make_evidence(rules)
        self._drift = Drift(rules.drift_window)
        self._enabled = True
        self._active = False
        self._model_error = ''
        self._inactive_because = ''
        self._latched = ''  # why, in one line; '' if the alert is not latched
        if may_be_restart and rules.latch:
            self._latched = 'latched since the start, which may have been a restart'
        self._trusted = False
        self._failure: tuple[Reason, str] | None = None
        self._begin_session(now)
        self._alert = Alert(True, State.INVALID, Reason.INACTIVE, 'not active yet', now)
        self.input_fault = ''  # why images may be missing, in one line; added to the detail

    @property
    def rules(self) -> AlertRules:
        """Return the rules in force."""
        return self._rules

    @property
    def evidence(self) -> float:
        """Return how far the stream is on its way to out-of-distribution, in [0, 1]."""
        return self._stream.level

    @property
    def calibration_stale(self) -> str:
        """Return in one line how the camera's world has left that of the calibration, or nothing.

        Does not raise the alert: single frames may all be in-distribution.
        """
        return self._drift.finding

    @property
    def input_rate(self) -> float | None:
        """Return the rate of arriving images in Hz; None while it is unknown."""
        return self._seen.rate.rate

    @property
    def input_rate_warning(self) -> str:
        """Return in one line that images arrive too rarely, or nothing.

        Does not raise the alert; that is what ``input_rate_error`` is for.
        """
        return self._seen.rate.warning

    def change_rules(self, **changes: Any) -> None:
        """Change rules while running; what was collected so far is kept where it still counts.

        Raises:
            NavMonitorError: A rule is out of range; all rules stay as they were.
        """
        before, self._rules = self._rules, replace(self._rules, **changes)
        if self._rules.evidence == before.evidence:
            self._stream.rules = self._rules
        else:
            was_ood, self._stream = self._stream.is_ood, make_evidence(self._rules)
            self._stream.is_ood = was_ood  # until clear frames say otherwise
        if self._rules.drift_window != before.drift_window:
            self._drift = Drift(self._rules.drift_window)
        if not self._rules.latch:
            self._latched = ''

    def activate(self, active: bool, now: float) -> None:
        """The node became active or stopped being so."""
        if active and not self._active:
            self._begin_session(now)
            self._inactive_because = ''
        self._active = active

    def activation_failed(self, detail: str) -> None:
        """The node could not become active; told until it does."""
        self._inactive_because = detail

    def enable(self, enabled: bool, now: float) -> None:
        """The user switched the monitor on or off."""
        if enabled and not self._enabled:
            self._begin_session(now)
        self._enabled = enabled

    def model_failed(self, detail: str) -> None:
        """No model could be loaded."""
        self._model_error = detail

    def model_loaded(self) -> None:
        """A model is there; its p-values are not those of the one before."""
        self._model_error = ''
        self._drift = Drift(self._rules.drift_window)

    def reset(self) -> None:
        """Release a latched alert; a stream that still is out-of-distribution stays alerted."""
        self._latched = ''

    @property
    def stale_from(self) -> tuple[float, ...]:
        """Return when silence changes what is said, if no newer image comes, in seconds."""
        seen = self._seen
        moments = {at for at in (seen.capture_time, seen.last_arrival) if at is not None}
        return tuple(sorted(at + self._rules.image_timeout for at in moments))

    @property
    def holds_until(self) -> float:
        """Return the moment from which on time alone may have changed the alert, in seconds.

        Until then the alert that was asked for last, after the last event, still holds.
        """
        rules, seen = self._rules, self._seen
        moments = [*self.stale_from]
        if seen.unjudged_since is not None:
            moments.append(seen.unjudged_since + rules.inference_timeout)
        if rules.frozen_timeout and seen.frozen.since is not None:
            moments.append(seen.frozen.since + rules.frozen_timeout)
        return min(moments, default=math.inf)

    def image_arrived(
        self, arrived: float, now: float | None = None, publisher: Hashable = None
    ) -> None:
        """An image came, whatever is in it.

        Args:
            arrived: When it came, seconds.
            now: Seconds; later than ``arrived`` where the caller was busy. By default the same.
            publisher: Equal for the images of one publisher.
        """
        now = arrived if now is None else now
        self._notice_timeouts(now)
        seen = self._seen
        seen.last_arrival = max(arrived, seen.last_arrival or -math.inf)
        if seen.unjudged_since is None:
            seen.unjudged_since = arrived
        rules = self._rules
        seen.rate.image_arrived(
            arrived, rules.image_timeout, warn=rules.input_rate_warn, error=rules.input_rate_error
        )
        seen.several_publishers = seen.publishers.image_from(publisher, now)

    def frame_judged(
        self,
        frame: FrameEvidence,
        stamp_ns: int,
        fingerprint: int,
        now: float,
        capture_time: float | None = None,
    ) -> None:
        """A frame was judged.

        Args:
            frame: What it says of the stream.
            stamp_ns: The image's stamp, nanoseconds.
            fingerprint: A checksum of the pixels.
            now: Seconds.
            capture_time: When the image was taken as far as that is known, seconds: its stamp,
                where its clock and the caller's agree, else its arrival. By default now.
        """
        self._notice_timeouts(now)  # the verdict may come after the time allowed for it
        seen = self._seen
        seen.unjudged_since = None
        self._failure = None
        # By the caller's clock: stamps may stand still, and would hide a strange stream.
        elapsed = math.inf if seen.last_judged is None else max(0.0, now - seen.last_judged)
        seen.frozen.add(fingerprint, now)
        if seen.last_stamp is not None and stamp_ns < seen.last_stamp - JUMP * 1e9:
            # A clock jumped or a bag was looped: this frame and the last are no neighbours.
            self._distrust()
            self._stream.restart()
            seen.frozen.restart()
        seen.last_stamp, seen.last_judged = stamp_ns, now
        seen.capture_time = now if capture_time is None else min(capture_time, now)
        self._stream.update(frame, elapsed)
        if not self._stream.is_ood:
            self._drift.update(frame.p_value, elapsed)
        if self._rules.latch and self._stream.is_ood:
            self._latched = 'was out-of-distribution'
        # Taken back by ``alert`` if the image is too old by then, or something else is wrong.
        self._trusted |= self._stream.is_clear or self._stream.is_ood

    def frame_failed(self, reason: Reason, detail: str) -> None:
        """A frame could not be judged; the alert says so until one can."""
        self._seen.unjudged_since = None
        self._failure = (reason, detail)
        self._distrust()

    def alert(self, now: float) -> Alert:
        """Return what to say at this moment."""
        reason, detail = (
            self._not_judging() or self._fault(now) or self._of_stream()
            or (Reason.IN_DISTRIBUTION, '')
        )
        if reason.state is State.INVALID and reason is not Reason.WARMING_UP:
            self._distrust()
        since = self._alert.since if reason is self._alert.reason else now
        self._alert = Alert(reason.raises_alert, reason.state, reason, detail, since)
        return self._alert

    def _notice_timeouts(self, now: float) -> None:
        """Let no fault go unnoticed that nobody asked about before news came.

        A process that was stopped must not lose the gap before the image that it goes on with.
        """
        if self._fault(now):
            self._distrust()

    def _not_judging(self) -> tuple[Reason, str] | None:
        if self._model_error:
            return Reason.MODEL_ERROR, self._model_error
        if not self._active:
            return Reason.INACTIVE, self._inactive_because or 'the node is not active'
        if not self._enabled:
            return Reason.DISABLED, 'switched off by ~/set_enabled'
        return None

    def _fault(self, now: float) -> tuple[Reason, str] | None:
        rules, seen = self._rules, self._seen
        if seen.unjudged_since is not None:
            waiting = now - seen.unjudged_since
            if waiting > rules.inference_timeout:
                self._failure = None
                return Reason.INFERENCE_TIMEOUT, f'an image waits for its verdict, {waiting:.1f} s'
        if seen.last_arrival is None:
            waited = now - seen.start
            return Reason.NO_IMAGE, self._explained(
                f'no image in the {waited:.1f} s since activation' if waited >= SHORTEST_TOLD
                else 'no image yet'
            )
        silent = now - seen.last_arrival
        if silent > rules.image_timeout:
            self._failure = None  # of an image before the silence: no news when the next one comes
            return Reason.STALE_IMAGE, self._explained(f'no image for {silent:.1f} s')
        if self._failure is not None:
            return self._failure
        if seen.several_publishers:
            return (
                Reason.BAD_IMAGE,
                'images of two publishers come in turn on one topic; give each camera a topic of '
                'its own and name both in the parameter cameras',
            )
        frozen_since = seen.frozen.since
        if rules.frozen_timeout and frozen_since is not None:
            still = now - frozen_since
            if still >= rules.frozen_timeout:
                count = seen.frozen.count
                images = 'the same image' if count == 1 else f'the same {count} images in turn'
                return Reason.FROZEN_IMAGE, f'{images} for {still:.1f} s'
        if seen.capture_time is not None and now - seen.capture_time > rules.image_timeout:
            return Reason.STALE_IMAGE, (
                f'the image that was judged last is {now - seen.capture_time:.1f} s old; its '
                'transport and judging take longer than image_timeout allows'
            )
        if rules.input_rate_error and seen.rate.fault:
            return Reason.LOW_INPUT_RATE, seen.rate.fault
        return None

    def _explained(self, text: str) -> str:
        return f'{text}; {self.input_fault}' if self.input_fault else text

    def _of_stream(self) -> tuple[Reason, str] | None:
        stream = self._stream
        if stream.is_ood:
            return Reason.OOD, 'unlike the training images'
        if self._latched:
            return Reason.LATCHED, f'{self._latched}; waits for ~/reset_alert'
        if not self._trusted:
            return (
                Reason.WARMING_UP,
                f'{stream.clear_run} of {self._rules.exit_count} clear frames in a row',
            )
        if stream.is_suspect:
            return (
                Reason.SUSPECT,
                f'odd frames add up to {stream.level:.0%} of what raises the alert',
            )
        return None

    def _begin_session(self, now: float) -> None:
        self._seen = _Session(now)
        self._failure = None
        self._distrust()
        self._stream.restart()

    def _distrust(self) -> None:
        self._trusted = False
        self._stream.reset_clear_run()
