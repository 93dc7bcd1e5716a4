"""Input that does not come back after this process was suspended.

Fast DDS gives up the shared-memory port of a process that does not run for a second: SIGSTOP, a
debugger, swapping, a starved machine. The port is made anew when the process continues, but rarely
the senders and the process end up with different ones; then nothing that is sent through shared
memory reaches the process any more, although the publishers are still matched. Nothing in ROS
mends that except a new participant, which means a new process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SUSPENDED = 1.0  # shortest time that counts as a suspension, seconds: when Fast DDS gives up a port
PATIENCE = 10.0  # time after a suspension in which the input must come back, seconds
SETTLING = 1.0  # time after it in which messages may arrive that were sent before it, seconds
FLOWING = 2.0  # longest time between the last message and a suspension of a running camera, seconds


@dataclass(frozen=True)
class Input:
    """What is known of one subscription."""

    publishers: int  # matched
    received: int  # messages so far
    last_arrival: float  # of a message, s of the steady clock
    last_sent: float = -math.inf  # the same of its publication; minus infinity if unknown


class LostInput:
    """Tells whether the input was lost by a suspension. Times are those of the steady clock."""

    def __init__(self, period: float) -> None:
        """Start without a suspension.

        Args:
            period: Time between two calls of ``process_runs``, seconds.
        """
        self._period = period
        self._ran_at: float | None = None
        self._suspended = 0.0  # s, duration of the last suspension
        self._continued = math.inf  # its end
        self._has_received = False
        self._has_flowed = False  # until the suspension
        self._published_since: float | None = None  # None while there is no publisher

    def process_runs(self, now: float) -> None:
        """Record that the process runs; to be called once per period."""
        before, self._ran_at = self._ran_at, now
        if before is not None and now - before > SUSPENDED + self._period:
            self._suspended, self._continued = now - before, now

    def check(self, inputs: Iterable[Input], now: float) -> str:
        """Return why the input is lost, '' if it is not.

        It is lost if none of any input has been received since a suspension, although there has
        been a publisher for ``PATIENCE``: one whose messages arrived until the suspension, or a new
        one. A publisher that was silent before, such as that of a paused bag, tells nothing.
        """
        inputs = list(inputs)
        if not any(one.publishers for one in inputs):
            self._published_since = None
        elif self._published_since is None:
            self._published_since = now
        arrived = [one for one in inputs if one.received]
        self._has_received |= bool(arrived)
        if self._continued == math.inf:
            return ''
        if any(
            one.last_sent > self._continued or one.last_arrival > self._continued + SETTLING
            for one in arrived
        ):
            self._continued, self._has_flowed = math.inf, False  # it has come back
            return ''
        flowing_from = self._continued - self._suspended - FLOWING
        self._has_flowed |= any(one.last_arrival > flowing_from for one in arrived)
        since = self._published_since
        if since is None or not self._has_received:
            return ''
        if not self._has_flowed and since <= self._continued:
            return ''
        waited = now - max(since, self._continued)
        if waited < PATIENCE:
            return ''
        return (
            f'no image arrives since this process was suspended for {self._suspended:.1f} s, '
            f'{now - self._continued:.0f} s ago, although there has been a publisher for '
            f'{waited:.0f} s: the middleware has lost its connection to it'
        )
