"""The velocity gate: the commands that are forwarded to the base, and how it stops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from nav_monitor_ros.errors import NavMonitorError

STOP_MODES = ('hard', 'ramp')


class GateReason(str, Enum):
    """Reason why commands are forwarded or not; a closed list, the first that applies is given."""

    ALERT = 'alert'  # a publisher published True
    GATE_LATE = 'gate_late'  # its loop was blocked: messages queued meanwhile are discarded
    COMMANDS_COME_BACK = 'commands_come_back'  # and the middleware cannot identify new ones
    ALERT_LIVELINESS_LOST = 'alert_liveliness_lost'  # a publisher of the alert died or hangs
    NO_ALERT_YET = 'no_alert_yet'  # no alert was received since the start
    ALERT_DEADLINE_MISSED = 'alert_deadline_missed'  # no alert in time, by the middleware
    ALERT_SILENT = 'alert_silent'  # no alert in time, by the gate's own clock
    LATCHED = 'latched'  # the cause is gone, but the gate has not been reset
    PASSING = 'passing'


@dataclass(frozen=True)
class Velocity:
    """A velocity command."""

    linear: tuple[float, float, float] = (0.0, 0.0, 0.0)  # x, y, z, m/s
    angular: tuple[float, float, float] = (0.0, 0.0, 0.0)  # about x, y, z, rad/s

    @property
    def is_finite(self) -> bool:
        """Return whether no component is NaN or infinite."""
        return all(math.isfinite(component) for component in (*self.linear, *self.angular))

    @property
    def is_zero(self) -> bool:
        """Return whether all components are zero."""
        return not any((*self.linear, *self.angular))


ZERO = Velocity()


@dataclass(frozen=True)
class GateRules:
    """When the velocity gate stops, and how."""

    alert_timeout: float = 0.5  # seconds without an alert until the stop; a True counts as long
    command_timeout: float = 0.5  # seconds without a command after which zero is sent once
    stop_mode: str = 'hard'  # hard: zero immediately; ramp: with the decelerations below
    linear_deceleration: float = 1.0  # m/s^2
    angular_deceleration: float = 2.0  # rad/s^2
    latch: bool = False  # whether a stop is held until it is reset

    @property
    def late_after(self) -> float:
        """Pause of the caller's loop, in seconds, after which queued messages may be stale."""
        return min(self.alert_timeout, self.command_timeout) / 2

    def __post_init__(self) -> None:
        """Check the ranges."""
        positive = ('alert_timeout', 'command_timeout', 'linear_deceleration',
                    'angular_deceleration')
        for name in positive:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise NavMonitorError(f'{name} is {value}; it must be above 0')
        if self.stop_mode not in STOP_MODES:
            raise NavMonitorError(
                f"stop_mode is '{self.stop_mode}'; it must be one of {', '.join(STOP_MODES)}"
            )


class VelocityGate:
    """Decides, from alerts and commands with their times, which velocity to send.

    All times are seconds on one steady clock of the caller's. Commands pass only while the newest
    alert is False and fresh, no True was received for ``alert_timeout``, and no publisher of the
    alert is known to be dead or hung. So a False never outvotes another publisher's True that is
    younger than that, whoever else publishes, and no count of publishers is needed, which
    discovery would give late.

    A message's age counts from its reception by the middleware, not from the callback. If the
    caller's loop paused (the process was stopped or starved), the middleware may have stood still
    with it, and what it delivers now may be as old as the pause. After a pause longer than half of
    ``alert_timeout`` every False is discarded for ``alert_timeout``, and only a True counts; after
    one longer than half of ``command_timeout`` every command is discarded for ``command_timeout``.
    Nothing passes meanwhile.

    With ``latch`` every stop stays until ``reset``, the one at the start too: else a restart of
    the process would release what it had latched. Not thread-safe.
    """

    def __init__(self, rules: GateRules, now: float) -> None:
        """Start stopped."""
        self._rules = rules
        self._alert_time: float | None = None  # reception of the newest alert
        self._newest_alert = True
        self._last_true: float | None = None
        self._deadline_missed = False
        self._lost_publishers = 0
        self._commands_come_back = False
        self._latched = rules.latch
        self._last_command: float | None = None  # None too once its silence was answered
        self._output = ZERO  # sent last, or lower where a command asked for less meanwhile
        self._output_time = now  # until when the ramp is computed
        self._reason = GateReason.NO_ALERT_YET
        self._loop_time: float | None = None  # when the caller's loop last ran
        self._alerts_stale_until = self._commands_stale_until = -math.inf

    @property
    def rules(self) -> GateRules:
        """Current rules."""
        return self._rules

    def change_rules(self, **changes: Any) -> None:
        """Change rules while running.

        Raises:
            NavMonitorError: A rule is out of range; all rules stay as they were.
        """
        self._rules = replace(self._rules, **changes)
        self._latched &= self._rules.latch

    def loop_ran(self, now: float) -> float:
        """Note that the caller's loop runs: before each event, and at least each ``late_after``.

        Returns:
            Seconds for which the loop was held up; 0 if it is on time.
        """
        if self._loop_time is None:
            self._loop_time = now
            return 0.0
        before, self._loop_time = self._loop_time, now
        pause = now - before
        if pause <= self._rules.late_after:
            return 0.0
        if pause > self._rules.alert_timeout / 2:
            self._alerts_stale_until = now + self._rules.alert_timeout
        if pause > self._rules.command_timeout / 2:
            self._commands_stale_until = now + self._rules.command_timeout
        if pause > self._rules.command_timeout:
            self._output = ZERO  # as the silence of commands would have been answered
        elif self._reason is GateReason.PASSING:
            self._output_time = before  # a ramp counts from when commands ceased to pass
            self._reason = GateReason.GATE_LATE
        return pause

    def alert_received(self, value: bool, now: float, *, age: float = 0.0) -> None:
        """Take an alert.

        Args:
            value: True means do not trust perception.
            now: Seconds.
            age: Seconds since its reception. A True counts from now on, however old it is.
        """
        if value:
            self._alert_time, self._last_true = now, now
        elif now < self._alerts_stale_until or not age <= self._rules.alert_timeout:
            return
        else:
            received = now - age
            self._alert_time = (
                received if self._alert_time is None else max(self._alert_time, received)
            )
        self._newest_alert = value
        self._deadline_missed = False

    def deadline_missed(self) -> None:
        """Record that the middleware missed an alert; this holds until the next alert arrives."""
        self._deadline_missed = True

    def liveliness_changed(self, lost: int) -> None:
        """Take the middleware's count of the alert's publishers that are dead or hang.

        Args:
            lost: Any of them stops until it lives again or is gone from the graph, since the
                others do not speak for it.
        """
        self._lost_publishers = lost

    def commands_come_back(self, value: bool) -> None:
        """Set whether any command may be an old one that the gate itself has sent."""
        self._commands_come_back = value

    def silence(self, now: float) -> float | None:
        """Return the seconds since the newest alert, or None if there was none."""
        return None if self._alert_time is None else now - self._alert_time

    def update(self, now: float) -> GateReason:
        """Return why commands are forwarded or not at this time."""
        reason = self._trouble(now)
        if reason is None:
            reason = GateReason.LATCHED if self._latched else GateReason.PASSING
        elif self._rules.latch:
            self._latched = True
        if self._reason is GateReason.PASSING and reason is not GateReason.PASSING:
            self._output_time = now  # a ramp begins
        self._reason = reason
        return reason

    def reset(self, now: float) -> GateReason:
        """Release a latched stop.

        Returns:
            ``PASSING``; anything else is why the stop stays.
        """
        if self._trouble(now) is None:
            self._latched = False
        return self.update(now)

    def command_received(
        self, velocity: Velocity, now: float, *, age: float = 0.0
    ) -> Velocity | None:
        """Take a command.

        Args:
            velocity: Requested; counts as zero if a component is NaN or infinite.
            now: Seconds.
            age: Seconds since its reception; beyond ``command_timeout`` it counts as none.

        Returns:
            The velocity to send now; None while stopped, when only ``timer_fired`` sends.
        """
        if not age <= self._rules.command_timeout:
            return None
        wanted = velocity if velocity.is_finite else ZERO
        self._last_command = now - age
        if self.update(now) is not GateReason.PASSING:
            # A command that is slower than the ramp takes precedence.
            self._output = _lesser(self._slowed(now), wanted)
            return None
        self._output = wanted
        return wanted

    def timer_fired(self, now: float) -> Velocity | None:
        """Return the velocity to send by the clock; to be called regularly and after each event.

        Returns:
            None if nothing is to be sent.
        """
        if self.update(now) is not GateReason.PASSING:
            self._output = self._slowed(now)
            return self._output
        silent = self._last_command is not None and (
            now - self._last_command > self._rules.command_timeout
        )
        if not silent:
            return None
        self._last_command = None
        self._output = ZERO
        return ZERO

    def _trouble(self, now: float) -> GateReason | None:
        timeout = self._rules.alert_timeout
        if self._last_true is not None and now - self._last_true <= timeout:
            return GateReason.ALERT
        if now < max(self._alerts_stale_until, self._commands_stale_until):
            return GateReason.GATE_LATE
        if self._commands_come_back:
            return GateReason.COMMANDS_COME_BACK
        if self._lost_publishers:
            return GateReason.ALERT_LIVELINESS_LOST
        if self._alert_time is None:
            return GateReason.NO_ALERT_YET
        if self._deadline_missed:
            return GateReason.ALERT_DEADLINE_MISSED
        # An expired True counts as silence, too. Written so that NaN from a clock stops the robot.
        if self._newest_alert or not now - self._alert_time <= timeout:
            return GateReason.ALERT_SILENT
        return None

    def _slowed(self, now: float) -> Velocity:
        """Return the output, slowed down until now."""
        if self._rules.stop_mode == 'hard' or self._output.is_zero:
            return ZERO
        seconds = max(0.0, now - self._output_time)
        self._output_time = now
        linear, angular = self._output.linear, self._output.angular
        return Velocity(
            _toward_zero(linear, seconds * self._rules.linear_deceleration),
            _toward_zero(angular, seconds * self._rules.angular_deceleration),
        )


def _toward_zero(
    components: tuple[float, float, float], step: float
) -> tuple[float, float, float]:
    x, y, z = (
        math.copysign(abs(value) - step, value) if abs(value) > step else 0.0
        for value in components
    )
    return x, y, z


def _lesser(velocity: Velocity, limit: Velocity) -> Velocity:
    """Return, for each component, the smaller of the two; zero where they differ in direction."""

    def smaller(
        ours: tuple[float, float, float], theirs: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        x, y, z = (
            min(a, b, key=abs) if a * b > 0 else 0.0 for a, b in zip(ours, theirs, strict=True)
        )
        return x, y, z

    return Velocity(
        smaller(velocity.linear, limit.linear), smaller(velocity.angular, limit.angular)
    )
